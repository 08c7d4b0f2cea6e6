"""Asking an account: what is granted, what is refused, and what that costs."""

import multiprocessing
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ledger import BudgetExceeded, LedgerRefusal
from privacy.mechanism import DpPlan, LaplacePlan, Plan, epsilon
from tests.accounts import DELTA, TRAINING, account, count


def test_the_charge_is_the_joint_epsilon_of_the_plans_rounded_up(tmp_path: Path) -> None:
    plans = [TRAINING, LaplacePlan(purpose="count", epsilon=0.5)]
    receipt = account(tmp_path).authorise("run", plans, delta=DELTA)
    exact = epsilon(plans, DELTA)
    assert exact <= receipt.epsilon <= exact + 1e-6
    assert receipt.delta == DELTA


def test_runs_add_up_and_survive_a_reopening(tmp_path: Path) -> None:
    first = account(tmp_path).authorise("one", count(1.0), delta=DELTA)
    second = account(tmp_path).authorise("two", count(2.0), delta=DELTA)
    spent = account(tmp_path).spent()
    assert spent == (pytest.approx(first.epsilon + second.epsilon), pytest.approx(2 * DELTA))
    assert spent[0] == pytest.approx(3.0, abs=1e-4)
    assert second.head == account(tmp_path).head()


def test_the_same_run_asks_twice_and_is_charged_once(tmp_path: Path) -> None:
    ledger = account(tmp_path)
    assert ledger.authorise("run", [TRAINING], delta=DELTA) == ledger.authorise("run", [TRAINING], delta=DELTA)
    assert [event["kind"] for event in ledger.events()] == ["open", "reserve"]


@pytest.mark.parametrize(
    ("plans", "delta"), [(count(0.2), DELTA), (count(0.1, "other"), DELTA), (count(0.1), 2 * DELTA)]
)
def test_the_same_run_with_other_plans_is_refused(tmp_path: Path, plans: list[Plan], delta: float) -> None:
    ledger = account(tmp_path)
    ledger.authorise("run", count(0.1), delta=DELTA)
    spent = ledger.spent()
    with pytest.raises(LedgerRefusal, match="already charged for other plans"):
        ledger.authorise("run", plans, delta=delta)
    assert ledger.spent() == spent


def test_a_denied_request_is_an_event_and_leaves_the_state_unchanged(tmp_path: Path) -> None:
    ledger = account(tmp_path, epsilon_cap=1.0)
    ledger.authorise("one", count(0.75), delta=DELTA)
    spent = ledger.spent()
    with pytest.raises(BudgetExceeded, match=r"epsilon 0\.[45]\d+, but 0\.0 is spent and 0\.7\d+ reserved of the life"):
        ledger.authorise("two", count(0.5), delta=DELTA)
    assert ledger.spent() == spent
    assert ledger.events()[-1]["kind"] == "deny"
    ledger.authorise("two", count(0.2), delta=DELTA)  # a smaller request under the same name may still come


def test_delta_has_a_cap_of_its_own(tmp_path: Path) -> None:
    ledger = account(tmp_path, epsilon_cap=8.0, delta_cap=1e-5)
    for run in range(10):
        ledger.authorise(f"run {run}", count(0.01), delta=1e-6)  # ten times one millionth is exactly the cap
    with pytest.raises(BudgetExceeded, match="delta"):
        ledger.authorise("one more", count(0.01), delta=1e-9)


def test_caps_are_those_the_account_was_created_with(tmp_path: Path) -> None:
    account(tmp_path, epsilon_cap=4.0)
    for other in (8.0, 2.0):
        with pytest.raises(ValueError, match=rf"created with, or revised to epsilon_cap=4\.0, not {other}"):
            account(tmp_path, epsilon_cap=other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_amounts_that_are_no_amounts_are_refused(tmp_path: Path, bad: float) -> None:
    with pytest.raises(ValueError, match="epsilon_cap"):
        account(tmp_path / "a", epsilon_cap=bad)
    with pytest.raises(ValueError, match="delta"):
        account(tmp_path).authorise("run", count(0.1), delta=bad)


def test_delta_of_one_and_plans_without_finite_cost_are_refused(tmp_path: Path) -> None:
    ledger = account(tmp_path)
    noiseless = DpPlan(purpose="t", sampling_rate=0.1, noise_multiplier=0.0, clip_norm=1.0, steps=1, draws=1)
    for plans, delta in ((count(0.1), 1.0), ([noiseless], DELTA), ([], DELTA)):
        with pytest.raises(ValueError, match=r"delta|finite|no plans"):
            ledger.authorise("run", plans, delta=delta)
    with pytest.raises(ValueError, match="delta_cap"):
        account(tmp_path / "a", delta_cap=1.0)
    assert ledger.spent() == (0.0, 0.0)


def test_intents_are_idempotent_and_end_with_the_plan(tmp_path: Path) -> None:
    ledger = account(tmp_path)
    ledger.authorise("run", [TRAINING, *count(0.1)], delta=DELTA)
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
    ledger = account(tmp_path)
    ledger.authorise("run", [TRAINING], delta=DELTA)
    ledger.intend("run", "train", "round 1", 1)
    with pytest.raises(LedgerRefusal, match="run"):
        ledger.intend(*request_)
    assert ledger.events()[-1]["kind"] == "deny"


@pytest.mark.parametrize("steps", [0, -1, True, 1.0])
def test_steps_are_whole_and_positive(tmp_path: Path, steps: int) -> None:
    ledger = account(tmp_path)
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
    ledger = account(tmp_path_factory.mktemp("ledger"), epsilon_cap=2.0, delta_cap=1e-5)
    granted: dict[str, tuple[float, float]] = {}
    before = (0.0, 0.0)
    for run, amount, delta in requests:
        try:
            receipt = ledger.authorise(run, count(amount), delta=delta)
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


def test_two_plans_of_one_purpose_are_refused_since_steps_are_counted_by_purpose(tmp_path: Path) -> None:
    ledger = account(tmp_path)
    cheap = DpPlan(purpose="train", sampling_rate=0.1, noise_multiplier=50.0, clip_norm=1.0, steps=1000, draws=1)
    with pytest.raises(LedgerRefusal, match="two plans of one purpose, 'train'"):
        ledger.authorise("run", [TRAINING, cheap], delta=DELTA)
    assert ledger.events()[-1]["kind"] == "deny"
    assert ledger.spent() == (0.0, 0.0)


def test_amounts_add_up_exactly_where_floats_would_not(tmp_path: Path) -> None:
    """Three tenths, added as floats, are more than 0.3: a ledger of floats would refuse the third."""
    ledger = account(tmp_path, delta_cap=0.3)
    for run in range(3):
        ledger.authorise(f"run {run}", count(0.5), delta=0.1)
    assert 0.1 + 0.1 + 0.1 > 0.3
    assert ledger.spent()[1] == 0.3
    with pytest.raises(BudgetExceeded, match="delta"):
        ledger.authorise("one more", count(0.5), delta=1e-25)


def _spend(
    path: str, run: str, start: "multiprocessing.synchronize.Barrier", answers: "multiprocessing.Queue[str]"
) -> None:
    start.wait()
    try:
        account(Path(path), epsilon_cap=1.0).authorise(run, count(0.6), delta=DELTA)
        answers.put("granted")
    except BudgetExceeded:
        answers.put("denied")


def test_of_processes_racing_for_the_last_budget_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(3), context.Queue()
    racers = [context.Process(target=_spend, args=(str(tmp_path), f"run {n}", start, answers)) for n in range(3)]
    for racer in racers:
        racer.start()
    outcome = sorted(answers.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join()
    assert outcome == ["denied", "denied", "granted"]
    kinds = sorted(event["kind"] for event in account(tmp_path, epsilon_cap=1.0).verify())
    assert kinds == ["deny", "deny", "open", "reserve"]
