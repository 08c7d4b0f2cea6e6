"""What a filter's verdicts amount to: rates beside their null, coverage at equal size, and whether verdicts repeat.

A filter flags a share q of strangers whatever the generator did, so only the excess over q is a finding. Held-out
people stand in for strangers, and are compared with the very members that candidates are compared with: their p-values
are then uniform where candidates are strangers too (Vovk et al. 2005, doi:10.1007/b106715).

A filter that catches planted copies and spares strangers can still be arbitrary about everything between: trained again
with another seed it should say the same (Koeken et al. 2025, arXiv:2510.01793), which `consistency` counts.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.estimate import Estimate, clopper_pearson

Values = NDArray[np.floating]
Flags = NDArray[np.bool_]

LEAST_KAPPA = 0.6  # filters of several seeds that agree less say nothing about a single candidate
_RAREFACTIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How near candidates come to members, beside how near strangers come.

    Attributes:
        copy_share: share of candidates flagged at q.
        excess: the same less q: what strangers alone would not give.
        discovered: candidates that remain when their number is accounted for (Benjamini and Hochberg at q).
        memorised_share: share of members who are the nearest of a flagged candidate.
        coverage: members who are nearest of some candidate, when as many candidates as strangers are drawn (mean over
            100 draws), over the same number of the strangers: far below 1 is a generator that repeats few people.
        gini: how unevenly candidates fall upon members, 0 alike to 1 all upon one.
        most: candidates of one member at most.
        resolution: least p-value that so many strangers allow, 1/(m+1); q below it flags nobody.
    """

    copy_share: float
    excess: float
    discovered: int
    memorised_share: float
    coverage: float
    gini: float
    most: int
    resolution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """Whether filters that differ by seed alone say the same of the same candidates.

    Attributes:
        kappa: least Cohen's kappa of two filters' flags; 1 is always, 0 as often as by chance.
        rank_correlation: least Spearman correlation of two filters' scores.
        filters: how many were compared.
    """

    kappa: float
    rank_correlation: float
    filters: int

    @property
    def enough(self) -> bool:
        """Whether they agree well enough for a verdict to rest on one of them."""
        return self.filters >= 2 and self.kappa >= LEAST_KAPPA


def p_values(candidates: Values, strangers: Values) -> NDArray[np.float64]:
    """Return (1 + strangers at least as near) / (m + 1) of every candidate; both scores against the same members."""
    order = np.sort(strangers)
    nearer = len(order) - np.searchsorted(order, candidates, side="left")
    return np.asarray((1 + nearer) / (len(order) + 1), np.float64)


def discoveries(p: NDArray[np.float64], q: float) -> Flags:
    """Say which hypotheses fall at false discovery rate `q` (Benjamini & Hochberg 1995)."""
    _require_share(q)
    order = np.sort(p)
    passed = np.flatnonzero(order <= q * np.arange(1, len(p) + 1) / max(len(p), 1))
    found: Flags = p <= (order[passed[-1]] if len(passed) else -1.0)
    return found


def rates(
    candidates: tuple[Values, NDArray[np.int64]],
    strangers: tuple[Values, NDArray[np.int64]],
    *,
    members: int,
    q: float = 0.05,
    seed: int,
) -> Rates:
    """Summarise verdicts on candidates.

    Args:
        candidates: largest similarity of each candidate to any member, `(n,)`, and which member that is, `(n,)`.
        strangers: the same of held-out people, one each, `(m,)`.
        members: how many members there are.
        q: share of strangers that may be flagged.
        seed: of the draws for `Rates.coverage`.

    Raises:
        ValueError: without candidates, strangers or members.
    """
    _require_share(q)
    (score, at), (held, held_at) = candidates, strangers
    if min(len(score), len(held), members) < 1:
        raise ValueError(f"{len(score)} candidates, {len(held)} strangers, {members} members: needs at least one each")
    p = p_values(score, held)
    flagged = p <= q
    hits = np.bincount(at, minlength=members)
    rng, size = np.random.default_rng(seed), min(len(score), len(held))
    reached = np.mean([_distinct(rng.choice(at, size, replace=False)) for _ in range(_RAREFACTIONS)])
    by_strangers = np.mean([_distinct(rng.choice(held_at, size, replace=False)) for _ in range(_RAREFACTIONS)])
    return Rates(
        copy_share=float(flagged.mean()),
        excess=float(flagged.mean()) - q,
        discovered=int(discoveries(p, q).sum()),
        memorised_share=_distinct(at[flagged]) / members,
        coverage=float(reached / by_strangers),
        gini=_gini(hits),
        most=int(hits.max()),
        resolution=1 / (len(held) + 1),
    )


def refused_by(kept: Flags, words: Sequence[str]) -> Mapping[str, Estimate]:
    """Return which share of each group of candidates was refused, with its exact interval; "" is nobody's group.

    Candidates are nobody, so the numbers are public where the verdicts are. A filter that refuses one view or one range
    of ejection fractions oftener removes it from the release.

    Args:
        kept: verdict on each candidate, `(n,)`.
        words: the group of each, such as its view, its band of ejection fraction or its sex, `(n,)`.
    """
    if len(kept) != len(words):
        raise ValueError(f"{len(kept)} verdicts on {len(words)} candidates")
    groups = np.array(words, object)
    return {
        word: clopper_pearson(int((~kept[groups == word]).sum()), int((groups == word).sum()))
        for word in sorted({w for w in words if w})
    }


def kappa(first: Flags, second: Flags) -> float:
    """Return Cohen's kappa (1960, doi:10.1177/001316446002000104); 1 where both flag all alike and the same."""
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} flags: needs as many of both, and some")
    agree, a, b = float((first == second).mean()), float(first.mean()), float(second.mean())
    chance = a * b + (1 - a) * (1 - b)
    return 1.0 if chance == 1 else (agree - chance) / (1 - chance)


def consistency(flags: Sequence[Flags], scores: Sequence[Values]) -> Consistency:
    """Compare filters that differ by the seed of their training alone.

    Args:
        flags: per filter its flags of the same candidates, `(n,)` each, at least two filters.
        scores: per filter the scores behind them.
    """
    from scipy.stats import spearmanr

    if len(flags) != len(scores) or len(flags) < 2:
        raise ValueError(f"{len(flags)} filters and {len(scores)} scores: needs at least two of both")
    pairs = list(itertools.combinations(range(len(flags)), 2))
    return Consistency(
        kappa=min(kappa(flags[i], flags[j]) for i, j in pairs),
        rank_correlation=min(float(spearmanr(scores[i], scores[j]).statistic) for i, j in pairs),
        filters=len(flags),
    )


def moments(frames: int, *, most: int = 4) -> NDArray[np.int64]:
    """Return which frames of a clip are screened: the first and the last, and others evenly between; at most `most`.

    Screening the conditioning frame alone lets a clip drift into a patient afterwards.
    """
    if min(frames, most) < 1:
        raise ValueError(f"frames={frames} and most={most} must be at least 1")
    return np.unique(np.linspace(0, frames - 1, min(frames, most)).round().astype(np.int64))


def whole(kept: Flags, owner: NDArray[np.int64]) -> Flags:
    """Say which candidates stay: those all of whose pictures stay. `owner` names each picture's candidate, `(n,)`."""
    fallen = np.bincount(owner, ~kept, int(owner.max(initial=-1)) + 1)
    stays: Flags = fallen == 0
    return stays


def _distinct(at: NDArray[np.int64]) -> int:
    return len(np.unique(at))


def _gini(hits: NDArray[np.int64]) -> float:
    order, n = np.sort(hits), len(hits)
    return float(((2 * np.arange(1, n + 1) - n - 1) * order).sum() / (n * order.sum()))


def _require_share(q: float) -> None:
    if not 0 < q < 1:
        raise ValueError(f"q={q} must lie in (0, 1)")
