"""Canonical JSON: one value, one text; and a reader that refuses every text that could be read in two ways."""

import json
import math
from typing import NoReturn

MAX_BYTES = 64 << 20


def dumps(value: object) -> bytes:
    """Return `value` as UTF-8 JSON with sorted keys and no spaces; `loads(dumps(value)) == value`.

    Raises:
        ValueError: a number is not finite, or a text is not Unicode.
        TypeError: `value` holds something that JSON has no word for.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def loads(raw: bytes) -> object:
    """Read JSON strictly: no key twice, no NaN or infinity, not even as 1e999, nothing after the value.

    Raises:
        ValueError: says what is wrong with the text.
    """
    if len(raw) > MAX_BYTES:
        raise ValueError(f"JSON of {len(raw)} bytes exceeds {MAX_BYTES}")
    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float
        )
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is written twice")
    return members


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is not a finite number")
    return number
