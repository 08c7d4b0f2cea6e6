import hashlib
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ledger import BudgetExceeded, LedgerCorrupt, LedgerRefusal, LedgerUnwritable, PrivacyLedger
from privacy.mechanism import DpPlan, LaplacePlan, Plan, epsilon

DELTA = 1e-6
TRAINING = DpPlan(purpose="train", sampling_rate=0.1, noise_multiplier=4.0, clip_norm=1.0, steps=200, draws=4)


def _ledger(folder: Path, epsilon_cap: float = 8.0, delta_cap: float = 1e-5) -> PrivacyLedger:
    return PrivacyLedger(folder / "ledger.sqlite", epsilon_cap=epsilon_cap, delta_cap=delta_cap)


def _count(amount: float, purpose: str = "count") -> list[Plan]:
    return [LaplacePlan(purpose=purpose, epsilon=amount)]


def _raw(ledger: PrivacyLedger, statement: str, values: tuple[str, ...] = ()) -> None:
    """Edit the file as somebody with a database tool would: triggers first, then rows."""
    with sqlite3.connect(ledger.path) as connection:
        for trigger in ("no_update", "no_delete", "in_order"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement, values)
    connection.close()


def test_the_charge_is_the_joint_epsilon_of_the_plans_rounded_up(tmp_path: Path) -> None:
    plans = [TRAINING, LaplacePlan(purpose="count", epsilon=0.5)]
    receipt = _ledger(tmp_path).authorise("run", plans, delta=DELTA)
    exact = epsilon(plans, DELTA)
    assert exact <= receipt.epsilon <= exact + 1e-6
    assert receipt.delta == DELTA


def test_runs_add_up_and_survive_a_reopening(tmp_path: Path) -> None:
    first = _ledger(tmp_path).authorise("one", _count(1.0), delta=DELTA)
    second = _ledger(tmp_path).authorise("two", _count(2.0), delta=DELTA)
    spent = _ledger(tmp_path).spent()
    assert spent == (pytest.approx(first.epsilon + second.epsilon), pytest.approx(2 * DELTA))
    assert spent[0] == pytest.approx(3.0, abs=1e-4)
    assert second.head == _ledger(tmp_path).head()


def test_the_same_run_asks_twice_and_is_charged_once(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    assert ledger.authorise("run", [TRAINING], delta=DELTA) == ledger.authorise("run", [TRAINING], delta=DELTA)
    assert [event["kind"] for event in ledger.events()] == ["open", "reserve"]


@pytest.mark.parametrize(
    ("plans", "delta"), [(_count(0.2), DELTA), (_count(0.1, "other"), DELTA), (_count(0.1), 2 * DELTA)]
)
def test_the_same_run_with_other_plans_is_refused(tmp_path: Path, plans: list[Plan], delta: float) -> None:
    ledger = _ledger(tmp_path)
    ledger.authorise("run", _count(0.1), delta=DELTA)
    spent = ledger.spent()
    with pytest.raises(LedgerRefusal, match="already charged for other plans"):
        ledger.authorise("run", plans, delta=delta)
    assert ledger.spent() == spent


def test_a_denied_request_is_an_event_and_leaves_the_state_unchanged(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path, epsilon_cap=1.0)
    ledger.authorise("one", _count(0.75), delta=DELTA)
    spent = ledger.spent()
    with pytest.raises(BudgetExceeded, match=r"asks for epsilon 0\.[45]\d+, but 0\.7\d+ of the cap 1\.0 is spent"):
        ledger.authorise("two", _count(0.5), delta=DELTA)
    assert ledger.spent() == spent
    assert ledger.events()[-1]["kind"] == "deny"
    ledger.authorise("two", _count(0.2), delta=DELTA)  # a smaller request under the same name may still come


def test_delta_has_a_cap_of_its_own(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path, epsilon_cap=8.0, delta_cap=1e-5)
    for run in range(10):
        ledger.authorise(f"run {run}", _count(0.01), delta=1e-6)  # ten times one millionth is exactly the cap
    with pytest.raises(BudgetExceeded, match="delta"):
        ledger.authorise("one more", _count(0.01), delta=1e-9)


def test_caps_are_those_the_account_was_created_with(tmp_path: Path) -> None:
    _ledger(tmp_path, epsilon_cap=4.0)
    with pytest.raises(ValueError, match=r"created with epsilon_cap=4\.0, not 8\.0"):
        _ledger(tmp_path, epsilon_cap=8.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_amounts_that_are_no_amounts_are_refused(tmp_path: Path, bad: float) -> None:
    with pytest.raises(ValueError, match="epsilon_cap"):
        _ledger(tmp_path / "a", epsilon_cap=bad)
    with pytest.raises(ValueError, match="delta"):
        _ledger(tmp_path).authorise("run", _count(0.1), delta=bad)


def test_delta_of_one_and_plans_without_finite_cost_are_refused(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    noiseless = DpPlan(purpose="t", sampling_rate=0.1, noise_multiplier=0.0, clip_norm=1.0, steps=1, draws=1)
    for plans, delta in ((_count(0.1), 1.0), ([noiseless], DELTA), ([], DELTA)):
        with pytest.raises(ValueError, match=r"delta|finite|no plans"):
            ledger.authorise("run", plans, delta=delta)
    with pytest.raises(ValueError, match="delta_cap"):
        _ledger(tmp_path / "a", delta_cap=1.0)
    assert ledger.spent() == (0.0, 0.0)


def test_intents_are_idempotent_and_end_with_the_plan(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    ledger.authorise("run", [TRAINING, *_count(0.1)], delta=DELTA)
    for _ in range(3):
        ledger.intend("run", "train", "round 1", 150)
    ledger.intend("run", "count", "release", 1)
    with pytest.raises(LedgerRefusal, match="may take 200 steps of 'train', took 150 and asks for 51 more"):
        ledger.intend("run", "train", "round 2", 51)
    ledger.intend("run", "train", "round 2", 50)
    with pytest.raises(LedgerRefusal, match="may take 1 steps of 'count'"):
        ledger.intend("run", "count", "release again", 1)


@pytest.mark.parametrize(
    "request_",
    [("stranger", "train", "k", 1), ("run", "tune", "k", 1), ("run", "train", "round 1", 2)],
    ids=["unknown run", "unknown purpose", "key with other steps"],
)
def test_intents_nobody_paid_for_are_refused_and_written_down(
    tmp_path: Path, request_: tuple[str, str, str, int]
) -> None:
    ledger = _ledger(tmp_path)
    ledger.authorise("run", [TRAINING], delta=DELTA)
    ledger.intend("run", "train", "round 1", 1)
    with pytest.raises(LedgerRefusal, match="run"):
        ledger.intend(*request_)
    assert ledger.events()[-1]["kind"] == "deny"


@pytest.mark.parametrize("steps", [0, -1, True, 1.0])
def test_steps_are_whole_and_positive(tmp_path: Path, steps: int) -> None:
    ledger = _ledger(tmp_path)
    ledger.authorise("run", [TRAINING], delta=DELTA)
    with pytest.raises(ValueError, match="steps"):
        ledger.intend("run", "train", "k", steps)


REQUESTS = st.tuples(
    st.sampled_from("abcd"), st.sampled_from([0.1, 0.3, 0.7, 1.1]), st.sampled_from([1e-7, 1e-6, 4e-6])
)


@settings(max_examples=40, deadline=None)
@given(requests=st.lists(REQUESTS, max_size=12))
def test_spending_never_falls_and_never_passes_a_cap(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[str, float, float]]
) -> None:
    ledger = _ledger(tmp_path_factory.mktemp("ledger"), epsilon_cap=2.0, delta_cap=1e-5)
    granted: dict[str, tuple[float, float]] = {}
    before = (0.0, 0.0)
    for run, amount, delta in requests:
        try:
            receipt = ledger.authorise(run, _count(amount), delta=delta)
        except LedgerRefusal:
            assert ledger.spent() == before
        else:
            granted.setdefault(run, (receipt.epsilon, receipt.delta))
            assert granted[run] == (receipt.epsilon, receipt.delta)
        spent = ledger.spent()
        assert before[0] <= spent[0] <= 2.0
        assert before[1] <= spent[1] <= 1e-5
        before = spent
    assert Decimal(repr(before[0])) == sum(Decimal(repr(charged)) for charged, _ in granted.values())


def test_the_authorisation_is_on_disk_before_it_is_returned(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    receipt = ledger.authorise("run", _count(0.1), delta=DELTA)
    with sqlite3.connect(f"file:{ledger.path}?mode=ro", uri=True) as stranger:
        body, digest = stranger.execute("SELECT body, hash FROM events WHERE seq = ?", (receipt.seq,)).fetchone()
        mode = stranger.execute("PRAGMA journal_mode").fetchone()
    stranger.close()
    assert json.loads(body)["run"] == "run"
    assert (digest, mode) == (receipt.head, ("wal",))


def test_every_connection_waits_for_the_disk(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    with ledger._chain._connection() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # 2 is FULL


def test_triggers_forbid_change_through_the_front_door(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    ledger.authorise("run", _count(0.1), delta=DELTA)
    connection = sqlite3.connect(ledger.path)
    for statement in (
        "UPDATE events SET body = '{}'",
        "DELETE FROM events WHERE seq = 2",
        "INSERT OR REPLACE INTO events VALUES (2, '{}', '')",
        "INSERT INTO events VALUES (9, '{}', '')",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ("""UPDATE events SET body = replace(body, '"kind":"reserve"', '"kind":"deny"') WHERE seq = 3""", "event 3"),
        ("UPDATE events SET hash = 'feed' WHERE seq = 2", "event 2"),
        ("DELETE FROM events WHERE seq = 2", "event 2 is missing"),
        ("DELETE FROM events", "event 1 is missing"),
        (
            "UPDATE events SET body = (SELECT body FROM events WHERE seq = 2), hash = "
            "(SELECT hash FROM events WHERE seq = 2) WHERE seq = 3",
            "event 3",
        ),
    ],
    ids=["turn a charge into a denial", "edit a hash", "delete one", "delete all", "repeat one in place of another"],
)
def test_an_edited_past_is_named(tmp_path: Path, edit: str, named: str) -> None:
    ledger = _ledger(tmp_path)
    for run in ("one", "two", "three"):
        ledger.authorise(run, _count(0.1), delta=DELTA)
    _raw(ledger, edit)
    for use in (lambda: _ledger(tmp_path), ledger.spent, lambda: ledger.authorise("four", _count(0.1), delta=DELTA)):
        with pytest.raises(LedgerCorrupt, match=named):
            use()


def test_an_edit_with_its_hash_made_anew_is_betrayed_by_the_next_event(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    for run in ("one", "two"):
        ledger.authorise(run, _count(0.1), delta=DELTA)
    forged = {**ledger.events()[1], "kind": "deny"}
    del forged["hash"]
    body = json.dumps(forged, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(body.encode()).hexdigest()
    _raw(ledger, "UPDATE events SET body = ?, hash = ? WHERE seq = 2", (body, digest))
    with pytest.raises(LedgerCorrupt, match="event 3 does not follow event 2"):
        ledger.spent()


def test_a_cut_tail_is_seen_by_whoever_kept_the_head(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    kept = ledger.authorise("run", _count(0.1), delta=DELTA).head
    assert any(event["hash"] == kept for event in ledger.events())
    _raw(ledger, "DELETE FROM events WHERE seq = 2")
    assert all(event["hash"] != kept for event in ledger.events())


def test_a_file_that_is_no_ledger_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(LedgerCorrupt, match="not a readable"):
        _ledger(tmp_path)


def test_a_ledger_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnwritable):
        _ledger(tmp_path / "file")
    (tmp_path / "folder" / "ledger.sqlite").mkdir(parents=True)
    with pytest.raises(LedgerUnwritable):
        _ledger(tmp_path / "folder")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from privacy.ledger import LedgerUnwritable, PrivacyLedger
from privacy.mechanism import LaplacePlan
ledger = PrivacyLedger(Path(sys.argv[1]), epsilon_cap=8.0, delta_cap=1e-5)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    ledger.authorise("run", [LaplacePlan(purpose="count", epsilon=0.1)], delta=1e-6)
except LedgerUnwritable:
    sys.exit(7)
"""


def test_a_full_disk_refuses_and_leaves_the_account_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    assert subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], check=False).returncode == 7
    assert _ledger(tmp_path).spent() == (0.0, 0.0)


def _spend(
    path: str, run: str, start: "multiprocessing.synchronize.Barrier", answers: "multiprocessing.Queue[str]"
) -> None:
    start.wait()
    try:
        ledger = PrivacyLedger(Path(path), epsilon_cap=1.0, delta_cap=1e-5)
        ledger.authorise(run, _count(0.6), delta=DELTA)
        answers.put("granted")
    except BudgetExceeded:
        answers.put("denied")


def test_of_processes_racing_for_the_last_budget_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(3), context.Queue()
    arguments = [(str(tmp_path / "ledger.sqlite"), f"run {n}", start, answers) for n in range(3)]
    racers = [context.Process(target=_spend, args=a) for a in arguments]
    for racer in racers:
        racer.start()
    outcome = sorted(answers.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join()
    assert outcome == ["denied", "denied", "granted"]
    kinds = sorted(event["kind"] for event in _ledger(tmp_path, epsilon_cap=1.0).events())
    assert kinds == ["deny", "deny", "open", "reserve"]


def test_threads_share_an_account_without_losing_an_event(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    ledger.authorise("run", [TRAINING], delta=DELTA)
    threads = [threading.Thread(target=ledger.intend, args=("run", "train", f"round {n}", 10)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.events()) == 22
    with pytest.raises(LedgerRefusal, match="took 200"):
        ledger.intend("run", "train", "one more", 1)


KILLED = """
import sys
from pathlib import Path
from privacy.ledger import PrivacyLedger
from privacy.mechanism import DpPlan
plan = DpPlan(purpose="train", sampling_rate=0.1, noise_multiplier=4.0, clip_norm=1.0, steps=1_000_000, draws=1)
ledger = PrivacyLedger(Path(sys.argv[1]), epsilon_cap=1e9, delta_cap=1e-5)
ledger._chain.append(lambda _: {"kind": "reserve", "run": "run", "payload": {
    "plans": [plan.to_json()], "epsilon": "1", "delta": "1e-06"}})
for step in range(1_000_000):
    ledger.intend("run", "train", str(step), 1)
    print(step, flush=True)
"""


def test_what_was_announced_survives_kill_minus_nine(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "ledger.sqlite")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        said = 5 + len(process.stdout.read().split("\n")) - 1
    ledger = PrivacyLedger(tmp_path / "ledger.sqlite", epsilon_cap=1e9, delta_cap=1e-5)
    written = sum(event["kind"] == "intent" for event in ledger.events())
    assert said <= written <= said + 1
