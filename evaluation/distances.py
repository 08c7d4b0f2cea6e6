"""How far one set of pictures lies from another in a space of features: pure functions of two arrays.

None of them sees a leak: a copy of the training set scores best of all. Numbers of different encoders, or at different
n, cannot be held against each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

SUBSETS, SUBSET = 100, 1000  # of the kernel distance
NEIGHBOURS = 5  # of the manifold measures
_ROWS = 2048  # of a matrix of all pairs at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The kernel distance over subsets; may be negative, since it is unbiased.

    Attributes:
        value: mean over subsets.
        low, high: 2.5 % and 97.5 % quantiles over subsets, which are smaller than the whole: a cautious interval.
        subset: pictures of each set in a subset.
    """

    value: float
    low: float
    high: float
    subset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifold:
    """How two sets of features cover each other, by balls that reach to the k-th neighbour; shares in [0, 1].

    Attributes:
        precision: share of the new that lies in some ball of the reference.
        recall: share of the reference that lies in some ball of the new.
        density: how many reference balls a new one lies in, over k: about 1 for two draws of one distribution, and not
            bounded by it.
        coverage: share of reference balls in which some new one lies.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def frechet(new: Floats, reference: Floats) -> float:
    """Return ‖μ₁ - μ₂‖² + Tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) of features `(n, d)` and `(m, d)` (Heusel et al. 2017).

    arXiv:1706.08500; of features of clips it is the Fréchet video distance (Unterthiner et al. 2018, arXiv:1812.01717).
    With Σ = XᵀX of centred, scaled rows, the trace of the root is the sum of the singular values of X₁X₂ᵀ: no root is
    taken of a matrix that may be singular. Biased upwards, the more the larger d/n: only equal n may be compared.

    Raises:
        ValueError: shapes do not fit, fewer than two rows, or a value that is not finite.
    """
    one, other = _features(new, reference)
    mean, other_mean = one.mean(0), other.mean(0)
    scaled = (one - mean) / np.sqrt(len(one) - 1), (other - other_mean) / np.sqrt(len(other) - 1)
    total = float(sum((part * part).sum() for part in scaled))
    short: list[Floats] = [np.linalg.qr(p, mode="r") if len(p) > p.shape[1] else p for p in scaled]  # type: ignore[misc]
    root = float(np.linalg.svd(short[0] @ short[1].T, compute_uv=False).sum())
    return max(float(((mean - other_mean) ** 2).sum()) + total - 2 * root, 0.0)


def kernel(
    new: Floats,
    reference: Floats,
    *,
    rng: np.random.Generator,
    subsets: int = SUBSETS,
    subset: int = SUBSET,
) -> Kernel:
    """Return the unbiased squared maximum mean discrepancy under (x·y/d + 1)³ (Bińkowski et al. 2018).

    arXiv:1801.01401. Subsets are drawn without replacement, `subset` of each set or half of the smaller one. Of small
    sets the sums over all subsets come out of each pair's kernel, made once; of large ones every subset makes its own.
    Memory is that of a block of rows.

    Args:
        new: features, `(n, d)`, at least four rows.
        reference: features, `(m, d)`, at least four rows.
        rng: draws the subsets.
        subsets: how many.
        subset: at most how many rows of each.
    """
    one, other = (np.ascontiguousarray(part, np.float32) for part in _features(new, reference))
    size = min(subset, len(one) // 2, len(other) // 2)
    if size < 2 or subsets < 1:
        raise ValueError(f"n={len(one)} and m={len(other)} must be at least 4, subsets={subsets} at least 1")
    chosen = [_indicators(len(part), size, subsets, rng) for part in (one, other)]
    sums = _sums_of_each if subsets * size**2 < len(one) * len(other) else _sums
    within = [sums(part, part, z, z) - _diagonal(part, z) for part, z in zip((one, other), chosen, strict=True)]
    across = sums(one, other, *chosen)
    found = (within[0] + within[1]) / (size * (size - 1)) - 2 * across / size**2
    low, high = np.quantile(found, (0.025, 0.975))
    return Kernel(value=float(found.mean()), low=float(low), high=float(high), subset=size)


def manifold(new: Floats, reference: Floats, *, k: int = NEIGHBOURS) -> Manifold:
    """Return precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    arXiv:1904.06991, arXiv:2002.09797. Euclidean balls about each row reach to its k-th neighbour in its own set, and
    hold what lies on their rim.

    Raises:
        ValueError: sets of different size, or not more than `k` rows.
    """
    one, other = _features(new, reference)
    if len(one) != len(other) or not 1 <= k < len(one):
        raise ValueError(f"n={len(one)} and m={len(other)} must be equal and greater than k={k}, k at least 1")
    shift = other.mean(0)
    made, known = ((part - shift).astype(np.float32) for part in (one, other))
    reach, reach_of_new = _radii(known, k), _radii(made, k)
    inside = np.zeros(len(made), np.int64)
    held, recalled = np.zeros(len(known), np.bool_), np.zeros(len(known), np.bool_)
    for rows in _blocks(len(made)):
        apart = _squared(made[rows], known)
        balls = apart <= reach
        inside[rows] = balls.sum(1)
        held |= balls.any(0)
        recalled |= (apart <= reach_of_new[rows, None]).any(0)
    return Manifold(
        precision=float((inside > 0).mean()),
        recall=float(recalled.mean()),
        density=float(inside.mean() / k),
        coverage=float(held.mean()),
    )


def distinct(features: Floats) -> float:
    """Return the effective number of different rows, 1 to n (Vendi score, Friedman & Dieng 2023, arXiv:2210.02410).

    exp of the entropy of the eigenvalues of the cosine similarities over n; a row of length zero resembles nothing.
    """
    (rows,) = _features(features)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
    share = np.linalg.svd(unit, compute_uv=False) ** 2
    if not share.sum():
        return 1.0
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _features(*sets: Floats) -> tuple[NDArray[np.float64], ...]:
    found = tuple(np.asarray(part, np.float64) for part in sets)
    if any(part.ndim != 2 or len(part) < 2 or part.shape[1] != found[0].shape[1] for part in found):
        raise ValueError(f"features {[part.shape for part in found]} must be (n, d) of one d, with n at least 2")
    if not all(np.isfinite(part).all() for part in found):
        raise ValueError("features must be finite")
    return found


def _indicators(n: int, size: int, subsets: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return which rows each subset holds, `(subsets, n)`, 0 or 1."""
    chosen = np.zeros((subsets, n), np.float32)
    for row in chosen:
        row[rng.permutation(n)[:size]] = 1
    return chosen


def _sums(
    one: NDArray[np.float32], other: NDArray[np.float32], in_one: NDArray[np.float32], in_other: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the sum of kernels over all pairs of each subset, `(subsets,)`."""
    total = np.zeros(len(in_one))
    for rows in _blocks(len(one)):
        cubed = one[rows] @ other.T
        cubed /= one.shape[1]
        cubed += 1
        cubed = cubed * cubed * cubed
        total += (in_one[:, rows] * (cubed @ in_other.T).T).sum(1, dtype=np.float64)
    return total


def _sums_of_each(
    one: NDArray[np.float32], other: NDArray[np.float32], in_one: NDArray[np.float32], in_other: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return what `_sums` does, subset by subset."""
    whole = np.ones((1, int(in_one[0].sum())), np.float32)
    pairs = zip(in_one, in_other, strict=True)
    return np.concatenate([_sums(one[mine > 0], other[theirs > 0], whole, whole) for mine, theirs in pairs])


def _diagonal(rows: NDArray[np.float32], chosen: NDArray[np.float32]) -> NDArray[np.float64]:
    own = ((rows.astype(np.float64) ** 2).sum(1) / rows.shape[1] + 1) ** 3
    return np.asarray(chosen.astype(np.float64) @ own)


def _radii(rows: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Return the squared distance of each row to its k-th neighbour, `(n,)`."""
    found = np.empty(len(rows), np.float32)
    for block in _blocks(len(rows)):
        apart = _squared(rows[block], rows)
        apart[np.arange(len(apart)), np.arange(block.start, block.start + len(apart))] = -1
        found[block] = np.partition(apart, k, axis=1)[:, k]
    return found


def _squared(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    apart: NDArray[np.float32] = (one * one).sum(1)[:, None] + (other * other).sum(1) - 2 * (one @ other.T)
    return np.maximum(apart, 0, out=apart)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS))
