"""The one place that knows how a private computation runs and what it costs.

A plan holds the numbers of a mechanism once; the sampler that runs and the ε that is charged both come from them.
Unit of privacy: the subject. Neighbouring cohorts: all records of one subject added or removed. A plan is public.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import Composition, pld_epsilon, prv_epsilon, rdp_epsilon
from privacy.randomness import SecureRandom

UNIT = "subject"
MODES = ("auto", "bookkeeping", "hooks")  # of `privacy.gradients`: how, never what
RELATION = "add_or_remove_one"
Accountant: TypeAlias = Literal["pld", "rdp", "prv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DpPlan:
    """Noisy gradient steps: the Poisson-subsampled Gaussian mechanism with the subject as unit.

    Attributes:
        purpose: what is trained; names the plan in the ledger.
        sampling_rate: q, probability with which each subject enters a step, independently.
        noise_multiplier: σ, standard deviation of the noise in units of `clip_norm`; at 0 the cost is infinite.
        clip_norm: C, largest L2 norm of one subject's contribution over all trainable parameters jointly.
        steps: T, local steps of the whole run.
        draws: clips, flow times or augmentations averaged *inside* a subject before the clip; they cost nothing.
    """

    KIND: ClassVar[str] = "poisson_subsampled_gaussian"

    purpose: str
    sampling_rate: float
    noise_multiplier: float
    clip_norm: float
    steps: int
    draws: int

    def __post_init__(self) -> None:
        _require_purpose(self.purpose)
        if not 0.0 < self.sampling_rate <= 1.0:
            raise ValueError(f"sampling_rate={self.sampling_rate} must lie in (0, 1]")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0.0):
            raise ValueError(f"noise_multiplier={self.noise_multiplier} must be finite and at least 0")
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0.0):
            raise ValueError(f"clip_norm={self.clip_norm} must be finite and positive")
        for name, count in (("steps", self.steps), ("draws", self.draws)):
            if count < 1:
                raise ValueError(f"{name}={count} must be at least 1")

    def draw(self, n_subjects: int, random: SecureRandom) -> NDArray[np.int64]:
        """Draw the subjects of one step: each of `n_subjects` independently, so the step may be empty."""
        return np.flatnonzero(random.bernoulli(n_subjects, self.sampling_rate)).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object; `plan_from_json` returns it."""
        return _to_json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaplacePlan:
    """One count (sensitivity 1 per subject) released with discrete Laplace noise.

    The charge is that of the worst ε-private mechanism there is, so it covers any release with pure ε.

    Attributes:
        purpose: what is counted; names the plan in the ledger.
        epsilon: ε of this release alone.
    """

    KIND: ClassVar[str] = "discrete_laplace"

    purpose: str
    epsilon: float

    def __post_init__(self) -> None:
        _require_purpose(self.purpose)
        if not (math.isfinite(self.epsilon) and self.epsilon > 0.0):
            raise ValueError(f"epsilon={self.epsilon} must be finite and positive")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object; `plan_from_json` returns it."""
        return _to_json(self)


Plan: TypeAlias = DpPlan | LaplacePlan


def plan_from_json(document: Mapping[str, Any]) -> Plan:
    """Read a plan written by `to_json`; raises `ValueError` for any other key, kind, unit or neighbouring relation."""
    fields = dict(document)
    kind, unit, relation = (fields.pop(name, None) for name in ("kind", "unit", "relation"))
    if (unit, relation) != (UNIT, RELATION):
        raise ValueError(f"unit={unit!r}, relation={relation!r}: a plan counts {UNIT!r} under {RELATION!r}")
    for plan in (DpPlan, LaplacePlan):
        if kind == plan.KIND:
            types = {f.name: f.type for f in dataclasses.fields(plan)}
            if fields.keys() != types.keys():
                raise ValueError(f"{kind}: keys {sorted(fields)} should be {sorted(types)}")
            for name, value in fields.items():
                if type(value) is not types[name] and (types[name], type(value)) != (float, int):
                    raise ValueError(f"{kind}: {name}={value!r} should be a {types[name]}")
            return plan(**fields)
    raise ValueError(f"kind={kind!r} is not one of {DpPlan.KIND!r}, {LaplacePlan.KIND!r}")


def epsilon(plans: Sequence[Plan], delta: float, *, accountant: Accountant = "pld", identities: int = 1) -> float:
    """Return ε of releasing everything in `plans` about the same subjects, at `delta`; infinite if a plan has no noise.

    Composition is joint, which costs less than the sum of the parts. The plans of two sites together give the ε of a
    subject who attended both: `epsilon([plan, plan], delta)`. A person whom one site takes for two costs more than
    that: `epsilon([plan], delta, identities=2)`, by PLD only.
    """
    _require_delta(delta)
    composition = _compose(plans)
    if composition is None:
        return math.inf
    if accountant == "pld":
        # The mixture is inverted point by point: a coarser grid overstates the third digit and takes a second, not ten.
        return pld_epsilon(composition, delta, identities=identities, coarseness=1.0 if identities == 1 else 10.0)
    if identities != 1:
        raise ValueError(f"identities={identities} is for the accountant 'pld', not {accountant!r}")
    if accountant == "rdp":
        return rdp_epsilon(composition, delta)
    if accountant == "prv":
        return prv_epsilon(composition, delta)
    raise ValueError(f"accountant={accountant!r} is not one of 'pld', 'rdp', 'prv'")


def effective_noise(noise_multiplier: float, *, sites: int, honest: int) -> float:
    """Return the σ that protects where `sites` each add σ/√K and only `honest` of them really do: σ·√(h/K).

    For distributed noise under secure aggregation, which sites do not use unless they say so; by default every site
    adds all of its noise, and needs nobody's honesty.
    """
    if not 1 <= honest <= sites:
        raise ValueError(f"honest={honest} must be between 1 and the sites={sites}")
    return noise_multiplier * math.sqrt(honest / sites)


# Bounds of the noise multiplier in `calibrate`, in thousandths: less is not worth the name, more is not training.
_LEAST_NOISE, _MOST_NOISE = 100, 1_000_000


def calibrate(plan: DpPlan, *, epsilon: float, delta: float, beside: Sequence[Plan] = ()) -> DpPlan:
    """Return `plan` with the smallest noise multiplier that keeps it, together with `beside`, within `epsilon` (PLD).

    Rounded up to a thousandth and never below 0.1. Raises `ValueError` where no noise is enough.
    """
    _require_delta(delta)
    if not (math.isfinite(epsilon) and epsilon > 0.0):
        raise ValueError(f"epsilon={epsilon} must be finite and positive")
    rest = _compose(beside)
    spent = math.inf if rest is None else pld_epsilon(rest, delta)
    if rest is None or spent >= epsilon:
        others = ", ".join(repr(other.purpose) for other in beside)
        raise ValueError(
            f"epsilon={epsilon} leaves nothing for {plan.purpose!r}: {others} cost {spent:.4g} at delta={delta}"
        )

    def enough(coarseness: float) -> Callable[[int], bool]:
        def within(thousandths: int) -> bool:
            composition = rest.beside(plan.sampling_rate, thousandths / 1000, plan.steps)
            return pld_epsilon(composition, delta, coarseness=coarseness) <= epsilon

        return within

    central_limit = 1000 * plan.sampling_rate * math.sqrt(2 * plan.steps * math.log(1 / delta)) / epsilon
    rough = _smallest(enough(10.0), start=math.ceil(min(max(central_limit, 500), _MOST_NOISE)))
    fine = _smallest(enough(1.0), start=_MOST_NOISE if rough is None else rough)
    if fine is None:
        most = f"{_MOST_NOISE / 1000:g}"
        raise ValueError(f"epsilon={epsilon}, delta={delta}: {plan.purpose!r} needs a noise multiplier above {most}")
    return dataclasses.replace(plan, noise_multiplier=fine / 1000)


def _compose(plans: Sequence[Plan]) -> Composition | None:
    """Return the composition of `plans`; `None` where one of them adds no noise."""
    gaussian = [p for p in plans if isinstance(p, DpPlan)]
    if any(p.noise_multiplier == 0.0 for p in gaussian):
        return None
    return Composition.of(
        ((p.sampling_rate, p.noise_multiplier, p.steps) for p in gaussian),
        (p.epsilon for p in plans if isinstance(p, LaplacePlan)),
    )


def _smallest(enough: Callable[[int], bool], *, start: int) -> int | None:
    """Return the smallest k for which the monotone `enough(k)` holds, `None` if none does; gallops out from `start`."""
    high, stride = max(start, _LEAST_NOISE), 1
    low = _LEAST_NOISE - 1
    if enough(high):
        while high - stride > low and enough(high - stride):
            high, stride = high - stride, 2 * stride
        low = max(low, high - stride)
    else:
        while not enough(high):
            if high == _MOST_NOISE:
                return None
            low, high = high, min(2 * high, _MOST_NOISE)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _to_json(plan: Plan) -> dict[str, Any]:
    return {"kind": plan.KIND, "unit": UNIT, "relation": RELATION, **dataclasses.asdict(plan)}


def _require_purpose(purpose: str) -> None:
    if not purpose:
        raise ValueError("purpose must not be empty: it names the plan in the ledger")


def _require_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta={delta} must lie in (0, 1)")
