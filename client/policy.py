"""What one hospital allows: written by its own people in `site.yaml`, read strictly, never taken from the network."""

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cohorts import groups
from cohorts.frames import BY_VIEW
from conf.schema import Classes
from evaluation.schema import LATER
from learning.messages import Code, Refusal
from privacy.caps import Caps, Limits, Terms
from privacy.charge import BASIC
from privacy.mechanism import MODES, DpPlan, Plan

NAME = re.compile(r"[a-z0-9][a-z0-9_\-]{0,63}")
INSTALLED = "installed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How the privacy account is kept. Composition, order and officer hold for its life, from the first charge on.

    Attributes:
        composition, order: "basic", or "renyi" at this fixed order (`privacy.charge`).
        per_run, per_year, per_purpose: governance beside the lifetime cap, in the account's own unit: ε of a basic
            account, ρ at its order of a renyi one.
        officer: public key (base64 of 32 bytes) without which no cap is ever raised; "" for none, so that none can be.
        witness: file that keeps the newest head of the account, on another disk than the site's folder; "" for none.
    """

    composition: str = BASIC
    order: float = 6.0
    per_run: float | None = None
    per_year: float | None = None
    per_purpose: Mapping[str, float] = field(default_factory=dict)
    officer: str = ""
    witness: str = ""

    def __post_init__(self) -> None:
        if self.officer and self.officer_key is None:
            raise ValueError("account: officer must be a public key: 32 bytes in base64")

    @property
    def terms(self) -> Terms:
        """The terms of the account: one shard, since training does not choose among subjects by shard."""
        return Terms(composition=self.composition, order=self.order)

    @property
    def limits(self) -> Limits:
        """The limits of the account."""
        return Limits(per_run=self.per_run, per_year=self.per_year, per_purpose=self.per_purpose)

    @property
    def officer_key(self) -> bytes | None:
        """The 32 public bytes of the second key."""
        try:
            raw = base64.b64decode(self.officer, validate=True)
        except binascii.Error:
            return None
        return raw if len(raw) == 32 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureAggregation:
    """When this site lets its changes be joined under masks; what that gives and does not give: `learning.masked`.

    Attributes:
        roster: name → public signing key (base64 of 32 bytes) of every hospital that may be in a sum, this one
            included, compared by other means than the coordinator's; empty: this site takes part in no such sum.
        min_sites: fewest hospitals that begin a sum, at least 3.
        threshold: fewest hospitals that end one, at least 2; never fewer than two thirds of those that began.
        required: answer no training in clear.
    """

    roster: Mapping[str, str] = field(default_factory=dict)
    min_sites: int = 3
    threshold: int = 2
    required: bool = False

    def __post_init__(self) -> None:
        for name, least in (("min_sites", 3), ("threshold", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"secure_aggregation: {name}={getattr(self, name)} must be at least {least}")
        if self.roster:
            from evaluation.trust import SITE, TrustedKey

            for name, key in self.roster.items():
                TrustedKey(name=name, role=SITE, public_key=key)
        if len(set(self.roster.values())) != len(self.roster):
            raise ValueError("secure_aggregation: roster gives one key two names, so one hospital could count twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The bounds that a server's proposal must keep. A proposal at least as strict is admitted, any other refused.

    Attributes:
        epsilon_cap, delta_cap: what one subject may cost over the whole life of the account.
        min_noise_multiplier: smallest σ, in units of the clip norm.
        max_sampling_rate: largest probability with which a subject enters a step. What a patient pays rises with it and
            is capped by `epsilon_cap`; at 1 nothing rests on the secrecy of who was drawn.
        max_clip_norm: largest bound on one subject's contribution.
        max_steps: most local steps of one plan, and of one message.
        learners, generators, tasks, attacks: names of the parts that may run.
        allow_scores: answer with rounded, not differentially private scores of at least `min_cell` test subjects.
        min_cell: fewest subjects behind a score.
        allow_non_dp_reference: send unnoised weights of the reference arm (`stage` "reference…"): research only.
        allow_empirical: answer exact counts and screening verdicts, which no ε covers.
        seconds_per_message: longest time for one message.
        code: digests of reviewed code; `installed` admits whatever is installed here.
        account: how the privacy account is kept.
        groups: columns of the cohort by which scores may be told apart, and the words that may leave in them, such as
            `sex: [female, male]` or bands of numbers, `age_years: [18-39, 40-64, 65-120]`. Any other cell is unknown.
        allow_shapes: answer noised moments of where members' hearts lie in the picture, under a charged plan.
        drawn_again: share of candidates, and three at least, that are drawn again here before any is held against
            patients; 1 draws all, and finds a single foreign picture for certain.
        exact_screenings: generators whose candidates may be screened exactly, over the life of this site: whoever
            alters a generator a little has another one.
        approval: admit only runs that this site's people approved (`client.approval`), to the letter.
        secure_aggregation: with whom, and under which bounds, changes are joined so that nobody sees this site's own.
    """

    epsilon_cap: float
    delta_cap: float
    min_noise_multiplier: float
    max_sampling_rate: float
    max_clip_norm: float
    max_steps: int
    learners: tuple[str, ...]
    generators: tuple[str, ...]
    tasks: tuple[str, ...]
    attacks: tuple[str, ...]
    allow_scores: bool
    min_cell: int
    allow_non_dp_reference: bool
    allow_empirical: bool
    seconds_per_message: int
    code: tuple[str, ...]
    account: Account = field(default_factory=Account)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict, metadata=LATER)
    allow_shapes: bool = field(default=False, metadata=LATER)
    drawn_again: float = field(default=0.05, metadata=LATER)
    exact_screenings: int = field(default=4, metadata=LATER)
    approval: bool = field(default=False, metadata=LATER)
    secure_aggregation: SecureAggregation = field(default_factory=SecureAggregation, metadata=LATER)

    def __post_init__(self) -> None:
        for column, listed in self.groups.items():
            groups.check(column, listed)
        for name, low, high in (
            ("epsilon_cap", 0.0, math.inf),
            ("delta_cap", 0.0, 1.0),
            ("min_noise_multiplier", 0.0, math.inf),
            ("max_clip_norm", 0.0, math.inf),
        ):
            if not low < getattr(self, name) < high:
                raise ValueError(f"{name}={getattr(self, name)} must lie between {low:g} and {high:g}")
        if not 0 < self.drawn_again <= 1:
            raise ValueError(f"drawn_again={self.drawn_again} must lie in (0, 1]")
        if self.exact_screenings < 0:
            raise ValueError(f"exact_screenings={self.exact_screenings} must be at least 0")
        if not 0 < self.max_sampling_rate <= 1:
            raise ValueError(f"max_sampling_rate={self.max_sampling_rate} must lie in (0, 1]")
        for name in ("max_steps", "min_cell", "seconds_per_message"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        Caps.of(self.epsilon_cap, self.delta_cap, self.account.limits).lifetime(self.account.terms)

    def admit(self, plans: Sequence[Plan]) -> None:
        """Raise `Refusal` unless every plan is at least as strict as this policy; words name the plan and the bound."""
        for plan in plans:
            if isinstance(plan, DpPlan):
                self._bound(plan, "min_noise_multiplier", self.min_noise_multiplier <= plan.noise_multiplier)
                self._bound(plan, "max_sampling_rate", plan.sampling_rate <= self.max_sampling_rate)
                self._bound(plan, "max_clip_norm", plan.clip_norm <= self.max_clip_norm)
                self._bound(plan, "max_steps", plan.steps <= self.max_steps)

    def allow(self, kind: str, name: str) -> None:
        """Raise `Refusal` unless the part `name` of `kind` ("learner", "generator", "task", "attack") may run.

        Learners, generators and tasks of clips stand in the same lists as those of frames.
        """
        listed = f"{kind.removeprefix('clip_')}s"
        if name not in getattr(self, listed):
            raise Refusal(Code.REFUSED_POLICY, f"{kind} {name!r} is not among the allowed ones ({listed} in site.yaml)")

    def _bound(self, plan: DpPlan, bound: str, holds: bool) -> None:
        if not holds:
            field = bound.partition("_")[2]
            words = f"plan {plan.purpose!r}: {field}={getattr(plan, field)} is laxer than the policy"
            raise Refusal(Code.REFUSED_POLICY, f"{words} ({bound}: {getattr(self, bound):g} in site.yaml)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFile:
    """The content of `site.yaml`.

    Attributes:
        name: of the site, public.
        cohort: `reader` and its fields.
        public_subjects: declared, rounded number of subjects; the only size that leaves.
        threads: of torch; equal threads give equal bits.
        policy: what may run.
        classes: what its frames are told apart by.
        engine: how per-subject gradients are taken, a mode of `privacy.gradients`; all give the same to 1e-5.
    """

    name: str
    cohort: Mapping[str, Any]
    public_subjects: int
    threads: int
    policy: Policy
    engine: str = "auto"
    classes: Classes = BY_VIEW

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name={self.name!r} must match {NAME.pattern}")
        if "reader" not in self.cohort:
            raise ValueError("cohort must name its reader: cohort: {reader: phantom, …}")
        for name in ("public_subjects", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.engine not in MODES:
            raise ValueError(f"engine={self.engine!r} must be one of {', '.join(MODES)}")


def read_site_file(path: Path) -> SiteFile:
    """Read `site.yaml`; raises `ValueError` naming the file, the key and the value where it is not as it must be."""
    from evaluation.schema import decode

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    cohort = document.pop("cohort", None) if isinstance(document, dict) else None
    if not isinstance(cohort, dict):
        raise ValueError(f"{path} must hold a mapping with the key 'cohort', itself a mapping")  # noqa: TRY004
    try:
        found = decode(_Rest, document, "site.yaml")
        return SiteFile(cohort=cohort, **{f: getattr(found, f) for f in _Rest.__slots__})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    name: str
    public_subjects: int
    threads: int
    policy: Policy
    engine: str = "auto"
    classes: Classes = BY_VIEW
