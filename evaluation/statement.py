"""The signed statement: which release, and everything that is claimed about it, as an in-toto Statement v1.

A predicate cannot say PASS unless its own policy, applied to its own findings, says PASS: whoever builds one and
whoever reads one recomputes the decision (`Predicate.__post_init__`). There is no place to write a verdict by hand.

Errors: `ValueError`
  └─ `Contradiction`: the sections of a predicate disagree with each other
       └─ `ForeignPolicy`: the policy's text is not the one whose digest is signed
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from evaluation.evidence import Decision, Finding, Verdict, decide
from evaluation.policy import Lane, Policy
from evaluation.predicate import (
    PUBLIC,
    RELEASE,
    SERVER,
    Audit,
    Basis,
    Contacts,
    Dp,
    EvaluatedRule,
    Fairness,
    Fidelity,
    Filter,
    Found,
    Left,
    Number,
    PolicyRecord,
    Release,
    Repro,
    Signer,
    Site,
    Utility,
)
from evaluation.schema import LATER, decode, encode

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:pericard:certificate:v1"
LONGEST_DAYS = 548  # 18 months


class Contradiction(ValueError):
    """Two sections of a predicate disagree."""


class ForeignPolicy(Contradiction):
    """The policy's text and its signed digest disagree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """Everything claimed about a release, in the layout that auditors read."""

    id: str
    version: int
    issued: str
    expires: str
    supersedes: str | None
    revocation_url: str | None
    verdict: Verdict
    release: Release
    privacy_unit: str
    adjacency: str
    views: tuple[str, ...]
    dp: Dp
    sites: tuple[Site, ...]
    filter: Filter
    audits: tuple[Audit, ...]
    utility: tuple[Utility, ...]
    findings: tuple[Found, ...]
    policy: PolicyRecord
    repro: Repro
    limits: tuple[str, ...]
    contacts: Contacts
    signed_by: tuple[Signer, ...]
    fairness: tuple[Fairness, ...] = field(default=(), metadata=LATER)
    fidelity: tuple[Fidelity, ...] = field(default=(), metadata=LATER)
    left: tuple[Left, ...] = field(default=(), metadata=LATER)
    basis: Basis | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if not self.limits or not all(line.strip() for line in self.limits):
            raise Contradiction("limits must say something: no certificate is without them")
        days = (read_time(self.expires) - read_time(self.issued)) / timedelta(days=1)
        if not 0 < days <= LONGEST_DAYS:
            raise Contradiction(f"valid for {days:g} days; a certificate lives more than 0 and at most {LONGEST_DAYS}")
        if (self.release.lane == Lane.FORMAL) != self.dp.release_covered:
            raise Contradiction(f"lane {self.release.lane} and dp.release_covered={self.dp.release_covered} disagree")
        policy = Policy.parse(self.policy.text)
        if policy.digest != self.policy.digest:
            raise ForeignPolicy(f"the policy's text has digest {policy.digest}, signed is {self.policy.digest}")
        derived = tuple(_found(f) for f in _dp_findings(self.dp, self.sites))
        if tuple(f for f in self.findings if f.metric.startswith("dp.")) != derived:
            raise Contradiction("the dp findings are not those of the dp section")
        decision = decide(policy, map(_finding, self.findings), lane=self.release.lane)
        rules = _evaluated(decision, self.findings)
        if (decision.verdict, rules) != (self.verdict, self.policy.evaluated_rules):
            raise Contradiction(f"the policy applied to the findings says {decision.verdict}, not {self.verdict}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One thing the statement is about: a name and its digests by algorithm."""

    name: str
    digest: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The predicate bound to the bytes it is about; `Statement.from_json(s.to_json()) == s`."""

    subject: tuple[Subject, ...]
    predicate: Predicate

    def to_json(self) -> dict[str, Any]:
        """Return the in-toto Statement v1."""
        return {
            "_type": STATEMENT_TYPE,
            "subject": encode(self.subject),
            "predicateType": PREDICATE_TYPE,
            "predicate": encode(self.predicate),
        }

    @staticmethod
    def from_json(document: object) -> "Statement":
        """Read a statement strictly.

        Raises:
            ValueError: another type, a field that is unknown, missing or mistyped, or a `Contradiction`.
        """
        if not isinstance(document, dict) or set(document) != {"_type", "subject", "predicateType", "predicate"}:
            raise ValueError("a statement has exactly the fields _type, subject, predicateType, predicate")
        for name, known in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
            if document[name] != known:
                raise ValueError(f"{name} must be {known!r}, not {document[name]!r}")
        subject = decode(tuple[Subject, ...], document["subject"], "subject")
        return Statement(subject=subject, predicate=decode(Predicate, document["predicate"], "predicate"))


def state(
    *,
    subject: tuple[Subject, ...],
    policy: Policy,
    findings: Iterable[Finding],
    release: Release,
    dp: Dp,
    sites: tuple[Site, ...],
    filter: Filter,  # noqa: A002 - the field's name in the certificate
    audits: tuple[Audit, ...],
    utility: tuple[Utility, ...],
    repro: Repro,
    limits: tuple[str, ...],
    signed_by: tuple[Signer, ...],
    issued: datetime,
    valid_days: int = 365,
    contacts: Contacts | None = None,
    supersedes: str | None = None,
    revocation_url: str | None = None,
    fairness: tuple[Fairness, ...] = (),
    fidelity: tuple[Fidelity, ...] = (),
    left: tuple[Left, ...] = (),
    basis: Basis | None = None,
) -> Statement:
    """Decide the evidence and state the outcome. The formal findings (`dp.*`) are read off `dp`, never passed in.

    Raises:
        ValueError: a metric has two findings.
        Contradiction: the sections disagree, `limits` is empty, or the life is longer than 18 months.
    """
    found = tuple(_found(f) for f in (*_dp_findings(dp, sites), *findings))
    decision = decide(policy, map(_finding, found), lane=release.lane)
    moment = write_time(issued)
    return Statement(
        subject=subject,
        predicate=Predicate(
            id=_identity(subject, moment),
            version=1,
            issued=moment,
            expires=write_time(issued + timedelta(days=valid_days)),
            supersedes=supersedes,
            revocation_url=revocation_url,
            verdict=decision.verdict,
            release=release,
            privacy_unit="patient",
            adjacency="add_remove",
            views=(SERVER, PUBLIC, RELEASE),
            dp=dp,
            sites=sites,
            filter=filter,
            audits=audits,
            utility=utility,
            findings=found,
            policy=PolicyRecord(digest=policy.digest, text=policy.text, evaluated_rules=_evaluated(decision, found)),
            repro=repro,
            limits=limits,
            contacts=contacts or Contacts(),
            signed_by=signed_by,
            fairness=fairness,
            fidelity=fidelity,
            left=left,
            basis=basis,
        ),
    )


def write_time(moment: datetime) -> str:
    """Return `moment` as `2031-05-04T03:02:01Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: str) -> datetime:
    """Read `write_time`'s form and no other; raises `ValueError`."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if write_time(moment) != text:
        raise ValueError(f"{text!r} is not a time like 2031-05-04T03:02:01Z")
    return moment


def _dp_findings(dp: Dp, sites: tuple[Site, ...]) -> tuple[Finding, ...]:
    return dp.findings(largest_site=max((site.n_rounded for site in sites), default=0))


def _identity(subject: tuple[Subject, ...], moment: str) -> str:
    first = next(iter(subject[0].digest.values()), "") if subject else ""
    return f"{moment[:10]}-{first[:16]}"


def _found(finding: Finding) -> Found:
    e = finding.estimate
    number = None
    if e is not None and all(math.isfinite(x) for x in (e.value, e.low, e.high)):
        number = Number(value=float(e.value), low=float(e.low), high=float(e.high), n=int(e.n), unit=e.unit)
    return Found(
        metric=finding.metric,
        estimate=number,
        confidence=finding.confidence,
        controls={name: bool(held) for name, held in finding.controls.items()},
        how=finding.how,
    )


def _finding(found: Found) -> Finding:
    return Finding(
        metric=found.metric,
        estimate=found.estimate,
        confidence=found.confidence,
        controls=found.controls,
        how=found.how,
    )


def _evaluated(decision: Decision, found: tuple[Found, ...]) -> tuple[EvaluatedRule, ...]:
    values = {f.metric: f.estimate.value for f in found if f.estimate is not None}
    return tuple(
        EvaluatedRule(
            rule=j.rule.id,
            required=j.required,
            value=values.get(j.rule.metric),
            bound_used=j.bound_used,
            verdict=j.verdict,
            reason=j.reason,
        )
        for j in decision.judged
    )
