"""Lower bounds on ε from one run: m canaries, each in or out by a fair coin, r of them guessed, v guessed right.

Every bound holds with confidence 1 - p whatever the attack is, however the canaries depend on each other and whichever
of them the auditor leaves out, as long as r was chosen before the coins were looked at. None proves that an ε holds: it
can only show that one does not. What a perfect attack could have shown is the ceiling, and is printed beside it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SIGNIFICANCE = 0.05
_MOST_EPSILON = 64.0  # no number of canaries that anybody trains with proves more
_RESOLUTION = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """What an auditor guessed.

    Attributes:
        canaries: m, canaries whose coins were thrown.
        guessed: r, canaries guessed in or out; the others were passed over.
        right: v, guesses that the coins confirm.
    """

    canaries: int
    guessed: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.guessed <= self.canaries or self.guessed < 1:
            raise ValueError(
                f"right={self.right} of guessed={self.guessed} of canaries={self.canaries}: "
                "needs 0 <= right <= guessed <= canaries and guessed >= 1"
            )

    @property
    def perfect(self) -> "Guesses":
        """The guesses of an auditor who is never wrong: what a ceiling is computed from."""
        return Guesses(canaries=self.canaries, guessed=self.canaries, right=self.canaries)


def to_guess(canaries: int) -> int:
    """Return r for `canaries` canaries where nothing is known of the plan, fixed before any score is seen.

    A fifth of three hundred or more, two fifths of fewer: what gave the largest bounds of one Gaussian step.
    `privacy.audit.power.guesses_for` does better where the plan is known.
    """
    return max(1, round(canaries * (0.2 if canaries >= 300 else 0.4)))


def guess(scores: ArrayLike, included: ArrayLike, *, guessed: int) -> Guesses:
    """Guess "in" for the larger half of the `guessed` scores farthest out on both sides, "out" for the smaller half.

    Args:
        scores: one per canary, `(m,)`; larger speaks for "in".
        included: the coins, bool `(m,)`.
        guessed: r; the odd one goes to "in".
    """
    order = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")
    coins = np.asarray(included, dtype=bool)
    if order.shape != coins.shape or order.ndim != 1 or not 1 <= guessed <= len(order):
        raise ValueError(f"scores {order.shape} and included {coins.shape} must be (m,), 1 <= guessed={guessed} <= m")
    out = guessed // 2
    right = int(coins[order[len(order) - (guessed - out) :]].sum() + (~coins[order[:out]]).sum())
    return Guesses(canaries=len(order), guessed=guessed, right=right)


def pure_bound(found: Guesses, delta: float, *, significance: float = SIGNIFICANCE) -> float:
    """Return the ε below which every (ε, δ) is rejected (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846, thm 5.2).

    It rejects any mechanism, not Gaussian ones only, and is loose for those.
    """
    return _largest_rejected(lambda epsilon: pure_p_value(found, epsilon, delta) < significance)


def gaussian_bound(found: Guesses, delta: float, *, significance: float = SIGNIFICANCE) -> float:
    """Return the ε below which every Gaussian trade-off curve is rejected (f-DP in one run).

    Mahloujifar, Melis and Chaudhuri 2024, arXiv:2410.22235, algorithm 1. What it rejects is a claim of the *shape* of a
    Gaussian mechanism, which is what noisy gradient steps claim; label it so.
    """
    return _largest_rejected(lambda epsilon: _refutes_gaussian(found, gaussian_mu(epsilon, delta), significance))


def refutes(found: Guesses, epsilon: float, delta: float, *, significance: float = SIGNIFICANCE) -> bool:
    """Say whether `gaussian_bound` lies above `epsilon`, at the price of one look instead of a search."""
    return _refutes_gaussian(found, gaussian_mu(epsilon, delta), significance)


def pure_p_value(found: Guesses, epsilon: float, delta: float) -> float:
    """Return the p-value of "(ε, δ)-differentially private", at most 1."""
    from scipy.stats import binom

    m, r, v = found.canaries, found.guessed, found.right
    tail = binom.sf(np.arange(v, -1, -1) - 1, r, 1 / (1 + math.exp(-epsilon)))  # P[Bin >= v], P[Bin >= v-1], …
    alpha = float(np.max((tail[1:] - tail[0]) / np.arange(1, v + 1))) if v else 0.0
    return min(1.0, float(tail[0]) + 2 * m * delta * alpha)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the μ of the Gaussian mechanism that is exactly (ε, δ)-private (Dong, Roth and Su 2019, arXiv:1905.02383).

    δ = Φ(-ε/μ + μ/2) - e^ε Φ(-ε/μ - μ/2).
    """
    from scipy.optimize import brentq

    if not (math.isfinite(epsilon) and epsilon >= 0 and 0 < delta < 1):
        raise ValueError(f"epsilon={epsilon} must be finite and not negative, delta={delta} in (0, 1)")
    return float(brentq(lambda mu: gaussian_delta(mu, epsilon) - delta, 1e-9, 50 + 4 * math.sqrt(epsilon), xtol=1e-12))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return the δ at which a μ-Gaussian mechanism is (ε, δ)-private."""
    from scipy.special import log_ndtr

    return math.exp(log_ndtr(-epsilon / mu + mu / 2)) - math.exp(epsilon + log_ndtr(-epsilon / mu - mu / 2))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the ε at which a μ-Gaussian mechanism is (ε, δ)-private; 0 where δ alone covers it."""
    from scipy.optimize import brentq

    if mu <= 0 or gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    return float(brentq(lambda epsilon: gaussian_delta(mu, epsilon) - delta, 0.0, mu * (mu + 40), xtol=1e-12))


def _refutes_gaussian(found: Guesses, mu: float, significance: float) -> bool:
    """Run the recursion backwards from v: are so many right guesses rarer than `significance` under μ?"""
    from scipy.special import ndtr, ndtri

    m, r, v = found.canaries, found.guessed, found.right
    right, wrong = significance * v / m, significance * (r - v) / m
    for i in range(v - 1, -1, -1):
        more = max(wrong, float(ndtr(ndtri(right) - mu)))
        right = min(1.0, right + i / (r - i) * (more - wrong))
        wrong = more
    return right + wrong > r / m


def _largest_rejected(rejected: Callable[[float], bool]) -> float:
    """Bisect the largest ε that is rejected; 0 where ε = 0 is not."""
    if not rejected(0.0):
        return 0.0
    low, high = 0.0, _MOST_EPSILON
    while high - low > _RESOLUTION:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of one membership test over many trainings with and without a canary.

    Attributes:
        missed: trainings with it that the test called "without"; of `with_it`.
        alarmed: trainings without it that the test called "with"; of `without`.
    """

    missed: int
    with_it: int
    alarmed: int
    without: int

    def upper_rates(self, significance: float = SIGNIFICANCE) -> tuple[float, float]:
        """Return upper bounds of both error rates that hold together with confidence 1 - `significance`.

        Clopper & Pearson 1934, one-sided, half of the significance each.
        """
        from scipy.stats import beta

        pairs = ((self.missed, self.with_it), (self.alarmed, self.without))
        first, second = (1.0 if k == n else float(beta.ppf(1 - significance / 2, k + 1, n - k)) for k, n in pairs)
        return first, second

    def epsilon_bound(self, delta: float, *, significance: float = SIGNIFICANCE) -> float:
        """Return the lower bound of any (ε, δ)-private training (Jagielski et al. 2020, arXiv:2006.07709)."""
        missed, alarmed = self.upper_rates(significance)
        ratios = ((1 - missed - delta) / alarmed, (1 - alarmed - delta) / missed)
        return max(0.0, *(math.log(r) for r in ratios if r > 0)) if max(ratios) > 0 else 0.0

    def gaussian_bound(self, delta: float, *, significance: float = SIGNIFICANCE) -> float:
        """Return the lower bound under the Gaussian trade-off curve (Nasr et al. 2023, arXiv:2302.07956)."""
        from scipy.stats import norm

        missed, alarmed = self.upper_rates(significance)
        return gaussian_epsilon(float(norm.ppf(1 - alarmed) - norm.ppf(missed)), delta)
