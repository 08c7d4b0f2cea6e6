"""`pericard verify`: is this release the certified one, whole, and by whom? Needs no network and no array library."""

import io
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from evaluation import certificate
from evaluation.certificate import CERTIFICATE, TRUST, InvalidCertificate, Verified
from evaluation.trust import Trust
from pericard.errors import Exit, one_line

FROM_FOLDER = (
    "keys taken from the folder itself: this proves that nothing changed since signing, not who signed; pass --trust"
)
SHOWN = 20  # names of differing files before "and … more"


def verify(folder: Path, *, trust: Path | None, as_json: bool) -> int:
    """Verify `folder` and print the outcome.

    Returns:
        0 authentic and whole, whatever the certificate's own verdict; 5 a file cannot be read; 6 something is not as
        signed, and is named.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no ε must not turn a good release into a crash
            stream.reconfigure(errors="backslashreplace")
    now = datetime.now(UTC)
    try:
        next(folder.iterdir(), None)
        raw = (folder / CERTIFICATE).read_bytes()
        verified = certificate.verify(folder, raw=raw, trust=_trust(trust or folder / TRUST), now=now)
    except InvalidCertificate as error:
        return _refuse(one_line(error), error.differs, Exit.INTEGRITY, kind=type(error).__name__, as_json=as_json)
    except OSError as error:
        name = _within(folder, error.filename)
        reason = f"{name}: {error.strerror or type(error).__name__}"
        return _refuse(reason, (), Exit.UNREADABLE, kind="Unreadable", as_json=as_json)
    if as_json:
        _print_json({"ok": True, **_facts(verified), "trust": "folder" if trust is None else "given"})
    else:
        _print_table(verified)
    if trust is None:
        _say(f"Note: {FROM_FOLDER}")
    return Exit.PASS


def _trust(path: Path) -> Trust:
    raw = path.read_bytes()
    try:
        return Trust.parse(raw)
    except ValueError as error:
        raise InvalidCertificate(f"{path.name} is no trust file: {error}", path.name) from error


def _facts(verified: Verified) -> dict[str, Any]:
    predicate = verified.statement.predicate
    return {
        "id": predicate.id,
        "verdict": predicate.verdict.value,
        "lane": predicate.release.lane.value,
        "epsilon": predicate.dp.eps,
        "delta": predicate.dp.delta,
        "epsilon_generator": predicate.dp.generator_eps,
        "issued": predicate.issued,
        "expires": predicate.expires,
        "policy_digest": predicate.policy.digest,
        "signers": list(verified.signers),
        "absent_signers": list(verified.absent),
        "files_checked": verified.files_checked,
        "unsigned": list(verified.unsigned),
        "limits": list(predicate.limits),
    }


def _print_table(verified: Verified) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    facts = _facts(verified)
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
        ("issued", facts["issued"]),
        ("expires", facts["expires"]),
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
