"""Findings against a policy: PASS, FAIL or INCONCLUSIVE, decided on the far end of the interval.

A rule PASSes only if the end of the interval that speaks *against* the claim still satisfies it, on enough subjects and
with every control that the rule needs. It FAILs if even the end that speaks *for* the claim violates it. Everything
else is INCONCLUSIVE: a missing or non-finite number, too few subjects, a control that failed, an interval too narrow to
be the one the policy asks for, an interval that straddles the bound. Hence the law: no subset of the evidence passes
unless the whole passes.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from evaluation.policy import EXACT, LOWER, UPPER, Lane, Op, Policy, Rule

__all__ = ["Decision", "Finding", "Interval", "Judged", "Lane", "Policy", "Rule", "Verdict", "decide", "exact", "judge"]


class Verdict(StrEnum):
    """What the evidence allows to say."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Interval(Protocol):
    """What `privacy.estimate.Estimate` looks like from here: a value between its bounds, from `n` subjects."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One measured number, with its interval and the controls that ran beside it.

    Attributes:
        metric: name of what was measured, as the policy spells it (`disclosure.eps_lb`).
        estimate: the number and its interval over subjects; `None` where it could not be measured.
        confidence: two-sided level of that interval, in (0, 1).
        controls: per control (`positive_control`, `blind_baseline`), whether it behaved as it must.
        how: one sentence for the reader of the certificate.
    """

    metric: str
    estimate: Interval | None
    confidence: float = 0.95
    controls: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    how: str = ""

    def __post_init__(self) -> None:
        if not self.metric:
            raise ValueError("metric must not be empty")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence={self.confidence} lies outside (0, 1)")


def exact(metric: str, value: float, *, n: int = 0, unit: str = "", how: str = "") -> Finding:
    """Return a finding that is computed, not measured: an accountant's ε has no sampling error."""
    return Finding(metric=metric, estimate=_Exact(value=value, n=n, unit=unit), how=how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One rule and what came of it: the number the rule was held against, the verdict and its reason."""

    rule: Rule
    required: bool
    verdict: Verdict
    bound_used: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The overall verdict, and every rule's own."""

    lane: Lane
    verdict: Verdict
    judged: tuple[Judged, ...]


def decide(policy: Policy, findings: Iterable[Finding], *, lane: Lane) -> Decision:
    """Judge every rule of `policy`; overall a required FAIL fails, then a required INCONCLUSIVE leaves it open.

    A lane for which the policy requires nothing is INCONCLUSIVE: an empty policy certifies nothing.

    Raises:
        ValueError: two findings speak about one metric; the better one could be kept and the worse one dropped.
    """
    found: dict[str, Finding] = {}
    for finding in findings:
        if finding.metric in found:
            raise ValueError(f"metric {finding.metric!r} has two findings; a policy judges one")
        found[finding.metric] = finding
    judged = tuple(judge(rule, found.get(rule.metric), required=lane in rule.required) for rule in policy.rules)
    verdicts = [j.verdict for j in judged if j.required and not _tried_in_vain(j)]
    if Verdict.FAIL in verdicts:
        overall = Verdict.FAIL
    elif not verdicts or Verdict.INCONCLUSIVE in verdicts:
        overall = Verdict.INCONCLUSIVE
    else:
        overall = Verdict.PASS
    return Decision(lane=lane, verdict=overall, judged=judged)


def _tried_in_vain(judged: Judged) -> bool:
    """Say whether a rule that is there to refute was measured and could neither refute nor have refuted."""
    measured = judged.bound_used is not None
    return judged.rule.refutes and measured and judged.verdict is Verdict.INCONCLUSIVE


def judge(rule: Rule, finding: Finding | None, *, required: bool) -> Judged:
    """Hold one finding against one rule."""

    def verdict(kind: Verdict, reason: str, bound_used: float | None = None) -> Judged:
        return Judged(rule=rule, required=required, verdict=kind, bound_used=bound_used, reason=reason)

    if finding is None or finding.estimate is None:
        return verdict(Verdict.INCONCLUSIVE, "not measured")
    estimate = finding.estimate
    numbers = (estimate.low, estimate.value, estimate.high)
    if not all(math.isfinite(x) for x in numbers) or estimate.low > estimate.high:
        return verdict(Verdict.INCONCLUSIVE, "not a number with an interval")
    if rule.bound == EXACT and estimate.low != estimate.high:
        return verdict(Verdict.INCONCLUSIVE, "the policy asks for an exact number and got an interval")
    if finding.confidence < rule.confidence:
        return verdict(Verdict.INCONCLUSIVE, f"the interval holds at {finding.confidence:g}, not {rule.confidence:g}")
    against, favouring = _ends(rule, estimate)
    if not _satisfies(rule, favouring):
        code = f"{rule.fail_code}: " if rule.fail_code else ""
        return verdict(Verdict.FAIL, f"{code}{favouring:.6g} is not {rule.op} {rule.threshold:g}", favouring)
    if estimate.n < rule.min_n:
        return verdict(Verdict.INCONCLUSIVE, f"{estimate.n} subjects, the policy asks for {rule.min_n}", against)
    missing = [name for name in rule.needs if not finding.controls.get(name, False)]
    if missing:
        return verdict(Verdict.INCONCLUSIVE, f"control missing or failed: {', '.join(missing)}", against)
    if not _satisfies(rule, against):
        return verdict(
            Verdict.INCONCLUSIVE, f"the interval reaches to {against:.6g}, across {rule.threshold:g}", against
        )
    return verdict(Verdict.PASS, f"{against:.6g} {rule.op} {rule.threshold:g}", against)


def _ends(rule: Rule, estimate: Interval) -> tuple[float, float]:
    """Return the end that speaks against the claim and the end that speaks for it.

    A lower bound on a leak (`<=` with `lcb95`) is held against the threshold by itself: it can show a leak but never
    its absence, which is why `Rule` insists that such a rule needs a control.
    """
    if rule.op is Op.WITHIN:
        nearest = min(max(estimate.low, 0.0), estimate.high)  # to zero, of all that the interval holds
        return max(estimate.low, estimate.high, key=abs), nearest
    if rule.op in (Op.AT_MOST, Op.BELOW):
        return (estimate.low, estimate.low) if rule.bound == LOWER else (estimate.high, estimate.low)
    return (estimate.high, estimate.high) if rule.bound == UPPER else (estimate.low, estimate.high)


def _satisfies(rule: Rule, number: float) -> bool:
    match rule.op:
        case Op.AT_MOST:
            return number <= rule.threshold
        case Op.BELOW:
            return number < rule.threshold
        case Op.AT_LEAST:
            return number >= rule.threshold
        case Op.ABOVE:
            return number > rule.threshold
        case Op.WITHIN:
            return abs(number) < rule.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exact:
    value: float
    n: int
    unit: str

    @property
    def low(self) -> float:
        return self.value

    @property
    def high(self) -> float:
        return self.value
