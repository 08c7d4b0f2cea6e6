"""Frozen dataclasses ↔ JSON, strictly: every field present, no other, each of the annotated type.

A field marked `LATER` came after documents without it were signed: where it holds its default it is left out, so that
those documents are read, and what has nothing new to say is written, as they ever were.
"""

import dataclasses
import sys
import types
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
LATER: Mapping[str, bool] = types.MappingProxyType({"later": True})  # metadata of a field, which needs a default


def encode(value: object) -> Any:
    """Return `value`, a tree of dataclasses, tuples, mappings and scalars, as JSON objects, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        told = [(f, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return {f.name: encode(held) for f, held in told if not (is_later(f) and held == _default(f))}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return value


def decode(kind: type[T], value: object, where: str = "") -> T:
    """Return the `kind` that `value` describes; `decode(kind, encode(x)) == x`.

    An integer is taken where a real number is asked for, never the other way round, and a boolean for neither.

    Raises:
        ValueError: names the field, and what it holds instead of what.
    """
    return _decode(kind, value, where or kind.__name__)  # type: ignore[no-any-return]


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if value is None and types.NoneType in get_args(kind):
            return None
        (only,) = (arm for arm in get_args(kind) if arm is not types.NoneType)
        return _decode(only, value, where)
    if origin is tuple:
        _expect(isinstance(value, list), where, "a list", value)
        arms = get_args(kind)
        if arms[-1] is Ellipsis:
            arms = (arms[0],) * len(value)
        _expect(len(arms) == len(value), where, f"a list of {len(arms)}", value)
        return tuple(_decode(arm, item, f"{where}[{i}]") for i, (arm, item) in enumerate(zip(arms, value, strict=True)))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(value, dict), where, "an object", value)
        return {key: _decode(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        _expect(isinstance(value, str) and value in set(kind), where, f"one of {', '.join(kind)}", value)
        return kind(value)
    if kind is float:
        _expect(isinstance(value, int | float) and not isinstance(value, bool), where, "a number", value)
        _expect(abs(value) <= sys.float_info.max, where, "a finite number", value)
        return float(value)
    _expect(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), where, kind.__name__, value)
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where, "an object", value)
    parts = dataclasses.fields(kind)
    if unknown := sorted(set(value) - {f.name for f in parts}):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}")
    if missing := [f.name for f in parts if f.name not in value and not is_later(f)]:
        raise ValueError(f"{where}: field {missing[0]!r} is missing")
    hints = _hints(kind)
    return kind(
        **{f.name: _decode(hints[f.name], value[f.name], f"{where}.{f.name}") for f in parts if f.name in value}
    )


def is_later(field: dataclasses.Field[Any]) -> bool:
    """Say whether a field may be absent, because it came after documents without it were signed."""
    return bool(field.metadata.get("later", False))


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _expect(holds: bool, where: str, what: str, value: object) -> None:
    if not holds:
        shown = type(value).__name__ if isinstance(value, list | dict) else f"{str(value)[:80]!r}"
        raise ValueError(f"{where} must be {what}, not {shown}")
