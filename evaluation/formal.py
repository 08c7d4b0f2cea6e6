"""The formal part of a certificate: ε and δ per patient, of what, by which arithmetic, and how it was checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evaluation.evidence import Finding, exact
from evaluation.schema import LATER

SERVER, PUBLIC, RELEASE = "server", "public", "release"
POWER = 0.8  # of a control that counts as one


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dp:
    """The formal part: ε and δ per patient, of what, by which arithmetic, under which assumptions.

    Attributes:
        release_covered: every data-dependent step of the release is inside `eps`.
        eps: ε of the release; `None` where there is none to print.
        per_view: ε of what the server sees, of what becomes public, and of the release.
        audited: what canaries in the trainings themselves prove, beside what each claims.
        canaries: at which sites each training carried them: of every one there must be an answer in `audited`.
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
    canaries: Mapping[str, tuple[str, ...]] = field(default_factory=dict, metadata=LATER)

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

    @property
    def unheard(self) -> tuple[tuple[str, str], ...]:
        """Trainings and sites whose canaries are not accounted for."""
        heard = {(a.training, a.site) for a in self.audited}
        thrown = {(training, site) for training, sites in self.canaries.items() for site in sites}
        return tuple(sorted(thrown - heard))

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
        """Return how far what canaries prove exceeds what is claimed, at the training and site where it is most.

        Canaries that were thrown in and never heard of again leave it open, unless others refute the claim already.
        """
        worst = max(self.audited, key=lambda a: a.eps_lb - a.eps_claimed, default=None)
        unheard = self.unheard
        if worst is None or (unheard and worst.eps_lb <= worst.eps_claimed):
            silent = ", ".join(f"{training} at {site}" for training, site in unheard)
            how = f"nothing was heard of the canaries of {silent}" if unheard else ""
            return Finding(metric="dp.audit_excess", estimate=None, how=how)
        excess = exact("dp.audit_excess", worst.eps_lb - worst.eps_claimed, n=worst.canaries).estimate
        weakest = min(a.halved_noise_caught for a in self.audited)
        return Finding(
            metric="dp.audit_excess",
            estimate=excess,
            controls={"halved_noise": weakest >= POWER and all(a.eps_ceiling > a.eps_claimed for a in self.audited)},
            how=f"{worst.training} at {worst.site}: canaries prove ε ≥ {worst.eps_lb:.3g} of {worst.eps_claimed:.3g}; "
            f"half the noise would have been noticed with probability {weakest:.2f}",
        )
