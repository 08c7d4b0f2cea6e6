"""The certificate: a statement in a DSSE envelope, signed by the coordinator and countersigned by the sites.

A verifier checks the signatures first, with keys from a trust file outside the certificate, and parses the verified
bytes afterwards: nothing unsigned is ever interpreted as a claim. Then it hashes every file the statement speaks about.

Errors: `InvalidCertificate` (`differs` names what is not as it was signed)
  ├─ `MalformedCertificate`    the envelope is no envelope, or the verified payload no statement
  ├─ `UnknownKey`              a signature by a key that the trust file does not hold
  ├─ `ForgedSignature`         a signature does not fit: the payload or the signature was changed
  ├─ `TooFewSignatures`        fewer names of a role than the trust file asks for
  ├─ `NotYetValid`, `Expired`  issued in the future; or too old
  ├─ `ContradictoryStatement`  a verdict that its own policy does not reach from its own findings
  ├─ `PolicyMismatch`          the policy inside is not the one whose digest is signed, or not the one asked for
  ├─ `WrongRelease`            the folder is whole, but it is another release
  ├─ `FilesDiffer`             files were added, removed or changed
  └─ `Withdrawn`, `Superseded`, `BrokenChain`   in `evaluation.revocation`: what happened to it since
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evaluation.envelope import Envelope, MalformedEnvelope, Signature, pae, seal
from evaluation.statement import Contradiction, ForeignPolicy, Statement, Subject, read_time
from evaluation.trust import SigningKey, Trust
from synthesis.canonical import dumps, loads
from synthesis.manifest import MANIFEST, Differences, MalformedManifest, Manifest, StrangeFile

CERTIFICATE, TRUST, REPORT = "certificate.json", "trust.json", "report.html"
RELEASE, RELEASE_MANIFEST = "release", f"release/{MANIFEST}"
MERKLE, SHA256 = "merkle_sha256", "sha256"
CLOCK_SKEW = timedelta(minutes=5)


class InvalidCertificate(ValueError):
    """A certificate that must not be relied on; `differs` names what is not as it was signed."""

    def __init__(self, reason: str, *differs: str) -> None:
        super().__init__(reason)
        self.differs = differs


class MalformedCertificate(InvalidCertificate):
    """The envelope is no envelope, or the verified payload is no statement."""


class UnknownKey(InvalidCertificate):
    """Somebody signed whom the trust file does not know."""


class ForgedSignature(InvalidCertificate):
    """A signature that does not fit the bytes."""


class TooFewSignatures(InvalidCertificate):
    """Fewer signatures than the trust file asks for."""


class NotYetValid(InvalidCertificate):
    """Issued in the future: a clock is wrong, or somebody turned it back."""


class Expired(InvalidCertificate):
    """Its life is over."""


class ContradictoryStatement(InvalidCertificate):
    """Signed, but its sections disagree."""


class PolicyMismatch(InvalidCertificate):
    """Decided by another policy."""


class WrongRelease(InvalidCertificate):
    """A whole release, but not the certified one."""


class FilesDiffer(InvalidCertificate):
    """The files are not as they were certified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a successful verification established.

    Attributes:
        statement: what was signed.
        signers: the names in the trust file whose signatures fit.
        absent: who was named in the statement as a signer, but did not sign; the trust file did not ask for them.
        files_checked: how many files were hashed and found as signed.
        unsigned: files beside the release that no signature covers.
        digest: SHA-256 of the signed statement, by which later certificates and withdrawals name it.
    """

    statement: Statement
    signers: tuple[str, ...]
    absent: tuple[str, ...]
    files_checked: int
    unsigned: tuple[str, ...]
    digest: str


def subjects(manifest: Manifest, documents: Mapping[str, bytes] | None = None) -> tuple[Subject, ...]:
    """Return what a statement is about: the release by its Merkle root and manifest, and the documents beside it.

    Raises:
        ValueError: a document's name is no plain file name, or one of the names that mean something else.
    """
    for name in documents or {}:
        if not _is_document(name):
            raise ValueError(f"documents: {name!r} cannot be signed; give the plain name of a file beside the release")
    return (
        Subject(name=RELEASE, digest={MERKLE: manifest.root}),
        Subject(name=RELEASE_MANIFEST, digest={SHA256: manifest.digest}),
        *(Subject(name=n, digest={SHA256: _sha256(raw)}) for n, raw in sorted((documents or {}).items())),
    )


def issue(statement: Statement, key: SigningKey) -> Envelope:
    """Return the statement in an envelope with its first signature, the coordinator's."""
    payload = dumps(statement.to_json())
    return Envelope(payload=payload, signatures=(sign(payload, key),))


def sign(payload: bytes, key: SigningKey) -> Signature:
    """Return `key`'s signature over `payload`; nobody signs what does not read as a coherent statement.

    Raises:
        MalformedCertificate, ContradictoryStatement, PolicyMismatch: as their names say.
    """
    parse(payload)
    return seal(payload, key)


def parse(payload: bytes) -> Statement:
    """Read a payload; who signed it is another question.

    Raises:
        MalformedCertificate, ContradictoryStatement, PolicyMismatch: as their names say.
    """
    try:
        return Statement.from_json(loads(payload))
    except ForeignPolicy as error:
        raise PolicyMismatch(str(error), "policy") from error
    except Contradiction as error:
        raise ContradictoryStatement(str(error), "payload") from error
    except ValueError as error:
        raise MalformedCertificate(f"not a statement: {error}", "payload") from error


def digest_of(payload: bytes) -> str:
    """Return the SHA-256 of a signed statement, by which later certificates and withdrawals name it."""
    return _sha256(payload)


def authenticate(envelope: Envelope, *, trust: Trust) -> tuple[str, ...]:
    """Check every signature and the thresholds, and return the names that signed; nothing of the payload is looked at.

    Raises:
        UnknownKey, ForgedSignature, TooFewSignatures: as their names say.
    """
    roles = signers(envelope, trust=trust)
    for role, least in trust.thresholds.items():
        there = sum(r == role for r in roles.values())
        if there < least:
            raise TooFewSignatures(f"signed by {there} of role {role}, at least {least} must", "signatures")
    return tuple(sorted(roles))


def signers(envelope: Envelope, *, trust: Trust) -> dict[str, str]:
    """Check every signature and return the names that signed, each with its role; how many must is not asked.

    Raises:
        UnknownKey, ForgedSignature: as their names say.
    """
    message, roles = pae(envelope.payload, envelope.payload_type), dict[str, str]()
    forged = list[str]()
    for signature in envelope.signatures:
        key = trust.keys.get(signature.keyid)
        if key is None:
            raise UnknownKey(f"signed by key {signature.keyid[:12]}…, which the trust file does not hold", "signatures")
        if key.name in roles:
            raise ForgedSignature(f"{key.name} stands there twice", f"signature of {key.name}")
        roles[key.name] = key.role
        if not key.verifies(signature.raw, message):
            forged.append(key.name)
    if forged:
        # If no signature fits, the payload was changed; if some do, the others were tampered with.
        by = tuple(f"signature of {name}" for name in forged)
        culprits = by if len(forged) < len(envelope.signatures) else ("payload",)
        raise ForgedSignature(f"payload and {', '.join(by)} do not fit together", *culprits)
    return roles


def verify(
    folder: Path,
    *,
    trust: Trust,
    now: datetime,
    raw: bytes | None = None,
    policy_digest: str | None = None,
    release: Path | None = None,
) -> Verified:
    """Check the certificate in `folder` and, against it, every file of `folder/release` and the documents beside it.

    Args:
        folder: holds `release/`, `certificate.json` and what else was signed.
        trust: keys and thresholds, from outside the certificate.
        now: the time to judge by, with a time zone.
        raw: the certificate's bytes, if it lies elsewhere.
        policy_digest: accept only a certificate that was decided by this policy.
        release: where the release lies, if not in `folder`, as of an audit, which keeps the manifest beside itself.

    Raises:
        InvalidCertificate: one of its kinds; `differs` lists the files.
        OSError: a file cannot be read.
    """
    try:
        envelope = Envelope.parse((folder / CERTIFICATE).read_bytes() if raw is None else raw)
    except MalformedEnvelope as error:
        raise MalformedCertificate(f"{CERTIFICATE}: {error}", error.part) from error
    signed_by = authenticate(envelope, trust=trust)
    statement = parse(envelope.payload)
    _check_life(statement, now.astimezone(UTC), policy_digest)
    signed = {subject.name: subject.digest for subject in statement.subject}
    if len(signed) != len(statement.subject):
        raise MalformedCertificate("a subject is named twice", "payload")
    elsewhere = release is not None and (folder / MANIFEST).is_file()
    where = release or folder / RELEASE
    in_release = _check_release(where, signed, listed=(folder if elsewhere else where) / MANIFEST)
    documents = _check_documents(folder, signed)
    known = {CERTIFICATE, TRUST, RELEASE, *documents, *([MANIFEST] if elsewhere else [])}
    beside = {entry.name for entry in folder.iterdir()} - known
    return Verified(
        statement=statement,
        signers=signed_by,
        absent=tuple(sorted({s.name for s in statement.predicate.signed_by} - set(signed_by))),
        files_checked=in_release + len(documents),
        unsigned=tuple(sorted(beside)),
        digest=digest_of(envelope.payload),
    )


def _check_life(statement: Statement, now: datetime, policy_digest: str | None) -> None:
    predicate = statement.predicate
    if read_time(predicate.issued) > now + CLOCK_SKEW:
        raise NotYetValid(f"issued {predicate.issued}, in the future of this machine's clock", "issued")
    if read_time(predicate.expires) <= now:
        raise Expired(f"expired {predicate.expires}", "expires")
    if policy_digest is not None and predicate.policy.digest != policy_digest:
        raise PolicyMismatch(f"decided by policy {predicate.policy.digest[:12]}…, not {policy_digest[:12]}…", "policy")


def _check_release(release: Path, signed: Mapping[str, Mapping[str, str]], *, listed: Path) -> int:
    if not {RELEASE, RELEASE_MANIFEST} <= set(signed):
        raise MalformedCertificate("the statement names no release", "payload")
    try:
        raw = listed.read_bytes()
    except FileNotFoundError as error:
        raise FilesDiffer(f"{RELEASE_MANIFEST} is missing", RELEASE_MANIFEST) from error
    try:
        manifest = Manifest.parse(raw)
        differences = manifest.compare(release)
    except StrangeFile as error:
        raise FilesDiffer(f"{RELEASE}/{error}", f"{RELEASE}/{error.name}") from error
    except MalformedManifest as error:
        raise FilesDiffer(f"{RELEASE_MANIFEST} is not as signed: {error}", RELEASE_MANIFEST) from error
    if _sha256(raw) != signed[RELEASE_MANIFEST].get(SHA256) or manifest.root != signed[RELEASE].get(MERKLE):
        if not differences:
            raise WrongRelease("a whole release, but not the one this certificate is about", RELEASE_MANIFEST)
        raise FilesDiffer(f"{RELEASE_MANIFEST} is not as signed", RELEASE_MANIFEST)
    if differences:
        raise FilesDiffer(_words(differences), *_in_release(differences))
    return len(manifest.files) + 1


def _check_documents(folder: Path, signed: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Hash the signed documents. A report that nobody signed must not borrow the weight of a certificate beside it."""
    documents = tuple(sorted(set(signed) - {RELEASE, RELEASE_MANIFEST}))
    if strange := [name for name in documents if not _is_document(name)]:
        raise MalformedCertificate(f"subject {strange[0]!r} is no file beside the release", "payload")
    changed = [n for n in documents if _digest(folder / n) != signed[n].get(SHA256)]
    if REPORT not in documents and (folder / REPORT).exists():
        changed.append(REPORT)
    if changed:
        raise FilesDiffer(f"not as signed: {', '.join(changed)}", *changed)
    return documents


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.exists():
        return "absent"
    return _sha256(path.read_bytes())


def _is_document(name: str) -> bool:
    return Path(name).name == name and name not in ("", ".", "..", RELEASE, CERTIFICATE, TRUST)


def _in_release(differences: Differences) -> tuple[str, ...]:
    return tuple(f"{RELEASE}/{n}" for n in (*differences.changed, *differences.removed, *differences.added))


def _words(differences: Differences) -> str:
    kinds = {"changed": differences.changed, "removed": differences.removed, "added": differences.added}
    return "; ".join(f"{len(paths)} {kind}" for kind, paths in kinds.items() if paths)


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
