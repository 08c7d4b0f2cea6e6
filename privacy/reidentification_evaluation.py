"""How well likeness tells people apart, on people whom nothing was trained on; by kind of pair.

Two pictures of one clip share the acquisition, two views only the heart: one number for both would praise the first for
the second. So pairs are of a stated `Kind`, and the pairs of different people that it is compared with are of the same
kind. Pairs that share a person are not independent: intervals come from drawing people, not pairs, anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.embedding import Embedding
from privacy.estimate import Estimate

Column = NDArray[np.int64]
Values = NDArray[np.float64]

RATES = (0.01, 0.001)
_PER_RATE = 10  # pairs of strangers above a rate: fewer do not resolve it
_MOST_OTHERS = 200_000
_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Which pairs of pictures are compared.

    Attributes:
        name: in words.
        equal: columns in which the two pictures agree ("view").
        other: columns in which they differ ("phase").
    """

    name: str
    equal: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


ONE_CLIP = Kind(name="one clip, other phase", equal=("view",), other=("phase",))
ONE_STUDY = Kind(name="one study, other view", other=("view",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How one kind of pair is told apart.

    Attributes:
        kind: which pairs.
        n_same: people with such a pair.
        n_other: pairs of different people that were compared.
        auc: area under the ROC curve; 0.5 is chance.
        eer: rate at which missed and false matches are equally frequent.
        tpr: false positive rate → share of pairs of one person found; absent where too few strangers resolve it.
        rank_1: share of pictures whose nearest of this kind is of the same person.
        curve: false positive rate against true positive rate, `(2, points)`, for a figure.
    """

    kind: Kind
    n_same: int
    n_other: int
    auc: Estimate
    eer: Estimate
    tpr: Mapping[float, Estimate]
    rank_1: Estimate
    curve: Values


def verify(
    features: Embedding,
    subject: Column,
    columns: Mapping[str, Column],
    kind: Kind,
    *,
    seed: int,
    resamples: int = 2000,
) -> Verification:
    """Measure one kind of pair.

    Args:
        features: pictures of held-out people, `(n, d)`.
        subject: whose, `(n,)`.
        columns: of each picture, `(n,)` each, what `kind` names; -1 is unknown and agrees and differs with nothing.
        kind: which pairs.
        seed: of the pairs of different people, where there are too many of them, and of the bootstrap.
        resamples: bootstrap samples of people.

    Raises:
        ValueError: fewer than two people have such a pair, or nobody is compared with another.
    """
    if len(subject) != len(features) or not np.isfinite(features).all():
        raise ValueError(f"features must be finite and have one subject each, not {features.shape}, {subject.shape}")
    rng = np.random.default_rng(seed)
    people, owner = np.unique(subject, return_inverse=True)
    likeness, first, second, nearest = _pairs(features, owner, columns, kind)
    same = owner[first] == owner[second]
    others = np.flatnonzero(~same)
    if len(others) > _MOST_OTHERS:
        others = rng.choice(others, _MOST_OTHERS, replace=False)
    kept = np.concatenate([np.flatnonzero(same), others])
    likeness, first, second, same = likeness[kept], owner[first[kept]], owner[second[kept]], same[kept]
    n_same = len(np.unique(first[same]))
    if n_same < 2 or same.all():
        raise ValueError(f"{n_same} people with {kind.name!r} and {int((~same).sum())} pairs of others: too few")
    curve = _Curve(likeness, same, first, second)
    rates = [rate for rate in RATES if (~same).sum() >= _PER_RATE / rate]
    point = curve.read(np.ones(len(people)), rates)
    hits, asked = (np.bincount(owner, w, len(people)) for w in nearest)
    drawn = []
    for _ in range(resamples):
        weight = np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people)).astype(np.float64)
        drawn.append([*curve.read(weight, rates), float(weight @ hits) / max(float(weight @ asked), 1e-9)])
    point = [*point, float(hits.sum() / asked.sum())]
    low, high = np.nanquantile(np.array(drawn), (0.025, 0.975), axis=0)
    told = [
        Estimate(value=v, low=min(v, float(a)), high=max(v, float(b)), n=n_same)
        for v, a, b in zip(point, low, high, strict=True)
    ]
    return Verification(
        kind=kind,
        n_same=n_same,
        n_other=int((~same).sum()),
        auc=told[0],
        eer=told[1],
        tpr=dict(zip(rates, told[2:-1], strict=True)),
        rank_1=told[-1],
        curve=curve.points(),
    )


class _Curve:
    """Pairs in falling order of likeness, so that a ROC curve with other weights is two sums."""

    def __init__(self, likeness: Values, same: NDArray[np.bool_], first: Column, second: Column) -> None:
        order = np.argsort(-likeness, kind="stable")
        self.same, self.first, self.second = same[order], first[order], second[order]
        falls = np.flatnonzero(np.diff(likeness[order]) != 0)
        self.last = np.append(falls, len(order) - 1)  # of each run of equal likeness

    def shares(self, weight: Values) -> tuple[Values, Values]:
        """Return false and true positive rates after each run, people counted by `weight`."""
        pairs = weight[self.first] * np.where(self.same, 1.0, weight[self.second])
        true, false = (np.cumsum(np.where(part, pairs, 0.0))[self.last] for part in (self.same, ~self.same))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])

    def read(self, weight: Values, rates: Sequence[float]) -> list[float]:
        """Return area, equal error rate and true positive rates."""
        false, true = self.shares(weight)
        area = float(np.trapezoid(true, false))
        gap = (1 - true) - false  # falls from 1 to -1
        at = int(np.searchsorted(-gap, 0.0))
        part = gap[at - 1] / max(gap[at - 1] - gap[at], 1e-12) if 0 < at < len(gap) else 0.0
        equal = float(false[at - 1] + part * (false[at] - false[at - 1])) if at < len(gap) else float("nan")
        found = [float(true[np.searchsorted(false, rate, side="right") - 1]) for rate in rates]
        return [area, equal, *found]

    def points(self, most: int = 500) -> Values:
        """Return the curve for a figure."""
        false, true = self.shares(np.ones(max(int(self.first.max()), int(self.second.max())) + 1))
        at = np.unique(np.linspace(0, len(false) - 1, most).astype(np.int64))
        return np.stack([false[at], true[at]])


def _pairs(
    features: Embedding, owner: Column, columns: Mapping[str, Column], kind: Kind
) -> tuple[Values, Column, Column, tuple[Values, Values]]:
    """Return likeness and both pictures of every pair of the kind; whose nearest is its own, and of whom it is asked.

    A rank is asked of pictures only of whose person there is another to be found; of equally near ones the first
    counts, so that nothing is gained where all are alike.
    """
    for name in (*kind.equal, *kind.other):
        if name not in columns or len(columns[name]) != len(owner):
            raise ValueError(f"kind {kind.name!r} needs the column {name!r} of all {len(owner)} pictures")
    hits, asked = np.zeros(len(owner)), np.zeros(len(owner))
    parts: list[tuple[Values, Column, Column]] = []
    for start in range(0, len(owner), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(owner)))
        fits = rows[:, None] != np.arange(len(owner))
        for name, agree in (*((n, True) for n in kind.equal), *((n, False) for n in kind.other)):
            here, there = columns[name][rows, None], columns[name][None, :]
            fits &= ((here == there) == agree) & (here >= 0) & (there >= 0)
        likeness = (features[rows] @ features.T).astype(np.float64)
        best = np.where(fits, likeness, -np.inf).argmax(axis=1)
        own = owner[rows, None] == owner
        asked[rows] = (fits & own).any(axis=1) & (fits & ~own).any(axis=1)
        hits[rows] = asked[rows] * (owner[best] == owner[rows])
        fits &= np.arange(len(owner)) > rows[:, None]  # each pair once
        a, b = np.nonzero(fits)
        parts.append((likeness[a, b], rows[a], b.astype(np.int64)))
    likeness, first, second = (np.concatenate(p) for p in zip(*parts, strict=True))
    return likeness, first, second, (hits, asked)
