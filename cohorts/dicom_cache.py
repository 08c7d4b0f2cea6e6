"""What was found of the files of a folder, kept so that ten thousand of them need not be opened again.

A file is known by a keyed digest of its relative path, size, time of change and the policy it was judged by, so a
changed file is a new one. Of a usable file the header facts are kept, sealed under the site's key; of a blocked one
nothing but the code of the reason. Under another key, or after another hand wrote in it, a cache is as good as empty.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cohorts.burned_in import VERSION
from cohorts.deidentify import Claims, Pseudonyms
from cohorts.dicom_header import Header
from cohorts.study import View

BYTES_MAX = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of one file: where it is, in words without identifiers; its header; and why it is blocked."""

    where: str = ""
    header: Header | None = None
    looked_at: bool = False
    blocked: str = ""


def name_of(path: Path, root: Path, policy: str, pseudonyms: Pseudonyms) -> str:
    """Return the keyed digest under which the file `path` in `root` is kept; raises `OSError` where it is gone."""
    status = path.stat()
    facts = (path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns, VERSION, policy)
    return pseudonyms.of_file("\0".join(map(str, facts)))


def load(path: Path) -> Mapping[str, Any]:
    """Return the entries of a cache as they lie there; none where there is no cache, or a damaged one."""
    try:
        if path.stat().st_size > BYTES_MAX:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def save(path: Path, entries: Mapping[str, Any]) -> None:
    """Write a cache whole or not at all, for its owner's eyes only."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(entries, file, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def packed(name: str, entry: Entry, pseudonyms: Pseudonyms) -> object:
    """Return what is written of `entry`."""
    if entry.blocked or entry.header is None:
        return {"blocked": entry.blocked}
    return pseudonyms.seal(json.dumps([entry.where, entry.looked_at, asdict(entry.header)]), about=name)


def unpacked(name: str, found: object, pseudonyms: Pseudonyms) -> Entry | None:
    """Return the entry that was written, `None` where it is not what `packed` writes under this key and `name`."""
    try:
        if isinstance(found, dict):
            return Entry(blocked=str(found["blocked"])[:64])
        where, looked_at, facts = json.loads(pseudonyms.unseal(str(found), about=name))
        return Entry(where=where, header=_header(facts), looked_at=looked_at)
    except (ValueError, KeyError, TypeError):
        return None


def _header(facts: dict[str, Any]) -> Header:
    if set(facts) != {each.name for each in fields(Header)}:
        raise ValueError("holds a header of another version")
    for name in ("shape", "region", "pixel_mm", "scale", "place", "identifiers"):
        facts[name] = None if facts[name] is None else tuple(facts[name])
    claims = {**facts["claims"], "methods": tuple(facts["claims"]["methods"])}
    view = None if facts["view"] is None else View(facts["view"])
    return Header(**{**facts, "claims": Claims(**claims), "view": view})
