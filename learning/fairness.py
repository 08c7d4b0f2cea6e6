"""Training that minds its groups: true Group DRO, reweighing by global frequency, balanced draws, declared weights.

Groups are labels of subjects, such as sex, device or site. All but `Declared` reads group frequencies or group losses,
which no ε covers: it serves public data, and arms that are trained without privacy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cohorts.clips import Clips
from cohorts.frames import Frames

WEIGHT_BOUNDS = (0.2, 5.0)
BALANCED, REWEIGHED, DRO = "balanced", "reweighed", "dro"
METHODS = ("none", BALANCED, REWEIGHED, DRO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Weights of groups that were written down before anybody looked at a patient: all that training under ε may use.

    Attributes:
        weights: word of a group and the weight of its subjects, within `WEIGHT_BOUNDS`; any other word weighs 1.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        low, high = WEIGHT_BOUNDS
        for word, weight in self.weights.items():
            if not low <= weight <= high:
                raise ValueError(f"weight {weight} of {word!r} must be in {low:g}..{high:g}")

    def of(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Return the weight of each subject, `(subjects,)`: it follows from the subject's own word and nobody else."""
        return np.array([self.weights.get(word, 1.0) for word in words], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The group of each subject, and how a training without privacy minds it.

    Attributes:
        of: number of the group, `(subjects,)`; -1, where it is not known, is a group of its own.
        method: one of `METHODS`. Balanced draws take each group as often, Group DRO draws so too and weighs the groups
            by their losses, reweighing draws as ever and weighs the rows by what is rare.
        rate: η of Group DRO.
    """

    of: NDArray[np.int64]
    method: str = "none"
    rate: float = 0.01

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} must be one of {', '.join(METHODS)}")

    @classmethod
    def named(cls, words: Sequence[str], *, method: str, rate: float = 0.01) -> "Groups":
        """Number the words of subjects; "" is not known."""
        known = sorted({word for word in words if word})
        return cls(of=np.array([known.index(w) if w else -1 for w in words], np.int64), method=method, rate=rate)


class Minded:
    """One training that minds its groups: which rows it draws, what they weigh, and the state of Group DRO.

    Attributes:
        dro: the weights of the groups so far.
    """

    def __init__(self, frames: Frames | Clips, groups: Groups) -> None:
        """Take note of who is in which group; raises `ValueError` unless every subject of `frames` is told."""
        if len(groups.of) != len(frames.subjects):
            raise ValueError(f"groups of {len(groups.of)} subjects, but frames of {len(frames.subjects)}")
        rows = groups.of[frames.subject]
        self._method, (present, self._group) = groups.method, np.unique(rows, return_inverse=True)
        self._frequency = reweighed(self._group, n_groups=len(present))
        self.dro = GroupDro.of(max(1, len(present)), groups.rate)

    def draw(self, size: int, dice: np.random.Generator) -> NDArray[np.int64]:
        """Return the rows of one batch."""
        if self._method in (BALANCED, DRO):
            return balanced_rows(self._group, size, dice)
        return dice.integers(0, len(self._group), size)

    def weights(self, rows: NDArray[np.int64], losses: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return what each row of the batch weighs, `(n,)`, in the sum that is the loss; Group DRO learns from it."""
        group = self._group[rows]
        if self._method == REWEIGHED:
            return (self._frequency[group] / len(rows)).astype(np.float32)
        if self._method != DRO:
            return np.full(len(rows), 1 / len(rows), np.float32)
        n = len(self.dro.weights)
        count, total = np.bincount(group, minlength=n), np.bincount(group, losses, n)
        self.dro = self.dro.after(np.where(count > 0, total / np.maximum(count, 1), np.nan))
        return self.dro.row_weights(group).astype(np.float32)


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
