"""What a run costs in an account: decimal amounts that add exactly and are never rounded down.

An account composes runs in one way, chosen when it is opened (privacy.md 6.1):

* basic: a run is one (ε, δ) block, its plans composed jointly; runs add up.
* renyi: a run costs the sum of its plans' Rényi divergences ρ at the account's one order α, and runs, chosen
  adaptively, add up at that order (Feldman and Zrnic 2021, arXiv:2008.11193). ε at δ follows from ρ by Canonne, Kamath
  and Steinke 2020 (arXiv:2004.00010, proposition 12).

Which of the two is cheaper is never asked afterwards: the better of two filters has no proof.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from functools import lru_cache
from types import MappingProxyType

from privacy.mechanism import DpPlan, LaplacePlan, Plan, epsilon

BASIC, RENYI = "basic", "renyi"
ZERO = Decimal(0)
QUANTUM = Decimal("1e-10")  # of ε and ρ
STEP_QUANTUM = Decimal("1e-18")  # of ρ of one step, of which there may be a million
DELTA_QUANTUM = Decimal("1e-30")
MOST = 10**9  # no amount of an account is larger: every sum of amounts fits EXACT
EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])  # an inexact sum is an error
_FREE = Context(prec=400)

PURPOSES = ("train", "hpo", "labels", "filter", "gate", "metrics", "audit")
_WORDS = {
    "hpo": "hpo", "tune": "hpo", "labels": "labels", "filter": "filter", "screen": "filter", "gate": "gate",
    "audit": "audit", "attack": "audit", "disclosure": "audit",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One plan of a run: under which purpose it counts, how many steps it may take, what each costs (renyi: ρ)."""

    group: str
    steps: int
    each: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a run costs one subject of each of its shards.

    Attributes:
        epsilon, delta: of the run alone, its plans composed jointly.
        amount: what the account adds up: ε in a basic account, ρ in a renyi one.
        delta_amount: what the account adds up in δ: nothing in a renyi account, whose δ is the account's own.
        groups: per purpose, what its plans alone cost, in the unit of `amount`; together no less than `amount`.
        parts: plan's name → its part.
    """

    epsilon: Decimal
    delta: Decimal
    amount: Decimal
    delta_amount: Decimal
    groups: Mapping[str, Decimal]
    parts: Mapping[str, Part]


def charge(plans: Sequence[Plan], delta: float, *, composition: str, order: float) -> Charge:
    """Return what a run of `plans` costs; raises `ValueError` where that is not finite."""
    whole = rounded_up("epsilon", epsilon(plans, delta))
    exact = decimal("delta", delta)
    each = {p.purpose: renyi_of_one(p, order) if composition == RENYI else ZERO for p in plans}
    parts = {p.purpose: Part(group=purpose_of(p), steps=steps_of(p), each=each[p.purpose]) for p in plans}
    if composition == RENYI:
        groups = groups_cost(parts, {name: part.steps for name, part in parts.items()})
        return Charge(epsilon=whole, delta=exact, amount=total(groups.values()), delta_amount=ZERO, groups=groups,
                      parts=MappingProxyType(parts))  # fmt: skip
    named = {part.group for part in parts.values()}
    alone = {g: [p for p in plans if parts[p.purpose].group == g] for g in sorted(named)}
    groups = {g: whole if len(alone) == 1 else rounded_up("epsilon", epsilon(alone[g], delta)) for g in alone}
    return Charge(epsilon=whole, delta=exact, amount=whole, delta_amount=exact, groups=groups,
                  parts=MappingProxyType(parts))  # fmt: skip


def block(epsilon: float, delta: float, purpose: str, *, composition: str, order: float) -> Charge:
    """Return the charge of a run of which only ε is known: one (ε, δ) block, in a renyi account one pure release."""
    whole, exact = decimal("epsilon", epsilon), decimal("delta", delta)
    amount, delta_amount = whole, exact
    if composition == RENYI:
        each = renyi_of_one(LaplacePlan(purpose=purpose, epsilon=epsilon), order)
        amount, delta_amount = each.quantize(QUANTUM, ROUND_CEILING, context=_FREE), ZERO
    return Charge(epsilon=whole, delta=exact, amount=amount, delta_amount=delta_amount, groups={purpose: amount},
                  parts=MappingProxyType({}))  # fmt: skip


def groups_cost(parts: Mapping[str, Part], done: Mapping[str, int]) -> dict[str, Decimal]:
    """Return per purpose what `done` steps of each part cost at the account's order, rounded up."""
    groups: dict[str, Decimal] = {}
    for name, part in parts.items():
        cost = EXACT.multiply(part.each, Decimal(done.get(name, 0))).quantize(QUANTUM, ROUND_CEILING, context=_FREE)
        groups[part.group] = EXACT.add(groups.get(part.group, ZERO), cost)
    return groups


def purpose_of(plan: Plan) -> str:
    """Return under which of `PURPOSES` a plan counts, from how it works and the first word of its name.

    Gradient steps are training (or a search for settings), whatever they are called; a count whose word is unknown
    counts as metrics. So no name escapes the caps.
    """
    word = _WORDS.get(plan.purpose.replace("_", ".").split(".")[0], "")
    if isinstance(plan, DpPlan):
        return "hpo" if word == "hpo" else "train"
    return word or "metrics"


def steps_of(plan: Plan) -> int:
    """Return how many steps a plan pays for: one for a release that happens once."""
    return plan.steps if isinstance(plan, DpPlan) else 1


@lru_cache(maxsize=1024)
def renyi_of_one(plan: Plan, order: float) -> Decimal:
    """Return ρ of one step of `plan` at `order`, rounded up; raises `ValueError` where it is not finite.

    Poisson-subsampled Gaussian under add/remove; a pure release costs what binary randomised response costs, the
    largest of all with its ε (Mironov 2017, arXiv:1702.07476, proposition 5).
    """
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    relations = dp_accounting.NeighboringRelation
    if isinstance(plan, DpPlan):
        if plan.noise_multiplier == 0:
            raise ValueError(f"plan {plan.purpose!r} has no noise: its cost is not finite")
        account = RdpAccountant(orders=[order], neighboring_relation=relations.ADD_OR_REMOVE_ONE)
        step = dp_accounting.GaussianDpEvent(plan.noise_multiplier)
        account.compose(dp_accounting.PoissonSampledDpEvent(plan.sampling_rate, step))
        found = float(account.rdp[0])
    else:
        lie, truth = -math.log1p(math.exp(plan.epsilon)), -math.log1p(math.exp(-plan.epsilon))
        terms = (order * truth + (1 - order) * lie, order * lie + (1 - order) * truth)
        found = (max(terms) + math.log1p(math.exp(-abs(terms[0] - terms[1])))) / (order - 1)
    return rounded_up("rho", found, STEP_QUANTUM)


def conversion(order: float, delta: float) -> float:
    """Return what ε adds to ρ at this order and δ: ε = ρ + conversion."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    found = ZERO
    for amount in amounts:
        found = EXACT.add(found, amount)
    return found


def decimal(name: str, value: float) -> Decimal:
    """Return `value` as the decimal it is written as, or a little more; raises `ValueError` unless 0 ≤ value ≤ 10⁹."""
    _check(name, value)
    return Decimal(repr(float(value))).quantize(DELTA_QUANTUM, ROUND_CEILING, context=_FREE).normalize(_FREE)


def rounded_up(name: str, value: float, quantum: Decimal = QUANTUM) -> Decimal:
    """Return the binary number `value` as a decimal that is no smaller."""
    _check(name, value)
    return Decimal(value).quantize(quantum, ROUND_CEILING, context=_FREE)


def rounded_down(name: str, value: float) -> Decimal:
    """Return the binary number `value` as a decimal that is no larger: for caps."""
    _check(name, value)
    return Decimal(value).quantize(QUANTUM, ROUND_FLOOR, context=_FREE)


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= MOST):
        raise ValueError(f"{name}={value} must be finite, not negative and at most {MOST:g}")
