"""What a release is good for, for whom least, and how near it comes to what is real: records of a certificate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import NormalDist

from evaluation.evidence import Verdict
from evaluation.schema import LATER

FEWEST = 20  # patients of a group: of fewer, the worst is nearly a matter of chance
UNITS = ("_points", "_mm", "_pixels", "_frames", "_ms")  # how metrics end that are no shares
OVERALL = (  # metrics of all patients together, which no single one has
    "balanced_accuracy", "macro_f1", "calibration_error", "brier", "rmse_points", "r_squared", "bias_points",
    "agreement_low_points", "agreement_high_points", "auroc_below_40", "auroc_below_50",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Utility:
    """One downstream task under one arm of training, on real test patients.

    Attributes:
        trivial: what a predictor reaches that looks at no picture.
        difference, difference_ci: to the same network trained on real studies, paired by patient and so oriented that
            more is better; 95 % interval.
        p, p_holm: of "worse by the margin or more", before and after Holm's correction over tasks.
        verdict: of non-inferiority; equivalent: of both one-sided tests at the same margin.
    """

    task: str
    arm: str
    metric: str
    n_patients: int
    n_seeds: int
    estimate: float | None
    ci: tuple[float, float] | None
    margin: float | None = None
    test: str = ""
    trivial: float | None = field(default=None, metadata=LATER)
    difference: float | None = field(default=None, metadata=LATER)
    difference_ci: tuple[float, float] | None = field(default=None, metadata=LATER)
    p: float | None = field(default=None, metadata=LATER)
    p_holm: float | None = field(default=None, metadata=LATER)
    verdict: Verdict | None = field(default=None, metadata=LATER)
    equivalent: Verdict | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """How test patients of one group fare."""

    group: str
    n_patients: int
    estimate: float
    ci: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """How unequally groups of test patients fare in one task under one arm of training.

    Attributes:
        by: what tells the groups apart: a column of the sites' tables, or `site`.
        groups: those of at least `FEWEST` patients, at least two, by name.
        worst: the group with the lowest estimate.
        gap, gap_ci: how far it lies below the highest, with a 95 % interval that allows for having looked at all pairs.
        gap_change, gap_change_ci: gap of this arm minus that of training on real studies, paired by patient.
    """

    task: str
    arm: str
    metric: str
    by: str
    groups: tuple[Group, ...]
    worst: str
    gap: float
    gap_ci: tuple[float, float]
    gap_change: float | None = field(default=None, metadata=LATER)
    gap_change_ci: tuple[float, float] | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if len({g.group for g in self.groups}) < max(2, len(self.groups)):
            raise ValueError(f"groups of {self.by} must be at least two, of different names")
        if any(g.n_patients < FEWEST for g in self.groups):
            raise ValueError(f"groups of {self.by} must have at least {FEWEST} patients")
        low, high = _extremes(self.groups)
        if self.worst != low.group or abs(self.gap - (high.estimate - low.estimate)) > 1e-9:
            raise ValueError(f"worst={self.worst!r} and gap={self.gap:g} are not those of the groups of {self.by}")

    @classmethod
    def among(cls, groups: Iterable[Group], *, task: str, arm: str, metric: str, by: str) -> "Fairness | None":
        """Return what the groups of at least `FEWEST` patients say, `None` where fewer than two are as large.

        Groups are independent, so the variances of their estimates add; the interval of the gap is Bonferroni's over
        all pairs, since worst and best are chosen after the fact.
        """
        large = tuple(sorted((g for g in groups if g.n_patients >= FEWEST), key=lambda g: g.group))
        if len(large) < 2:
            return None
        low, high = _extremes(large)
        gap, pairs = high.estimate - low.estimate, len(large) * (len(large) - 1) // 2
        error = math.hypot(*((g.ci[1] - g.ci[0]) / 2 for g in (low, high))) / NormalDist().inv_cdf(0.975)
        reach = error * NormalDist().inv_cdf(1 - 0.025 / pairs)
        return cls(
            task=task, arm=arm, metric=metric, by=by, groups=large, worst=low.group, gap=gap,
            gap_ci=(gap - reach, gap + reach),
        )  # fmt: skip

    @property
    def at_worst(self) -> Group:
        """The worst group."""
        return next(g for g in self.groups if g.group == self.worst)


def _extremes(groups: Iterable[Group]) -> tuple[Group, Group]:
    ordered = sorted(groups, key=lambda g: (g.estimate, g.group))
    return ordered[0], ordered[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How near the released pictures come to others by one measure; no patient's privacy can be read off it.

    Attributes:
        metric: its name (`fid`, `kid`, `precision`, `coverage`, `one_component`, …).
        encoder: which network's features, with its version; empty where no network looks.
        against: what the release was held against.
        n: pictures, clips or hearts of either side, the same number.
        estimate, ci: the number and its 95 % interval.
        beside, beside_ci: the same between two halves of what it was held against: how good it can be.
        reads_real: real studies were opened for it, and no ε covers the number.
    """

    metric: str
    encoder: str
    against: str
    n: int
    estimate: float | None
    ci: tuple[float, float] | None = None
    beside: float | None = None
    beside_ci: tuple[float, float] | None = None
    reads_real: bool = False
    reason: str = ""
