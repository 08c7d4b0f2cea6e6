"""What was done to keep patients out of a release, and what was tried to find them in it: records of a certificate."""

from dataclasses import dataclass, field

from evaluation.schema import LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Altered copies of members, hidden among the candidates on purpose, and how many of them the filter caught.

    Attributes:
        family, level: how they were altered, and how strongly: 1 hardly, 5 past recognition.
        n, caught: subjects whose copy was planted, and of whom it was caught.
        lcb95: one-sided 95 % lower bound of the share caught (Clopper and Pearson 1934).
    """

    family: str
    level: int
    n: int
    caught: int
    lcb95: float

    def __post_init__(self) -> None:
        if not 0 <= self.caught <= self.n or not self.n:
            raise ValueError(f"caught={self.caught} must lie in 0..n={self.n} and n be positive")
        if not 0 <= self.lcb95 <= self.caught / self.n:
            raise ValueError(f"lcb95={self.lcb95:g} must lie in 0..{self.caught / self.n:g}, the share caught")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoys:
    """A test of one site's own screening, with made-up subjects whom an auditor added to what it compares with.

    Attributes:
        site: by pseudonym.
        n, caught: decoys of whom a copy was among the candidates, and whose copy the site refused.
        probes, refused: candidates that resemble nobody, and how many of these the site refused.
        honest: both agree with the filter's own evaluation; `False`: the site refuses or accepts whatever comes.
    """

    site: str
    n: int
    caught: int
    probes: int
    refused: int
    honest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """How well the measure of likeness tells a subject from others, on held-out subjects.

    Attributes:
        kind: which pairs of one subject: of one clip, of one study, of different studies; or a subgroup.
        n_same, n_other: subjects with such a pair; pairs of different subjects.
        auc, auc_ci: area under the ROC curve, 95 % interval over subjects.
        eer: where false and missed matches are as frequent.
        tpr_at_1e_2, tpr_at_1e_3: share recognised where one in a hundred, a thousand, strangers is mistaken.
        rank_1: share whose nearest neighbour is themselves.
    """

    kind: str
    n_same: int
    n_other: int
    auc: float | None = None
    auc_ci: tuple[float, float] | None = None
    eer: float | None = None
    tpr_at_1e_2: float | None = None
    tpr_at_1e_3: float | None = None
    rank_1: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Which share of a group of candidates the filter refused; candidates are nobody, so the number is public.

    Attributes:
        by, group: what tells the groups apart (`view`, `ef_class`), and which one.
        n, refused: candidates of it, and how many were refused, rounded as the acceptance is.
    """

    by: str
    group: str
    n: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Noised counts of subjects whom some candidate resembles: members, and controls whom the generator never saw."""

    eps: float
    members: float
    controls: float | None
    n_member: int
    n_control: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """How candidates were screened before release, how well that screening works, and how many were kept.

    Attributes:
        mode: in words.
        embedding_digest: of the measure of likeness.
        tau, tau_method, n_calib: how alike is too alike, how that was found, on how many held-out subjects.
        acceptance_rounded: share of the candidates that were kept.
        tau_false_rejection, tau_detection: what either calibration asked for; `tau` is the stricter one.
        false_rejection: share of truly new subjects that are refused at `tau`.
        eps, votes: ε of a differentially private filter in all, and votes of a subject.
        auc, eer, tpr_at_1e_3: of the hardest kind of pairs in `pairs`.
        refused: by group.
        committed: digest of what was fixed before any site was asked: generator, embedding, seed, number, τ.
        regenerated: share of the candidates that each site drew again by itself, before it looked at one.
    """

    mode: str
    embedding_digest: str | None = None
    tau: float | None = None
    tau_method: str | None = None
    n_calib: int | None = None
    acceptance_rounded: float | None = None
    tau_false_rejection: float | None = field(default=None, metadata=LATER)
    tau_detection: float | None = field(default=None, metadata=LATER)
    false_rejection: float | None = field(default=None, metadata=LATER)
    eps: float | None = field(default=None, metadata=LATER)
    votes: int | None = field(default=None, metadata=LATER)
    gate: Gate | None = field(default=None, metadata=LATER)
    auc: float | None = field(default=None, metadata=LATER)
    eer: float | None = field(default=None, metadata=LATER)
    tpr_at_1e_3: float | None = field(default=None, metadata=LATER)
    pairs: tuple[Pairs, ...] = field(default=(), metadata=LATER)
    planted: tuple[Planted, ...] = field(default=(), metadata=LATER)
    decoys: tuple[Decoys, ...] = field(default=(), metadata=LATER)
    refused: tuple[Refused, ...] = field(default=(), metadata=LATER)
    committed: str | None = field(default=None, metadata=LATER)
    regenerated: float | None = field(default=None, metadata=LATER)

    def planted_lcb95(self, levels: range = range(1, 4)) -> float | None:
        """Return the smallest lower bound over all families at these levels, `None` where a level was not planted."""
        families = {p.family for p in self.planted}
        there = {(p.family, p.level): p.lcb95 for p in self.planted}
        asked = [there.get((family, level)) for family in families for level in levels]
        bounds = [bound for bound in asked if bound is not None]
        return min(bounds) if bounds and len(bounds) == len(asked) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Successes among attempts of one run of an attack, between the ends of a 95 % interval.

    Attributes:
        of: `main` on members, `control` on people who were never seen, `naive` without the release; `copies` planted.
    """

    of: str
    successes: int
    attempts: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """The share of members that an attack finds while it mistakes at most the share `fpr` of controls."""

    fpr: float
    tpr: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """With which probability an attack notices that copies of the share `share` of the members were released."""

    share: float
    noticed: float
    runs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One attack that was tried. Its verdict stands in `policy.evaluated_rules`, in one place only.

    Attributes:
        kind: what it is about: membership, singling_out, linkability, inference, copies, disclosure, similarity.
        of: which of the members; all of them where it is empty.
        estimate, ci, metric: the number that decides, its 95 % interval, and its name.
        p, p_holm: of no leak, before and after Holm's correction over everything that was tried.
        auc, auc_ci, tpr: of a membership attack, over subjects.
        rates: of an attack that counts successes.
        power: against planted copies, at these numbers of subjects.
        smallest_leak: the smallest share of copied members that it would have noticed with probability 0.8.
        n_attempts: how often a release was held against this cohort; more than once is no longer a fresh look.
    """

    name: str
    version: str
    n_member: int
    n_control: int
    split: str
    estimate: float | None
    ci: tuple[float, float] | None
    positive_control: bool | None = None
    negative_control: bool | None = None
    blind_baseline: bool | None = None
    seed_commitment: str | None = None
    eps_lb: float | None = None
    eps_ceiling: float | None = None
    reason: str = ""
    kind: str = field(default="", metadata=LATER)
    of: str = field(default="", metadata=LATER)
    metric: str = field(default="", metadata=LATER)
    p: float | None = field(default=None, metadata=LATER)
    p_holm: float | None = field(default=None, metadata=LATER)
    auc: float | None = field(default=None, metadata=LATER)
    auc_ci: tuple[float, float] | None = field(default=None, metadata=LATER)
    tpr: tuple[At, ...] = field(default=(), metadata=LATER)
    rates: tuple[Rate, ...] = field(default=(), metadata=LATER)
    power: tuple[Power, ...] = field(default=(), metadata=LATER)
    smallest_leak: float | None = field(default=None, metadata=LATER)
    n_attempts: int = field(default=1, metadata=LATER)

    def __post_init__(self) -> None:
        for name, value in (("p", self.p), ("p_holm", self.p_holm), ("auc", self.auc)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"audit {self.name!r}: {name}={value} lies outside [0, 1]")
        if self.p is not None and self.p_holm is not None and self.p_holm < self.p:
            raise ValueError(f"audit {self.name!r}: p_holm={self.p_holm:g} is smaller than p={self.p:g}")
        if self.n_attempts < 1:
            raise ValueError(f"audit {self.name!r}: n_attempts={self.n_attempts} must be at least 1")
