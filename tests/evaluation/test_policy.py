import re
from pathlib import Path

import pytest

from evaluation.policy import BOTH, LOWER, Lane, Op, Policy

GOOD = """
name: p
rules:
  - {id: a, metric: m, op: "<=", value: 8, bound: exact}
  - {id: b, metric: n, op: noninferior, margin: 0.02, min_n: 25, required: [FORMAL], says: close enough}
"""


def test_a_policy_reads_as_written() -> None:
    policy = Policy.parse(GOOD)
    first, second = policy.rules
    assert (policy.name, policy.text) == ("p", GOOD)
    assert (first.op, first.threshold, first.required) == (Op.AT_MOST, 8.0, frozenset(Lane))
    assert (second.op, second.threshold, second.bound, second.min_n) == (Op.ABOVE, -0.02, LOWER, 25)
    assert (second.required, second.says) == (frozenset({Lane.FORMAL}), "close enough")


def test_equivalence_is_written_as_non_inferiority_is() -> None:
    _, second = Policy.parse(GOOD.replace("noninferior", "equivalent")).rules
    assert (second.op, second.threshold, second.bound) == (Op.WITHIN, 0.02, BOTH)
    with pytest.raises(ValueError, match="margin=-1"):
        Policy.parse(GOOD.replace("noninferior", "equivalent").replace("0.02", "-1"))


def test_every_letter_of_a_policy_is_in_its_digest() -> None:
    assert Policy.parse(GOOD).digest != Policy.parse(GOOD.replace("0.02", "0.20")).digest
    assert Policy.parse(GOOD).digest != Policy.parse(GOOD + " ").digest


@pytest.mark.parametrize("name", [name for name in Policy.shipped() if name != "audit"])
def test_shipped_policies_judge_privacy_and_utility_in_both_lanes(name: str) -> None:
    policy = Policy.load(name)
    for lane in (Lane.FORMAL, Lane.EMPIRICAL):
        required = {rule.metric for rule in policy.rules if lane in rule.required}
        assert {"dp.eps", "dp.delta_n", "disclosure.eps_lb", "utility.segmentation", "utility.view"} <= required
    assert "dp.covered" in {rule.metric for rule in policy.rules if rule.required == {Lane.FORMAL}}


@pytest.mark.parametrize(
    ("change", "to", "says"),
    [
        ("value: 8", "value: 8, value: 80", "'value' is written twice"),
        ("value: 8", "value: .nan", "finite"),
        ("value: 8", "value: .inf", "finite"),
        ("value: 8", "value: true", "value=True"),
        ("value: 8", "value: '8'", "value='8'"),
        ("value: 8,", "", "value is missing"),
        ("value: 8", "margin: 8, value: 8", "unknown entries margin"),
        ("margin: 0.02", "margin: 0", "margin=0.0 must be positive"),
        ("margin: 0.02", "margin: .nan", "margin=nan"),
        ("[FORMAL]", "[formal]", "lane 'formal'"),
        ("[FORMAL]", "FORMAL", "required='FORMAL'"),
        ('"<="', '"=<"', "op='=<'"),
        ("bound: exact", "bound: about", "bound='about'"),
        ("bound: exact", "bound: exact, min_n: -1", "min_n=-1"),
        ("bound: exact", "bound: exact, needs: [1]", "text only"),
        ("id: b", "id: a", "share an id: a"),
        ("name: p", "name: 3", "name=3"),
        ("name: p", "title: p", "exactly the entries name and rules"),
        ("name: p", "name: &a p\nx: *a", "no aliases"),
        ("- {id: a", "- {id: a}}", "a policy is YAML"),
        ("rules:", "rules: []\nmore:", "exactly the entries"),
        ("- {id: a,", "- 7\n  - {id: a,", "a rule is a mapping"),
    ],
)
def test_a_malformed_policy_is_refused_by_name(change: str, to: str, says: str) -> None:
    assert change in GOOD
    with pytest.raises(ValueError, match=re.escape(says)):
        Policy.parse(GOOD.replace(change, to))


def test_the_policy_of_audits_judges_what_was_released_and_never_how_it_was_made() -> None:
    required = {rule.metric for rule in Policy.load("audit").rules if Lane.NONE in rule.required}
    assert "disclosure.eps_lb" in required
    assert not any(metric.startswith(("dp.", "utility.")) for metric in required)


def test_a_policy_that_nobody_shipped_is_refused() -> None:
    with pytest.raises(ValueError, match=r"neither shipped \(audit, default, pilot, .*\) nor a file"):
        Policy.load("lenient")


def test_a_policy_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(GOOD, encoding="utf-8")
    assert Policy.load(str(tmp_path / "own.yaml")) == Policy.parse(GOOD)


def test_a_gigantic_policy_is_not_even_parsed() -> None:
    with pytest.raises(ValueError, match="at most 65536 characters"):
        Policy.parse("a" * 70_000)
