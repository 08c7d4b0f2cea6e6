"""A campaign pays for all it will do before it does any of it."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from conf.compose import UsageError, compose, from_json, to_json
from pericard.simulate import groups
from privacy.coverage import formal
from privacy.mechanism import epsilon, plan_from_json
from server import plan
from server.stages import certify


def _campaign(*overrides: str):
    known = groups()
    experiment, _ = compose(["experiment=smoke", *overrides], groups=known)
    resolved = json.loads(to_json(experiment, groups=known))
    return plan.campaign(experiment, run="run-1", out="/out", resolved=resolved)


def _plans(campaign):
    return [plan_from_json(p) for p in campaign.stages[0].settings["plans"]]


def test_all_plans_together_cost_the_budget_and_hardly_less():
    campaign = _campaign("budget.epsilon=5")
    assert 4.9 < epsilon(_plans(campaign), campaign.delta) <= 5


def test_moments_of_masks_are_charged_their_share_beside_all_else_and_the_whole_costs_the_budget():
    campaign = _campaign("budget.epsilon=5", "budget.shapes_share=0.1")
    found = {plan.purpose: plan for plan in _plans(campaign)}
    assert len(found) == 5
    assert 0.48 < epsilon([found["shapes"]], campaign.delta) <= 0.5
    assert (found["shapes"].steps, found["shapes"].sampling_rate) == (1, 1.0)
    assert 4.9 < epsilon(list(found.values()), campaign.delta) <= 5
    names = [stage.name for stage in campaign.stages]
    assert names.index("shapes") == names.index("reserve") + 1
    assert _settings(campaign, "sample")["shapes"] == "shapes"
    assert {"shapes.moments", "conditions.moments"} <= set(certify._steps(SimpleNamespace(campaign=campaign)))


def test_every_arm_of_recognition_begins_as_the_classifier_trained_in_common_does():
    for start in ("true", "false"):
        told = _settings(_campaign(f"generator.prior={start}"), "recognition")
        assert (
            told["config"]["prior"] == told["federated_part"]["prior"] == ("view_classifier" if start == "true" else "")
        )


def test_without_a_share_for_shapes_no_site_is_asked_for_them():
    campaign = _campaign()
    assert "shapes" not in [stage.name for stage in campaign.stages]
    assert "shapes" not in _settings(campaign, "sample")
    assert "shapes.moments" not in certify._steps(SimpleNamespace(campaign=campaign))


@pytest.mark.parametrize("wrong", ["budget.shapes_share=1", "budget.shapes_share=-0.1", "budget.shapes_share=0.95"])
def test_a_share_for_shapes_that_leaves_nothing_is_refused(wrong):
    with pytest.raises(UsageError, match="share"):
        _campaign(wrong)


def test_classes_without_shapes_and_hearts_that_move_have_no_share_for_them():
    with pytest.raises(UsageError, match="no shapes are drawn"):
        _campaign("budget.shapes_share=0.1", "classes={of:diagnosis,names:[a,b],released:[a,b]}")
    known = groups()
    experiment, _ = compose(["experiment=echo_video", "budget.shapes_share=0.1"], groups=known)
    with pytest.raises(ValueError, match="hearts that move"):
        plan.campaign(experiment, run="r", out="/out", resolved=json.loads(to_json(experiment, groups=known)))


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


def test_settings_found_on_patients_forbid_the_formal_lane_before_anything_is_planned():
    with pytest.raises(UsageError, match="settings_from=PATIENTS: no ε covers"):
        _campaign("settings_from=PATIENTS")
    assert _campaign("settings_from=PATIENTS", "release.lane=EMPIRICAL")


def test_an_experiment_that_does_not_say_where_its_settings_come_from_may_not_be_formal():
    whole = json.loads(to_json(compose(["experiment=smoke"], groups=groups())[0], groups=groups()))
    del whole["settings_from"]
    with pytest.raises(UsageError, match="settings_from=PATIENTS"):
        from_json(json.dumps(whole), groups=groups())


@pytest.mark.parametrize("said", [None, "PATIENTS", "unheard of"])
def test_whatever_is_not_declared_public_blocks_the_claim_at_the_certificate_too(said):
    campaign = _campaign()
    steps = certify._steps(SimpleNamespace(campaign=campaign))
    assert formal(steps) == []
    hidden = dataclasses.replace(campaign, experiment={**campaign.experiment, "settings_from": said})
    assert [problem.split(":")[0] for problem in formal(certify._steps(SimpleNamespace(campaign=hidden)))] == [
        "hyperparameters.private"
    ]


def _settings(campaign, name):
    return next(s for s in campaign.stages if s.name == name).settings


def test_groups_and_whom_arms_mind_reach_the_stages_that_ask_the_sites():
    told = _campaign("assess.groups={sex:[female,male]}", "assess.minding={by:sex,method:dro}")
    for name in ("segmentation", "recognition"):
        assert _settings(told, name)["groups"] == {"sex": ["female", "male"]}
        assert _settings(told, name)["minds"] == {"by": "sex", "method": "dro", "rate": 0.01}
    assert _settings(told, "reference")["minds"]["method"] == "dro"
    assert "minds" not in _settings(told, "views")
    assert not {"groups", "minds"} & set(_settings(_campaign(), "segmentation"))


def test_declared_weights_reach_the_private_training_and_cost_nothing():
    told = _campaign("train_views.weigh_by=sex", "train_views.weights={male:0.5}")
    assert _settings(told, "views")["minds"] == {"by": "sex", "weights": {"male": 0.5}}
    assert _plans(told) == _plans(_campaign())


@pytest.mark.parametrize(
    "wrong",
    [
        "assess.groups={sex:female}", "assess.groups={site:[a]}", "assess.minding.by=sex", "train_views.weigh_by=sex",
        "train_views.weights={f:2}", "assess.minding.method=fair",
    ],
)  # fmt: skip
def test_groups_without_words_and_weights_without_a_column_are_refused(wrong):
    with pytest.raises(UsageError):
        _campaign(wrong)


def test_a_generator_that_stands_on_a_prior_of_its_own_has_it_checked_and_recorded():
    def checked(*overrides):
        experiment, _ = compose(list(overrides), groups=groups())
        resolved = json.loads(to_json(experiment, groups=groups()))
        stages = plan.campaign(experiment, run="run-1", out="/out", resolved=resolved).stages
        return next(s for s in stages if s.name == "autoencoder").settings

    assert checked("generator=semantic_diffusion")["also"] == ["gamma"]
    assert "also" not in checked("generator=semantic_diffusion", "generator.space=avae")
    assert "also" not in checked()
