"""The SQLite file of an account: rows go in at the end, nothing comes out, and nothing is cached between calls."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from privacy.events import LedgerCorrupt, LedgerUnwritable, Row

BUSY_SECONDS = 30.0
SYNCHRONOUS = "FULL"  # NORMAL may lose a committed charge when the power fails
COLUMNS = "seq, body, hash, signature"
KIND, RUN, KEY = (f"json_extract(body, '$.{name}')" for name in ("kind", "run", "key"))
SCHEMA = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL, signature TEXT NOT NULL)",
    "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, body TEXT NOT NULL)",
    f"CREATE INDEX by_run ON events ({KIND}, {RUN}, {KEY})",
    "CREATE TRIGGER no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    "CREATE TRIGGER in_order BEFORE INSERT ON events WHEN NEW.seq != (SELECT COALESCE(MAX(seq), 0) + 1 FROM events) "
    "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
)
FIND = f"SELECT {COLUMNS} FROM events WHERE {KIND} = ? AND {RUN} = ? AND {KEY} = ? ORDER BY seq LIMIT 1"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of an account within one transaction."""

    connection: sqlite3.Connection

    def founded(self) -> bool:
        """Say whether there is an account at all."""
        return bool(self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone())

    def found(self) -> None:
        """Make the tables, their triggers and their index."""
        for statement in SCHEMA:
            self.connection.execute(statement)

    def row(self, seq: int) -> Row | None:
        """Return event `seq`."""
        found = self.connection.execute(f"SELECT {COLUMNS} FROM events WHERE seq = ?", (seq,)).fetchone()  # noqa: S608
        return None if found is None else Row(*found)

    def tail(self) -> Row:
        """Return the newest event; raises `LedgerCorrupt` where there is none."""
        found = self.connection.execute(f"SELECT {COLUMNS} FROM events ORDER BY seq DESC LIMIT 1").fetchone()  # noqa: S608
        if found is None:
            raise LedgerCorrupt("event 1 is missing: the chain holds no events")
        return Row(*found)

    def find(self, kind: str, run: str, key: str) -> Row | None:
        """Return the first event of this kind, run and key; by an index."""
        found = self.connection.execute(FIND, (kind, run, key)).fetchone()
        return None if found is None else Row(*found)

    def all(self) -> Iterator[Row]:
        """Yield every event in order."""
        for found in self.connection.execute(f"SELECT {COLUMNS} FROM events ORDER BY seq"):  # noqa: S608
            yield Row(*found)

    def state(self) -> tuple[int, str]:
        """Return the number of the event that the state stands for, and the state; (0, "") where there is none."""
        found = self.connection.execute("SELECT seq, body FROM state").fetchone()
        return (0, "") if found is None else (int(found[0]), str(found[1]))

    def insert(self, row: Row, state: str) -> None:
        """Put an event at the end, and the state after it in place of the one before."""
        self.connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (row.seq, row.body, row.hash, row.signature))
        self.connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (row.seq, state))

    def damage(self) -> str:
        """Return what SQLite finds wrong with the file itself, "" for nothing."""
        said = str(self.connection.execute("PRAGMA integrity_check").fetchone()[0])
        return "" if said == "ok" else " ".join(said.split())


class Store:
    """One SQLite file; every transaction opens its own connection, so processes and threads may share a path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """Hold the lock: nobody else writes until this ends; on disk when it ends, or undone when it raises."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Rows(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """See the rows as they are at one moment."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield Rows(connection)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with fail_closed(self.path):
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            with closing(connection):
                _write_ahead(connection)
                connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
                yield connection


@contextmanager
def fail_closed(path: Path) -> Iterator[None]:
    """Turn what the disk or SQLite says about `path` into `LedgerUnwritable` or `LedgerCorrupt`."""
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
