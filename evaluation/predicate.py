"""The sections of a certificate as frozen records; their names are the names in the signed JSON.

`docs/certificate.md` explains each field to a privacy officer. Fields are public record: nothing here may be about one
patient, name a machine or a person, or hold a path.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

from evaluation.evidence import Finding, Verdict, exact
from evaluation.policy import Lane
from evaluation.schema import LATER

SERVER, PUBLIC, RELEASE = "server", "public", "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obeyed:
    """How a label that was asked for agrees with what the released masks show; no patient is in it.

    Attributes:
        label: what was asked for; measured says how it was found in the masks.
        n: synthetic subjects.
        low, high: least and greatest that was asked for, in units of the label.
        correlation: of asked and measured, Pearson; bias: mean of measured minus asked; error: mean of its size.
    """

    label: str
    measured: str
    n: int
    low: float
    high: float
    correlation: float
    bias: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What was released, under which lane, and for what."""

    lane: Lane
    n_samples: int
    views: tuple[str, ...]
    labels: tuple[str, ...]
    license: str
    intended_use: str
    forbidden_use: str
    obeyed: tuple[Obeyed, ...] = field(default=(), metadata=LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """One charged step: a subsampled Gaussian (`q`, `sigma`, `C`, `T`, `k_clips`) or a Laplace count (`eps` alone)."""

    step: str
    sampler: str
    q: float | None = None
    sigma: float | None = None
    C: float | None = None
    T: int | None = None
    k_clips: int | None = None
    eps: float | None = None
    delta: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """Public material that the generator started from; no ε covers the people in it."""

    dataset: str
    license: str
    covered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One private training at one site, as canaries that rode along saw it.

    Attributes:
        training: the charged step.
        site: by pseudonym.
        canaries, guessed, right: made-up subjects thrown in by coins, coins guessed afterwards, guessed right.
        eps_claimed: ε of this training alone.
        eps_lb: what the guesses prove at least, against a claim of Gaussian shape; eps_lb_pure: against any.
        eps_ceiling: what guesses without an error would have proved.
        halved_noise_caught: share of simulated trainings with half the noise whose guesses refute the claim.
    """

    training: str
    site: str
    canaries: int
    guessed: int
    right: int
    eps_claimed: float
    eps_lb: float
    eps_lb_pure: float
    eps_ceiling: float
    halved_noise_caught: float


POWER = 0.8  # of a control that counts as one


@dataclass(frozen=True, slots=True, kw_only=True)
class Dp:
    """The formal part: ε and δ per patient, of what, by which arithmetic, under which assumptions.

    Attributes:
        release_covered: every data-dependent step of the release is inside `eps`.
        eps: ε of the release; `None` where there is none to print.
        per_view: ε of what the server sees, of what becomes public, and of the release.
        audited: what canaries in the trainings themselves prove, beside what each claims.
    """

    release_covered: bool
    eps: float | None
    delta: float | None
    per_view: Mapping[str, float | None]
    accountant: str
    mechanisms: tuple[Mechanism, ...]
    charged_steps: tuple[str, ...]
    uncovered_steps: tuple[str, ...]
    assumptions: tuple[str, ...]
    noise_rng: str
    eps_if_2_sites: float | None = None
    eps_if_3_sites: float | None = None
    eps_if_duplicate_id: float | None = None
    public_pretraining: tuple[Pretraining, ...] = ()
    audited: tuple[Audited, ...] = ()

    def __post_init__(self) -> None:
        if set(self.per_view) != {SERVER, PUBLIC, RELEASE}:
            raise ValueError(
                f"per_view must name {SERVER}, {PUBLIC}, {RELEASE}, not {', '.join(sorted(self.per_view))}"
            )
        if self.release_covered != (self.eps is not None) or self.per_view[RELEASE] != self.eps:
            raise ValueError("an ε of the release is printed exactly where release_covered holds, in eps and per_view")
        if self.release_covered and self.uncovered_steps:
            raise ValueError(f"release_covered, yet uncovered: {', '.join(self.uncovered_steps)}")
        if self.release_covered and self.delta is None:
            raise ValueError("an ε without its δ says nothing")

    @property
    def generator_eps(self) -> float | None:
        """ε of the generator: as the server saw it being made, else as the public sees it, else none."""
        return next((e for e in (self.per_view[SERVER], self.per_view[PUBLIC]) if e is not None), None)

    def findings(self, *, largest_site: int) -> tuple[Finding, ...]:
        """Return what a policy judges about the formal part: ε, δ·n of the largest site, and coverage.

        Where the release has no ε of its own, `dp.eps` is that of the generator, if it has one.
        """
        eps = self.eps if self.eps is not None else self.generator_eps
        delta_n = self.delta * largest_site if self.delta is not None and eps is not None and largest_site > 0 else None
        return (
            Finding(metric="dp.eps", estimate=None) if eps is None else exact("dp.eps", eps, how=self.accountant),
            Finding(metric="dp.delta_n", estimate=None) if delta_n is None else exact("dp.delta_n", delta_n),
            exact("dp.covered", float(self.release_covered)),
            self._audit_finding(),
        )

    def _audit_finding(self) -> Finding:
        """Return how far what canaries prove exceeds what is claimed, at the training and site where it is most."""
        if not self.audited:
            return Finding(metric="dp.audit_excess", estimate=None)
        worst = max(self.audited, key=lambda a: a.eps_lb - a.eps_claimed)
        excess = exact("dp.audit_excess", worst.eps_lb - worst.eps_claimed, n=worst.canaries).estimate
        weakest = min(a.halved_noise_caught for a in self.audited)
        return Finding(
            metric="dp.audit_excess",
            estimate=excess,
            controls={"halved_noise": weakest >= POWER and all(a.eps_ceiling > a.eps_claimed for a in self.audited)},
            how=f"{worst.training} at {worst.site}: canaries prove ε ≥ {worst.eps_lb:.3g} of {worst.eps_claimed:.3g}; "
            f"half the noise would have been noticed with probability {weakest:.2f}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One hospital, by pseudonym: its key, its declared size, its ledger at the time of signing."""

    pseudonym: str
    key_id: str
    n_rounded: int
    ledger_head: str
    eps_spent_lifetime: float
    audit_signature: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """How candidates were screened before release, and how many were kept."""

    mode: str
    embedding_digest: str | None = None
    tau: float | None = None
    tau_method: str | None = None
    n_calib: int | None = None
    acceptance_rounded: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One attack that was tried. Its verdict stands in `policy.evaluated_rules`, in one place only."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Utility:
    """One downstream task under one arm of training, on real test patients."""

    task: str
    arm: str
    metric: str
    n_patients: int
    n_seeds: int
    estimate: float | None
    ci: tuple[float, float] | None
    margin: float | None = None
    test: str = ""


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
    """

    task: str
    arm: str
    metric: str
    by: str
    groups: tuple[Group, ...]
    worst: str
    gap: float
    gap_ci: tuple[float, float]

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


FEWEST = 20  # patients of a group: of fewer, the worst is nearly a matter of chance


def _extremes(groups: Iterable[Group]) -> tuple[Group, Group]:
    ordered = sorted(groups, key=lambda g: (g.estimate, g.group))
    return ordered[0], ordered[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """An estimate between its bounds, over `n` subjects."""

    value: float
    low: float
    high: float
    n: int
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finding as it is signed."""

    metric: str
    estimate: Number | None
    confidence: float
    controls: Mapping[str, bool]
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedRule:
    """What came of one rule of the policy."""

    rule: str
    required: bool
    value: float | None
    bound_used: float | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """The policy to the letter, its digest, and every rule's outcome."""

    digest: str
    text: str
    evaluated_rules: tuple[EvaluatedRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repro:
    """What one needs to run it again: code, configuration, models, seeds, versions, kind of machine.

    DP noise and subsampling are in no seed: whoever held it could take the noise away.
    """

    code_digest: str
    config_digest: str
    model_digest: str
    seeds: Mapping[str, int]
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    determinism_level: str
    replay_command: str
    code_commit: str | None = None
    container_digest: str | None = None
    lockfile_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """Whom to write to."""

    dpo: str | None = None
    security: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who is meant to sign. Who did sign is decided by the signatures and the verifier's own trust file."""

    key_id: str
    name: str
    role: str
