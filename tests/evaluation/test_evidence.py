import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.evidence import Finding, Verdict, decide, exact, judge
from evaluation.policy import BOTH, EXACT, LOWER, UPPER, Lane, Op, Policy, Rule
from evaluation.predicate import Number

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
CONTROLS = ("positive_control", "blind_baseline")


def rule(op: str = "<=", threshold: float = 0.5, bound: str = UPPER, **changes: object) -> Rule:
    fields = {"id": "r", "metric": "m", "op": Op(op), "threshold": threshold, "bound": bound, **changes}
    return Rule(**fields)  # type: ignore[arg-type]


def found(
    low: float, high: float, *, n: int = 100, controls: dict[str, bool] | None = None, **changes: object
) -> Finding:
    estimate = Number(value=(low + high) / 2, low=low, high=high, n=n)
    return Finding(metric="m", estimate=estimate, controls=controls or {}, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "bound", "low", "high", "verdict", "used"),
    [
        ("<=", UPPER, 0.1, 0.5, PASS, 0.5),
        ("<=", UPPER, 0.4, 0.6, INCONCLUSIVE, 0.6),
        ("<=", UPPER, 0.51, 0.6, FAIL, 0.51),
        ("<", UPPER, 0.1, 0.5, INCONCLUSIVE, 0.5),
        (">=", LOWER, 0.5, 0.9, PASS, 0.5),
        (">=", LOWER, 0.4, 0.6, INCONCLUSIVE, 0.4),
        (">=", LOWER, 0.1, 0.49, FAIL, 0.49),
        (">", LOWER, 0.5, 0.9, INCONCLUSIVE, 0.5),
        (">", LOWER, 0.1, 0.5, FAIL, 0.5),
        ("|.|<", BOTH, -0.4, 0.3, PASS, -0.4),
        ("|.|<", BOTH, 0.1, 0.49, PASS, 0.49),
        ("|.|<", BOTH, -0.5, 0.3, INCONCLUSIVE, -0.5),
        ("|.|<", BOTH, 0.4, 0.6, INCONCLUSIVE, 0.6),
        ("|.|<", BOTH, 0.5, 0.9, FAIL, 0.5),
        ("|.|<", BOTH, -0.9, -0.6, FAIL, -0.6),
    ],
)
def test_the_far_end_passes_and_the_near_end_fails(
    op: str, bound: str, low: float, high: float, verdict: Verdict, used: float
) -> None:
    judged = judge(rule(op, bound=bound), found(low, high), required=True)
    assert (judged.verdict, judged.bound_used) == (verdict, used)


@pytest.mark.parametrize(
    ("low", "controls", "verdict"),
    [
        (0.5, {"positive_control": True}, PASS),
        (0.5, {"positive_control": False}, INCONCLUSIVE),
        (0.5, {}, INCONCLUSIVE),
        (0.6, {"positive_control": True}, FAIL),
        (0.6, {}, FAIL),
    ],
)
def test_a_lower_bound_on_a_leak_passes_only_beside_a_control_that_saw_one(
    low: float, controls: dict[str, bool], verdict: Verdict
) -> None:
    leak = rule(bound=LOWER, needs=("positive_control",))
    assert judge(leak, found(low, 9.0, controls=controls), required=True).verdict is verdict


def test_a_control_may_be_numpys_truth() -> None:
    leak = rule(bound=LOWER, needs=("positive_control",))
    seen = found(0.1, 0.9, controls={"positive_control": np.bool_(True)})  # type: ignore[dict-item]
    assert judge(leak, seen, required=True).verdict is PASS


@pytest.mark.parametrize(
    ("finding", "reason"),
    [
        (None, "not measured"),
        (Finding(metric="m", estimate=None), "not measured"),
        (found(math.nan, 0.1), "not a number"),
        (found(0.0, math.inf), "not a number"),
        (found(0.3, 0.1), "not a number"),
        (found(0.0, 0.1, n=49), "49 subjects"),
        (found(0.0, 0.1, confidence=0.8), "interval holds at 0.8"),
    ],
)
def test_weak_evidence_is_inconclusive(finding: Finding | None, reason: str) -> None:
    judged = judge(rule(min_n=50), finding, required=True)
    assert judged.verdict is INCONCLUSIVE
    assert reason in judged.reason


def test_an_exact_rule_takes_no_interval() -> None:
    accountant = rule(bound=EXACT)
    assert judge(accountant, exact("m", 0.5), required=True).verdict is PASS
    assert judge(accountant, exact("m", 0.6), required=True).verdict is FAIL
    assert judge(accountant, found(0.1, 0.2), required=True).verdict is INCONCLUSIVE


@pytest.mark.parametrize(("op", "bound"), [("<=", LOWER), ("<", LOWER), (">=", UPPER), (">", UPPER)])
def test_a_rule_that_silence_satisfies_must_name_a_control(op: str, bound: str) -> None:
    with pytest.raises(ValueError, match="proves nothing without a control"):
        rule(op, bound=bound)


@pytest.mark.parametrize(("op", "bound"), [("|.|<", UPPER), ("|.|<", EXACT), ("<=", BOTH), (">", BOTH)])
def test_equivalence_is_held_against_both_ends_and_nothing_else_is(op: str, bound: str) -> None:
    with pytest.raises(ValueError, match="is held against ci90"):
        rule(op, bound=bound)


def test_two_findings_about_one_metric_are_refused() -> None:
    with pytest.raises(ValueError, match="'m' has two findings"):
        decide(Policy(name="p", text="", rules=(rule(),)), [found(0, 0.1), found(0.6, 0.7)], lane=Lane.FORMAL)


def test_a_lane_for_which_nothing_is_required_is_inconclusive() -> None:
    policy = Policy(name="p", text="", rules=(rule(required=frozenset({Lane.FORMAL})),))
    assert decide(policy, [found(0, 0.1)], lane=Lane.FORMAL).verdict is PASS
    assert decide(policy, [found(0, 0.1)], lane=Lane.EMPIRICAL).verdict is INCONCLUSIVE


def test_a_reported_rule_does_not_decide() -> None:
    policy = Policy(name="p", text="", rules=(rule(), rule(id="q", metric="other", required=frozenset())))
    decision = decide(policy, [found(0, 0.1)], lane=Lane.FORMAL)
    assert decision.verdict is PASS
    assert [j.required for j in decision.judged] == [True, False]


numbers = st.floats(-2, 2) | st.sampled_from([math.nan, math.inf, 0.5])
controls = st.dictionaries(st.sampled_from(CONTROLS), st.booleans())


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    ops = [draw(st.sampled_from(Op)) for _ in range(draw(st.integers(1, 4)))]
    rules = [
        Rule(
            id=f"r{i}",
            metric=f"m{i}",
            op=op,
            threshold=draw(st.floats(-1, 1)),
            bound=BOTH if op is Op.WITHIN else draw(st.sampled_from([EXACT, LOWER, UPPER])),
            min_n=draw(st.integers(0, 3)),
            needs=("positive_control",),
            required=draw(st.frozensets(st.sampled_from(Lane))),
        )
        for i, op in enumerate(ops)
    ]
    return Policy(name="p", text="", rules=tuple(rules))


@st.composite
def evidence(draw: st.DrawFn) -> list[Finding]:
    def one(i: int) -> Finding:
        low = draw(numbers)
        high = low if draw(st.booleans()) else draw(numbers)
        estimate = draw(st.sampled_from([None, Number(value=low, low=low, high=high, n=draw(st.integers(0, 5)))]))
        return Finding(metric=f"m{i}", estimate=estimate, controls=draw(controls))

    return [one(i) for i in range(draw(st.integers(0, 5)))]


@settings(deadline=None)
@given(policies(), evidence(), st.sampled_from(Lane), st.data())
def test_no_part_of_the_evidence_passes_unless_the_whole_passes(
    policy: Policy, findings: list[Finding], lane: Lane, data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.sampled_from(findings), unique_by=id) if findings else st.just([]))
    kept = [
        Finding(
            metric=f.metric,
            estimate=f.estimate,
            controls={c: v for c, v in f.controls.items() if data.draw(st.booleans())},
        )
        for f in kept
    ]
    if decide(policy, kept, lane=lane).verdict is PASS:
        assert decide(policy, findings, lane=lane).verdict is PASS


@settings(deadline=None)
@given(policies(), evidence(), st.sampled_from(Lane))
def test_a_pass_loses_its_verdict_with_any_required_finding(
    policy: Policy, findings: list[Finding], lane: Lane
) -> None:
    if decide(policy, findings, lane=lane).verdict is not PASS:
        return
    for metric in (r.metric for r in policy.rules if lane in r.required):
        assert decide(policy, [f for f in findings if f.metric != metric], lane=lane).verdict is INCONCLUSIVE


@settings(deadline=None)
@given(policies(), evidence(), st.sampled_from(Lane))
def test_a_failed_positive_control_never_passes(policy: Policy, findings: list[Finding], lane: Lane) -> None:
    failed = [Finding(metric=f.metric, estimate=f.estimate, controls={"positive_control": False}) for f in findings]
    assert decide(policy, failed, lane=lane).verdict is not PASS


@settings(deadline=None)
@given(st.sampled_from(Op), numbers, numbers, st.floats(0, 1), st.floats(0, 1))
def test_a_wider_interval_never_earns_a_pass_nor_a_fail(
    op: Op, low: float, high: float, left: float, right: float
) -> None:
    held = rule(op, bound={Op.WITHIN: BOTH, Op.AT_MOST: UPPER, Op.BELOW: UPPER}.get(op, LOWER))
    wide = judge(held, found(low - left, high + right), required=True).verdict
    if wide is not INCONCLUSIVE and low <= high:
        assert judge(held, found(low, high), required=True).verdict is wide


REFUTER = rule("<=", 0.0, LOWER, needs=("halved_noise",), refutes=True, fail_code="DP_VIOLATION")


@pytest.mark.parametrize(
    ("finding", "own", "overall"),
    [
        (found(0.2, 0.2), FAIL, FAIL),
        (found(-1, -1, controls={"halved_noise": True}), PASS, PASS),
        (found(-1, -1), INCONCLUSIVE, PASS),
        (None, INCONCLUSIVE, INCONCLUSIVE),
        (found(math.nan, math.nan), INCONCLUSIVE, INCONCLUSIVE),
    ],
)
def test_a_rule_that_is_there_to_refute_must_be_tried_and_must_not_succeed(
    finding: Finding | None, own: Verdict, overall: Verdict
) -> None:
    other = rule(">=", 0.5, LOWER)
    policy = Policy(name="p", text="", rules=(REFUTER, Rule(**{**_fields(other), "id": "o", "metric": "o"})))
    good = Finding(metric="o", estimate=Number(value=0.9, low=0.8, high=1.0, n=100))
    decision = decide(policy, [good, *([finding] if finding else [])], lane=Lane.FORMAL)
    assert decision.judged[0].verdict is own
    assert decision.verdict is overall


def test_a_refuted_claim_is_reported_by_its_code() -> None:
    assert judge(REFUTER, found(0.2, 0.2), required=True).reason.startswith("DP_VIOLATION: 0.2 is not <= 0")


def _fields(one: Rule) -> dict[str, object]:
    return {name: getattr(one, name) for name in Rule.__slots__}
