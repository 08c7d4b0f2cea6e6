"""The zero-learning test: do released images point at members more often than a fair coin would?

Each audit subject is a member with probability π, decided by a coin nobody trained on. Of the D subjects a release
discloses, T are members; a release that learnt nothing from membership has T ~ Bin(D, π). Under pure ε-differential
privacy T is stochastically below Bin(D, π e^ε / (π e^ε + 1 - π)): the one-run audit with "in" guesses only (Steinke,
Nasr and Jagielski 2023, arXiv:2305.08846), valid for any generator and any rule of disclosure blind to the coins.

Sites may blur T and C = D - T by discrete Laplace noise. The test then rejects by (1-q)T - qC, whose mean is zero at
T ~ Bin(D, q) whatever D is, with noise and binomial convolved exactly; D is only known up to the noise, so the p-value
is the largest over the D inside an interval that holds with probability 1 - γ, plus γ (Berger and Boos 1994,
doi:10.1080/01621459.1994.10476836). It is conservative at every noise level and exact without noise.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EPSILON_STEP = 0.05
_LOST = 1e-10


@dataclass(frozen=True)
class Noise:
    """The sum of discrete Laplace variates, one for each ε in `epsilons`; zero without any.

    Attributes:
        epsilons: the privacy of each variate: P(z) ∝ exp(-ε |z|).
    """

    epsilons: tuple[float, ...] = ()

    @cached_property
    def pmf(self) -> Floats:
        """Probabilities of -reach … reach; the tails left out weigh less than 1e-9."""
        total = np.ones(1)
        for epsilon in self.epsilons:
            if not (math.isfinite(epsilon) and epsilon > 0):
                raise ValueError(f"epsilon={epsilon} must be positive and finite")
            reach = math.ceil(-math.log(_LOST) / epsilon) + 1
            one = np.exp(-epsilon * np.abs(np.arange(-reach, reach + 1)))
            total = np.convolve(total, one / one.sum())
        keep = np.flatnonzero(np.minimum(np.cumsum(total), np.cumsum(total[::-1])[::-1]) > _LOST)
        return total[keep[0] : keep[-1] + 1] if len(total) > 1 else total

    @property
    def reach(self) -> int:
        """Largest absolute value."""
        return len(self.pmf) // 2

    def quantile(self, probability: float) -> int:
        """Smallest z with P(noise <= z) >= probability."""
        return int(np.searchsorted(np.cumsum(self.pmf), probability * (1 - 1e-12))) - self.reach


@dataclass(frozen=True, kw_only=True)
class ZeroLearning:
    """The test at one noise level.

    Attributes:
        inclusion: π, the probability with which an audit subject became a member.
        members_noise: noise on the number of members disclosed.
        controls_noise: noise on the number of controls disclosed.
        significance: α of the one-sided test.
        slack: γ, the part of α spent on not knowing D; unused without noise.
    """

    inclusion: float = 0.5
    members_noise: Noise = Noise()
    controls_noise: Noise = Noise()
    significance: float = 0.05
    slack: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.inclusion < 1:
            raise ValueError(f"inclusion={self.inclusion} must lie in (0, 1)")
        if not 0 < self.slack < self.significance < 1:
            raise ValueError(f"needs 0 < slack={self.slack} < significance={self.significance} < 1")

    def p_value(self, members: int, controls: int, *, epsilon: float = 0.0) -> float:
        """Return the p-value of "this release is `epsilon`-differentially private" (0: it learnt nothing).

        Args:
            members: members disclosed, T, with its noise.
            controls: controls disclosed, D - T, with its noise.
            epsilon: the pure ε under test.
        """
        if not (math.isfinite(epsilon) and epsilon >= 0):
            raise ValueError(f"epsilon={epsilon} must be finite and not negative")
        q = self._hit_rate(epsilon)
        values, above = _weighted(self.members_noise, self.controls_noise, q)
        seen = (1 - q) * members - q * controls
        worst = 0.0
        for disclosed in self._disclosed(members + controls):
            needed = seen + q * disclosed - np.arange(disclosed + 1)
            reached = above[np.searchsorted(values, needed - 1e-9)]
            worst = max(worst, float(_binomial(disclosed, q) @ reached))
        return min(1.0, worst + (self.slack if self._blurred else 0.0))

    def epsilon_bound(self, members: int, controls: int) -> float:
        """Return the largest ε below which every ε is rejected; 0 where ε = 0 is not.

        No pure ε-private generator has a bound above ε in more than a share `significance` of its audits. Found by
        steps of 0.05 and bisection of the last one.
        """
        low, high = 0.0, 0.0
        while self.p_value(members, controls, epsilon=high) < self.significance:
            low, high = high, high + _EPSILON_STEP
        while high - low > 1e-3:
            middle = (low + high) / 2
            rejected = self.p_value(members, controls, epsilon=middle) < self.significance
            low, high = (middle, high) if rejected else (low, middle)
        return low

    def power(self, share: float, *, members: int, controls: int, phantom_rate: float) -> float:
        """Return the probability of rejecting ε = 0 when a share of the members has a copy in the release.

        Args:
            share: share of members with a copy that the rule of disclosure finds.
            members: members in the audit.
            controls: controls in the audit.
            phantom_rate: share of subjects disclosed by chance.
        """
        for name, rate in (("share", share), ("phantom_rate", phantom_rate)):
            if not 0 <= rate <= 1:
                raise ValueError(f"{name}={rate} must lie in [0, 1]")
        if min(members, controls) < 0:
            raise ValueError(f"members={members} and controls={controls} must not be negative")
        hits = np.convolve(_binomial(members, phantom_rate + (1 - phantom_rate) * share), self.members_noise.pmf)
        chance = np.convolve(_binomial(controls, phantom_rate), self.controls_noise.pmf)
        rejected = 0.0
        for total in np.flatnonzero(np.convolve(hits, chance) > 1e-7).tolist():  # index: D, noised, plus both reaches
            reach = self.members_noise.reach
            least = self._critical(total - reach - self.controls_noise.reach) + reach
            at = np.arange(max(least, total - len(chance) + 1, 0), min(len(hits) - 1, total) + 1)
            rejected += float(hits[at] @ chance[total - at])
        return rejected

    @property
    def _blurred(self) -> bool:
        return bool(self.members_noise.epsilons or self.controls_noise.epsilons)

    def _hit_rate(self, epsilon: float) -> float:
        return self.inclusion / (self.inclusion + (1 - self.inclusion) * math.exp(-epsilon))

    def _disclosed(self, seen: int) -> range:
        """Return the D that may lie behind a noised `seen`, all of them with probability 1 - γ."""
        if not self._blurred:
            return range(seen, seen + 1)
        away = _both(self.members_noise, self.controls_noise).quantile(1 - self.slack / 2)
        return range(max(0, seen - away), max(0, seen + away) + 1)

    def _critical(self, total: int) -> int:
        """Return the smallest number of members, of `total` disclosed, that rejects ε = 0."""
        return _critical(self, total)


@lru_cache(maxsize=100_000)
def _critical(test: ZeroLearning, total: int) -> int:
    step = 1 + math.isqrt(max(0, total)) // 2
    low, high = total // 2, total // 2 + step
    while test.p_value(high, total - high) >= test.significance:
        if not test._blurred and high > total:
            return high  # not even all of `total` being members would reject
        low, high = high, high + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if test.p_value(middle, total - middle) < test.significance else (middle, high)
    return high


@lru_cache(maxsize=64)
def _both(members: Noise, controls: Noise) -> Noise:
    return Noise(members.epsilons + controls.epsilons)


@lru_cache(maxsize=1024)
def _weighted(members: Noise, controls: Noise, q: float) -> tuple[Floats, Floats]:
    """Return the sorted values of (1-q) L₁ - q L₂ and, for each and beyond the last, P(noise >= value)."""
    first, second = np.arange(len(members.pmf)) - members.reach, np.arange(len(controls.pmf)) - controls.reach
    values = np.add.outer((1 - q) * first, -q * second).ravel()
    order = np.argsort(values)
    weights = np.multiply.outer(members.pmf, controls.pmf).ravel()[order]
    return values[order], np.append(np.cumsum(weights[::-1])[::-1], 0.0)


@lru_cache(maxsize=4096)
def _binomial(n: int, p: float) -> Floats:
    """Return the probabilities of 0 … n hits."""
    from scipy.special import gammaln, xlog1py, xlogy

    hits = np.arange(n + 1)
    ways = gammaln(n + 1) - gammaln(hits + 1) - gammaln(n - hits + 1)
    return np.asarray(np.exp(ways + xlogy(hits, p) + xlog1py(n - hits, -p)), np.float64)
