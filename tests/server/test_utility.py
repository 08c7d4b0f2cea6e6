"""What the coordinator makes of the scores of groups: pooled by word, sites beside them, and the worst of all named."""

from types import SimpleNamespace
from typing import Any

from evaluation.evidence import Verdict, judge
from evaluation.policy import Policy
from learning.messages import Scores
from server.evidence import fairness_section, utility_findings
from server.stages.utility import _by_group

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


def section(groups: dict[str, Any]) -> list[Any]:
    scores = {"task": "ventricle_segmentation", "primary": "dice", "groups": groups}
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
