"""Training that minds its groups: true Group DRO, reweighing by global frequency, and balanced draws.

Groups are labels of subjects, such as sex, device or site. Everything here reads group frequencies or group losses, so
under differential privacy it runs on public data, or on losses that were charged.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WEIGHT_BOUNDS = (0.2, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDro:
    """The weights of groups that a worst-case learner keeps (Sagawa et al. 2020, arXiv:1911.08731, algorithm 1).

    Attributes:
        weights: q, `(groups,)`, sum 1; state of the training, to be kept in checkpoints, in a federation by the server.
        rate: η, how fast a group with a higher loss gains weight, >= 0; 0 is the plain mean over groups.
    """

    weights: tuple[float, ...]
    rate: float = 0.01

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights={self.weights} must be at least 0 and sum to 1")
        if not 0 <= self.rate < np.inf:
            raise ValueError(f"rate={self.rate} must be at least 0 and finite")

    @classmethod
    def of(cls, groups: int, rate: float = 0.01) -> "GroupDro":
        """Return equal weights of so many groups."""
        return cls(weights=tuple([1 / groups] * groups), rate=rate)

    def after(self, losses: NDArray[np.float64]) -> "GroupDro":
        """Return the weights after the mean losses of the groups, `(groups,)`; NaN is a group nobody was drawn of."""
        known = np.isfinite(losses)
        if losses.shape != (len(self.weights),):
            raise ValueError(f"losses of shape {losses.shape} must be ({len(self.weights)},)")
        raw = np.array(self.weights) * np.exp(self.rate * np.where(known, losses, 0.0))
        return GroupDro(weights=tuple((raw / raw.sum()).tolist()), rate=self.rate)

    def row_weights(self, groups: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weight of each row of a batch, `(n,)`: the weighted sum of rows is that of group means by q."""
        counts = np.bincount(groups, minlength=len(self.weights))
        per_row: NDArray[np.float64] = np.array(self.weights)[groups] / counts[groups]
        return per_row


def reweighed(groups: NDArray[np.int64], *, n_groups: int) -> NDArray[np.float64]:
    """Return a weight per group from frequencies in the whole data: N / (G n_g), within `WEIGHT_BOUNDS`."""
    counts = np.bincount(groups, minlength=n_groups)
    raw = len(groups) / (n_groups * np.maximum(counts, 1))
    weights: NDArray[np.float64] = np.clip(raw, *WEIGHT_BOUNDS)
    return weights


def balanced_rows(groups: NDArray[np.int64], size: int, dice: np.random.Generator) -> NDArray[np.int64]:
    """Return `size` rows, with replacement, each group as likely as any other."""
    present = np.unique(groups)
    chosen = dice.choice(present, size)
    rows = {int(group): np.flatnonzero(groups == group) for group in present}
    return np.array([dice.choice(rows[int(group)]) for group in chosen], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """How unequal scores in [0, 1] of groups are: largest less smallest, deviation, ratio of errors, the worst."""

    gap: float
    deviation: float
    error_ratio: float
    worst: str


def gaps(scores: dict[str, NDArray[np.float64]], *, least: int = 20) -> Gaps | None:
    """Return the gaps between mean scores of groups of at least `least` subjects, `None` with fewer than two of those.

    Puyol-Antón et al. 2021, arXiv:2106.12387: standard deviation and skewed error ratio of group Dice.
    """
    means = {name: float(np.mean(v)) for name, v in scores.items() if len(v) >= least}
    if len(means) < 2:
        return None
    values = np.array(list(means.values()))
    errors = 1 - values
    return Gaps(
        gap=float(np.ptp(values)),
        deviation=float(values.std()),
        error_ratio=float(errors.max() / max(float(errors.min()), 1e-12)),
        worst=min(means, key=lambda name: means[name]),
    )
