"""`pericard verify`: is this release the certified one, whole, and by whom? Needs no network and no array library."""

import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from evaluation import certificate, revocation
from evaluation.certificate import CERTIFICATE, TRUST, InvalidCertificate, Verified
from evaluation.revocation import Revocations
from evaluation.trust import Trust
from evaluation.words import reading_aid
from pericard.errors import Exit, one_line

FROM_FOLDER = (
    "keys taken from the folder itself: this proves that nothing changed since signing, not who signed; pass --trust"
)
SHOWN = 20  # names of differing files before "and … more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Files from elsewhere to verify by.

    Attributes:
        trust: whose keys count; those of the folder itself if not given.
        revocations, kept: the newest list of withdrawals, and one from an earlier time which it must extend.
        supersedes: the certificate that this one must replace.
        release: where the release lies, if not beside the certificate.
    """

    trust: Path | None = None
    revocations: Path | None = None
    kept: Path | None = None
    supersedes: Path | None = None
    release: Path | None = None


def verify(folder: Path, asked: Asked, *, as_json: bool) -> int:
    """Verify `folder` and print the outcome.

    Returns:
        0 authentic, whole and not withdrawn as far as is known, whatever the certificate's own verdict; 5 a file cannot
        be read; 6 something is not as signed, and is named, or the certificate was withdrawn or replaced.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no ε must not turn a good release into a crash
            stream.reconfigure(errors="backslashreplace")
    now = datetime.now(UTC)
    try:
        next(folder.iterdir(), None)
        raw = (folder / CERTIFICATE).read_bytes()
        trust = _trust(asked.trust or folder / TRUST)
        verified = certificate.verify(folder, raw=raw, trust=trust, now=now, release=asked.release)
        lists = [_list(path, trust) for path in (asked.revocations, asked.kept)]
        status = revocation.status(verified, lists[0], older=lists[1], now=now)
        if asked.supersedes is not None:
            revocation.follows(verified.statement, asked.supersedes.read_bytes(), trust=trust)
    except InvalidCertificate as error:
        return _refuse(one_line(error), error.differs, Exit.INTEGRITY, kind=type(error).__name__, as_json=as_json)
    except OSError as error:
        name = _within(folder, error.filename)
        reason = f"{name}: {error.strerror or type(error).__name__}"
        return _refuse(reason, (), Exit.UNREADABLE, kind="Unreadable", as_json=as_json)
    facts = _facts(verified) | {"status": {"known": status.known, "since": status.since}}
    if as_json:
        _print_json({"ok": True, **facts, "trust": "folder" if asked.trust is None else "given"})
    else:
        _print_table({**facts, "status": status.says})
    if asked.trust is None:
        _say(f"Note: {FROM_FOLDER}")
    return Exit.PASS


def _list(path: Path | None, trust: Trust) -> Revocations | None:
    return None if path is None else revocation.read(path.read_bytes(), trust=trust)


def _trust(path: Path) -> Trust:
    raw = path.read_bytes()
    try:
        return Trust.parse(raw)
    except ValueError as error:
        raise InvalidCertificate(f"{path.name} is no trust file: {error}", path.name) from error


def _facts(verified: Verified) -> dict[str, Any]:
    predicate = verified.statement.predicate
    eps = predicate.dp.eps if predicate.dp.eps is not None else predicate.dp.generator_eps
    return {
        "id": predicate.id,
        "verdict": predicate.verdict.value,
        "lane": predicate.release.lane.value,
        "epsilon": predicate.dp.eps,
        "delta": predicate.dp.delta,
        "epsilon_generator": predicate.dp.generator_eps,
        "reading_aid": reading_aid(eps, predicate.dp.delta) if eps is not None and predicate.dp.delta else "",
        "issued": predicate.issued,
        "expires": predicate.expires,
        "policy_digest": predicate.policy.digest,
        "signers": list(verified.signers),
        "absent_signers": list(verified.absent),
        "files_checked": verified.files_checked,
        "unsigned": list(verified.unsigned),
        "limits": list(predicate.limits),
    }


def _print_table(facts: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, title="Certificate: authentic and whole", title_justify="left")
    for name, value in _lines(facts):
        style = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}.get(value, "")
        table.add_row(name, Text(_plain(value), style=style))
    Console().print(table)


def _lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("verdict", facts["verdict"]),
        ("lane", facts["lane"]),
        ("ε of the release", _epsilon(facts)),
        *([("which means", facts["reading_aid"])] if facts["reading_aid"] else []),
        ("issued", facts["issued"]),
        ("expires", facts["expires"]),
        ("since then", facts["status"]),
        ("signed by", ", ".join(facts["signers"])),
        ("files checked", str(facts["files_checked"])),
        ("certificate", facts["id"]),
    ]
    if facts["absent_signers"]:
        lines.append(("named, did not sign", ", ".join(facts["absent_signers"])))
    if facts["unsigned"]:
        lines.append(("beside it, not signed", ", ".join(facts["unsigned"])))
    return lines


def _epsilon(facts: Mapping[str, Any]) -> str:
    if facts["epsilon"] is not None:
        return f"{facts['epsilon']:.3g} per patient, δ = {facts['delta']:.1e}"
    if facts["epsilon_generator"] is not None:
        return f"none; the generator's is {facts['epsilon_generator']:.3g} per patient"
    return "none"


def _refuse(reason: str, differs: tuple[str, ...], code: Exit, *, kind: str, as_json: bool) -> int:
    names = [_plain(name) for name in differs]
    if as_json:
        _print_json({"ok": False, "kind": kind, "reason": _plain(reason), "differs": names})
        return code
    _say(f"pericard verify: {_plain(reason)}")
    for name in names[:SHOWN]:
        _say(f"  differs: {name}")
    if len(names) > SHOWN:
        _say(f"  and {len(names) - SHOWN} more")
    return code


def _within(folder: Path, filename: object) -> str:
    path = Path(str(filename)) if filename is not None else folder
    return path.relative_to(folder).as_posix() if path != folder and path.is_relative_to(folder) else str(path)


def _plain(text: str) -> str:
    """Return `text` so that a file's name can neither steer the terminal nor fail to be encoded."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _print_json(document: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(document, ensure_ascii=True, allow_nan=False))


def _say(line: str) -> None:
    typer.echo(line, err=True)
