"""Manifest: every file of a release by name, size and SHA-256, under one Merkle root.

Light by intent: whoever verifies a release needs this module and no array library.

Errors: `OSError` where a file cannot be read; `ValueError`
  ├─ `MalformedManifest`: the manifest itself is no manifest
  └─ `StrangeFile`: something in the folder is neither a plain file nor a folder (a link, a device)
"""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synthesis.canonical import dumps, loads

MANIFEST = "manifest.json"
LEAF, NODE = b"\x00", b"\x01"
CHUNK = 1 << 20
OPENING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
RESERVED = frozenset('\\:*?"<>|')  # characters that some file system or shell takes for something else


class MalformedManifest(ValueError):
    """A manifest that does not describe a release."""


class StrangeFile(ValueError):
    """Something in a release that is not a plain file; `name` is its path in the release."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} is {what}; a release holds plain files only")
        self.name = name


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file: its path relative to the release with `/` between folders, its bytes, their SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        if not _is_portable(self.path):
            raise MalformedManifest(f"{self.path!r} is not a portable relative path")
        if self.size < 0:
            raise MalformedManifest(f"{self.path}: size={self.size} is negative")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise MalformedManifest(f"{self.path}: sha256={self.sha256!r} is not 64 hexadecimal digits")

    @property
    def leaf(self) -> bytes:
        """Hash that binds the name and the size to the content; lengths first, so no two entries share their bytes."""
        name = self.path.encode()
        bound = len(name).to_bytes(8, "big") + name + self.size.to_bytes(8, "big") + bytes.fromhex(self.sha256)
        return hashlib.sha256(LEAF + bound).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What separates a folder from its manifest, by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The files of a release, sorted by path; `Manifest.parse(m.canonical) == m`."""

    files: tuple[Entry, ...]

    def __post_init__(self) -> None:
        paths = [entry.path for entry in self.files]
        if not paths:
            raise MalformedManifest("a release has at least one file")
        if paths != sorted(set(paths)):
            raise MalformedManifest("the paths of a manifest are sorted and each stands once")
        if len({path.casefold() for path in paths}) != len(paths):
            raise MalformedManifest("two paths differ by case only; they are one file on some disks")
        if MANIFEST in paths:
            raise MalformedManifest(f"{MANIFEST} cannot list itself")

    @property
    def canonical(self) -> bytes:
        """The bytes of `manifest.json`."""
        files = [{"path": e.path, "sha256": e.sha256, "size": e.size} for e in self.files]
        return dumps({"files": files, "version": 1})

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical`."""
        return hashlib.sha256(self.canonical).hexdigest()

    @property
    def root(self) -> str:
        """Merkle root over the entries, hexadecimal (the tree of RFC 6962, 2.1)."""
        return merkle_root([entry.leaf for entry in self.files]).hex()

    @staticmethod
    def parse(raw: bytes) -> "Manifest":
        """Read the bytes of `manifest.json`; only the canonical text is one.

        Raises:
            MalformedManifest: says what is wrong.
        """
        try:
            document = loads(raw)
        except ValueError as error:
            raise MalformedManifest(str(error)) from error
        if not isinstance(document, dict) or set(document) != {"files", "version"} or document["version"] != 1:
            raise MalformedManifest("a manifest has exactly the entries files and version 1")
        if not isinstance(document["files"], list):
            raise MalformedManifest("files must be a list")
        manifest = Manifest(files=tuple(_entry(item) for item in document["files"]))
        if manifest.canonical != raw:
            raise MalformedManifest("the text is not canonical")
        return manifest

    @staticmethod
    def of(folder: Path) -> "Manifest":
        """Hash every file below `folder`, but for its own `manifest.json`.

        Raises:
            StrangeFile: a link or a device lies in the folder.
            OSError: a file cannot be read.
        """
        return Manifest(files=tuple(sorted(Entry(name, *_hash(folder, name)) for name in names(folder))))

    def compare(self, folder: Path) -> Differences:
        """Return how `folder` differs from this manifest. Raises as `of` does."""
        listed = {entry.path: entry for entry in self.files}
        present = set(names(folder))
        kept = sorted(present & set(listed))
        return Differences(
            added=tuple(sorted(present - set(listed))),
            removed=tuple(sorted(set(listed) - present)),
            changed=tuple(n for n in kept if _hash(folder, n) != (listed[n].size, listed[n].sha256)),
        )


def names(folder: Path) -> Iterator[str]:
    """Yield the path of every file below `folder` but its `manifest.json`, unsorted, without following any link."""
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}{entry.name}"
                if entry.is_symlink():
                    raise StrangeFile(name, "a link")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                elif not entry.is_file(follow_symlinks=False):
                    raise StrangeFile(name, "neither a file nor a folder")
                elif name != MANIFEST:
                    yield name


def merkle_root(leaves: list[bytes]) -> bytes:
    """Return the root over leaf hashes; the left subtree is the largest full one, so no leaf is ever doubled."""
    if not leaves:
        raise ValueError("leaves must not be empty: an empty tree has no root")
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(NODE + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


def _hash(folder: Path, name: str) -> tuple[int, str]:
    # The file may have become a link since it was listed: O_NOFOLLOW decides at the moment of opening.
    path = f"{folder}/{name}"
    digest, size = hashlib.sha256(), 0
    with open(os.open(path, OPENING), "rb", buffering=0) as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise StrangeFile(name, "not a plain file")
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _entry(item: object) -> Entry:
    if not isinstance(item, dict) or set(item) != {"path", "sha256", "size"}:
        raise MalformedManifest("a file has exactly the entries path, sha256 and size")
    path, size, sha256 = item["path"], item["size"], item["sha256"]
    if not isinstance(path, str) or not isinstance(sha256, str) or type(size) is not int:
        raise MalformedManifest("path and sha256 are text, size is a whole number")
    return Entry(path, size, sha256)


def _is_portable(path: str) -> bool:
    return (
        not {"", ".", ".."} & set(path.split("/"))
        and path.isprintable()
        and not RESERVED & set(path)
        and unicodedata.is_normalized("NFC", path)
    )
