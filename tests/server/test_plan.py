"""A campaign pays for all it will do before it does any of it."""

import json

import pytest

from conf.compose import compose, to_json
from pericard.simulate import _groups
from privacy.mechanism import epsilon, plan_from_json
from server import plan


def _campaign(*overrides: str):
    groups = _groups()
    experiment, _ = compose(["experiment=smoke", *overrides], groups=groups)
    resolved = json.loads(to_json(experiment, groups=groups))
    return plan.campaign(experiment, run="run-1", out="/out", resolved=resolved)


def _plans(campaign):
    return [plan_from_json(p) for p in campaign.stages[0].settings["plans"]]


def test_all_plans_together_cost_the_budget_and_hardly_less():
    campaign = _campaign("budget.epsilon=5")
    assert 4.9 < epsilon(_plans(campaign), campaign.delta) <= 5


def test_the_certificate_states_what_was_reserved():
    campaign = _campaign()
    stated = next(s for s in campaign.stages if s.name == "certify").settings["epsilon"]
    assert stated == epsilon(_plans(campaign), campaign.delta)


def test_every_purpose_is_charged_once():
    purposes = [p.purpose for p in _plans(_campaign())]
    assert len(set(purposes)) == len(purposes) == 4


def test_a_budget_that_does_not_even_pay_for_the_audit_is_refused():
    with pytest.raises(ValueError, match="epsilon"):
        _campaign("budget.epsilon=0.5")


def test_the_empirical_lane_charges_no_counts():
    assert {p.purpose for p in _plans(_campaign("release.lane=EMPIRICAL"))} == {"train.views", "train.generator"}


def test_hospitals_that_refuse_the_reference_arm_are_not_asked_for_it():
    with_it, without = (_campaign(f"assess.federated={on}") for on in ("true", "false"))
    assert "reference" in [s.name for s in with_it.stages]
    assert "reference" not in [s.name for s in without.stages]


def test_the_same_experiment_makes_the_same_campaign():
    assert _campaign() == _campaign()
