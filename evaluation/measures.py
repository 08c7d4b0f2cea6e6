"""Numbers that say how good predictions are: of classes with probabilities, of outlines, of measurements.

Pure functions of arrays; NaN where a number has no meaning, such as an area under the curve of one class alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

Floats = NDArray[np.floating[Any]]
Masks = NDArray[np.bool_]

BINS = 15  # of the calibration error
FAR = 95  # percentile of the distances between two surfaces


def calibration_error(probabilities: Floats, truth: NDArray[np.int64], bins: int = BINS) -> float:
    """Return the expected calibration error in [0, 1] (Guo et al. 2017, arXiv:1706.04599).

    Rows `(n, classes)` are put into equal bins of their largest probability; the sizes of the differences of accuracy
    and mean confidence are averaged over rows.
    """
    if not len(truth):
        return float("nan")
    sure = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == truth
    at = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(at, right, bins) - np.bincount(at, sure, bins)
    return float(np.abs(gap).sum() / len(truth))


def brier(probabilities: Floats, truth: NDArray[np.int64]) -> float:
    """Return the mean squared distance of probabilities `(n, classes)` from the truth, 0 to 2 (Brier 1950)."""
    if not len(truth):
        return float("nan")
    wanted = np.arange(probabilities.shape[1]) == truth[:, None]
    return float(((probabilities - wanted) ** 2).sum(1).mean())


def balanced_accuracy(named: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Return the mean of the recalls of those classes that occur."""
    recalls = [float((named[truth == k] == k).mean()) for k in np.unique(truth)]
    return float(np.mean(recalls)) if recalls else float("nan")


def macro_f1(named: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Return the mean over classes, that occur or are named, of the harmonic mean of precision and recall."""
    kinds = np.union1d(named, truth)
    scores = [
        2 * ((named == k) & (truth == k)).sum() / max(1, int((named == k).sum() + (truth == k).sum())) for k in kinds
    ]
    return float(np.mean(scores)) if scores else float("nan")


def dice(a: Masks, b: Masks) -> NDArray[np.float64]:
    """Return 2|A∩B| / (|A|+|B|) of masks `(n, h, w)`, 1 where both are empty: `(n,)` (Dice 1945)."""
    both, size = (a & b).sum((1, 2)), a.sum((1, 2)) + b.sum((1, 2))
    return np.where(size > 0, 2 * both / np.maximum(size, 1), 1.0)


def hd95(a: Masks, b: Masks, pixel: Floats) -> NDArray[np.float64]:
    """Return the 95th percentile of the distances between the rims of masks `(n, h, w)`, from either to the other.

    0 where both are empty; the diagonal of the picture where one is (privacy.md 4.1).

    Args:
        a: one set of masks.
        b: the other.
        pixel: height and width of a pixel of each, `(n, 2)`, whose unit is that of the distance.
    """
    found = np.zeros(len(a))
    for i, (one, other, size) in enumerate(zip(a, b, np.asarray(pixel, np.float64), strict=True)):
        rims = [np.argwhere(mask & ~binary_erosion(mask)) * size for mask in (one, other)]
        if not (len(rims[0]) and len(rims[1])):
            found[i] = float(np.hypot(*(np.array(one.shape) * size))) if len(rims[0]) or len(rims[1]) else 0.0
            continue
        apart = cdist(*rims)
        found[i] = np.percentile(np.concatenate([apart.min(0), apart.min(1)]), FAR)
    return found


def rmse(found: Floats, known: Floats) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean((found - known) ** 2))) if len(known) else float("nan")


def r_squared(found: Floats, known: Floats) -> float:
    """Return 1 less the squared error over that of the mean of `known`; negative if that mean is better."""
    spread = float(((known - known.mean()) ** 2).sum()) if len(known) else 0.0
    return 1 - float(((found - known) ** 2).sum()) / spread if spread else float("nan")


def agreement(found: Floats, known: Floats) -> tuple[float, float, float]:
    """Return bias and 95 % limits of agreement, lower and upper, of found minus known (Bland & Altman 1986)."""
    if len(known) < 2:
        return (float("nan"),) * 3
    off = np.asarray(found, np.float64) - known
    bias, reach = float(off.mean()), 1.96 * float(off.std(ddof=1))
    return bias, bias - reach, bias + reach


def icc(found: Floats, known: Floats) -> float:
    """Return the intraclass correlation of single measurements in absolute agreement (Shrout & Fleiss 1979, ICC(2,1)).

    doi:10.1037/0033-2909.86.2.420. 1 for equal numbers; a bias lowers it, as a correlation does not.
    """
    n = len(known)
    if n < 2:
        return float("nan")
    both = np.stack([np.asarray(found, np.float64), np.asarray(known, np.float64)], 1)
    grand = both.mean()
    subjects = 2 * ((both.mean(1) - grand) ** 2).sum() / (n - 1)
    raters = n * ((both.mean(0) - grand) ** 2).sum()
    left = ((both - both.mean(1, keepdims=True) - both.mean(0) + grand) ** 2).sum() / (n - 1)
    below = subjects + left + 2 * (raters - left) / n
    return float((subjects - left) / below) if below > 0 else float("nan")


def auroc(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the probability that a positive scores above a negative, ties halved (Mann & Whitney 1947)."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not (n and m):
        return float("nan")
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * m))
