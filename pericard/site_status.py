"""`pericard site status`: what runs at a hospital, whom it joined, what it approved, answered, spent and refused."""

import base64
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pericard.errors import Exit

if TYPE_CHECKING:
    from client.journal import Entry
    from client.site import Site


def status(folder: Path, *, as_json: bool) -> int:
    """Print how the site in `folder` stands; raises `JournalCorrupt` where its journal was changed."""
    from pericard.ledger import opened

    told = look(opened(folder))
    if as_json:
        sys.stdout.write(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    else:
        _print(told)
    return Exit.PASS


def look(site: "Site") -> dict[str, Any]:
    """Return all of it as JSON has it; nothing in it names a patient."""
    from client.journal import FILE, OUT, verify
    from client.node import alive

    path = site.folder / FILE
    checked = verify(path.read_bytes() if path.exists() else b"", site.signing_key.public)
    left = [entry for entry in checked.entries if entry.way == OUT]
    return {
        "site": site.name,
        "sign_by": base64.b64encode(site.signing_key.public).decode(),
        "processes": alive(site),
        "joined": _joined(site),
        "approved": _approved(site),
        "spent": _spent(site),
        "answered": _answered(left),
        "refused": _refused(left),
        "journal": {"entries": len(checked.entries), "head": checked.head, "torn": checked.torn},
    }


def _joined(site: "Site") -> dict[str, str] | None:
    from client.node import Coordinator, NotReady

    try:
        found = Coordinator.read(site)
    except NotReady:
        return None
    return {"address": found.address, "public_key": found.public_key}


def _approved(site: "Site") -> list[dict[str, str]]:
    """Return what this site's people signed; of what lies there without their signature, why it does not count."""
    from client import approval

    found = []
    for path in sorted((site.folder / approval.FOLDER).glob("*.json")):
        try:
            signed = approval.approved(site, path.stem)
        except ValueError as error:
            found.append({"run": path.stem, "utc": "", "proposal": "", "void": str(error)})
            continue
        if signed is not None:
            void = "" if signed.policy_digest == approval.policy_digest(site) else "site.yaml was changed since"
            found.append({"run": signed.run, "utc": signed.utc, "proposal": signed.proposal_digest, "void": void})
    return found


def _spent(site: "Site") -> dict[str, float]:
    from pericard.ledger import account_of

    ledger, policy = account_of(site), site.policy
    epsilon, delta = ledger.today()[0].stated() if ledger is not None else (0.0, 0.0)
    return {
        "epsilon": float(epsilon), "delta": float(delta),
        "epsilon_cap": policy.epsilon_cap, "delta_cap": policy.delta_cap,
    }  # fmt: skip


def _answered(left: Iterable["Entry"]) -> list[dict[str, Any]]:
    """Return, by run, stage and message, what left: how often, how much, first and last when."""
    from client.journal import SERVED

    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for e in left:
        if e.code != SERVED:
            continue
        row = found.setdefault(
            (e.run, e.stage, e.kind),
            {"run": e.run, "stage": e.stage, "message": e.kind, "times": 0, "bytes": 0, "first": e.utc},
        )
        row |= {"times": row["times"] + 1, "bytes": row["bytes"] + e.n_bytes, "last": e.utc}
    return list(found.values())


def _refused(left: Iterable["Entry"]) -> list[dict[str, Any]]:
    """Return, by code, how often it was all that left, and when and for what message last."""
    from client.journal import SERVED

    found: dict[str, dict[str, Any]] = {}
    for e in left:
        if e.code != SERVED:
            times = found.get(e.code, {"times": 0})["times"] + 1
            found[e.code] = {"code": e.code, "times": times, "last": e.utc, "message": e.kind, "run": e.run}
    return sorted(found.values(), key=lambda row: str(row["last"]), reverse=True)


def _print(told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from pericard.status import size, wide

    console = wide(Console())

    def say(name: str, words: str) -> None:
        console.print(f"{name:<12} {escape(words)}", highlight=False, soft_wrap=True)

    def show(title: str, rows: list[dict[str, Any]], *names: str) -> None:
        if rows:
            table = Table(*names, title=title, title_justify="left", box=None)
            for row in rows:
                table.add_row(*(escape(size(row[n]) if n == "bytes" else str(row[n])[:40]) for n in names))
            console.print(table)

    say("site", told["site"])
    nodes = (f"{name} {'runs' if up else 'does not run'}" for name, up in told["processes"].items())
    say("node", ", ".join(nodes) or "never started")
    joined = told["joined"]
    say("joined", f"{joined['address']}, key {joined['public_key'][:16]}…" if joined else "nobody")
    spent = told["spent"]
    say("sign by", f"{told['sign_by']}  (for the rosters of others)")
    say("spent", f"ε = {spent['epsilon']:.3g} of {spent['epsilon_cap']:g}, δ = {spent['delta']:.1e} for one patient")
    say("journal", f"{told['journal']['entries']} entries, verified; head {told['journal']['head'][:24]}…")
    show("approved", told["approved"], "run", "utc", "proposal", "void")
    show("answered", told["answered"], "run", "stage", "message", "times", "bytes", "last")
    show("refused", told["refused"], "code", "times", "last", "message", "run")
