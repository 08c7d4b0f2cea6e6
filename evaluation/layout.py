"""The layout of a certificate's statement as JSON Schema, made of the records themselves, for checks by machine.

What no schema can say stays with `Statement.from_json`: that the verdict is what the policy says of the findings, that
sections agree, and that times are ordered.
"""

import dataclasses
import inspect
import types
from collections.abc import Mapping
from enum import StrEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from evaluation.schema import is_later
from evaluation.statement import PREDICATE_TYPE, STATEMENT_TYPE, Predicate, Subject

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SCALARS: Mapping[type, Mapping[str, str]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
}


def statement_schema() -> dict[str, Any]:
    """Return the schema of the signed payload: the in-toto statement, its subjects and its predicate."""
    records: dict[str, Any] = {}
    parts = {
        "_type": {"const": STATEMENT_TYPE},
        "subject": {"type": "array", "items": _schema(Subject, records)},
        "predicateType": {"const": PREDICATE_TYPE},
        "predicate": _schema(Predicate, records),
    }
    return {
        "$schema": DRAFT,
        "$id": PREDICATE_TYPE,
        "title": "Pericard certificate: the signed payload",
        "type": "object",
        "properties": parts,
        "required": list(parts),
        "additionalProperties": False,
        "$defs": {name: records[name] for name in sorted(records)},
    }


def _schema(kind: Any, records: dict[str, Any]) -> dict[str, Any]:
    origin, arms = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (only,) = (arm for arm in arms if arm is not types.NoneType)
        return {"anyOf": [_schema(only, records), {"type": "null"}]}
    if origin is tuple and arms[-1] is Ellipsis:
        return {"type": "array", "items": _schema(arms[0], records)}
    if origin is tuple:
        each = [_schema(arm, records) for arm in arms]
        return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arms[1], records)}
    if dataclasses.is_dataclass(kind):
        return _record(kind, records)
    if issubclass(kind, StrEnum):
        return {"enum": [str(value) for value in kind]}
    return dict(SCALARS[kind])


def _record(kind: Any, records: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in records:
        records[name] = {}
        hints, parts = get_type_hints(kind), dataclasses.fields(kind)
        records[name] |= {
            "description": (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " "),
            "type": "object",
            "properties": {f.name: _schema(hints[f.name], records) for f in parts},
            "required": [f.name for f in parts if not is_later(f)],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}
