import dataclasses
from pathlib import Path

import pytest

from client import admission
from client.admission import admitted, own_code
from client.policy import Account
from learning.messages import Code, Hello, Refusal, Reserved
from privacy.mechanism import LaplacePlan, epsilon
from tests.accounts import copy, edit, restore
from tests.hospitals import PLAN, Wire, hospital, log_of, reserve_request

COUNT = LaplacePlan(purpose="count", epsilon=0.5)


def test_a_greeting_says_the_declared_size_and_never_the_real_one(tmp_path: Path) -> None:
    site = hospital(tmp_path, cohort={"reader": "canary", "subjects": 37})
    greeting = Wire(site).ask(Hello())
    assert (greeting.site, greeting.public_subjects) == ("aurora", 40)
    assert greeting.public_key == site.signing_key.public
    assert greeting.code_digest == own_code()


def test_a_run_is_charged_when_it_is_admitted_and_only_once(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    receipt = wire.ask(reserve_request(PLAN))
    assert isinstance(receipt, Reserved)
    assert receipt.epsilon == pytest.approx(epsilon([PLAN], 1e-5), abs=1e-5)
    assert wire.ask(reserve_request(PLAN)) == receipt
    assert site.ledger.spent() == (receipt.epsilon, 1e-5)
    assert admitted(site, "run-1").plans == (PLAN.to_json(),)


def test_training_and_counting_are_charged_together(tmp_path: Path) -> None:
    receipt = Wire(hospital(tmp_path)).ask(reserve_request(PLAN, plans=[PLAN.to_json(), COUNT.to_json()]))
    assert receipt.epsilon > epsilon([PLAN], 1e-5)


def test_a_run_without_plans_is_admitted_for_nothing(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    assert wire.ask(reserve_request()).epsilon == 0
    assert not (site.folder / "ledger.db").exists()


def test_what_passes_the_cap_is_refused_as_budget(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path, epsilon_cap=1.0))
    assert wire.ask(reserve_request(PLAN)) is Code.REFUSED_BUDGET
    assert site.ledger.spent() == (0.0, 0.0)
    with pytest.raises(Refusal, match="not reserved"):
        admitted(site, "run-1")


def test_the_same_run_with_other_plans_is_refused(tmp_path: Path) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    assert wire.ask(reserve_request(dataclasses.replace(PLAN, steps=5))) is Code.REFUSED_BUDGET


def test_the_same_run_with_another_experiment_is_refused(tmp_path: Path) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    assert wire.ask(reserve_request(PLAN, experiment_digest="1" * 64)) is Code.REFUSED_CODE


def test_a_laxer_plan_is_refused_as_policy_and_costs_nothing(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    assert wire.ask(reserve_request(dataclasses.replace(PLAN, noise_multiplier=0.4))) is Code.REFUSED_POLICY
    assert not (site.folder / "ledger.db").exists()


def test_a_dear_plan_cannot_hide_behind_a_cheap_one_of_the_same_purpose(tmp_path: Path) -> None:
    """Otherwise the steps paid for at much noise could be taken at little."""
    cheap = dataclasses.replace(PLAN, noise_multiplier=50.0, steps=90)
    assert Wire(hospital(tmp_path)).ask(reserve_request(PLAN, cheap)) is Code.REFUSED_POLICY


def test_code_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    assert Wire(hospital(tmp_path)).ask(reserve_request(PLAN, code_digest="a" * 64)) is Code.REFUSED_CODE


def test_code_that_is_installed_but_was_not_reviewed_is_refused(tmp_path: Path) -> None:
    assert Wire(hospital(tmp_path, code=("b" * 64,))).ask(reserve_request(PLAN)) is Code.REFUSED_CODE


def test_a_run_whose_code_was_replaced_meanwhile_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    monkeypatch.setattr(admission, "own_code", lambda: "c" * 64)
    with pytest.raises(Refusal) as refusal:
        admitted(site, "run-1")
    assert refusal.value.code is Code.REFUSED_CODE


@pytest.mark.parametrize(
    "plan", [{}, {"kind": "none"}, {**PLAN.to_json(), "more": 1}, {**PLAN.to_json(), "unit": "clip"}]
)
def test_a_plan_that_cannot_be_read_is_refused(tmp_path: Path, plan: dict[str, object]) -> None:
    assert Wire(hospital(tmp_path)).ask(reserve_request(plans=[plan])) is Code.UNREADABLE


def test_a_ledger_that_was_edited_admits_no_run_and_says_so_at_home_only(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    edit(site.ledger, "UPDATE events SET body = replace(body, '1e-05', '1e-15') WHERE seq = 2")
    assert wire.ask(reserve_request(PLAN, run="run-2")) is Code.FAILED
    assert "event 2 was edited" in log_of(site)[-1]["words"]
    assert not [part for part in wire.sent if b"event" in part]


def test_a_refusal_says_at_home_what_is_left_and_to_the_server_a_code(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path, epsilon_cap=1.0))
    assert wire.ask(reserve_request(PLAN)) is Code.REFUSED_BUDGET
    assert "lifetime cap 1.0" in site.ledger.events()[-1]["payload"]["reason"]
    assert "lifetime cap 1.0" in log_of(site)[-1]["words"]
    assert not [part for part in wire.sent if b"lifetime" in part or b"cap" in part]


def test_a_renyi_account_is_charged_at_its_order_and_receipts_the_epsilon_of_the_run(tmp_path: Path) -> None:
    account = Account(composition="renyi", order=6.0, witness="../witness.json")
    wire = Wire(site := hospital(tmp_path, account=account))
    receipt = wire.ask(reserve_request(PLAN))
    assert receipt.epsilon == pytest.approx(epsilon([PLAN], 1e-5), abs=1e-5)
    assert site.ledger.account().terms.composition == "renyi"
    assert (tmp_path / "witness.json").exists()
    assert {event["actor"] for event in site.ledger.verify()} == {site.signing_key.key_id}


def test_an_account_that_was_put_back_behind_its_witness_admits_no_run(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path, account=Account(witness="../witness.json")))
    wire.ask(reserve_request(PLAN))
    backup = copy(site.ledger, tmp_path / "backup")
    wire.ask(reserve_request(PLAN, run="run-2"))
    restore(site.ledger, backup, ".db", ".jsonl")
    assert wire.ask(reserve_request(PLAN, run="run-3")) is Code.FAILED
    assert "older copy of the account" in log_of(site)[-1]["words"]
