"""The newest heads of an account, kept where a backup of the account does not reach.

A chain cannot show that its newest events were cut off: an older copy of everything is a whole account. Whoever holds
a later head can. A witness is a small file that the site keeps on another disk; every event moves it on, and partners'
signatures over heads (co-signed heads) are kept in it. An account that does not hold the witness's heads is not
charged.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from privacy.events import LedgerCorrupt, Signer, canonical, verifies

DOMAIN = b"pericard.ledger.head/1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest event of an account at some time: its number and hash."""

    seq: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """A head that somebody else has seen: `by` is the public key, `signature` over the head; both hexadecimal."""

    seq: int
    head: str
    by: str
    signature: str

    def holds(self) -> bool:
        """Say whether the signature is right."""
        try:
            public = bytes.fromhex(self.by)
        except ValueError:
            return False
        return verifies(public, self.signature, _message(self.seq, self.head))


def cosign(head: Head, key: Signer) -> Cosigned:
    """Sign another's head: done by the coordinator, or by another site."""
    signature = key.sign(_message(head.seq, head.head)).hex()
    return Cosigned(seq=head.seq, head=head.head, by=key.public.hex(), signature=signature)


class Witness:
    """The heads at `path`: the newest event, and per partner the last head it signed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def heads(self) -> list[Head]:
        """Return every head that the account must hold; raises `LedgerCorrupt` where there is no witness to ask."""
        if not self.path.exists():
            raise LedgerCorrupt(f"the witness {self.path} is missing: without it nobody knows whether events were cut")
        newest, cosigned = self._read()
        return [*([] if newest is None else [newest]), *(Head(seq=c.seq, head=c.head) for c in cosigned)]

    def move(self, head: Head, also: Cosigned | None = None) -> None:
        """Take note of a newer head, and of a partner's signature; whole on disk before this returns."""
        cosigned = [c for c in self._read()[1] if also is None or c.by != also.by] + ([] if also is None else [also])
        document = {"newest": asdict(head), "cosigned": [asdict(c) for c in cosigned]}
        part = self.path.with_name(f"{self.path.name}.part")
        with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(canonical(document) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
        sync_folder(self.path.parent)

    def _read(self) -> tuple[Head | None, list[Cosigned]]:
        if not self.path.exists():
            return None, []
        try:
            document: Mapping[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            return Head(**document["newest"]), [Cosigned(**entry) for entry in document["cosigned"]]
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerCorrupt(f"{self.path} is no witness of an account: {error}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _message(seq: int, head: str) -> bytes:
    return DOMAIN + f"{seq} {head}".encode()
