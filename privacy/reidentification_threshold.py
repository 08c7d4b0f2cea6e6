"""Where to put τ: from the side of strangers, from the side of copies, and always the stricter of the two.

From strangers alone a threshold says how many fresh people's pictures it drops, and nothing about the copies that it
lets pass; from copies alone the reverse. Both are order statistics, so their guarantees hold with stated confidence at
any sample size and for any distribution: of n draws the r-th smallest lies above the share p of the distribution with
confidence 1 - γ where P[Bin(n, p) ≤ r - 1] ≥ 1 - γ (Wilks 1941, doi:10.1214/aoms/1177731788). EchoNet-Synthetic's
percentile is the same rule without the confidence, between sets of unequal size (`drift`).

A subject gives one number, whatever its pictures: those of one subject are not independent. τ depends on how many
people it is compared with; calibrate it at every site against the very members that candidates will be held against.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.estimate import Estimate, clopper_pearson

CONFIDENCE = 0.95
_ADEQUATE = 0.5  # a filter that drops more strangers than that sees scanners, not people


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A threshold and what it was set by.

    Attributes:
        tau: similarity at and above which a candidate is rejected: the least of the three below, NaN without any.
        strangers: τ at which fresh people are rejected no oftener than wanted; `None` where too few calibrated it.
        pairs: largest τ at which pictures of one person are found as often as wanted; `None` without enough pairs.
        copies: the same of planted copies, of the family that is found worst.
        false_rejection: share of fresh people rejected at `tau`, with its exact interval.
        pairs_found: share of pairs of one person at or above `tau`; `None` without pairs.
        copies_found: by name, share of planted copies at or above `tau`.
        problems: why no verdict may rest on this filter; empty where it may.
    """

    tau: float
    strangers: float | None
    pairs: float | None
    copies: float | None
    false_rejection: Estimate | None
    pairs_found: Estimate | None
    copies_found: Mapping[str, Estimate]
    problems: tuple[str, ...]

    @property
    def adequate(self) -> bool:
        """Whether a verdict may rest on it; where not, the verdict is INCONCLUSIVE, never PASS."""
        return not self.problems


def rank(n: int, share: float, confidence: float = CONFIDENCE) -> int | None:
    """Return the smallest r for which the r-th smallest of n draws lies above `share` of the distribution, if any."""
    from scipy.stats import binom

    for name, value in (("share", share), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value} must lie in (0, 1)")
    if n < 1:
        return None
    found = int(binom.ppf(confidence, n, share)) + 1
    return found if found <= n else None


def fewest(share: float, confidence: float = CONFIDENCE, *, from_top: int = 1) -> int:
    """Return the smallest n at which the `from_top`-th largest draw is enough for `rank`."""
    n = from_top
    while (found := rank(n, share, confidence)) is None or found > n - from_top + 1:
        n += 1
    return n


def at_least(hits: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided Clopper-Pearson lower bound of a share; 300 of 300 is 0.990."""
    return clopper_pearson(hits, n, 2 * confidence - 1).low


def from_strangers(scores: NDArray[np.floating], *, beta: float = 0.05, confidence: float = CONFIDENCE) -> float | None:
    """Return the least τ that surely rejects at most the share `beta` of fresh people, `None` if too few are given.

    Args:
        scores: per held-out subject the largest similarity to any member, `(subjects,)`.
        beta: share of fresh people that may be rejected, in (0, 1).
        confidence: with which that holds; at 0.95 and β = 0.05 it takes 59 subjects.
    """
    at = rank(len(scores), 1 - beta, confidence)
    return None if at is None else float(np.nextafter(np.sort(scores)[at - 1], np.float32(2)))


def from_found(
    similarity: NDArray[np.floating], *, least: float = 0.95, confidence: float = CONFIDENCE
) -> float | None:
    """Return the largest τ that surely finds the share `least`, `None` if too few are given.

    Args:
        similarity: of a copy, or of a second picture, to its own subject, one a subject, `(subjects,)`.
        least: share at or above τ, in (0, 1): the Clopper-Pearson lower bound of the share found reaches it.
        confidence: with which that holds.
    """
    at = rank(len(similarity), least, confidence)
    return None if at is None else float(np.sort(similarity)[len(similarity) - at])


def calibrate(
    strangers: NDArray[np.floating],
    copies: Mapping[str, NDArray[np.floating]],
    pairs: NDArray[np.floating] | None = None,
    *,
    fresh: NDArray[np.floating] | None = None,
    beta: float = 0.05,
    least_pairs: float = 0.9,
    least_copies: float = 0.95,
    confidence: float = CONFIDENCE,
) -> Threshold:
    """Return min(a, b): rejecting few strangers where it can, but finding copies in any case.

    Args:
        strangers: per held-out subject the largest similarity to any member.
        copies: family of planted copies → similarity of each copy to its own subject, one a subject, levels 1 to 3.
        pairs: similarity of two studies of one subject, one a subject; `None` for a filter that claims copies only.
        fresh: like `strangers`, of people who calibrated nothing: what false rejection is measured on if given.
        beta: share of strangers that may be rejected.
        least_pairs: share of pairs that must be found.
        least_copies: share of every family that must be found.
        confidence: of every bound.

    Raises:
        ValueError: if a similarity is not finite.
    """
    for name, values in {"strangers": strangers, "pairs": pairs, "fresh": fresh, **copies}.items():
        if values is not None and not np.isfinite(values).all():
            raise ValueError(f"{name} holds similarities that are not finite")
    problems = []
    above = from_strangers(strangers, beta=beta, confidence=confidence)
    if above is None:
        problems.append(f"{len(strangers)} held-out subjects: {fewest(1 - beta, confidence)} are needed")
    by_family = {f: from_found(v, least=least_copies, confidence=confidence) for f, v in copies.items()}
    few = [f"{family} ({len(copies[family])})" for family, tau in by_family.items() if tau is None]
    if few or not copies:
        problems.append(f"planted copies of {', '.join(few) or 'no family'}: {fewest(least_copies, confidence)} needed")
    of_copies = min((tau for tau in by_family.values() if tau is not None), default=None)
    of_pairs = None if pairs is None else from_found(pairs, least=least_pairs, confidence=confidence)
    if pairs is not None and of_pairs is None:
        problems.append(f"{len(pairs)} subjects with two studies: {fewest(least_pairs, confidence)} are needed")
    tau = min((t for t in (above, of_copies, of_pairs) if t is not None), default=math.nan)
    rejected = _share(strangers if fresh is None else fresh, tau)
    if rejected is None or rejected.value > _ADEQUATE:
        told = "nobody" if rejected is None else f"{rejected.value:.0%}"
        problems.append(f"at τ = {tau:.3g} it rejects {told} of fresh people: it cannot tell copies from strangers")
    found = {family: share for family, values in copies.items() if (share := _share(values, tau)) is not None}
    return Threshold(
        tau=tau,
        strangers=above,
        pairs=of_pairs,
        copies=of_copies,
        false_rejection=rejected,
        pairs_found=None if pairs is None else _share(pairs, tau),
        copies_found=found,
        problems=tuple(problems),
    )


def drift(beta: float, *, calibrated: int, used: int) -> float:
    """Return the share of strangers rejected where τ was set at `beta` against another number of people, 1-(1-β)^(u/c).

    For people who are all alike; less where they differ. With 1,277 and 7,465 people 5 % become 25.9 %.
    """
    if not 0 < beta < 1 or min(calibrated, used) < 1:
        raise ValueError(f"beta={beta} must lie in (0, 1), calibrated={calibrated} and used={used} be at least 1")
    return -math.expm1(used / calibrated * math.log1p(-beta))


def _share(values: NDArray[np.floating], tau: float) -> Estimate | None:
    return clopper_pearson(int((values >= tau).sum()), len(values)) if len(values) and math.isfinite(tau) else None
