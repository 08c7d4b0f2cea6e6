"""What a field of a message may hold: the kinds, their bounds, and the JSON they travel as.

A message is a frozen dataclass whose annotations name one of these kinds. Whatever is not of a kind has no way onto the
wire: there is none for a clip, and the ones that a site may use (`Numbers`, `Weights`, ...) hold neither images nor
free words.
"""

import base64
import binascii
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

JSON_BYTES = 1 << 20
JSON_DEPTH = 12
ARRAY_BYTES = 1 << 28
ARRAY_COUNT = 4096
ARRAY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")


class Malformed(ValueError):
    """A message that does not follow its schema; names the field, never what a patient's record said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A string that matches `pattern` from end to end."""

    pattern: str

    def check(self, where: str, value: object) -> None:
        """Raise `Malformed` unless `value` is such a string."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise Malformed(f"{where} must match {self.pattern}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An integer in `low`..`high`; a truth value is none."""

    low: int
    high: int

    def check(self, where: str, value: object) -> None:
        """Raise `Malformed` unless `value` is such an integer."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise Malformed(f"{where} must be an integer in {self.low}..{self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A finite number in `low`..`high`."""

    low: float
    high: float

    def check(self, where: str, value: object) -> None:
        """Raise `Malformed` unless `value` is such a number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise Malformed(f"{where} must be a finite number in {self.low:g}..{self.high:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Yes or no."""

    def check(self, where: str, value: object) -> None:
        """Raise `Malformed` unless `value` is a truth value."""
        if not isinstance(value, bool):
            raise Malformed(f"{where} must be true or false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Octets:
    """At most `high` bytes; base64 on the wire."""

    high: int

    def check(self, where: str, value: object) -> None:
        """Raise `Malformed` unless `value` is bytes within the bound."""
        if not isinstance(value, bytes) or len(value) > self.high:
            raise Malformed(f"{where} must be at most {self.high} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A JSON object: settings on their way to a site. With `words` false it holds numbers and truth values only."""

    words: bool = True
    counts: bool = False  # nothing but whole numbers from 0, each under a name of its own
    optional: bool = False
    rows: bool = False  # a list of objects instead of one

    def check(self, where: str, value: object) -> None:
        """Raise `Malformed` for a foreign type, a key that is no name, a number that is not finite, or deep nesting."""
        if value is None and self.optional:
            return
        if not isinstance(value, list | tuple if self.rows else Mapping):
            raise Malformed(f"{where} must be a JSON {'list' if self.rows else 'object'}")
        self._walk(where, value, JSON_DEPTH)

    def _walk(self, where: str, value: object, depth: int) -> None:
        if depth == 0:
            raise Malformed(f"{where} is nested deeper than {JSON_DEPTH}")
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if not isinstance(key, str) or not ARRAY_NAME.fullmatch(key):
                    raise Malformed(f"{where} has a key that is no name")
                self._walk(where, inner, depth - 1)
        elif self.counts:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise Malformed(f"{where} holds something that is no count")
        elif isinstance(value, list | tuple):
            for inner in value:
                self._walk(where, inner, depth - 1)
        elif isinstance(value, float) and not math.isfinite(value):
            raise Malformed(f"{where} holds a number that is not finite")
        elif not isinstance(value, bool | int | float | None) and not (self.words and isinstance(value, str)):
            raise Malformed(f"{where} holds a {type(value).__name__}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """Named arrays of one `dtype`, all finite; with `groups`, one set of them per group name."""

    dtype: str
    groups: bool = False

    def check(self, where: str, value: object) -> None:
        """Raise `Malformed` for a foreign type, name or dtype, a value that is not finite, or too much of it all."""
        sets = value if self.groups else {"arrays": value}
        if not isinstance(sets, Mapping) or not all(isinstance(s, Mapping) for s in sets.values()):
            raise Malformed(f"{where} must be named arrays")
        size = 0
        for group, arrays in sets.items():
            for name, array in arrays.items():
                if not ARRAY_NAME.fullmatch(group) or not isinstance(name, str) or not ARRAY_NAME.fullmatch(name):
                    raise Malformed(f"{where} holds an array under a name that is none")
                if not isinstance(array, np.ndarray) or array.dtype != self.dtype:
                    raise Malformed(f"{where}: array {name!r} must be {self.dtype}")
                if not np.isfinite(array).all():
                    raise Malformed(f"{where}: array {name!r} holds a value that is not finite")
                size += array.nbytes
        if size > ARRAY_BYTES or sum(map(len, sets.values())) > ARRAY_COUNT:
            raise Malformed(f"{where} holds more than {ARRAY_COUNT} arrays or {ARRAY_BYTES} bytes")


Kind = Text | Whole | Real | Truth | Octets | Tree | Tensors
Name = Annotated[str, Text(pattern=r"[a-z0-9][a-z0-9_\-]{0,63}")]
Digest = Annotated[str, Text(pattern=r"[0-9a-f]{64}")]
Length = Annotated[int, Whole(low=0, high=512)]
Flag = Annotated[bool, Truth()]
Prefix = Annotated[str, Text(pattern=r"[A-Za-z0-9_.]{0,64}")]  # of names of weights; "" is none
Settings = Annotated[Mapping[str, Any], Tree()]
Numbers = Annotated[Mapping[str, Any], Tree(words=False)]
Weights = Annotated[Mapping[str, NDArray[np.float32]], Tensors(dtype="float32")]
Arms = Annotated[Mapping[str, Mapping[str, NDArray[np.float32]]], Tensors(dtype="float32", groups=True)]
Images = Annotated[Mapping[str, NDArray[np.uint8]], Tensors(dtype="uint8")]
Hidden = Annotated[Mapping[str, NDArray[np.uint64]], Tensors(dtype="uint64")]  # under masks (`privacy.masks`)


def canonical(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_plain(kind: Kind, value: Any) -> Any:
    """Return `value` as JSON can hold it."""
    return base64.b64encode(value).decode() if isinstance(kind, Octets) else value


def from_plain(where: str, kind: Kind, value: Any) -> Any:
    """Return what `to_plain` made `value` from."""
    if not isinstance(kind, Octets):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise Malformed(f"{where} is not base64") from error


def parse(where: str, text: object) -> dict[str, Any]:
    """Read a JSON object strictly: bounded, no duplicate key, no NaN."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            raise Malformed(f"{where} names a key twice")
        return found

    def refuse(_: str) -> float:
        raise Malformed(f"{where} holds a number that is not finite")

    if not isinstance(text, str) or len(text) > JSON_BYTES:
        raise Malformed(f"{where} must be JSON of at most {JSON_BYTES} characters")
    try:
        value = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{where} is not JSON, or nested too deep") from error
    if not isinstance(value, dict):
        raise Malformed(f"{where} must be a JSON object")
    return value


def from_npy(kind: str, data: bytes) -> NDArray[Any]:
    """Read the npy bytes of an array without trusting a length they declare."""
    if kind != "numpy.ndarray" or not data.startswith(b"\x93NUMPY\x01\x00"):
        raise Malformed("an array is not npy 1.0")
    stream = io.BytesIO(data)
    try:
        np.lib.format.read_magic(stream)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=4096)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise Malformed("an array is not npy 1.0") from error
    body = memoryview(data)[stream.tell() :]
    if fortran or dtype.str not in ("<f4", "|u1", "<u8") or any(n < 0 for n in shape):
        raise Malformed("an array must be float32, uint8 or uint64 in C order")
    if len(body) != math.prod(shape) * dtype.itemsize or len(body) > ARRAY_BYTES:
        raise Malformed("the bytes of an array do not fill its shape")
    return np.frombuffer(body, dtype).reshape(shape).copy()
