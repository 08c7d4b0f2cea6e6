"""A run's way through the account: none → reserved → active → closed, and what each ending costs."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evaluation.trust import SigningKey
from privacy.accounting import Composition, rdp_epsilon
from privacy.charge import QUANTUM, STEP_QUANTUM, charge, conversion
from privacy.ledger import BudgetExceeded, LedgerCorrupt, LedgerRefusal, Limits, PrivacyLedger, Terms
from privacy.mechanism import DpPlan, LaplacePlan, epsilon, plan_from_json
from privacy.witness import Cosigned, cosign
from tests.accounts import (
    DELTA,
    RENYI,
    TRAINING,
    WORKED,
    Clock,
    account,
    copy,
    count,
    journal,
    kinds,
    restore,
    signed,
)


def _rho(ledger: PrivacyLedger) -> Decimal:
    return ledger.account().shards[0].spent


def test_the_account_of_the_worked_example(tmp_path: Path) -> None:
    """privacy.md 6.2: four runs fill a cap of ε = 4.70 at order 6; who stops early or crashes pays what is known."""
    ledger = signed(tmp_path, epsilon_cap=4.701, delta_cap=1e-5, terms=RENYI)
    for run in "ABCD":
        ledger.authorise(run, [WORKED], delta=1e-5)
    assert ledger.spent()[0] == pytest.approx(4.7007, abs=5e-5)
    with pytest.raises(BudgetExceeded, match="lifetime cap"):
        ledger.authorise("E", [WORKED], delta=1e-5)
    ledger.abort("A")
    ledger.authorise("E", [WORKED], delta=1e-5)
    quarter = ledger.account().runs["B"].amount
    for k in range(7):
        ledger.intend("B", "train", f"round {k}", 100)
    ledger.intend("C", "train", "round 0", 100)
    ledger.recover("B")
    assert _rho(ledger) == (quarter * 700 / 1500).quantize(QUANTUM, "ROUND_CEILING")
    journal(ledger).write_bytes(journal(ledger).read_bytes()[:-9])
    ledger.recover("C")
    assert _rho(ledger) == (quarter * 700 / 1500).quantize(QUANTUM, "ROUND_CEILING") + quarter
    ledger.verify()


def test_four_runs_cost_what_the_design_says(tmp_path: Path) -> None:
    one = charge([WORKED], 1e-5, composition="renyi", order=6.0)
    assert 4 * float(one.amount) + conversion(6.0, 1e-5) == pytest.approx(4.70, abs=5e-3)
    assert 4 * epsilon([WORKED], 1e-5 / 4) == pytest.approx(8.56, abs=5e-3)  # basic, δ shared among the four
    assert epsilon([WORKED] * 4, 1e-5) == pytest.approx(4.32, abs=5e-3)  # joint, where all four are fixed in advance
    joint = Composition.of([(0.05, 4.0, 6000)], [])
    assert rdp_epsilon(joint, 1e-5) == pytest.approx(4.67, abs=5e-3)  # at the best order, chosen afterwards
    basic = account(tmp_path, epsilon_cap=8.6)
    for run in "ABCD":
        basic.authorise(run, [WORKED], delta=1e-5 / 4)
    assert basic.spent()[0] == pytest.approx(8.56, abs=5e-3)
    with pytest.raises(BudgetExceeded):
        basic.authorise("E", count(0.1), delta=1e-12)


def test_what_is_stored_can_be_computed_again_from_the_descriptors(tmp_path: Path) -> None:
    for name, terms in (("basic", Terms()), ("renyi", RENYI)):
        ledger = account(tmp_path / name, terms=terms)
        ledger.authorise("run", [TRAINING, *count(0.5)], delta=DELTA)
        payload = ledger.events()[-1]["payload"]
        plans = [plan_from_json(plan) for plan in payload["plans"]]
        again = charge(plans, float(payload["delta"]), composition=terms.composition, order=terms.order)
        assert float(again.amount) >= float(payload["amount"]) - 1e-9
        assert Decimal(payload["amount"]) == again.amount
        steps = {plan.purpose: plan.steps if isinstance(plan, DpPlan) else 1 for plan in plans}
        assert {name: part["steps"] for name, part in payload["parts"].items()} == steps


def test_the_cost_at_an_order_is_never_rounded_down() -> None:
    one = charge([TRAINING], DELTA, composition="renyi", order=6.0)
    import dp_accounting

    account_ = dp_accounting.rdp.RdpAccountant(orders=[6.0])
    step = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(4.0))
    exact = account_.compose(step).rdp[0]
    assert Decimal(float(exact)) <= one.parts["train"].each <= Decimal(float(exact)) + STEP_QUANTUM
    assert 200 * Decimal(float(exact)) <= one.amount <= 200 * one.parts["train"].each + QUANTUM


ENDINGS: dict[tuple[str, str, int], float] = {
    ("basic", "commit", 0): 1, ("basic", "commit", 50): 1,
    ("basic", "abort", 0): 0, ("basic", "abort", 50): 1,
    ("basic", "recover", 0): 1, ("basic", "recover", 50): 1,
    ("renyi", "commit", 0): 0, ("renyi", "commit", 50): 0.25,
    ("renyi", "abort", 0): 0, ("renyi", "abort", 50): 0.25,
    ("renyi", "recover", 0): 0, ("renyi", "recover", 50): 0.25,
}  # fmt: skip


@pytest.mark.parametrize(("composition", "ending", "steps"), ENDINGS)
def test_an_ending_costs_its_share_of_the_reserve(tmp_path: Path, composition: str, ending: str, steps: int) -> None:
    ledger = signed(tmp_path, terms=Terms(composition=composition, order=6.0))
    ledger.authorise("run", [TRAINING], delta=DELTA)
    reserved = ledger.account().runs["run"].amount
    if steps:
        ledger.intend("run", "train", "round", steps)
    event = getattr(ledger, ending)("run")
    share = ENDINGS[composition, ending, steps]
    assert float(_rho(ledger)) == pytest.approx(share * float(reserved), abs=1e-9)
    assert _rho(ledger) >= Decimal(share) * reserved - QUANTUM
    assert getattr(ledger, ending)("run") == event  # twice is once
    assert ledger.account().runs == {}


@pytest.mark.parametrize("ending", ["commit", "abort", "recover"])
def test_a_gap_in_the_journal_costs_every_open_run_its_whole_reserve(tmp_path: Path, ending: str) -> None:
    ledger = signed(tmp_path, terms=RENYI)
    ledger.authorise("run", [TRAINING], delta=DELTA)
    reserved = ledger.account().runs["run"].amount
    journal(ledger).write_bytes(journal(ledger).read_bytes() + b'{"event":{"half')
    ledger.authorise("later", [TRAINING], delta=DELTA)  # whoever comes next mends the journal, and the doubt stays
    getattr(ledger, ending)("run")
    assert _rho(ledger) == reserved
    getattr(ledger, "commit")("later")  # noqa: B009 - the same call as above
    assert _rho(ledger) == reserved


@pytest.mark.parametrize("first", ["commit", "abort", "recover"])
@pytest.mark.parametrize("then", ["commit", "abort", "recover", "intend"])
def test_a_closed_run_stays_closed_and_says_by_what(tmp_path: Path, first: str, then: str) -> None:
    ledger = account(tmp_path)
    receipt = ledger.authorise("run", [TRAINING], delta=DELTA)
    ledger.intend("run", "train", "round", 1)
    getattr(ledger, first)("run")
    before, spent = len(ledger.events()), ledger.spent()
    if then == first:
        getattr(ledger, then)("run")
        assert len(ledger.events()) == before
    else:
        arguments = ("run", "train", "next", 1) if then == "intend" else ("run",)
        with pytest.raises(LedgerRefusal, match=f"closed by {first}"):
            getattr(ledger, then)(*arguments)
        assert ledger.events()[-1]["kind"] == "deny"
    assert ledger.authorise("run", [TRAINING], delta=DELTA) == receipt
    assert ledger.spent() == spent


@pytest.mark.parametrize("act", ["commit", "abort", "recover"])
def test_a_run_that_was_never_reserved_cannot_be_closed(tmp_path: Path, act: str) -> None:
    ledger = account(tmp_path)
    with pytest.raises(LedgerRefusal, match="not authorised"):
        getattr(ledger, act)("run")
    assert kinds(ledger) == ["open", "deny"]


def test_opening_an_account_closes_no_run_since_a_run_outlives_many_processes(tmp_path: Path) -> None:
    signed(tmp_path).authorise("run", [TRAINING], delta=DELTA)
    for k in range(5):
        signed(tmp_path).intend("run", "train", f"round {k}", 10)
    assert kinds(signed(tmp_path)) == ["open", "reserve", *["step_intent"] * 5]


def test_closing_the_account_recovers_what_is_open_and_ends_it(tmp_path: Path) -> None:
    ledger = account(tmp_path)
    for run in ("one", "two"):
        ledger.authorise(run, count(0.1), delta=DELTA)
    spent = ledger.spent()
    event = ledger.close()
    assert ledger.close() == event
    assert ledger.spent() == spent
    with pytest.raises(LedgerRefusal, match="account is closed"):
        ledger.authorise("three", count(0.1), delta=DELTA)
    assert kinds(ledger) == ["open", "reserve", "reserve", "recover", "recover", "close", "deny"]
    ledger.verify()


def test_shards_are_charged_all_or_none_and_the_worst_off_subject_counts(tmp_path: Path) -> None:
    ledger = account(tmp_path, epsilon_cap=1.0, terms=Terms(shards=3))
    ledger.authorise("left", count(0.6), delta=DELTA, shards=[0])
    assert ledger.spent()[0] == pytest.approx(0.6, abs=1e-3)
    ledger.authorise("right", count(0.6), delta=DELTA, shards=[1])  # other subjects: in parallel
    assert ledger.spent()[0] == pytest.approx(0.6, abs=1e-3)
    for shards in ([0], [0, 2], [1, 2], []):
        with pytest.raises(BudgetExceeded, match="lifetime"):
            ledger.authorise(f"more {shards}", count(0.6), delta=DELTA, shards=shards)
    assert ledger.account().held(2) == (0, 0)
    ledger.authorise("third", count(0.3), delta=DELTA, shards=[0, 2])  # the same shard adds up
    assert ledger.spent()[0] == pytest.approx(0.9, abs=1e-3)
    for shard in (0, 2):
        with pytest.raises(BudgetExceeded, match="lifetime"):
            ledger.authorise(f"last {shard}", count(0.8), delta=DELTA, shards=[shard])
    with pytest.raises(ValueError, match=r"shards=\[3\]"):
        ledger.authorise("none", count(0.1), delta=DELTA, shards=[3])


@pytest.mark.parametrize("terms", [Terms(), RENYI], ids=["basic", "renyi"])
def test_a_cap_of_one_purpose_leaves_the_others_alone(tmp_path: Path, terms: Terms) -> None:
    one = charge(count(0.3, "audit.members"), DELTA, composition=terms.composition, order=6.0)
    limits = Limits(per_purpose={"audit": 1.5 * float(one.amount)})
    ledger = account(tmp_path, terms=terms, limits=limits)
    ledger.authorise("one", [TRAINING, *count(0.3, "disclosure.members")], delta=DELTA)
    for name in ("audit.members", "attack_disclosure", "disclosure.copies"):
        with pytest.raises(BudgetExceeded, match="purpose audit cap"):
            ledger.authorise(f"two {name}", count(0.3, name), delta=DELTA)
    ledger.authorise("two", count(0.3, "filter.votes"), delta=DELTA)
    ledger.authorise("three", [TRAINING], delta=DELTA)


def test_no_name_lets_gradient_steps_count_as_anything_but_training(tmp_path: Path) -> None:
    ledger = account(tmp_path, limits=Limits(per_purpose={"train": 0.001}))
    for name in ("train.views", "audit.views", "whatever"):
        plan = DpPlan(purpose=name, sampling_rate=0.1, noise_multiplier=4.0, clip_norm=1.0, steps=200, draws=1)
        with pytest.raises(BudgetExceeded, match="purpose train cap"):
            ledger.authorise(name, [plan], delta=DELTA)


def test_one_run_may_not_ask_for_more_than_a_run_may_cost(tmp_path: Path) -> None:
    ledger = account(tmp_path, limits=Limits(per_run=0.5))
    with pytest.raises(BudgetExceeded, match="run cap"):
        ledger.authorise("large", count(0.6), delta=DELTA)
    for k in range(3):
        ledger.authorise(f"small {k}", count(0.4), delta=DELTA)


def test_a_year_passes_and_a_clock_set_back_does_not_reopen_it(tmp_path: Path) -> None:
    clock = Clock()
    ledger = account(tmp_path, limits=Limits(per_year=1.0), clock=clock)

    def fits(run: str) -> bool:
        try:
            ledger.authorise(run, count(0.6), delta=DELTA)
            ledger.commit(run)
        except BudgetExceeded:
            return False
        return True

    assert fits("first")
    clock.turn(days=200)
    assert not fits("too early")
    clock.turn(days=-400)
    assert not fits("clock set back")
    clock.turn(days=400 + 165)  # 365 days after the first
    assert not fits("on the day")
    clock.turn(days=1)
    assert fits("a year later")
    clock.turn(days=-300)
    assert not fits("clock set back again")
    assert ledger.spent()[0] == pytest.approx(1.2, abs=1e-3)  # over the whole life nothing expires


def test_what_is_charged_under_a_clock_set_back_expires_no_earlier(tmp_path: Path) -> None:
    clock = Clock()
    ledger = account(tmp_path, limits=Limits(per_year=1.0), clock=clock)
    ledger.authorise("first", count(0.1), delta=DELTA)
    clock.turn(days=-500)
    ledger.authorise("second", count(0.6), delta=DELTA)
    ledger.commit("second")
    clock.turn(days=501)
    with pytest.raises(BudgetExceeded, match="year cap"):
        ledger.authorise("third", count(0.6), delta=DELTA)


def test_an_open_run_counts_against_every_year(tmp_path: Path) -> None:
    clock = Clock()
    ledger = account(tmp_path, limits=Limits(per_year=1.0), clock=clock)
    ledger.authorise("open", count(0.6), delta=DELTA)
    clock.turn(days=800)
    with pytest.raises(BudgetExceeded, match="year cap"):
        ledger.authorise("next", count(0.6), delta=DELTA)


def test_a_renyi_account_states_its_epsilon_at_one_delta(tmp_path: Path) -> None:
    ledger = account(tmp_path, terms=RENYI, delta_cap=1e-5)
    assert ledger.spent() == (0.0, 0.0)
    ledger.authorise("run", [WORKED], delta=1e-5)
    assert ledger.spent() == (pytest.approx(0.73470764 + conversion(6.0, 1e-5)), 1e-5)
    with pytest.raises(BudgetExceeded, match="above the account's"):
        ledger.authorise("other", [WORKED], delta=2e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"terms": RENYI, "epsilon_cap": 1.0}, "the conversion alone costs"),
        ({"terms": RENYI, "delta_cap": 0.0}, "must be positive"),
        ({"limits": Limits(per_purpose={"fun": 1.0})}, "'fun' is not one of"),
        ({"limits": Limits(per_run=float("nan"))}, "per_run=nan"),
        ({"limits": Limits(per_year=-1.0)}, r"per_year=-1\.0"),
    ],
    ids=str,
)
def test_caps_that_are_no_caps_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        account(tmp_path, **changes)
    for wrong in ({"composition": "best"}, {"order": 1.0}, {"shards": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Terms(**wrong)


def test_terms_are_those_the_account_was_created_with(tmp_path: Path) -> None:
    account(tmp_path)
    for terms in (RENYI, Terms(shards=2)):
        with pytest.raises(ValueError, match="created with"):
            account(tmp_path, terms=terms)


def test_caps_are_tightened_at_once_and_raised_by_two_keys_only(tmp_path: Path) -> None:
    officer, stranger = SigningKey.create(), SigningKey.create()
    ledger = signed(tmp_path, officer=officer.public)
    ledger.revise(epsilon_cap=2.0, delta_cap=1e-5)
    with pytest.raises(BudgetExceeded):
        ledger.authorise("run", count(2.1), delta=DELTA)
    for second in (None, stranger):
        with pytest.raises(LedgerRefusal, match="epsilon_cap cannot be raised"):
            ledger.revise(epsilon_cap=3.0, delta_cap=1e-5, officer=second)
    ledger.revise(epsilon_cap=3.0, delta_cap=1e-5, officer=officer)
    ledger.authorise("run", count(2.1), delta=DELTA)
    policy = [event["payload"]["looser"] for event in ledger.verify() if event["kind"] == "policy"]
    assert policy == [[], ["epsilon_cap"]]


def test_without_a_second_key_no_cap_is_ever_raised(tmp_path: Path) -> None:
    ledger = signed(tmp_path, limits=Limits(per_run=1.0))
    with pytest.raises(LedgerRefusal, match="per_run cannot be raised"):
        ledger.revise(epsilon_cap=8.0, delta_cap=1e-5, officer=SigningKey.create())


def test_an_approval_cannot_be_used_a_second_time(tmp_path: Path) -> None:
    """Whoever has the site's key only, and replays what the officer signed, writes an event that does not verify."""
    officer = SigningKey.create()
    ledger = signed(tmp_path, officer=officer.public)
    ledger.revise(epsilon_cap=9.0, delta_cap=1e-5, officer=officer)
    approved = ledger.events()[-1]["payload"]
    ledger.revise(epsilon_cap=1.0, delta_cap=1e-5)
    from privacy.account import BrokenRule
    from privacy.chain import Draft

    with pytest.raises(BrokenRule, match="second key"):
        ledger._chain.append(lambda view: Draft(kind="policy", payload=approved))
    with pytest.raises(BudgetExceeded):
        ledger.authorise("run", count(2.0), delta=DELTA)


def test_an_older_copy_of_everything_is_seen_by_the_witness(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    ledger = signed(tmp_path / "site", witness=tmp_path / "other disk" / "heads.json")
    ledger.authorise("one", count(0.1), delta=DELTA)
    backup = copy(ledger, tmp_path / "backup")
    ledger.authorise("two", count(0.1), delta=DELTA)
    restore(ledger, backup, ".sqlite", ".jsonl")
    for use in (ledger.verify, lambda: ledger.authorise("three", count(0.1), delta=DELTA)):
        with pytest.raises(LedgerCorrupt, match="event 3 is not the one that the witness saw"):
            use()
    signed(tmp_path / "site").verify()  # by itself the older copy is a whole account


def test_an_account_whose_witness_is_gone_is_not_charged(tmp_path: Path) -> None:
    ledger = signed(tmp_path, witness=tmp_path / "other" / "heads.json")
    (tmp_path / "other" / "heads.json").unlink()
    with pytest.raises(LedgerCorrupt, match=r"witness .* is missing"):
        ledger.authorise("run", count(0.1), delta=DELTA)
    ledger.bear_witness()
    ledger.authorise("run", count(0.1), delta=DELTA)


def test_a_partner_signs_a_head_and_the_account_is_held_to_it(tmp_path: Path) -> None:
    partner = SigningKey.create()
    ledger = signed(tmp_path, witness=tmp_path / "other" / "heads.json")
    backup = copy(ledger, tmp_path / "backup")
    ledger.authorise("one", count(0.1), delta=DELTA)
    seen = ledger.newest()
    ledger.cosign(cosign(seen, partner))
    ledger.cosign(cosign(seen, partner))
    assert kinds(ledger) == ["open", "reserve", "cosign"]
    assert ledger.extends(seen)
    ledger.authorise("two", count(0.1), delta=DELTA)
    assert ledger.extends(seen)
    restore(ledger, backup, ".sqlite", ".jsonl")
    assert not ledger.extends(seen)
    with pytest.raises(LedgerCorrupt, match="older copy"):
        ledger.authorise("three", count(0.1), delta=DELTA)


def test_a_false_signature_over_a_head_is_refused(tmp_path: Path) -> None:
    partner = SigningKey.create()
    ledger = signed(tmp_path)
    true = cosign(ledger.newest(), partner)
    for false in (
        Cosigned(seq=true.seq, head=true.head, by=SigningKey.create().public.hex(), signature=true.signature),
        Cosigned(seq=true.seq, head=true.head, by="zz", signature=true.signature),
        cosign(type(ledger.newest())(seq=1, head="0" * 64), partner),
        cosign(type(ledger.newest())(seq=7, head=true.head), partner),
    ):
        with pytest.raises(LedgerRefusal, match=r"head|hash"):
            ledger.cosign(false)
    assert kinds(ledger) == ["open", *["deny"] * 4]


def test_a_pure_release_costs_what_randomised_response_costs_at_the_order() -> None:
    from math import exp, log

    for amount in (0.01, 0.5, 3.0):
        p = exp(amount) / (1 + exp(amount))
        exact = log(p**6 * (1 - p) ** -5 + (1 - p) ** 6 * p**-5) / 5
        one = charge([LaplacePlan(purpose="count", epsilon=amount)], DELTA, composition="renyi", order=6.0)
        assert float(one.amount) == pytest.approx(exact, abs=2e-10)
        assert one.amount <= Decimal(amount)
