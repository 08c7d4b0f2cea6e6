"""An append-only chain of events in one SQLite file, with its journal: what was written stays, and an edit shows.

WAL mode with `synchronous=FULL` makes an event survive the process and the power cut that follow it; triggers forbid
change; each event holds the SHA-256 of the one before it and of the account's state after it, and is signed. Beside
the events stands one row with that state, so that a new event costs the same whether ten or a hundred thousand came
before: the row is checked against the newest event, and that against the journal. `verify` checks everything.

One event is one transaction under one lock: insert, line in the journal, witness, commit. A process killed in between
leaves a journal that is one event ahead; the next one takes that event in, and commits it before it writes its own.
Whoever was killed had no answer, so at worst more is charged than was used, never less.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from privacy.account import Account, BrokenRule, dump, load, opened
from privacy.events import GENESIS, Event, LedgerCorrupt, LedgerUnwritable, Row, Signer, check, follow, public_of, seal
from privacy.journal import Journal, parsed
from privacy.store import Rows, Store, fail_closed
from privacy.witness import Cosigned, Head, Witness, sync_folder

MENDED, REBUILT = "a crash tore the journal", "the database was made again from its journal"


def clock() -> datetime:
    """Return the time of the system clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event to be: its kind, its run, the key under which it happens once, and what it says."""

    kind: str
    run: str = ""
    key: str = ""
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """The account as it is while nobody else can write.

    Attributes:
        account: its state.
        tail: its newest event.
        time: seconds since 1970 that never run backwards: where the clock was set back, time stands still.
        find: returns the first event of a kind, run and key.
    """

    account: Account
    tail: Event
    time: int
    find: Callable[[str, str, str], Event | None]


class EventChain:
    """The account in one file; processes and threads may share a path.

    Args:
        path: the SQLite file; its journal stands beside it, with the suffix `.jsonl`.
        key: signs new events; `None` to read an account, or for an account without a key.
        witness: file of the heads, outside the account.
        clock: tells the time.
    """

    def __init__(
        self, path: Path, *, key: Signer | None, witness: Path | None, clock: Callable[[], datetime] = clock
    ) -> None:
        self.path, self._key, self._clock = path, key, clock
        self.store, self.journal = Store(path), Journal(path.with_suffix(".jsonl"))
        self.witness = None if witness is None else Witness(witness)

    def create(self, opening: Draft) -> None:
        """Make the account, with `opening` as event 1; does nothing where there is one.

        Raises:
            LedgerCorrupt: if there was one, as its journal shows.
        """
        with fail_closed(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.store.writing() as rows:
            if rows.founded():
                return
            rows.found()
            end = self.journal.end()
            if not end.last:
                self._write(rows, None, opening, 0)
            elif (row := parsed(self.journal.path, end.last)).seq == 1:  # killed between the journal and the commit
                rows.insert(row, dump(_opened(follow(row, None, self._public(row)))))
            else:
                raise LedgerCorrupt(
                    f"event 1 is missing: {self.path.name} is empty, {self.journal.path.name} holds {row.seq} events"
                )
        with fail_closed(self.path):
            sync_folder(self.path.parent)

    def rebuild(self) -> None:
        """Make the database again from its journal, every line of it checked; what was open is in doubt from then on.

        For a disk that failed. A journal that was cut as well is a whole account: only the witness can tell.

        Raises:
            LedgerUnwritable: if the database is still there: move it away first.
            LedgerCorrupt: names the line that is not as it was written.
        """
        if self.path.exists():
            raise LedgerUnwritable(f"{self.path} is still there: move it away, and its journal stays")
        with self.store.writing() as rows:
            rows.found()
            before: Row | None = None
            account: Account | None = None
            for row in self.journal.rows():
                event = follow(row, before, self._public(row if before is None else _first(rows)))
                state = dump(account := _opened(event)) if account is None else _applied(account, event)
                rows.insert(row, state)
                before = row
            if before is None or account is None:
                raise LedgerCorrupt(f"event 1 is missing: {self.journal.path.name} holds no events")
            self._ask_witness(rows)
            view, _, _ = self._settle(rows)
            doubt = Draft(kind="recover", payload={"why": REBUILT})
            self._write(rows, view, doubt, self.journal.end().offset)

    def append(self, decide: Callable[[View], Draft | Event]) -> Event:
        """Let `decide` look at the account and return the next event, in one transaction; on disk before this returns.

        Where `decide` returns an event that is already there, nothing is written and that event comes back. Checked
        are the newest event, the state beside it, the end of the journal and the witness: not the whole chain.
        """
        while True:
            with self.store.writing() as rows:
                view, ahead, taken_in = self._settle(rows)
                if taken_in:
                    continue  # committed before anything else is written: the journal is never two events ahead
                end = self.journal.end()
                if ahead or end.torn:
                    doubt = Draft(kind="recover", payload={"why": MENDED, "bytes": len(end.torn)})
                    self._write(rows, view, doubt, end.offset, also=ahead)
                    continue  # in a transaction of its own, so that nothing undoes it
                outcome = decide(view)
                return self._write(rows, view, outcome, end.offset) if isinstance(outcome, Draft) else outcome

    def now(self) -> tuple[Account, int]:
        """Return the account's state and time, after a look at its end; cost does not depend on its length."""
        with self.store.reading() as rows:
            _, event, account = self._current(rows)
            return account, self._time(event)

    def events(self) -> list[Event]:
        """Return every event in order; raises `LedgerCorrupt` unless all of them and the state verify."""
        with self.store.reading() as rows:
            return self._verified(rows)[0]

    def account(self) -> Account:
        """Return the state that the events add up to, after verifying all of them."""
        with self.store.reading() as rows:
            return self._verified(rows)[1]

    def verify(self) -> list[Event]:
        """Check every event, signature and state, the journal line by line, the witness, and the file; return events.

        Raises:
            LedgerCorrupt: names the event, or the file, that is not as it was written.
        """
        with self.store.writing() as rows:
            events, _ = self._verified(rows)
            self._compare_journal(rows)
            self._ask_witness(rows)
            if damage := rows.damage():
                raise LedgerCorrupt(f"{self.path}: the file is damaged ({damage})")
            return events

    def find(self, kind: str, run: str, key: str = "") -> Event | None:
        """Return the first event of this kind, run and key."""
        with self.store.reading() as rows:
            found = rows.find(kind, run, key)
            return None if found is None else check(found, self._public(_first(rows)))

    def tail(self) -> Event:
        """Return the newest event."""
        with self.store.reading() as rows:
            return check(rows.tail(), self._public(_first(rows)))

    def holds(self, head: Head) -> bool:
        """Say whether the chain contains this head: whether it extends what somebody saw of it before."""
        with self.store.reading() as rows:
            return _holds(rows, head)

    def bear_witness(self, cosigned: Cosigned | None = None) -> None:
        """Write the newest head, and a partner's signature, into the witness; makes one where there is none."""
        if self.witness is None:
            raise ValueError("the account has no witness: name a file outside its folder")
        with self.store.writing() as rows, fail_closed(self.witness.path):
            tail = rows.tail()
            if self.witness.path.exists():
                self._ask_witness(rows)
            self.witness.path.parent.mkdir(parents=True, exist_ok=True)
            self.witness.move(Head(seq=tail.seq, head=tail.hash), cosigned)

    def _settle(self, rows: Rows) -> tuple[View, bytes, bool]:
        """Return the account, the line whose end a killed process tore off, and whether its last event was taken in."""
        public = self._public(_first(rows))
        tail, event, account = self._current(rows)
        ahead, taken_in = b"", False
        end = self.journal.end()
        if end.last != tail.line:
            last = parsed(self.journal.path, end.last) if end.last else None
            if last is not None and last.seq == tail.seq + 1:
                event = follow(last, tail, public)
                rows.insert(last, _applied(account, event))
                taken_in = True
            elif end.torn and tail.line.startswith(end.torn) and tail.seq - 1 == (0 if last is None else last.seq):
                ahead = tail.line
            else:
                raise LedgerCorrupt(self._difference(tail.seq, 0 if last is None else last.seq))
        self._ask_witness(rows)

        def find(kind: str, run: str, key: str) -> Event | None:
            found = rows.find(kind, run, key)
            return None if found is None else check(found, public)

        return View(account, event, self._time(event), find), ahead, taken_in

    def _current(self, rows: Rows) -> tuple[Row, Event, Account]:
        """Return the newest event and the state beside it; raises `LedgerCorrupt` where they do not belong together."""
        tail = rows.tail() if rows.founded() else None
        if tail is None:
            raise LedgerCorrupt("event 1 is missing: the chain does not begin")
        event = check(tail, self._public(_first(rows)))
        seq, state = rows.state()
        if seq != tail.seq or _digest(state) != event.get("state"):
            raise LedgerCorrupt(f"event {tail.seq} does not belong to the state beside it: events were cut or replaced")
        return tail, event, load(state)

    def _time(self, newest: Event) -> int:
        return max(int(newest["time"]), int(self._clock().timestamp()))

    def _write(self, rows: Rows, view: View | None, draft: Draft, offset: int, *, also: bytes = b"") -> Event:
        utc = self._clock()
        event: Event = {
            "seq": 1 if view is None else view.tail["seq"] + 1,
            "prev_hash": GENESIS if view is None else view.tail["hash"],
            "utc": utc.isoformat(timespec="seconds"),
            "time": int(utc.timestamp()) if view is None else view.time,
            "actor": "" if self._key is None else hashlib.sha256(self._key.public).hexdigest(),
            "kind": draft.kind,
            "run": draft.run,
            "key": draft.key,
            "payload": draft.payload,
        }
        if view is None:
            state = dump(opened(event))
        else:
            if self._key is None and self._public(_first(rows)) is not None:
                raise LedgerUnwritable(f"{self.path}: the key of the account is not here, so nothing can be signed")
            view.account.apply(event)
            state = dump(view.account)
        row = seal({**event, "state": _digest(state)}, self._key)
        rows.insert(row, state)
        with fail_closed(self.journal.path):
            self.journal.write(also + row.line, offset)
        if self.witness is not None:
            with fail_closed(self.witness.path):
                if view is None:
                    self.witness.path.parent.mkdir(parents=True, exist_ok=True)
                self.witness.move(Head(seq=row.seq, head=row.hash))
        return row.event

    def _verified(self, rows: Rows) -> tuple[list[Event], Account]:
        events: list[Event] = []
        public = self._public(_first(rows))
        account: Account | None = None
        before: Row | None = None
        state = ""
        for row in rows.all():
            event = follow(row, before, public)
            if account is None:
                account = _opened(event)
                state = dump(account)
            else:
                state = _applied(account, event)
            events.append(event)
            before = row
        if account is None or before is None:
            raise LedgerCorrupt("event 1 is missing: the chain holds no events")
        if rows.state() != (before.seq, state):
            raise LedgerCorrupt(f"event {before.seq} does not belong to the state beside it: events were cut")
        return events, account

    def _compare_journal(self, rows: Rows) -> None:
        """Raise `LedgerCorrupt` naming the first event that differs; a crash may leave one event of difference."""
        at, tail = 0, rows.tail()
        for at, line in enumerate(self.journal.rows(), 1):
            if (row := rows.row(at)) is None:
                if at > tail.seq + 1:
                    raise LedgerCorrupt(self._difference(tail.seq, at))
                follow(line, tail, self._public(_first(rows)))
            elif row != line:
                raise LedgerCorrupt(f"event {at} differs between {self.path.name} and {self.journal.path.name}")
        if at < tail.seq and not (at == tail.seq - 1 and self.journal.end().torn):
            raise LedgerCorrupt(self._difference(tail.seq, at))

    def _difference(self, ours: int, journal: int) -> str:
        name, other = self.path.name, self.journal.path.name
        if journal > ours:
            return f"event {ours + 1} is missing from {name}, {other} goes on to {journal}: an older copy was put back"
        if journal < ours:
            return f"event {journal + 1} is missing from {other}, {name} goes on to {ours}"
        return f"event {ours} differs between {name} and {other}"

    def _ask_witness(self, rows: Rows) -> None:
        """Raise `LedgerCorrupt` unless the chain contains every head that its witness has seen."""
        for head in [] if self.witness is None else self.witness.heads():
            if not _holds(rows, head):
                raise LedgerCorrupt(
                    f"event {head.seq} is not the one that the witness saw: an older copy of the account was put back, "
                    "or another account in its place"
                )

    def _public(self, first: Row) -> bytes | None:
        """Return the key that event 1 names; raises `LedgerCorrupt` where the key at hand is another."""
        named = public_of(first)
        if self._key is not None and named != self._key.public:
            raise LedgerCorrupt("event 1 names another key than this site's: the account is not its own")
        return named


def _holds(rows: Rows, head: Head) -> bool:
    row = rows.row(head.seq)
    return row is not None and row.hash == head.head == hashlib.sha256(row.body.encode()).hexdigest()


def _first(rows: Rows) -> Row:
    first = rows.row(1) if rows.founded() else None
    if first is None:
        raise LedgerCorrupt("event 1 is missing: the chain does not begin")
    return first


def _opened(event: Event) -> Account:
    try:
        account = opened(event)
    except (BrokenRule, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise LedgerCorrupt(f"event 1 opens no account: {error}") from error
    if _digest(dump(account)) != event.get("state"):
        raise LedgerCorrupt("event 1 tells another state than it opens")
    return account


def _applied(account: Account, event: Event) -> str:
    """Return the state after `event`; raises `LedgerCorrupt` where it breaks a rule or tells another state."""
    try:
        account.apply(event)
    except (BrokenRule, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise LedgerCorrupt(f"event {event['seq']} breaks a rule of the account: {error}") from error
    state = dump(account)
    if _digest(state) != event.get("state"):
        raise LedgerCorrupt(f"event {event['seq']} tells another state than the events add up to")
    return state


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()
