"""Numbers that no single patient has, such as a calibration error: of all together, with an interval over patients.

The unit of resampling is the subject: all rows of one stay together. Arms that are resampled from one seed are paired.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import measures

Floats = NDArray[np.floating[Any]]
Statistic = Callable[[NDArray[np.int64]], float]

RESAMPLES = 200  # of which only the spread is read
REDUCED, PRESERVED = 40.0, 50.0  # ejection fractions, percent (Bozkurt et al. 2021, doi:10.1002/ejhf.2115)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overall:
    """Statistics of rows.

    Attributes:
        subject: of each row, any whole numbers, `(rows,)`.
        statistics: by name; each takes rows, repeats allowed, and may say NaN.
    """

    subject: NDArray[np.int64]
    statistics: Mapping[str, Statistic] = field(default_factory=dict)

    def sampled(self, *, seed: int, resamples: int = RESAMPLES) -> dict[str, NDArray[np.float64]]:
        """Return by name the number itself, and those of `resamples` draws of as many subjects: `(1 + resamples,)`."""
        who = np.unique(self.subject)
        rows_of = [np.flatnonzero(self.subject == s) for s in who]
        rng, everyone = np.random.default_rng(seed), np.arange(len(self.subject))
        draws = [everyone] + [
            np.concatenate([rows_of[k] for k in rng.integers(0, len(who), len(who))]) if len(who) else everyone
            for _ in range(resamples)
        ]
        return {
            name: np.array([statistic(rows) for rows in draws], np.float64)
            for name, statistic in self.statistics.items()
        }


def of_classes(probabilities: Floats, truth: NDArray[np.int64], subject: NDArray[np.int64]) -> Overall:
    """Return what is said of named classes; rows whose truth is -1 are left out.

    Args:
        probabilities: `(n, classes)`.
        truth: the class of each row, `(n,)`.
        subject: of each row, `(n,)`.
    """
    known = truth >= 0
    sure, right, named = probabilities[known], truth[known], probabilities[known].argmax(1)
    return Overall(
        subject=subject[known],
        statistics={
            "balanced_accuracy": lambda r: measures.balanced_accuracy(named[r], right[r]),
            "macro_f1": lambda r: measures.macro_f1(named[r], right[r]),
            "calibration_error": lambda r: measures.calibration_error(sure[r], right[r]),
            "brier": lambda r: measures.brier(sure[r], right[r]),
        },
    )


def of_fractions(found: Floats, known: Floats) -> Overall:
    """Return what is said of ejection fractions in percent, one of each subject, `(subjects,)`; NaN is left out.

    Errors and limits of agreement are in points; the two areas under the curve are of finding fractions below 40 and
    below 50.
    """
    both = np.isfinite(found) & np.isfinite(known)
    subject = np.flatnonzero(both)
    said, true = found[both].astype(np.float64), known[both].astype(np.float64)

    def part(at: int, r: NDArray[np.int64]) -> float:
        return measures.agreement(said[r], true[r])[at]

    def below(bound: float, r: NDArray[np.int64]) -> float:
        return measures.auroc(-said[r], true[r] < bound)

    return Overall(
        subject=subject,
        statistics={
            "rmse_points": lambda r: measures.rmse(said[r], true[r]),
            "r_squared": lambda r: measures.r_squared(said[r], true[r]),
            "bias_points": partial(part, 0),
            "agreement_low_points": partial(part, 1),
            "agreement_high_points": partial(part, 2),
            "auroc_below_40": partial(below, REDUCED),
            "auroc_below_50": partial(below, PRESERVED),
        },
    )
