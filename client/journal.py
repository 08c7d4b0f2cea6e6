"""What entered and left this site: a signed line for every message, on disk before a reply leaves.

`audit.jsonl` holds digests, sizes and codes; no name, no word of an error, nothing of a patient. Each line holds the
hash of the one before and the site's Ed25519 signature over its own (RFC 8032), so that whoever has the file and the
32 public bytes finds, offline, a line that was edited, taken out, put in or moved. Lines that were cut off at the end
are missed only beside a later head: write one down now and then, or let a partner keep it.

Errors::

    ValueError
    └── Unwritable       no line could be written, so nothing may leave
    JournalCorrupt       the file was changed behind the site's back; names the line
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from evaluation.trust import SITE, SigningKey, own_key
from learning import durable
from learning.schema import canonical

FILE = "audit.jsonl"
IN, OUT, SERVED = "in", "out", "OK"
DOMAIN = b"pericard.audit.entry/1\n"


class Unwritable(ValueError):
    """The journal cannot be opened, read, locked or written."""


class JournalCorrupt(RuntimeError):
    """A line was edited, removed, reordered or inserted; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One message.

    Attributes:
        seq: its number, from 1.
        utc: when it was written, by this site's clock.
        way: "in" or "out".
        kind: message type, "unknown" where no request has it.
        run, stage: what the request says it belongs to; "" where it says nothing.
        digest: SHA-256 of the bytes of its content (`learning.messages.weigh`).
        n_bytes: their number.
        code: of what left: "OK", or the code in its place; "" of what entered.
        answers: of what left: the number of what it answers; 0 of what entered.
        prev, hash: of the line before, and of this one; hexadecimal.
        signature: Ed25519 over `DOMAIN` and the hash; hexadecimal.
    """

    seq: int
    utc: str
    way: str
    kind: str
    run: str
    stage: str
    digest: str
    n_bytes: int
    code: str
    answers: int
    prev: str
    hash: str = ""
    signature: str = ""

    @property
    def own_hash(self) -> str:
        """What `hash` must be."""
        body = {k: v for k, v in asdict(self).items() if k not in ("hash", "signature")}
        return hashlib.sha256(canonical(body).encode()).hexdigest()

    @property
    def line(self) -> bytes:
        """The entry as a line of the file; `Entry.parse(e.line) == e`."""
        return f"{canonical(asdict(self))}\n".encode()

    @staticmethod
    def parse(line: bytes) -> "Entry":
        """Read what `line` wrote, to the byte; raises `ValueError`."""
        told = json.loads(line)
        if not isinstance(told, dict) or told.keys() != {field.name for field in fields(Entry)}:
            raise ValueError("not an entry")
        if (entry := Entry(**told)).line != line:
            raise ValueError("not written as entries are")
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """What is written down of a message (see `Entry`)."""

    kind: str
    run: str
    stage: str
    digest: str
    n_bytes: int


class Journal:
    """The journal of one site.

    Args:
        path: of the file, made with the first entry.
        key: of the site.
    """

    def __init__(self, path: Path, key: SigningKey) -> None:
        self.path, self._key = path, key

    def entered(self, message: Passing) -> int:
        """Write down what entered; returns its number. Raises `Unwritable`, `JournalCorrupt`."""
        return self._write(message, way=IN, code="", answers=0, admit=None)

    def leaves(
        self, message: Passing, *, code: str, answers: int, admit: Callable[[Sequence[Entry]], None] | None
    ) -> int:
        """Write down what is about to leave, on disk before this returns.

        Args:
            message: what leaves.
            code: `SERVED`, or the code that leaves in its place.
            answers: the number of what it answers.
            admit: is shown all that ever left for the same run; what it raises keeps the message here. `None` admits.

        Raises:
            Unwritable: a full disk, say.
            JournalCorrupt: the last line is not what was written.
        """
        return self._write(message, way=OUT, code=code, answers=answers, admit=admit)

    def _write(
        self, message: Passing, *, way: str, code: str, answers: int, admit: Callable[[Sequence[Entry]], None] | None
    ) -> int:
        with self._alone() as handle:
            end, last = self._tail(handle)
            if admit is not None:
                admit([e for e in self._about(message.run) if e.way == OUT])
            entry = Entry(
                seq=last.seq + 1 if last else 1,
                utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
                way=way,
                **asdict(message),
                code=code,
                answers=answers,
                prev=last.hash if last else genesis(self._key.public),
            )
            sealed = _sealed(entry, self._key)
            try:
                os.ftruncate(handle, end)  # a line that a crash tore was never answered for
                os.lseek(handle, end, os.SEEK_SET)
                _write_all(handle, sealed.line)
                os.fsync(handle)
                if last is None:
                    durable.sync_folder(self.path.parent)
            except OSError as error:
                os.ftruncate(handle, end)
                raise Unwritable(f"{self.path}: {error.strerror}") from error
            return sealed.seq

    def _tail(self, handle: int) -> tuple[int, Entry | None]:
        """Return where the next line goes, and the last whole entry; raises `JournalCorrupt` if it is foreign."""
        size, back = os.fstat(handle).st_size, 4096
        while True:
            start = max(0, size - back)
            tail = os.pread(handle, size - start, start)
            end = tail.rfind(b"\n") + 1
            begin = tail.rfind(b"\n", 0, max(0, end - 1)) + 1
            if start == 0 or begin > 0:
                break
            back *= 4
        if end == 0:
            return 0, None
        line = tail[begin:end]
        return start + end, _checked(line, "its last line", self._key.public)

    def _about(self, run: str) -> Iterator[Entry]:
        """Return the entries about one run; what belongs to none is seen by nobody."""
        named = f'"run":{canonical(run)},'.encode()
        with self.path.open("rb") as file:
            for line in file:
                if named in line and line.endswith(b"\n"):
                    yield Entry.parse(line)

    @contextmanager
    def _alone(self) -> Iterator[int]:
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Unwritable(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A journal that is as it was written: its entries, and whether a crash tore a line after them."""

    entries: tuple[Entry, ...]
    torn: bool

    @property
    def head(self) -> str:
        """What a later copy is compared with: `SEQ:HASH` of the last entry."""
        return f"{self.entries[-1].seq}:{self.entries[-1].hash}" if self.entries else "0:"


def verify(content: bytes, public: bytes, *, head: str = "") -> Checked:
    """Check a journal from its first line to its last.

    Args:
        content: of the file.
        public: the 32 public bytes of the site's key.
        head: `SEQ:HASH` that was written down earlier; a journal that lacks it was cut off.

    Raises:
        JournalCorrupt: naming the first line that is not as it was written.
        ValueError: `public` is no key, `head` is none.
    """
    number, _, digest = head.partition(":")
    if head and not number.isdigit():
        raise ValueError(f"head={head!r} must be SEQ:HASH")
    lines = content.splitlines(keepends=True)
    torn = bool(lines) and not lines[-1].endswith(b"\n")
    entries, before = [], genesis(public)
    for at, line in enumerate(lines[:-1] if torn else lines, 1):
        entry = _checked(line, f"line {at}", public)
        if entry.seq != at:
            raise JournalCorrupt(f"line {at} holds entry {entry.seq}: lines were taken out, put in or moved")
        if entry.prev != before:
            raise JournalCorrupt(f"line {at} does not follow the line before it")
        before = entry.hash
        entries.append(entry)
    if head and (int(number) > len(entries) or (int(number) and entries[int(number) - 1].hash != digest)):
        raise JournalCorrupt(f"entry {number} is not the one whose head was kept: the end was cut off, or rewritten")
    return Checked(entries=tuple(entries), torn=torn)


def genesis(public: bytes) -> str:
    """Return what stands before the first entry: a digest of whose journal it is."""
    return hashlib.sha256(DOMAIN + public).hexdigest()


def _sealed(entry: Entry, key: SigningKey) -> Entry:
    digest = entry.own_hash
    return replace(entry, hash=digest, signature=key.sign(DOMAIN + digest.encode()).hex())


def _checked(line: bytes, where: str, public: bytes) -> Entry:
    """Return the entry in a line; raises `JournalCorrupt` unless its hash is its own and the key signed it."""
    try:
        entry = Entry.parse(line)
        signature = bytes.fromhex(entry.signature)
    except (ValueError, TypeError, RecursionError) as error:
        raise JournalCorrupt(f"{where} was edited: it is no entry") from error
    if entry.hash != entry.own_hash:
        raise JournalCorrupt(f"{where} was edited: it does not match its hash")
    if not own_key(SITE, public).verifies(signature, DOMAIN + entry.hash.encode()):
        raise JournalCorrupt(f"{where} does not carry the signature of this site's key")
    return entry


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
