"""Every interval and every test statistic of the house: one place to read, one place to be wrong.

The unit is the subject throughout: callers hand in one number per subject, never one per image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the point estimate.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of subjects behind it.
        unit: unit of `value`, empty for a share or a score.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = ""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.low, self.high))):
            raise ValueError(f"an estimate is finite, not value={self.value}, low={self.low}, high={self.high}")
        if self.low > self.high:
            raise ValueError(f"low={self.low} lies above high={self.high}")
        if self.n < 1:
            raise ValueError(f"n={self.n} must be at least 1: without subjects there is no estimate")


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return the share `hits / n` with its exact two-sided interval.

    Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404.

    Raises:
        ValueError: if not `0 <= hits <= n`, `n >= 1` and `0 < confidence < 1`.
    """
    from scipy.stats import binomtest

    _check_confidence(confidence)
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"hits={hits} of n={n}: needs 0 <= hits <= n and n >= 1")
    interval = binomtest(int(hits), int(n)).proportion_ci(confidence, method="exact")
    return Estimate(value=hits / n, low=float(interval.low), high=float(interval.high), n=int(n))


def bootstrap(
    values: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
    unit: str = "",
) -> Estimate:
    """Return the mean of one value per subject with a BCa bootstrap interval over subjects.

    Bias-corrected and accelerated (Efron 1987, doi:10.1080/01621459.1987.10478410): the acceleration of a mean is its
    skewness over `6 sqrt(n)`. Its quantiles are moved out to those of Student's t, and by `sqrt(n / (n - 1))`: of few
    subjects a bootstrap is too narrow (Hesterberg 2015, doi:10.1080/00031305.2015.1089789). Subjects of equal value
    give an interval of width zero.

    Args:
        values: one score per subject, `(subjects,)`, finite, at least two.
        rng: source of the resampling; the same generator state gives the same interval.
        resamples: number of bootstrap samples.
        confidence: two-sided coverage, in (0, 1).
        unit: unit of the values.
    """
    scores = _scores("values", values)
    _check_confidence(confidence)
    if resamples < 100:
        raise ValueError(f"resamples={resamples} must be at least 100")
    mean = float(scores.mean())
    centred = scores - mean
    scale = float(np.sqrt(np.mean(centred**2)))
    if scale <= 1e-12 * max(1.0, abs(mean)):
        return Estimate(value=mean, low=mean, high=mean, n=len(scores), unit=unit)
    low, high = _bca(
        _resampled_means(scores, rng, resamples), mean, float(np.mean((centred / scale) ** 3)), len(scores), confidence
    )
    return Estimate(value=mean, low=low, high=high, n=len(scores), unit=unit)


def paired(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
    unit: str = "",
) -> Estimate:
    """Return the mean difference `a - b` of the same subjects, with the interval of `bootstrap`."""
    first, second = _scores("a", a), _scores("b", b)
    if first.shape != second.shape:
        raise ValueError(f"a has {len(first)} subjects and b {len(second)}: pairs need the same subjects in one order")
    return bootstrap(first - second, rng=rng, resamples=resamples, confidence=confidence, unit=unit)


def non_inferior(difference: Estimate, margin: float) -> bool:
    """Say whether `difference` (new minus reference, higher is better) surely loses less than `margin`.

    With a 90 % interval this is the one-sided test at 5 %; a 95 % interval is stricter. Not significant is not parity.
    """
    _check_margin(margin)
    return difference.low > -margin


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for their number, in the order given (Holm 1979, Scand. J. Statist. 6:65)."""
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p_values={list(p_values)} must lie in [0, 1]")
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = worst
    return tuple(adjusted)


def equivalent(difference: Estimate, margin: float) -> bool:
    """Say whether `difference` surely lies within `margin` of zero, on either side.

    With a 90 % interval these are two one-sided tests at 5 % (Schuirmann 1987, doi:10.1007/BF01068419).
    """
    _check_margin(margin)
    return -margin < difference.low and difference.high < margin


def p_inferior(difference: Estimate, margin: float, confidence: float = 0.95) -> float:
    """Return how easily chance alone would put `difference` so far above `-margin`: the p-value of `non_inferior`.

    Normal, with the standard error that the lower half of its interval of level `confidence` tells.
    """
    from scipy.special import ndtr, ndtri

    _check_margin(margin)
    _check_confidence(confidence)
    above, reach = difference.value + margin, difference.value - difference.low
    if not reach:
        return 0.0 if above > 0 else 1.0
    return float(ndtr(-above / reach * ndtri(0.5 + confidence / 2)))


def needed(spread: float, margin: float, power: float = 0.8) -> int:
    """Return of how many subjects a difference of zero is shown to be non-inferior with probability `power`.

    n = s² (z₀.₉₅ + z_power)² / margin², s the spread of one subject's difference.
    """
    from scipy.special import ndtri

    _check_margin(margin)
    _check_confidence(power)
    if not (math.isfinite(spread) and spread >= 0):
        raise ValueError(f"spread={spread} must be at least 0 and finite")
    return max(2, math.ceil((spread * float(ndtri(0.95) + ndtri(power)) / margin) ** 2 - 1e-9))


def standard_error(values: ArrayLike, *, rng: np.random.Generator, resamples: int = 2000) -> float:
    """Return the spread of the mean of `values`, `(subjects,)`, over patient-bootstrap resamples (Efron 1979).

    Times `sqrt(n / (n - 1))`, or it would be too small on average.
    What a site sends for `pool`: the interval of several sites together is made where they meet.
    """
    scores = _scores("values", values)
    return float(_resampled_means(scores, rng, resamples).std()) * math.sqrt(len(scores) / (len(scores) - 1))


def pool(parts: Sequence[tuple[float, float, int]], confidence: float = 0.95, *, unit: str = "") -> Estimate:
    """Pool the means of strata (sites) weighted by their subjects, with an interval of Student's t.

    The mean is `Σ n_k m_k / N`, its standard error `sqrt(Σ (n_k / N)² s_k²)` (Cochran 1977, Sampling Techniques, §5.3):
    the estimand is the average subject of these sites, not of a random further site. The degrees of freedom are those
    of Satterthwaite 1946, doi:10.2307/3002019.

    Args:
        parts: per site mean, standard error of that mean, number of subjects.
        confidence: two-sided coverage, in (0, 1).
        unit: unit of the means.
    """
    from scipy.special import stdtrit

    _check_confidence(confidence)
    if not parts:
        raise ValueError("parts is empty: nothing to pool")
    for mean, error, n in parts:
        if not (math.isfinite(mean) and math.isfinite(error) and error >= 0 and n >= 1):
            raise ValueError(f"part (mean={mean}, standard_error={error}, n={n}) must be finite, with n >= 1")
    total = sum(n for _, _, n in parts)
    mean = sum(n * m for m, _, n in parts) / total
    error = math.sqrt(sum((n / total * s) ** 2 for _, s, n in parts))
    heaviest = sum((n / total * s) ** 4 / max(n - 1, 1) for _, s, n in parts)
    reach = error * float(stdtrit(error**4 / heaviest, 0.5 + confidence / 2)) if heaviest else 0.0
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=total, unit=unit)


def _scores(name: str, values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"{name} must hold one score for each of at least 2 subjects, not shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(scores)).sum())} scores that are not finite")
    return scores


def _check_margin(margin: float) -> None:
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"margin={margin} must be positive")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie in (0, 1)")


def _resampled_means(scores: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    rows = max(1, 4_000_000 // len(scores))
    blocks = [min(rows, resamples - at) for at in range(0, resamples, rows)]
    return np.concatenate([scores[rng.integers(0, len(scores), (rows, len(scores)))].mean(axis=1) for rows in blocks])


def _bca(means: NDArray[np.float64], mean: float, skewness: float, n: int, confidence: float) -> tuple[float, float]:
    from scipy.special import ndtr, ndtri, stdtrit

    below = (np.sum(means < mean) + 0.5 * np.sum(means == mean)) / len(means)
    bias = float(ndtri(np.clip(below, 1 / (len(means) + 1), 1 - 1 / (len(means) + 1))))
    acceleration = skewness / (6 * math.sqrt(n))
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + float(stdtrit(n - 1, tail)) * math.sqrt(n / (n - 1))
        ends.append(float(np.quantile(means, ndtr(bias + z / (1 - acceleration * z)))))
    return ends[0], ends[1]
