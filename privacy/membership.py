"""How well scores tell members from controls: area under the curve, hits at few false alarms, and one honest p-value.

The unit is the subject: scores of pictures are brought together before anything is counted. Averages hide a leak that
touches few people (Carlini et al. 2022, arXiv:2112.03570), so hits are stated where few controls are accused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.estimate import Estimate, clopper_pearson

Scores = NDArray[np.float64]

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)
_LEAST_CONTROLS = {0.1: 10, 0.01: 100, 0.001: 1000}  # below these a rate is not resolved, and not reported
_TOPS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1)  # shares of the ranking in which members may crowd
_DRAWS, _LARGEST = 1999, 40_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """How well one score per subject tells members from controls.

    Attributes:
        auc: area under the ROC curve with its 95 % interval (DeLong); 0.5 is chance.
        tpr: false positive rate → share of members above the score which that share of controls exceeds, with its exact
            95 % interval; rates that too few controls resolve are left out.
        p_value: one-sided, of members and controls being exchangeable.
    """

    auc: Estimate
    tpr: Mapping[float, Estimate]
    p_value: float


def by_subject(scores: Scores, subject: NDArray[np.int64], n_subjects: int, how: str = "mean") -> Scores:
    """Bring scores of pictures together: the mean, or the largest ("max"), of every subject's.

    Args:
        scores: one score a picture, `(n,)`, finite.
        subject: whose, `(n,)`.
        n_subjects: number of subjects; every one must have a picture.
        how: "mean" or "max".
    """
    if how not in ("mean", "max"):
        raise ValueError(f"how={how!r} must be mean or max")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores holds {int((~np.isfinite(scores)).sum())} numbers that are not finite")
    pictures = np.bincount(subject, minlength=n_subjects)
    if len(pictures) != n_subjects or not pictures.all():
        raise ValueError(f"{int((pictures == 0).sum())} of {n_subjects} subjects have no picture to score")
    if how == "mean":
        return np.asarray(np.bincount(subject, scores, n_subjects) / pictures, np.float64)
    best = np.full(n_subjects, -np.inf)
    np.maximum.at(best, subject, scores)
    return best


def auc(members: Scores, controls: Scores, confidence: float = 0.95) -> Estimate:
    """Return the area under the ROC curve with DeLong's interval (DeLong et al. 1988, doi:10.2307/2531595).

    Where every member stands above every control, or below, that variance is zero; the end is then where one more
    subject of the smaller side would still have agreed with probability `1 - confidence`.

    Args:
        members: one score a member, at least 2; higher is more like a member.
        controls: one score a control, at least 2.
        confidence: two-sided coverage.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    m, n = len(members), len(controls)
    if min(m, n) < 2:
        raise ValueError(f"{m} members and {n} controls: an area needs at least 2 of each")
    together = rankdata(np.concatenate([members, controls]))
    above_controls = (together[:m] - rankdata(members)) / n
    above_members = 1 - (together[m:] - rankdata(controls)) / m
    value = float(above_controls.mean())
    error = float(np.sqrt(above_controls.var(ddof=1) / m + above_members.var(ddof=1) / n))
    reach = float(ndtri(0.5 + confidence / 2)) * error
    if error < 1e-12 and value in (0.0, 1.0):
        reach = 1 - (1 - confidence) ** (1 / min(m, n))
    return Estimate(value=value, low=max(0.0, value - reach), high=min(1.0, value + reach), n=m + n)


def tpr_at(members: Scores, controls: Scores, fpr: float) -> Estimate | None:
    """Return the share of members above the score that at most `fpr` of the controls exceed.

    The interval is Clopper and Pearson's over members. `None` where the controls cannot resolve the rate: 1,000 of them
    are asked for 0.1 %, 100 for 1 %, 10 for 10 %.
    """
    if len(controls) < _LEAST_CONTROLS.get(fpr, round(1 / fpr)) or not len(members):
        return None
    cut = np.sort(controls)[len(controls) - 1 - int(fpr * len(controls) + 1e-9)]
    return clopper_pearson(int((members > cut).sum()), len(members))


class Exchange:
    """The null hypothesis that members and controls are exchangeable, by permutation; shared by all attacks of a run.

    The statistic is the largest of seven standardised ones: the area under the curve, and the number of members among
    the top 1, 2, 3, 5, 7 and 10 % of the ranking, where a leak of few subjects shows first. Taking the largest is paid
    for, as the permutations take it too (Westfall & Young 1993); the one added to both counts is that of Phipson &
    Smyth 2010, doi:10.2202/1544-6115.1585.
    """

    def __init__(self, n_member: int, n_control: int, *, seed: int) -> None:
        if min(n_member, n_control) < 2:
            raise ValueError(f"{n_member} members and {n_control} controls: needs at least 2 of each")
        self.n_member, self.n_control = n_member, n_control
        together = n_member + n_control
        draws = max(199, min(_DRAWS, _LARGEST // together))
        labels = np.zeros((draws, together), np.float32)
        labels[:, :n_member] = 1
        self._labels = np.random.default_rng(seed).permuted(labels, axis=1)

    def p_value(self, members: Scores, controls: Scores) -> float:
        """Return the one-sided p-value of the scores of `n_member` members and `n_control` controls."""
        if (len(members), len(controls)) != (self.n_member, self.n_control):
            raise ValueError(f"{len(members)} + {len(controls)} scores for {self.n_member} + {self.n_control} subjects")
        weights = _weights(np.concatenate([members, controls]))
        if not len(weights):
            return 1.0  # all alike: nothing tells anybody apart
        seen = weights[:, : self.n_member].sum(axis=1).max()
        drawn = (self._labels @ weights.T.astype(np.float32)).max(axis=1)
        return float((1 + (drawn >= seen - 1e-4).sum()) / (1 + len(drawn)))


def separation(members: Scores, controls: Scores, null: Exchange) -> Separation:
    """Say how well one score per subject tells members from controls."""
    hits = {fpr: tpr_at(members, controls, fpr) for fpr in FALSE_POSITIVE_RATES}
    return Separation(
        auc=auc(members, controls),
        tpr={fpr: estimate for fpr, estimate in hits.items() if estimate is not None},
        p_value=null.p_value(members, controls),
    )


def _weights(scores: Scores) -> Scores:
    """Return statistics as weights of subjects, `(≤ 7, n)`: a sum over members has mean 0 and one common variance."""
    from scipy.stats import rankdata

    n = len(scores)
    ranks = rankdata(scores)
    rows = [ranks]
    for share in _TOPS:
        r = max(1, round(share * n))
        cut = np.sort(scores)[n - r]
        above, tied = scores > cut, scores == cut
        rows.append(above + tied * (r - above.sum()) / tied.sum())
    centred = np.array(rows) - np.mean(rows, axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    return np.asarray((centred / np.where(spread > 0, spread, 1))[spread[:, 0] > 1e-12], np.float64)
