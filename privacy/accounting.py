"""ε of a composition, by two accountants.

PLD: privacy loss distributions on a grid (Koskela, Jälkö and Honkela 2020, arXiv:1906.03049; Doroshenko et al. 2022,
arXiv:2207.04380), computed by dp-accounting with every rounding to the pessimistic side: a finer grid gives a smaller,
closer upper bound. Two cross-checks: RDP, Rényi differential privacy (Mironov 2017, arXiv:1702.07476), 5-10 % larger;
PRV, privacy loss random variables (Gopi, Lee and Wutschitz 2021, arXiv:2106.02848) by Opacus, within 0.02.

A person whom a site knows under g names is g subjects to the sampler. What that person then pays is the loss of a
mixture of Gaussians, sensitivity k with probability Bin(g, q) (Ganesh 2024, arXiv:2401.10294): far more than ε.
"""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

# Of the grid of privacy losses: never wider than this, nor than a fifth of the typical loss q/σ of one step (a grid as
# wide as that loss overstates ε by a quarter), and with no more points than give ε to four digits.
_WIDEST_INTERVAL = 1e-4
_MOST_POINTS = 5e5
_MOST_POINTS_OF_ONE_STEP = 5e4  # dp-accounting fills these in a Python loop


@dataclass(frozen=True, slots=True)
class Composition:
    """Mechanisms run on the same subjects, equal ones merged: 200 distinct entries cost minutes, a handful a second.

    Attributes:
        gaussian: Poisson-subsampled Gaussian steps under add/remove, as (q, σ, T), sorted; σ > 0.
        pure: releases with pure ε, as (ε, times), sorted.
    """

    gaussian: tuple[tuple[float, float, int], ...] = ()
    pure: tuple[tuple[float, int], ...] = ()

    @classmethod
    def of(cls, gaussian: Iterable[tuple[float, float, int]], pure: Iterable[float]) -> "Composition":
        """Merge equal entries; composition is commutative, so their order does not matter."""
        steps: Counter[tuple[float, float]] = Counter()
        for q, sigma, count in gaussian:
            steps[q, sigma] += count
        merged = tuple((q, sigma, count) for (q, sigma), count in sorted(steps.items()))
        return cls(merged, tuple(sorted(Counter(pure).items())))

    def beside(self, q: float, sigma: float, steps: int) -> "Composition":
        """Return this composition with more Gaussian steps."""
        return Composition((*self.gaussian, (q, sigma, steps)), self.pure)


@lru_cache(maxsize=1024)
def pld_epsilon(composition: Composition, delta: float, *, coarseness: float = 1.0, identities: int = 1) -> float:
    """Return ε at `delta` by privacy loss distributions; `coarseness` above 1 is faster and a little larger.

    With `identities` above 1, of a person who is so many subjects of the cohort.
    """
    from dp_accounting.pld import privacy_loss_distribution

    if identities < 1:
        raise ValueError(f"identities={identities} must be at least 1")
    interval = _interval(composition, coarseness, identities)
    if interval > 1.0:
        return math.inf  # ε near a million is no bound to print, and the grid would be too coarse to compute it
    loss = privacy_loss_distribution.identity(value_discretization_interval=interval)
    for q, sigma, steps in composition.gaussian:
        loss = loss.compose(_gaussian_loss(q, sigma, steps, interval, identities))
    for epsilon, times in composition.pure:
        # Discrete Laplace noise on a count of sensitivity 1 has the losses ±ε only: the worst of all ε-private ones.
        once = privacy_loss_distribution.from_discrete_laplace_mechanism(
            identities * epsilon, value_discretization_interval=interval
        )
        loss = loss.compose(once.self_compose(times))
    return float(loss.get_epsilon_for_delta(delta))


@lru_cache(maxsize=1024)
def rdp_epsilon(composition: Composition, delta: float) -> float:
    """Return ε at `delta` by Rényi differential privacy over the default orders of dp-accounting."""
    import dp_accounting

    account = dp_accounting.rdp.RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    log = logging.getLogger("absl")
    log.addFilter(_order_converged)
    try:
        for q, sigma, steps in composition.gaussian:
            account.compose(dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma)), steps)
    finally:
        log.removeFilter(_order_converged)
    orders = np.asarray(account.orders, dtype=np.float64)
    loss = np.asarray(account.rdp, dtype=np.float64)
    for epsilon, times in composition.pure:
        loss = loss + times * _pure_rdp(epsilon, orders)
    return float(dp_accounting.rdp.compute_epsilon(orders, loss, delta)[0])


@lru_cache(maxsize=1024)
def prv_epsilon(composition: Composition, delta: float) -> float:
    """Return ε at `delta` by privacy loss random variables; infinite where Opacus cannot say.

    It knows noisy gradient steps only, and fails with little noise at a high rate (σ below 0.5, many steps).
    """
    from opacus.accountants import PRVAccountant

    if composition.pure or not composition.gaussian:
        return math.inf
    account = PRVAccountant()
    account.history = [(sigma, q, steps) for q, sigma, steps in composition.gaussian]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = float(account.get_epsilon(delta))
    except (ValueError, RuntimeError, OverflowError, MemoryError, FloatingPointError):
        return math.inf
    return found if math.isfinite(found) else math.inf


def group_bound(epsilon: float, delta: float, size: int) -> tuple[float, float]:
    """Return what `size` subjects together pay for *any* (ε, δ)-private release: (g·ε, δ·(e^(gε) - 1)/(e^ε - 1)).

    Dwork and Roth 2014, 10.1561/0400000042, section 2.3; the mixture above is closer for what we run.
    """
    if size < 1 or not epsilon > 0:
        raise ValueError(f"size={size} must be at least 1 and epsilon={epsilon} positive")
    return size * epsilon, delta * math.expm1(size * epsilon) / math.expm1(epsilon)


def _order_converged(record: logging.LogRecord) -> bool:
    """Keep from the log that an order was left out: ε is the smallest over all orders, so the rest still bound it."""
    return "failed to converge" not in record.getMessage()


def _interval(composition: Composition, coarseness: float, identities: int) -> float:
    """Return the spacing of the grid: a matter of closeness and speed, never of validity.

    The loss of one Gaussian step has mean and variance of the order of q/(2σ²) and q·(1/(2σ²) + 1/σ)², or of its χ²
    divergence q²(exp(1/σ²) - 1) where that is less; ten spreads each way hold all that matters at any useful δ. Of a
    person with g identities the step moves by up to g, as if σ were that much smaller.
    """
    mean, variance = sum(identities * epsilon * times for epsilon, times in composition.pure), 0.0
    wanted, widest = _WIDEST_INTERVAL, 0.0
    for q, noise, steps in composition.gaussian:
        sigma = noise / identities
        chi2 = q**2 * math.expm1(min(sigma**-2, 100.0))
        mean += steps * min(0.5 * q / sigma**2, chi2)
        variance += steps * min(q * (0.5 / sigma**2 + 1 / sigma) ** 2, 2 * chi2)
        wanted = min(wanted, q / sigma / 5)
        widest = max(widest, 0.5 / sigma**2 + 10 / sigma)
    width = 2 * (mean + 10 * math.sqrt(variance))
    return coarseness * max(wanted, width / _MOST_POINTS, widest / _MOST_POINTS_OF_ONE_STEP)


@lru_cache(maxsize=8)
def _gaussian_loss(q: float, sigma: float, steps: int, interval: float, identities: int) -> "PrivacyLossDistribution":
    from dp_accounting.pld import privacy_loss_distribution

    if identities == 1 or q == 1:  # whoever is in every step moves it by g: no mixture, which the library cannot read
        once = privacy_loss_distribution.from_gaussian_mechanism(
            sigma / identities, sampling_prob=q, value_discretization_interval=interval
        )
        return once.self_compose(steps)
    drawn = range(identities + 1)
    chances = [math.comb(identities, k) * q**k * (1 - q) ** (identities - k) for k in drawn]
    some = [k for k in drawn if chances[k] > 0]
    once = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        sigma, some, [chances[k] for k in some], value_discretization_interval=interval
    )
    return once.self_compose(steps)


def _pure_rdp(epsilon: float, orders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Rényi divergence of randomised response, the largest of any ε-private release."""
    log_p, log_q = -np.log1p(np.exp(-epsilon)), -np.log1p(np.exp(epsilon))
    terms = (orders * log_p + (1 - orders) * log_q, orders * log_q + (1 - orders) * log_p)
    divergence: NDArray[np.float64] = np.logaddexp(*terms) / (orders - 1)
    return divergence
