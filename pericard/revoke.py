"""`pericard revoke …`: the signed list of certificates that were issued, and of those that were taken back."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
import typer

from evaluation import certificate, revocation
from evaluation.certificate import CERTIFICATE, TRUST, Verified
from evaluation.envelope import Envelope, MalformedEnvelope
from evaluation.revocation import PAYLOAD_TYPE, Reason, Revocations, Withdrawal, entry_of
from evaluation.statement import write_time
from evaluation.trust import SigningKey, Trust
from pericard.errors import Exit
from pericard.options import say


def enter(folder: Path, listed: Path, *, key: Path, trust: Path | None, days: int) -> int:
    """Enter the certificate of `folder`, once it is verified, into the list; begins the list where there is none."""
    known, verified = _verified(folder, trust)
    entry = entry_of(verified.statement, verified.digest)
    return _write(listed, known, key, lambda before, now: revocation.updated(before, now=now, enter=[entry], days=days))


def withdraw(folder: Path, listed: Path, *, key: Path, trust: Path | None, days: int, reason: str, words: str) -> int:
    """Take the certificate of `folder` back. It need no longer verify: its signatures alone must fit."""
    known = _trust(trust or folder / TRUST)
    envelope = Envelope.parse((folder / CERTIFICATE).read_bytes())
    certificate.authenticate(envelope, trust=known)
    statement, digest = certificate.parse(envelope.payload), certificate.digest_of(envelope.payload)
    if reason not in set(Reason):
        raise click.BadParameter(f"{reason!r} is none of {', '.join(Reason)}", param_hint="--reason")

    def change(before: Revocations | None, now: datetime) -> Revocations:
        there = before.entries if before else ()
        entry = entry_of(statement, digest)
        taken = Withdrawal(certificate=digest, withdrawn=write_time(now), reason=Reason(reason), says=words)
        missing = [] if entry in there else [entry]
        return revocation.updated(before, now=now, enter=missing, withdraw=[taken], days=days)

    return _write(listed, known, key, change)


def renew(listed: Path, *, key: Path, trust: Path, days: int) -> int:
    """Sign the list anew, with nothing added: so that readers know it for the newest."""
    if not listed.exists():
        raise click.UsageError(f"{listed} does not exist; `enter` begins a list")
    return _write(listed, _trust(trust), key, lambda before, now: revocation.updated(before, now=now, days=days))


def sign(listed: Path, *, key: Path) -> int:
    """Add another signature to the list, a site's."""
    try:
        envelope = Envelope.parse(listed.read_bytes(), PAYLOAD_TYPE)
        signed = revocation.cosigned(envelope, SigningKey.read(key))
    except (MalformedEnvelope, ValueError) as error:
        raise click.UsageError(f"{listed}: {error}") from error
    _replace(listed, signed.canonical)
    return Exit.PASS


def _verified(folder: Path, trust: Path | None) -> tuple[Trust, Verified]:
    known = _trust(trust or folder / TRUST)
    return known, certificate.verify(folder, trust=known, now=datetime.now(UTC))


def _trust(path: Path) -> Trust:
    try:
        return Trust.parse(path.read_bytes())
    except ValueError as error:
        raise click.UsageError(f"{path} is no trust file: {error}") from error


def _write(listed: Path, trust: Trust, key: Path, change: Callable[[Revocations | None, datetime], Revocations]) -> int:
    before = revocation.read(listed.read_bytes(), trust=trust) if listed.exists() else None
    try:
        after, signer = change(before, datetime.now(UTC)), SigningKey.read(key)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if signer.key_id not in trust.keys:
        raise click.UsageError(f"{key} is a key that the trust file does not hold; nobody would accept the list")
    _replace(listed, revocation.sealed(after, signer).canonical)
    facts = {
        "number": after.number,
        "entries": len(after.entries),
        "withdrawn": len(after.withdrawn),
        "head": after.head,
    }
    typer.echo(json.dumps({**facts, "next_update": after.next_update}))
    say(f"{listed} is now list {after.number}: {len(after.entries)} entered, {len(after.withdrawn)} withdrawn")
    return Exit.PASS


def _replace(path: Path, raw: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
