"""Mean and second moment of one vector per subject, released once under differential privacy.

The Gaussian mechanism with the subject as unit (Dwork and Roth 2014, doi:10.1561/0400000042, A): every subject adds one
row (a, x, x xᵀ/R) to a sum, clipped as a whole to L2 norm C, and the sum is released once with noise σC. A row that is
clipped keeps its proportions, so whoever lies far out counts as a fraction of a subject instead of being moved. What is
made of the released sum afterwards costs nothing more.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from privacy.gradients import clip, noisy_mean
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

Floats = NDArray[np.floating[Any]]

_C_PER_RADIUS = 1.5  # a row at the radius R holds R/2 of count, R of mean and R of second moment: 1.5 R together
_HEARD = 3  # standard deviations of its own noise that a count must reach: what is divided by less, noise decides
_LEAST_VARIANCE = 0.05  # of a shrunken covariance, in units of the public one


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Noisy sums over subjects.

    Attributes:
        count: weight of the subjects, each at most 1.
        total: weighted sum of their vectors, `(k,)`.
        second: weighted sum of x xᵀ, symmetric, `(k, k)`; noise may have made it indefinite.
        radius: R, up to which length a vector counts in full.
        noise: σC, standard deviation of the noise on every coordinate of the sum.
    """

    count: float
    total: NDArray[np.float64]
    second: NDArray[np.float64]
    radius: float
    noise: float


def radius(clip_norm: float) -> float:
    """Return R, up to which length a vector is not clipped."""
    return clip_norm / _C_PER_RADIUS


def clip_norm(radius: float) -> float:
    """Return the C of a plan under which vectors up to length `radius` are not clipped."""
    return radius * _C_PER_RADIUS


def release(vectors: Floats, subject: NDArray[np.int64], plan: DpPlan, *, random: SecureRandom) -> Moments:
    """Release the moments of the subjects' vectors at the cost of `plan`, which the ledger has reserved.

    Arguments and errors are those of `noised_sum`.
    """
    return read(noised_sum(vectors, subject, plan, random=random), plan)


def noised_sum(
    vectors: Floats, subject: NDArray[np.int64], plan: DpPlan, *, random: SecureRandom
) -> NDArray[np.float64]:
    """Return the one sum that is released: one subject more or less moves it by C at most, in any direction.

    Args:
        vectors: one per study, `(n, k)`, centred and scaled by public constants.
        subject: whose study it is, `(n,)`; the studies of one subject are averaged *before* the clip.
        plan: one step that every subject enters.
        random: source of the noise, never seeded.

    Returns:
        Σ (R/2, x, √2 x xᵀ/R above the diagonal and x²/R on it) and noise σC on every number, `(numbers(k),)`.

    Raises:
        ValueError: the plan is of another mechanism, or `vectors` and `subject` do not fit.
    """
    if plan.sampling_rate != 1.0 or plan.steps != 1:
        raise ValueError(
            f"sampling_rate={plan.sampling_rate}, steps={plan.steps}: moments are released once, with every subject"
        )
    if vectors.ndim != 2 or not vectors.shape[1] or subject.shape != (len(vectors),):
        raise ValueError(f"vectors {vectors.shape} and subject {subject.shape} must be (n, k) and (n,)")
    summed = _clipped_sum(_rows(vectors, radius(plan.clip_norm)), subject, plan.clip_norm)
    out: NDArray[np.float64] = noisy_mean(summed, plan, public_subjects=1, random=random).numpy()
    return out


def numbers(k: int) -> int:
    """Return how many numbers are released of vectors of length `k`."""
    return 1 + k + k * (k + 1) // 2


def read(noisy: Floats, plan: DpPlan, *, sums: int = 1) -> Moments:
    """Return what a released sum says, or several of other subjects under plans like this one, added up.

    Args:
        noisy: of `noised_sum`, `(numbers(k),)`.
        plan: under which it was released.
        sums: how many were added up; each has noise of its own.

    Raises:
        ValueError: `noisy` is no such sum.
    """
    k = round((math.sqrt(8 * noisy.size + 1) - 3) / 2)
    if noisy.shape != (numbers(k),) or k < 1 or not np.isfinite(noisy).all():
        raise ValueError(f"noisy {noisy.shape} must be finite and (1 + k + k (k + 1) / 2,) for some k")
    reach, upper, scale = radius(plan.clip_norm), np.triu_indices(k), _scale(k)
    second = np.zeros((k, k))
    second[upper] = noisy[1 + k :] * reach / scale
    return Moments(
        count=float(noisy[0]) / (reach / 2),
        total=np.asarray(noisy[1 : 1 + k], np.float64),
        second=second + np.triu(second, 1).T,
        radius=reach,
        noise=plan.noise_multiplier * plan.clip_norm * math.sqrt(sums),
    )


def mean_and_covariance(moments: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean `(k,)` and covariance `(k, k)` that the noisy sums speak for, drawn towards mean 0 and identity.

    Post-processing: it reads no subject, and the size of the noise is public. Mean, variances and covariances are three
    blocks, each shrunk by the share of its square that noise alone explains (James and Stein 1961, positive part): no
    noise leaves the estimate alone. All are divided by the count, which is noised too: one below `_HEARD` of its own
    standard deviations could be any divisor, and the public prior is returned; so it is under endless noise, but for
    one time in 700. Whoever lies far out counted less, which makes a cohort look narrower: the covariance is divided by
    what that does to a standard normal one.
    """
    k = len(moments.total)
    if moments.count < max(0.5, _HEARD * moments.noise / (moments.radius / 2)):
        return np.zeros(k), np.eye(k)  # nobody has spoken, as far as anyone can hear
    noise, narrowed = moments.noise / moments.count, _narrowed(k, moments.radius)
    mean = _shrunk(moments.total / moments.count, noise)
    apart = (moments.second / moments.count - np.outer(mean, mean)) / narrowed - np.eye(k)
    noise *= moments.radius / narrowed
    upper = np.triu_indices(k, 1)
    covariance = np.eye(k) + np.diag(_shrunk(np.diag(apart).copy(), noise))
    beside = _shrunk(apart[upper], noise / math.sqrt(2))
    covariance[upper] = beside
    covariance.T[upper] = beside
    values, directions = np.linalg.eigh(covariance)
    return mean, (directions * np.maximum(values, _LEAST_VARIANCE)) @ directions.T


def _rows(vectors: Floats, reach: float) -> NDArray[np.float64]:
    """Return (R/2, x, x xᵀ/R) of every vector; off the diagonal √2 stands for both halves, so that norms are right."""
    n, k = vectors.shape
    x = vectors.astype(np.float64)
    one, other = np.triu_indices(k)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then adds nothing: `clip` sees to it
        products = x[:, one] * x[:, other] * (_scale(k) / reach)
    return np.concatenate([np.full((n, 1), reach / 2), x, products], axis=1)


def _clipped_sum(rows: NDArray[np.float64], subject: NDArray[np.int64], clip_norm: float) -> torch.Tensor:
    """Return the sum over subjects of their mean row, clipped: one subject more or less moves it by `clip_norm`."""
    who, index, count = np.unique(subject, return_inverse=True, return_counts=True)
    mine = np.zeros((len(who), rows.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        np.add.at(mine, index, rows)
    return clip(torch.from_numpy(mine / count[:, None]), clip_norm).sum(0)


def _scale(k: int) -> NDArray[np.float64]:
    one, other = np.triu_indices(k)
    return np.where(one == other, 1.0, math.sqrt(2))


def _narrowed(k: int, reach: float) -> float:
    """Return the variance that clipped rows show of a standard normal cohort in `k` dimensions, at most 1."""
    r = np.linspace(0, math.sqrt(k) + 8, 4001)[1:]
    density = np.exp((k - 1) * np.log(r) - r**2 / 2 - (k / 2) * math.log(k))  # of the length, up to a constant
    norms = np.sqrt(reach**2 / 4 + r**2 + r**4 / reach**2)
    weight = density * np.minimum(1, clip_norm(reach) / norms)
    return float((weight * r**2).sum() / (k * weight.sum()))


def _shrunk(found: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    square = float(found @ found)
    return found * (max(0.0, 1 - len(found) * noise**2 / square) if square > 0 else 0.0)
