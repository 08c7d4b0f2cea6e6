"""An append-only chain of events in one SQLite file: what was written stays, and an edit shows.

WAL mode with `synchronous=FULL` makes an event survive the process and the power cut that follow it; triggers forbid
change; each event is canonical JSON holding the SHA-256 of the one before it, so a change made around the triggers is
found and named. Cutting off the newest events is the one edit a chain alone cannot show: whoever kept an older `hash`
can, because it is then no longer among the events.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Event = dict[str, Any]

GENESIS = "0" * 64
BUSY_SECONDS = 30.0
SCHEMA = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL)",
    "CREATE TRIGGER no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    "CREATE TRIGGER in_order BEFORE INSERT ON events WHEN NEW.seq != (SELECT COALESCE(MAX(seq), 0) + 1 FROM events) "
    "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
)


class LedgerUnwritable(ValueError):
    """The file cannot be opened, locked or written."""


class LedgerCorrupt(RuntimeError):
    """An event was edited, removed, reordered or inserted behind the chain's back; the message names it."""


class EventChain:
    """The events of one file; every method opens its own connection, so processes and threads may share a path.

    Args:
        path: the SQLite file; created with its folder when absent.
        first: the event that opens a new chain; ignored where the chain exists.
    """

    def __init__(self, path: Path, first: Event) -> None:
        self.path = path
        with _fail_closed(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
                for statement in SCHEMA:
                    connection.execute(statement)
                _insert(connection, [], first)
            _verified(connection)
        with _fail_closed(path):
            _sync_folder(path.parent)

    def append(self, decide: Callable[[list[Event]], Event]) -> Event:
        """Let `decide` look at all events and return the next one, in one transaction; on disk before this returns.

        Where `decide` returns an event that is already in the chain, nothing is written and that event comes back.
        """
        with self._transaction() as connection:
            events = _verified(connection)
            event = decide(events)
            return event if "hash" in event else _insert(connection, events, event)

    def events(self) -> list[Event]:
        """Return every event in order, each with its `hash`; raises `LedgerCorrupt` unless the whole chain verifies."""
        with self._connection() as connection:
            return _verified(connection)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with _fail_closed(self.path):
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            with closing(connection):
                _write_ahead(connection)
                connection.execute("PRAGMA synchronous = FULL")
                yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


@contextmanager
def _fail_closed(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.IntegrityError, OSError) as error:
        raise LedgerUnwritable(f"{path}: cannot be written ({error})") from error
    except sqlite3.DatabaseError as error:
        raise LedgerCorrupt(f"{path}: not a readable chain of events ({error})") from error


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL; the first switch takes an exclusive lock, for which SQLite does not always wait by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise sqlite3.OperationalError(f"this file system offers no write-ahead log, only {mode!r}")
            return


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _verified(connection: sqlite3.Connection) -> list[Event]:
    events: list[Event] = []
    previous = GENESIS
    for at, (seq, body, digest) in enumerate(connection.execute("SELECT seq, body, hash FROM events ORDER BY seq"), 1):
        if seq != at:
            raise LedgerCorrupt(f"event {at} is missing: the next one found is event {seq}")
        if hashlib.sha256(body.encode()).hexdigest() != digest:
            raise LedgerCorrupt(f"event {seq} was edited: its content does not match its hash")
        event = json.loads(body)
        if event["seq"] != seq or event["prev_hash"] != previous:
            raise LedgerCorrupt(f"event {seq} does not follow event {seq - 1}: one of the two was replaced")
        previous = digest
        events.append({**event, "hash": digest})
    if not events:
        raise LedgerCorrupt("event 1 is missing: the chain holds no events")
    return events


def _insert(connection: sqlite3.Connection, events: list[Event], event: Event) -> Event:
    numbered = {
        **event,
        "seq": len(events) + 1,
        "prev_hash": events[-1]["hash"] if events else GENESIS,
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    body = json.dumps(numbered, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    digest = hashlib.sha256(body.encode()).hexdigest()
    connection.execute("INSERT INTO events VALUES (?, ?, ?)", (numbered["seq"], body, digest))
    return {**numbered, "hash": digest}
