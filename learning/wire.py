"""Messages as JSON and arrays, whatever carries them: a Flower record on the wire, a safetensors file in an outbox."""

import hashlib
import json
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from learning import schema
from learning.schema import Malformed

M = TypeVar("M")
VERSION = 1


def digest(message: object) -> str:
    """Return the SHA-256 of a message: the same for the same content, whatever its order of insertion."""
    plain, arrays = parts(message)
    h = hashlib.sha256(f"{schema_of(type(message))}\n{schema.canonical(plain)}\n".encode())
    for name in sorted(arrays):
        h.update(f"{name}:{arrays[name].dtype.str}:{arrays[name].shape};".encode())
        h.update(arrays[name].tobytes())
    return h.hexdigest()


def to_bytes(message: object, *, note: str) -> bytes:
    """Return the message as one safetensors file that also carries a `note`."""
    plain, arrays = parts(message)
    metadata = {"schema": schema_of(type(message)), "json": schema.canonical(plain), "note": note}
    return save({n: np.asarray(a, order="C") for n, a in arrays.items()}, metadata)


def from_bytes(content: bytes, kind: type[M]) -> tuple[M, str]:
    """Return the message and the note of what `to_bytes` wrote; raises `Malformed` unless it is one `kind`."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        arrays = load(content)
    except Exception as error:  # safetensors raises its own SafetensorError, which derives from Exception only
        raise Malformed("not a message in safetensors") from error
    return message(kind, header["schema"], header["json"], arrays), header["note"]


def message(kind: type[M], name: object, text: object, arrays: dict[str, NDArray[Any]]) -> M:
    """Check every field of JSON `text` and `arrays` (which is emptied), and return the `kind` they make."""
    if name != schema_of(kind):
        raise Malformed(f"the schema must be {schema_of(kind)}")
    plain = schema.parse("json", text)
    values: dict[str, Any] = {}
    for field, part in kinds(kind).items():
        if isinstance(part, schema.Tensors):
            values[field] = _grouped(field, part, arrays)
        elif field not in plain:
            raise Malformed(f"{field} is missing")
        else:
            values[field] = schema.from_plain(field, part, plain.pop(field))
        part.check(field, values[field])
    if plain or arrays:
        raise Malformed("the message holds fields or arrays that its schema does not know")
    return kind(**values)


def parts(message: object) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Check every field of `message`, and return its JSON object and its arrays by path."""
    plain: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in kinds(type(message)).items():
        value = getattr(message, name)
        part.check(name, value)
        if not isinstance(part, schema.Tensors):
            plain[name] = schema.to_plain(part, value)
        elif part.groups:
            arrays |= {f"{name}/{group}/{n}": a for group, found in value.items() for n, a in found.items()}
        else:
            arrays |= {f"{name}/{n}": a for n, a in value.items()}
    return plain, arrays


def _grouped(field: str, part: schema.Tensors, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Take the arrays of one `field` out of `arrays`."""
    found: dict[str, Any] = {}
    for path in [p for p in arrays if p.startswith(f"{field}/")]:
        steps = path.split("/")[1:]
        if len(steps) != 1 + part.groups:
            raise Malformed(f"{field} holds an array at a foreign depth")
        place = found.setdefault(steps[0], {}) if part.groups else found
        place[steps[-1]] = arrays.pop(path)
    return found


def kinds(message: type[Any]) -> dict[str, schema.Kind]:
    """Return the kind of each field of a message class."""
    hints = get_type_hints(message, include_extras=True)
    return {f.name: hints[f.name].__metadata__[0] for f in fields(message)}


def schema_of(message: type[Any]) -> str:
    """Return the name and version that a message of this class carries."""
    return f"pericard.{message.__name__.lower()}/{VERSION}"
