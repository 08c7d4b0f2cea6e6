"""One event as text: what is hashed, what is signed, and how both are checked.

The body is canonical JSON that holds the hash of the event before it; the hash is the SHA-256 of the body; the
signature is Ed25519 (RFC 8032) over a domain word and the hash, by the account's one key, which event 1 names. An
account without a key is possible and says so: whoever can write its file could then write all of it anew.

Errors::

    ValueError
    ├── LedgerRefusal        nothing was charged, and the refusal is itself written down as a `deny` event
    │   └── BudgetExceeded   a cap would be passed
    └── LedgerUnwritable     the account cannot be opened, locked, signed or written
    LedgerCorrupt            an event was edited, removed, reordered or inserted; the message names it
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

Event = dict[str, Any]

GENESIS = "0" * 64
DOMAIN = b"pericard.ledger.event/1\n"


class LedgerRefusal(ValueError):
    """A request the ledger does not grant; nothing was charged."""


class BudgetExceeded(LedgerRefusal):
    """Granting the request would pass a cap."""


class LedgerUnwritable(ValueError):
    """The file cannot be opened, locked, signed or written."""


class LedgerCorrupt(RuntimeError):
    """An event was edited, removed, reordered or inserted behind the chain's back; the message names it."""


class Signer(Protocol):
    """An Ed25519 key: `evaluation.trust.SigningKey` is one."""

    @property
    def public(self) -> bytes:
        """The 32 public bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature over `message`."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """An event as it is stored: number, body, hash of the body, signature in hexadecimal ("" without a key)."""

    seq: int
    body: str
    hash: str
    signature: str

    @property
    def event(self) -> Event:
        """The event, with its hash and signature."""
        return {**json.loads(self.body), "hash": self.hash, "signature": self.signature}

    @property
    def line(self) -> bytes:
        """The event as one line of the journal; `read_line` returns the row."""
        return f'{{"event":{self.body},"hash":"{self.hash}","signature":"{self.signature}"}}\n'.encode()


def seal(event: Event, key: Signer | None) -> Row:
    """Return the row of a numbered event, signed where there is a key."""
    body = canonical(event)
    digest = hashlib.sha256(body.encode()).hexdigest()
    signature = "" if key is None else key.sign(DOMAIN + digest.encode()).hex()
    return Row(event["seq"], body, digest, signature)


def check(row: Row, public: bytes | None) -> Event:
    """Return the event of `row`; raises `LedgerCorrupt` unless hash, number and signature are right."""
    if hashlib.sha256(row.body.encode()).hexdigest() != row.hash:
        raise LedgerCorrupt(f"event {row.seq} was edited: its content does not match its hash")
    try:
        event: Event = json.loads(row.body)
        number, _ = event["seq"], event["prev_hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerCorrupt(f"event {row.seq} was edited: it is no event") from error
    if number != row.seq:
        raise LedgerCorrupt(f"event {row.seq} was replaced: its content is that of event {number}")
    if public is None:
        if row.signature:
            raise LedgerCorrupt(f"event {row.seq} is signed in an account without a key")
    elif not verifies(public, row.signature, DOMAIN + row.hash.encode()):
        raise LedgerCorrupt(f"event {row.seq} does not carry the signature of the account's key")
    return {**event, "hash": row.hash, "signature": row.signature}


def follow(row: Row, before: Row | None, public: bytes | None) -> Event:
    """Return the event of `row`, which comes after `before`; raises `LedgerCorrupt` naming what does not fit."""
    at = 1 if before is None else before.seq + 1
    if row.seq != at:
        raise LedgerCorrupt(f"event {at} is missing: the next one found is event {row.seq}")
    event = check(row, public)
    if event["prev_hash"] != (GENESIS if before is None else before.hash):
        raise LedgerCorrupt(f"event {row.seq} does not follow event {row.seq - 1}: one of the two was replaced")
    return event


def public_of(first: Row) -> bytes | None:
    """Return the key that event 1 names, `None` for an account without one; raises `LedgerCorrupt` for no event 1."""
    try:
        named = json.loads(first.body)["payload"]["public_key"]
        return bytes.fromhex(named) if named else None
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerCorrupt("event 1 was edited: it names no key") from error


def read_line(line: bytes) -> Row:
    """Read one line of a journal; raises `ValueError` unless it is one."""
    document: Any = json.loads(line)
    if not isinstance(document, dict) or set(document) != {"event", "hash", "signature"}:
        raise ValueError("a line of the journal has exactly event, hash and signature")
    row = Row(int(document["event"]["seq"]), canonical(document["event"]), document["hash"], document["signature"])
    if row.line != line:
        raise ValueError("a line of the journal is canonical JSON")
    return row


def verifies(public: bytes, signature: str, message: bytes) -> bool:
    """Say whether `signature`, in hexadecimal, is that of the key `public` over `message`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def canonical(value: object) -> str:
    """Return `value` as JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
