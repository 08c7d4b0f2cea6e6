"""What happened to a certificate since: a signed list of what was issued and what was withdrawn.

The list is an append-only log: `head` is a hash over all entries in their order, a newer list begins with the older
one's entries, and its number is greater. It is signed as certificates are, under a payload type of its own, so that
neither can pass for the other. Whoever publishes lists cannot take a withdrawal back, and cannot drop an entry, without
contradicting a list that somebody kept.

Without a fresh list nobody knows: the status is then unknown, since a date.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from evaluation.certificate import (
    CLOCK_SKEW,
    InvalidCertificate,
    MalformedCertificate,
    NotYetValid,
    TooFewSignatures,
    Verified,
    authenticate,
    digest_of,
    parse,
    signers,
)
from evaluation.envelope import Envelope, MalformedEnvelope, seal
from evaluation.schema import decode, encode
from evaluation.statement import Statement, read_time, write_time
from evaluation.trust import SigningKey, Trust
from synthesis.canonical import dumps, loads

PAYLOAD_TYPE = "application/vnd.pericard.revocations+json"
LIST, OLDER = "revocations", "older certificate"
START = "0" * 64
LIFE_DAYS = 30


class Withdrawn(InvalidCertificate):
    """It was taken back."""


class Superseded(InvalidCertificate):
    """A newer certificate replaces it: an older one is being shown again."""


class BrokenChain(InvalidCertificate):
    """What should follow on something else does not."""


class Reason(StrEnum):
    """Why a certificate is withdrawn."""

    NEW_ATTACK = "new_attack"
    LEDGER_OVERSPENT = "ledger_overspent"
    KEY_LOST = "key_lost"
    WRONG_DATA = "wrong_data"
    AUDIT_CONTRADICTS = "audit_contradicts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One certificate that was issued: digest of its statement, and of the one it supersedes."""

    certificate: str
    issued: str
    supersedes: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """One certificate that was taken back: when, why, and in words."""

    certificate: str
    withdrawn: str
    reason: Reason
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """The list. `Revocations.parse(r.payload) == r`.

    Attributes:
        version: 1.
        number: of the list; the next has a greater one.
        issued, next_update: from when it is, and until when it may be taken for the newest.
        entries: every certificate that was entered, in that order; head: hash over them.
        withdrawn: those that were taken back, in that order.
    """

    version: int = 1
    number: int
    issued: str
    next_update: str
    entries: tuple[Entry, ...]
    head: str
    withdrawn: tuple[Withdrawal, ...]

    def __post_init__(self) -> None:
        if self.version != 1 or self.number < 1:
            raise ValueError(f"version={self.version} must be 1 and number={self.number} at least 1")
        if read_time(self.next_update) <= read_time(self.issued):
            raise ValueError(f"next_update={self.next_update} is not after issued={self.issued}")
        if self.head != head_of(self.entries):
            raise ValueError("head is not the hash over the entries")
        for what, digests in (
            ("entered", [e.certificate for e in self.entries]),
            ("withdrawn", [w.certificate for w in self.withdrawn]),
        ):
            if len(set(digests)) != len(digests):
                raise ValueError(f"a certificate is {what} twice")

    @property
    def payload(self) -> bytes:
        """The bytes that are signed."""
        return dumps(encode(self))

    @staticmethod
    def parse(payload: bytes) -> "Revocations":
        """Read a payload; raises `ValueError`."""
        return decode(Revocations, loads(payload), LIST)

    def extends(self, older: "Revocations") -> bool:
        """Say whether this list may come after `older`: nothing that stood there is gone or different."""
        return (self.payload == older.payload) or (
            self.number > older.number
            and read_time(self.issued) >= read_time(older.issued)
            and self.entries[: len(older.entries)] == older.entries
            and self.withdrawn[: len(older.withdrawn)] == older.withdrawn
        )


def head_of(entries: Iterable[Entry]) -> str:
    """Return the hash over the entries in their order: each is hashed together with the hash of all before it."""
    head = START
    for entry in entries:
        head = hashlib.sha256(bytes.fromhex(head) + dumps(encode(entry))).hexdigest()
    return head


def updated(
    before: Revocations | None,
    *,
    now: datetime,
    enter: Iterable[Entry] = (),
    withdraw: Iterable[Withdrawal] = (),
    days: int = LIFE_DAYS,
) -> Revocations:
    """Return the list after `before` with more entries or withdrawals; with neither, the same list made fresh.

    Raises:
        ValueError: a certificate is entered or withdrawn twice, or `days` is not positive.
    """
    if days < 1:
        raise ValueError(f"days={days} must be at least 1")
    entries = (*(before.entries if before else ()), *enter)
    return Revocations(
        number=before.number + 1 if before else 1,
        issued=write_time(now),
        next_update=write_time(now + timedelta(days=days)),
        entries=entries,
        head=head_of(entries),
        withdrawn=(*(before.withdrawn if before else ()), *withdraw),
    )


def sealed(revocations: Revocations, key: SigningKey) -> Envelope:
    """Return the list in an envelope with its first signature."""
    signature = seal(revocations.payload, key, PAYLOAD_TYPE)
    return Envelope(payload=revocations.payload, signatures=(signature,), payload_type=PAYLOAD_TYPE)


def read(raw: bytes, *, trust: Trust) -> Revocations:
    """Read a signed list; it counts if as many of any one role signed it as the trust file asks of that role.

    So the coordinator can withdraw alone, and so can the sites where the coordinator will not.

    Raises:
        MalformedCertificate, UnknownKey, ForgedSignature, TooFewSignatures: as their names say.
    """
    try:
        envelope = Envelope.parse(raw, PAYLOAD_TYPE)
    except MalformedEnvelope as error:
        raise MalformedCertificate(f"{LIST}: {error}", LIST) from error
    roles = list(signers(envelope, trust=trust).values())
    if not any(0 < least <= roles.count(role) for role, least in trust.thresholds.items()):
        raise TooFewSignatures(f"the list of {LIST} is signed by too few of any one role", LIST)
    try:
        return Revocations.parse(envelope.payload)
    except ValueError as error:
        raise MalformedCertificate(f"{LIST}: {error}", LIST) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is known of a certificate since it was issued: `known` up to `since`, or unknown since then."""

    known: bool
    since: str
    says: str


def unknown(since: str, why: str) -> Status:
    """Return the status of a certificate about which nothing is known since a date."""
    return Status(known=False, since=since, says=f"status unknown since {since}: {why}")


def status(
    verified: Verified,
    revocations: Revocations | None,
    *,
    now: datetime,
    older: Revocations | None = None,
) -> Status:
    """Say what happened to a certificate since, as far as `revocations` knows.

    Args:
        verified: the certificate.
        revocations: the newest list at hand; `None`: nothing is known since the certificate was issued.
        now: the time to judge by.
        older: a list that was kept from an earlier time, which the newer one must extend.

    Raises:
        Withdrawn, Superseded: as their names say.
        BrokenChain: the list does not extend the older one, or contradicts the certificate.
        NotYetValid: the list was issued in the future of this machine's clock.
    """
    predicate = verified.statement.predicate
    if revocations is None:
        return unknown(predicate.issued, "no list of withdrawals was given")
    if read_time(revocations.issued) > now.astimezone(UTC) + CLOCK_SKEW:
        raise NotYetValid(f"the list was issued {revocations.issued}, in the future of this machine's clock", LIST)
    if older is not None and not revocations.extends(older):
        raise BrokenChain(f"list {revocations.number} does not extend list {older.number}", LIST)
    if taken := [w for w in revocations.withdrawn if w.certificate == verified.digest]:
        raise Withdrawn(f"withdrawn {taken[0].withdrawn} ({taken[0].reason}): {taken[0].says}", "status")
    if newer := [e for e in revocations.entries if e.supersedes == verified.digest]:
        raise Superseded(f"replaced {newer[0].issued} by certificate {newer[0].certificate[:16]}…", "status")
    named = f"list {revocations.number}"
    own = [e for e in revocations.entries if e.certificate == verified.digest]
    if own and own[0] != entry_of(verified.statement, verified.digest):
        raise BrokenChain(f"{named} enters this certificate with another date or predecessor", LIST)
    if read_time(revocations.next_update) <= now.astimezone(UTC):
        return unknown(revocations.next_update, f"{named} is out of date")
    if not own:
        return unknown(predicate.issued, f"{named} does not know this certificate")
    return Status(known=True, since=revocations.issued, says=f"not withdrawn as of {revocations.issued} ({named})")


def entry_of(statement: Statement, digest: str) -> Entry:
    """Return how a certificate stands in the log."""
    return Entry(certificate=digest, issued=statement.predicate.issued, supersedes=statement.predicate.supersedes)


def follows(statement: Statement, older: bytes, *, trust: Trust) -> Statement:
    """Check that `statement` supersedes the certificate with the bytes `older`, and return what that one said.

    Raises:
        InvalidCertificate: the older one is none, or not that one, or was issued later.
    """
    try:
        envelope = Envelope.parse(older)
    except MalformedEnvelope as error:
        raise MalformedCertificate(f"{OLDER}: {error}", OLDER) from error
    authenticate(envelope, trust=trust)
    before, digest = parse(envelope.payload), digest_of(envelope.payload)
    if statement.predicate.supersedes != digest:
        raise BrokenChain(f"it does not supersede certificate {before.predicate.id}", OLDER)
    if read_time(before.predicate.issued) > read_time(statement.predicate.issued):
        raise BrokenChain(f"certificate {before.predicate.id} is younger than the one that supersedes it", OLDER)
    return before


def cosigned(envelope: Envelope, key: SigningKey) -> Envelope:
    """Return a sealed list with one more signature; nobody signs what does not read as a list.

    Raises:
        ValueError: the payload is no list, or this key has signed already.
    """
    Revocations.parse(envelope.payload)
    return envelope.with_signature(seal(envelope.payload, key, PAYLOAD_TYPE))
