"""`pericard site head`: the newest head of an account, signed by partners, so that no older copy can take its place."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click

from pericard.errors import Exit
from pericard.ledger import account_of, opened

T = TypeVar("T")


def command(folder: Path, *, sign: Path | None, record: Path | None) -> int:
    """Print this site's head, or sign the head in the file `sign`, or write a partner's signature down.

    Raises:
        click.UsageError: a file is not what it should be.
        LedgerRefusal: the signature is wrong, or the account has no such head: it, or the partner, was rolled back.
    """
    from privacy.witness import Cosigned, Head, cosign

    site = opened(folder)
    if sign is not None:
        answer = asdict(cosign(_read(sign, Head), site.signing_key))
    else:
        ledger = account_of(site)
        if ledger is None:
            raise click.UsageError(f"{folder} has no account yet: nothing was ever charged there")
        if record is not None:
            ledger.cosign(_read(record, Cosigned))
        answer = asdict(ledger.newest())
    sys.stdout.write(json.dumps(answer) + "\n")
    return Exit.PASS


def _read(path: Path, kind: type[T]) -> T:
    from evaluation.schema import decode
    from synthesis.canonical import loads

    try:
        return decode(kind, loads(path.read_bytes()))
    except ValueError as error:
        raise click.UsageError(f"{path} holds no {kind.__name__.lower()}: {error}") from error
