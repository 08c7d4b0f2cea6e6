"""The chain of an account: what was written stays, and whatever is done behind its back is named."""

import hashlib
import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from evaluation.trust import SigningKey
from privacy.account import load
from privacy.events import canonical
from privacy.journal import Journal
from privacy.ledger import LedgerCorrupt, LedgerRefusal, LedgerUnwritable, PrivacyLedger
from privacy.store import FIND, Store
from tests.accounts import (
    DELTA,
    TRAINING,
    account,
    copy,
    count,
    edit,
    flip,
    journal,
    kinds,
    restore,
    signed,
    three_runs,
)


@pytest.fixture
def ledger(tmp_path: Path) -> PrivacyLedger:
    return three_runs(tmp_path)


def test_a_charge_is_on_disk_before_it_is_returned(tmp_path: Path) -> None:
    ledger = account(tmp_path)
    receipt = ledger.authorise("run", count(0.1), delta=DELTA)
    with sqlite3.connect(f"file:{ledger.path}?mode=ro", uri=True) as stranger:
        body, digest = stranger.execute("SELECT body, hash FROM events WHERE seq = ?", (receipt.seq,)).fetchone()
        mode = stranger.execute("PRAGMA journal_mode").fetchone()
    stranger.close()
    assert json.loads(body)["run"] == "run"
    assert (digest, mode) == (receipt.head, ("wal",))


def test_every_connection_waits_for_the_disk(ledger: PrivacyLedger) -> None:
    with Store(ledger.path).reading() as rows:
        assert rows.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # 2 is FULL


def test_triggers_forbid_change_through_the_front_door(ledger: PrivacyLedger) -> None:
    connection = sqlite3.connect(ledger.path)
    for statement in (
        "UPDATE events SET body = '{}'",
        "DELETE FROM events WHERE seq = 2",
        "INSERT OR REPLACE INTO events VALUES (2, '{}', '', '')",
        "INSERT INTO events VALUES (9, '{}', '', '')",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


EDITS = {
    "turn a charge into a denial": (
        """UPDATE events SET body = replace(body, '"kind":"reserve"', '"kind":"deny"') WHERE seq = 3""",
        "event 3 was edited",
    ),
    "make a charge smaller": (
        """UPDATE events SET body = replace(body, '"amount":"0.0', '"amount":"0.00') WHERE seq = 2""",
        "event 2 was edited",
    ),
    "edit a hash": ("UPDATE events SET hash = 'feed' WHERE seq = 2", "event 2 was edited"),
    "edit a signature": (
        "UPDATE events SET signature = replace(signature, substr(signature, 1, 4), 'feed') WHERE seq = 3",
        "event 3 does not carry the signature",
    ),
    "drop a signature": ("UPDATE events SET signature = '' WHERE seq = 3", "event 3 does not carry the signature"),
    "delete one": ("DELETE FROM events WHERE seq = 2", "event 2 is missing"),
    "delete the first": ("DELETE FROM events WHERE seq = 1", "event 1 is missing"),
    "delete the last": ("DELETE FROM events WHERE seq = 5", "event 4 does not belong to the state"),
    "delete all": ("DELETE FROM events", "event 1 is missing"),
    "repeat one in place of another": (
        "UPDATE events SET (body, hash, signature) = (SELECT body, hash, signature FROM events WHERE seq = 2) "
        "WHERE seq = 3",
        "event 3 was replaced",
    ),
    "change places": (
        "UPDATE events SET seq = CASE seq WHEN 2 THEN 30 ELSE seq END",
        "event 2 is missing",
    ),
    "write a richer state": (
        "UPDATE state SET body = replace(body, '\"closed\":false', '\"closed\":true')",
        "event 5 does not belong to the state",
    ),
    "make an index lie": ("UPDATE events SET body = replace(body, 'three', 'thref')", "event 4 was edited"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_past_is_named(ledger: PrivacyLedger, tmp_path: Path, name: str) -> None:
    statement, named = EDITS[name]
    edit(ledger, statement)
    for use in (ledger.verify, ledger.events, ledger.spent):
        with pytest.raises(LedgerCorrupt, match=named):
            use()


@pytest.mark.parametrize("name", ["delete the last", "delete all", "write a richer state"])
def test_an_edit_of_what_a_charge_is_reckoned_from_stops_the_next_charge(
    ledger: PrivacyLedger, tmp_path: Path, name: str
) -> None:
    edit(ledger, EDITS[name][0])
    for use in (lambda: signed(tmp_path), lambda: ledger.authorise("four", count(0.1), delta=DELTA)):
        with pytest.raises(LedgerCorrupt, match=r"event [145]"):
            use()


def test_an_edit_with_its_hash_made_anew_lacks_the_signature(ledger: PrivacyLedger) -> None:
    _forge(ledger, kind="deny")
    with pytest.raises(LedgerCorrupt, match="event 2 does not carry the signature"):
        ledger.verify()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"utc": "2020-01-01T00:00:00+00:00"}, "event 3 does not follow event 2"),
        ({"kind": "deny"}, "event 2 tells another state"),
    ],
    ids=str,
)
def test_without_a_key_an_edit_with_its_hash_made_anew_is_betrayed_by_what_hangs_on_it(
    tmp_path: Path, change: dict[str, str], named: str
) -> None:
    ledger = account(tmp_path)
    for run in ("one", "two"):
        ledger.authorise(run, count(0.1), delta=DELTA)
    _forge(ledger, **change)
    with pytest.raises(LedgerCorrupt, match=named):
        ledger.verify()


def _forge(ledger: PrivacyLedger, **change: str) -> None:
    forged = {name: value for name, value in ledger.events()[1].items() if name not in ("hash", "signature")}
    body = canonical(forged | change)
    digest = hashlib.sha256(body.encode()).hexdigest()
    edit(ledger, "UPDATE events SET body = ?, hash = ? WHERE seq = 2", (body, digest))


def test_one_flipped_byte_is_named_wherever_it_lies(ledger: PrivacyLedger, tmp_path: Path) -> None:
    backup = copy(ledger, tmp_path / "backup")
    flip(ledger.path, b'"run":"two"')
    with pytest.raises(LedgerCorrupt, match="event 3 was edited"):
        ledger.verify()
    restore(ledger, backup, ".sqlite")
    ledger.verify()
    flip(journal(ledger), b'"run":"two"')
    with pytest.raises(LedgerCorrupt, match=r"ledger\.jsonl: event 3 was edited|event 3 differs"):
        ledger.verify()


def test_a_database_put_back_from_an_older_copy_is_behind_its_journal(ledger: PrivacyLedger, tmp_path: Path) -> None:
    backup = copy(ledger, tmp_path / "backup")
    for run in ("four", "five"):
        ledger.authorise(run, count(0.1), delta=DELTA)
    restore(ledger, backup, ".sqlite")
    for use in (ledger.verify, lambda: ledger.authorise("six", count(0.1), delta=DELTA)):
        with pytest.raises(
            LedgerCorrupt, match=r"event 6 is missing from ledger\.sqlite, .*an older copy was put back"
        ):
            use()


def test_a_database_that_was_removed_is_not_begun_anew(ledger: PrivacyLedger, tmp_path: Path) -> None:
    ledger.path.unlink()
    with pytest.raises(LedgerCorrupt, match=r"event 1 is missing: ledger\.sqlite is empty, .* holds 5 events"):
        signed(tmp_path)


def test_a_journal_that_was_removed_or_cut_stops_the_next_charge(ledger: PrivacyLedger) -> None:
    whole = journal(ledger).read_bytes()
    for cut, named in ((b"", "event 1 is missing"), (whole[: whole.index(b"\n") + 1], "event 2 is missing")):
        journal(ledger).write_bytes(cut)
        for use in (ledger.verify, lambda: ledger.authorise("four", count(0.1), delta=DELTA)):
            with pytest.raises(LedgerCorrupt, match=rf"{named} from ledger\.jsonl"):
                use()


def test_an_event_whose_writer_was_killed_before_the_commit_is_taken_in(ledger: PrivacyLedger, tmp_path: Path) -> None:
    """The journal is written first, so a database one event behind is what such a kill leaves."""
    backup = copy(ledger, tmp_path / "backup")
    receipt = ledger.authorise("four", count(0.1), delta=DELTA)
    spent = ledger.spent()
    restore(ledger, backup, ".sqlite")
    ledger.verify()
    with pytest.raises(LedgerRefusal, match="already charged for other plans"):
        signed(tmp_path).authorise("four", count(0.2), delta=DELTA)
    assert ledger.authorise("four", count(0.1), delta=DELTA) == receipt
    assert ledger.spent() == spent
    assert kinds(ledger)[:-1] == ["open", "reserve", "reserve", "reserve", "step_intent", "reserve"]


def test_two_writers_killed_one_after_the_other_leave_the_journal_one_event_ahead(
    ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second takes in the event of the first, and must have it committed before its own is in the journal."""
    write = Journal.write

    def killed(self: Journal, lines: bytes, offset: int) -> None:
        write(self, lines, offset)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "write", killed)
    for run in ("four", "five", "six"):
        with pytest.raises(KeyboardInterrupt):
            ledger.authorise(run, count(0.1), delta=DELTA)
        ledger.verify()
    monkeypatch.undo()
    ledger.authorise("seven", count(0.1), delta=DELTA)
    assert [event["run"] for event in ledger.verify()[5:]] == ["four", "five", "six", "seven"]


def test_a_creation_that_was_killed_before_the_commit_keeps_its_first_event(tmp_path: Path) -> None:
    opened = signed(tmp_path).events()
    (tmp_path / "ledger.sqlite").unlink()
    assert signed(tmp_path).events() == opened


@pytest.mark.parametrize("has_event", [True, False], ids=["the event is committed", "the event is not committed"])
def test_a_torn_line_is_mended_and_the_doubt_is_written_down(
    ledger: PrivacyLedger, tmp_path: Path, has_event: bool
) -> None:
    backup = copy(ledger, tmp_path / "backup")
    ledger.authorise("four", count(0.1), delta=DELTA)
    journal(ledger).write_bytes(journal(ledger).read_bytes()[:-40])
    if not has_event:
        restore(ledger, backup, ".sqlite")
    ledger.authorise("five", count(0.1), delta=DELTA)
    ledger.verify()
    assert kinds(ledger)[5:] == ["reserve"] * has_event + ["recover", "reserve"]
    assert all(ledger.account().runs[run].doubt == (run != "five") for run in ledger.account().runs)


def test_a_lost_database_is_made_again_from_its_journal_and_what_was_open_is_in_doubt(
    ledger: PrivacyLedger, tmp_path: Path
) -> None:
    events, spent = ledger.events(), ledger.spent()
    with pytest.raises(LedgerUnwritable, match="still there"):
        ledger._chain.rebuild()
    ledger.path.unlink()
    ledger._chain.rebuild()
    again = signed(tmp_path)
    assert again.verify()[:-1] == events
    assert again.events()[-1]["kind"] == "recover"
    assert again.spent() == spent
    assert all(run.doubt for run in again.account().runs.values())


def test_a_journal_with_one_wrong_line_makes_no_database(ledger: PrivacyLedger, tmp_path: Path) -> None:
    ledger.path.unlink()
    lines = journal(ledger).read_bytes().splitlines(keepends=True)
    journal(ledger).write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(LedgerCorrupt, match="event 3 is missing"):
        ledger._chain.rebuild()
    with pytest.raises(LedgerCorrupt, match="event 1 is missing"):
        signed(tmp_path)


def test_the_journal_reads_as_the_events(ledger: PrivacyLedger) -> None:
    lines = [json.loads(line) for line in journal(ledger).read_text().splitlines()]
    assert [{**line["event"], "hash": line["hash"], "signature": line["signature"]} for line in lines] == (
        ledger.events()
    )


def test_every_prefix_of_the_events_adds_up_to_the_state_it_tells(ledger: PrivacyLedger) -> None:
    with Store(ledger.path).reading() as rows:
        _, state = rows.state()
    assert load(state) == ledger.account()
    assert hashlib.sha256(state.encode()).hexdigest() == ledger.events()[-1]["state"]


def test_an_account_is_bound_to_its_key(ledger: PrivacyLedger, tmp_path: Path) -> None:
    with pytest.raises(LedgerCorrupt, match="another key"):
        account(tmp_path, key=SigningKey.create())
    reader = account(tmp_path)
    assert reader.spent() == ledger.spent()
    reader.verify()
    with pytest.raises(LedgerUnwritable, match="key"):
        reader.authorise("four", count(0.1), delta=DELTA)
    ledger.verify()


def test_every_event_names_who_wrote_it_and_carries_a_signature(ledger: PrivacyLedger, tmp_path: Path) -> None:
    key = SigningKey.read(tmp_path / "signing.pem")
    assert {event["actor"] for event in ledger.events()} == {key.key_id}
    assert all(len(event["signature"]) == 128 for event in ledger.events())


def test_a_key_is_looked_up_by_an_index(ledger: PrivacyLedger) -> None:
    with Store(ledger.path).reading() as rows:
        plan = rows.connection.execute(f"EXPLAIN QUERY PLAN {FIND}", ("a", "b", "c")).fetchall()
    assert "USING INDEX by_run" in str(plan)
    assert "SCAN" not in str(plan)


def test_a_file_that_is_no_ledger_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(LedgerCorrupt, match="not a readable"):
        account(tmp_path)


def test_a_ledger_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnwritable):
        account(tmp_path / "file")
    (tmp_path / "folder" / "ledger.sqlite").mkdir(parents=True)
    with pytest.raises(LedgerUnwritable):
        account(tmp_path / "folder")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from privacy.ledger import LedgerUnwritable, PrivacyLedger
from privacy.mechanism import LaplacePlan
ledger = PrivacyLedger(Path(sys.argv[1]), epsilon_cap=8.0, delta_cap=1e-5)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    ledger.authorise("run", [LaplacePlan(purpose="count", epsilon=0.1)], delta=1e-6)
except LedgerUnwritable:
    sys.exit(7)
"""


@pytest.mark.parametrize("room", [64, 1000, 1200])
def test_a_full_disk_refuses_and_leaves_the_account_whole(tmp_path: Path, room: int) -> None:
    ledger = account(tmp_path)
    command = [sys.executable, "-c", FULL_DISK, str(ledger.path), str(room)]
    assert subprocess.run(command, check=False).returncode == 7
    assert ledger.spent() == (0.0, 0.0)
    ledger.authorise("run", count(0.1), delta=DELTA)
    ledger.verify()
    assert kinds(ledger) == ["open", "reserve"]


def test_threads_share_an_account_without_losing_an_event(tmp_path: Path) -> None:
    ledger = account(tmp_path)
    ledger.authorise("run", [TRAINING], delta=DELTA)
    threads = [threading.Thread(target=ledger.intend, args=("run", "train", f"round {n}", 10)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.verify()) == 22
    with pytest.raises(LedgerRefusal, match="took 200"):
        ledger.intend("run", "train", "one more", 1)
