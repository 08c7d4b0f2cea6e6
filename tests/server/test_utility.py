"""What the coordinator makes of the scores of groups: pooled by word, sites beside them, and the worst of all named."""

from types import SimpleNamespace
from typing import Any

import pytest

from evaluation.evidence import Verdict, judge
from evaluation.policy import Policy
from learning.messages import Scores
from server.evidence import fairness_section, utility_findings, utility_section
from server.stages.utility import _by_group, _of_groups

ARMS = ("release", "phantom", "local")


def cell(mean: float, n: int = 40) -> dict[str, dict[str, float]]:
    return {"dice": {"mean": mean, "standard_error": 0.01, "n": n}}


def reply(female: float, male: float, *, tells: bool = True) -> Scores:
    groups = {"sex": {"female": cell(female, 20), "male": cell(male, 40)}} if tells else {}
    return Scores(
        scores={arm: cell((female + 2 * male) / 3, 60) for arm in ARMS},
        differences={},
        groups=dict.fromkeys(ARMS, groups) if tells else {},
    )


def test_groups_are_pooled_by_word_over_the_sites_that_say_them() -> None:
    found = _by_group({"a": reply(0.6, 0.9), "b": reply(0.8, 0.7), "c": reply(0.1, 0.1, tells=False)}, "release")
    assert found["sex"]["female"]["dice"]["value"] == 0.7
    assert found["sex"]["male"]["dice"]["n"] == 80
    assert set(found["site"]) == {"a", "b"}  # what the third said may be pooled, not told apart
    assert _by_group({"c": reply(0.1, 0.1, tells=False)}, "release") == {}


def section(groups: dict[str, Any], gained: dict[str, Any] | None = None) -> list[Any]:
    scores = {"task": "ventricle_segmentation", "primary": "dice", "arms": {}, "groups": groups, "gained": gained or {}}
    stages = [SimpleNamespace(name="segmentation")]
    state = SimpleNamespace(campaign=SimpleNamespace(stages=stages), read_json=lambda *_: scores)
    return list(fairness_section(state))  # type: ignore[arg-type]


def test_the_certificate_names_the_worst_group_of_each_column_under_each_arm() -> None:
    replies = {"a": reply(0.6, 0.9), "b": reply(0.8, 0.7)}
    found = section({arm: _by_group(replies, arm) for arm in ARMS})
    assert {(f.arm, f.by) for f in found} == {
        (arm, by) for arm in ("release", "phantom", "real_local") for by in ("sex", "site")
    }
    by_sex = next(f for f in found if (f.arm, f.by) == ("release", "sex"))
    assert (by_sex.worst, round(by_sex.gap, 6)) == ("female", 0.1)


def test_the_release_is_told_how_much_wider_its_gap_is_than_that_of_real_studies() -> None:
    def said(female: float, male: float) -> dict[str, Any]:
        return {"sex": {"female": cell(female, 20), "male": cell(male, 40)}}

    replies = {
        "a": Scores(
            scores={}, differences={}, groups={"release": said(0.6, 0.9), "local": said(0.8, 0.9)},
            gained={"local": said(-0.2, 0.0)},
        )
    }  # fmt: skip
    found = _of_groups(replies, ("release", "local"))
    release, local = sorted(section(found["groups"], found["gained"]), key=lambda f: f.arm != "release")
    assert release.gap_change == pytest.approx(0.2)
    assert 0 < release.gap_change_ci[0] < 0.2 < release.gap_change_ci[1]
    assert local.gap_change is None


def scores(release: float, real: float, *, trivial: float = 0.2, error: float = 0.005) -> dict[str, Any]:
    def near(value: float) -> dict[str, Any]:
        return {"dice": {"value": value, "low": value - 2 * error, "high": value + 2 * error, "n": 60}}

    return {
        "task": "ventricle_segmentation",
        "primary": "dice",
        "arms": {"release": near(release), "local": near(real), "phantom": near(0.5), "trivial": near(trivial)},
        "gains": {"local": near(release - real), "phantom": near(release - 0.5), "trivial": near(release - trivial)},
        "kept": {"local": near(release - 0.75 * real - 0.25 * trivial)},
    }


def sections(told: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    stages = [SimpleNamespace(name="segmentation")]
    state: Any = SimpleNamespace(campaign=SimpleNamespace(stages=stages), read_json=lambda *_: told)
    rows = [u for u in utility_section(state, Policy.load("default")) if u.arm == "release"]
    return rows[0], {f.metric: f for f in utility_findings(state)}


@pytest.mark.parametrize(
    ("release", "verdict", "equivalent"),
    [
        (0.80, Verdict.PASS, Verdict.PASS),
        (0.90, Verdict.PASS, Verdict.FAIL),
        (0.785, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (0.70, Verdict.FAIL, Verdict.FAIL),
    ],
)
def test_the_release_is_held_against_the_margin_of_the_policy_from_both_sides(
    release: float, verdict: Verdict, equivalent: Verdict
) -> None:
    row, _ = sections(scores(release, 0.80))
    assert (row.margin, row.trivial) == (0.02, 0.2)
    assert row.difference == pytest.approx(release - 0.80)
    assert (row.verdict, row.equivalent) == (verdict, equivalent)
    assert (row.p < 0.05) is (verdict is Verdict.PASS)
    assert row.p_holm == row.p  # one task


def test_a_task_that_nobody_learnt_keeps_nothing() -> None:
    """T-U5: whoever scores as one who looks at no picture has lost more than a quarter, whatever the margin."""
    _, learnt = sections(scores(0.78, 0.80))
    assert learnt["utility.segmentation_kept"].estimate.low > 0
    _, shuffled = sections(scores(0.2, 0.80))
    assert shuffled["utility.segmentation_kept"].estimate.high < 0
    _, neither = sections(scores(0.2, 0.2))
    assert neither["utility.segmentation_kept"].estimate.low < 0


def test_scores_without_groups_make_no_section() -> None:
    assert section({"release": {}}) == []


def moving(correlation: float) -> list[Any]:
    span = {"value": correlation, "low": correlation - 0.2, "high": correlation + 0.2, "n": 75}
    near = {"value": -0.01, "low": -0.03, "high": 0.01, "n": 75}
    arms = {arm: {"closeness": {**near, "value": 0.9}, "correlation": span} for arm in ARMS}
    gains = {arm: {"closeness": near} for arm in ("phantom", "local")}
    scores = {"task": "ejection_fraction_clip", "primary": "closeness", "arms": arms, "gains": gains}
    stages = [SimpleNamespace(name="ejection")]
    state = SimpleNamespace(campaign=SimpleNamespace(stages=stages), read_json=lambda *_: scores)
    return [f for f in utility_findings(state) if f.metric == "utility.ejection_fraction"]  # type: ignore[arg-type]


def test_being_no_worse_than_a_reference_that_learned_nothing_is_no_evidence() -> None:
    (rule,) = (r for r in Policy.load("rehearsal_video").rules if r.metric == "utility.ejection_fraction")
    for correlation, verdict in ((0.5, Verdict.PASS), (0.1, Verdict.INCONCLUSIVE)):
        (finding,) = moving(correlation)
        assert judge(rule, finding, required=True).verdict is verdict
