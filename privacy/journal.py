"""The journal: every event of an account once more, one line each, in a plain file that an auditor can read.

A line is on disk before its event is committed to the database, so the journal is the database's equal or one event
ahead of it, and a database that was put back from an older copy is behind its own journal. A line that a crash tore
has no end; what it was is then in doubt, and the account says so for good (`privacy.chain`).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from privacy.events import LedgerCorrupt, Row, read_line

CHUNK = 1 << 14


@dataclass(frozen=True, slots=True)
class End:
    """How a journal ends: the offset behind its last whole line, that line, and what stands torn behind it."""

    offset: int
    last: bytes
    torn: bytes


class Journal:
    """The journal at `path`; whoever writes holds the lock of the database.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def end(self) -> End:
        """Return how the journal ends; an absent one is empty. Cost does not depend on its length."""
        if not self.path.exists():
            return End(0, b"", b"")
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            tail, start = b"", size
            while start and tail.count(b"\n") < 2:
                start = max(0, start - CHUNK)
                file.seek(start)
                tail = file.read(size - start)
        whole, newline, torn = tail.rpartition(b"\n")
        last = whole.rpartition(b"\n")[2] + newline
        return End(size - len(torn), last, torn)

    def write(self, lines: bytes, offset: int) -> None:
        """Put whole `lines` at `offset`, over what a crash tore there; on disk before this returns.

        What was torn is overwritten first and cut off afterwards: killed in between, the end is torn as before.
        """
        handle = os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            before = os.fstat(handle).st_size
            try:
                written = 0
                while written < len(lines):
                    written += os.pwrite(handle, lines[written:], offset + written)
            except OSError:
                os.ftruncate(handle, before)  # a full disk is no crash: nothing of the line was promised to anybody
                raise
            if before > offset + len(lines):
                os.ftruncate(handle, offset + len(lines))
            sync(handle)
        finally:
            os.close(handle)

    def rows(self) -> Iterator[Row]:
        """Yield the events of the whole lines; raises `LedgerCorrupt` naming a line that is none."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                yield parsed(self.path, line, number)


def sync(handle: int) -> None:
    """Wait until what was written is on the disk."""
    os.fsync(handle)


def parsed(path: Path, line: bytes, number: int | None = None) -> Row:
    """Return the row of one line; raises `LedgerCorrupt` naming it where it is none."""
    try:
        return read_line(line)
    except (ValueError, KeyError, TypeError) as error:
        which = "the last line" if number is None else f"event {number}"
        raise LedgerCorrupt(f"{path.name}: {which} was edited: {error}") from error
