"""The sections of a certificate as frozen records; their names are the names in the signed JSON.

`docs/certificate.md` explains each field to a privacy officer. Fields are public record: nothing here may be about one
patient, name a machine or a person, or hold a path.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evaluation.evidence import Verdict
from evaluation.formal import PUBLIC, RELEASE, SERVER, Audited, Dp, Mechanism, Pretraining
from evaluation.policy import Lane
from evaluation.schema import LATER
from evaluation.tried import At, Audit, Decoys, Filter, Gate, Pairs, Planted, Power, Rate, Refused
from evaluation.useful import FEWEST, Fairness, Fidelity, Group, Utility

__all__ = [
    "FEWEST", "PUBLIC", "RELEASE", "SERVER", "At", "Audit", "Audited", "Basis", "Contacts", "Decoys", "Dp",
    "EvaluatedRule", "Fairness", "Fidelity", "Filter", "Found", "Gate", "Group", "Left", "Mechanism", "Number",
    "Obeyed", "Pairs", "Planted", "PolicyRecord", "Power", "Pretraining", "Rate", "Refused", "Release", "Repro",
    "Signer", "Site", "Utility",
]  # fmt: skip


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
class Site:
    """One hospital, by pseudonym: its key, its declared size, its ledger at the time of signing."""

    pseudonym: str
    key_id: str
    n_rounded: int
    ledger_head: str
    eps_spent_lifetime: float
    audit_signature: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What left one site over the whole campaign, by kind of answer, as the coordinator counted it.

    Attributes:
        site: by pseudonym.
        kind: what the messages were: `train`, `query.screen`, …
        messages, bytes: how many replies left, and how much they weigh, as sent.
        charged: charged to the site's ledger; not charged: reads no patient, or is stated among `dp.uncovered_steps`.
    """

    site: str
    kind: str
    messages: int
    bytes: int
    charged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What an audit was given, and what that allows to conclude at most.

    Attributes:
        tier: T0 to T5.
        given: what there was: the release, members, controls, a lot that told them apart, weights, code.
        allows: the strongest statement that this could have supported.
    """

    tier: str
    given: tuple[str, ...]
    allows: str


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
