"""`pericard site ledger`: what a hospital's account holds, what is left, why something was refused, what would fit."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pericard.errors import Exit

if TYPE_CHECKING:
    from client.site import Site
    from privacy.account import Account
    from privacy.charge import Charge
    from privacy.ledger import PrivacyLedger

FORMAL = ("lifetime", "lifetime delta")
SHOWN = 15  # runs in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What somebody would like to run: a block of ε, or training steps; an empty one asks nothing."""

    epsilon: float | None
    delta: float
    purpose: str
    sampling_rate: float | None
    noise_multiplier: float | None
    steps: int | None

    def charge(self, account: "Account") -> "Charge | None":
        """Return what it would cost in `account`; raises `click.UsageError` where half of it is missing."""
        from privacy.charge import PURPOSES, block, charge
        from privacy.mechanism import DpPlan

        terms = account.terms
        how: dict[str, Any] = {"composition": terms.composition, "order": terms.order}
        training = (self.sampling_rate, self.noise_multiplier, self.steps)
        if self.epsilon is None and training == (None, None, None):
            return None
        if (None in training) if self.epsilon is None else training != (None, None, None):
            raise click.UsageError(
                "ask by --would-fit, or by --sampling-rate, --noise-multiplier and --steps together, not by both"
            )
        if self.purpose not in PURPOSES:
            raise click.UsageError(f"--purpose {self.purpose}: one of {', '.join(PURPOSES)}")
        try:
            if self.epsilon is not None:
                return block(self.epsilon, self.delta, self.purpose, **how)
            rate, noise, steps = self.sampling_rate or 0.0, self.noise_multiplier or 0.0, self.steps or 0
            plan = DpPlan(
                purpose="train", sampling_rate=rate, noise_multiplier=noise, clip_norm=1.0, steps=steps, draws=1
            )
            return charge([plan], self.delta, **how)
        except ValueError as error:
            raise click.UsageError(str(error)) from error


def show(folder: Path, question: Question, *, verify: bool, events: int, as_json: bool) -> int:
    """Print the account of the site in `folder`.

    Returns:
        0; with a question 4 where it would not fit. A corrupt account raises `LedgerCorrupt`, which ends with 6.
    """
    site = opened(folder)
    ledger = account_of(site)
    facts = _facts(site, ledger, verify=verify, patience=lambda: _patience(as_json))
    account, day = ledger.today() if ledger is not None else (_fresh(site), int(time.time()) // 86_400)
    facts["fits"] = None if (asked := question.charge(account)) is None else _fits(account, asked, day)
    if as_json:
        facts["events"] = facts["events"] if events else len(facts["events"])
        sys.stdout.write(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    else:
        _print(facts, events)
    return Exit.REFUSED if facts["fits"] is not None and facts["fits"]["why_not"] else Exit.PASS


def room(folder: Path, question: Question) -> dict[str, Any] | None:
    """Return how often what is asked would fit into the account of the site in `folder`, and under which cap not."""
    site = opened(folder)
    ledger = account_of(site)
    account, day = ledger.today() if ledger is not None else (_fresh(site), int(time.time()) // 86_400)
    return None if (asked := question.charge(account)) is None else _fits(account, asked, day)


def act(folder: Path, do: Mapping[str, str], *, officer: Path | None) -> int:
    """Do what is asked of the account: `rebuild`, `witness`, `recover` or `abort` a run, `adopt` caps, `close`."""
    site = opened(folder)
    if "rebuild" in do:
        _rebuild(site)
    ledger = account_of(site)
    if ledger is None:
        raise click.UsageError(f"{folder} has no account yet: nothing was ever charged there")
    if "witness" in do:
        if site.witness is None:
            raise click.UsageError(f"{folder / 'site.yaml'} names no witness: policy.account.witness")
        ledger.bear_witness()
        _say(f"{site.witness} keeps the head of the account")
    ledger.verify()
    for run, close in ((do.get("recover"), ledger.recover), (do.get("abort"), ledger.abort)):
        if run is not None:
            event = close(run)
            _say(f"run {run} is closed: {event['payload']['amount']} spent ({event['payload']['why']})")
    if "adopt" in do:
        policy = site.policy
        ledger.revise(
            epsilon_cap=policy.epsilon_cap,
            delta_cap=policy.delta_cap,
            limits=policy.account.limits,
            officer=None if officer is None else _key(officer),
        )
        _say("the account has the caps of site.yaml")
    if "close" in do:
        if do["close"] != site.name:
            raise click.UsageError(f"--close {do['close']}: to end the account for good, give the site's name")
        ledger.close()
        _say("the account is closed: nothing is charged to it any more")
    return Exit.PASS


def opened(folder: Path) -> "Site":
    """Return the site of `folder`; raises `click.UsageError` where there is none."""
    from client.site import Site

    try:
        return Site(folder)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def account_of(site: "Site") -> "PrivacyLedger | None":
    """Return the site's account with the caps it has, whatever its `site.yaml` says by now; `None` for none yet."""
    from client.site import LEDGER
    from privacy.ledger import PrivacyLedger

    path = site.folder / LEDGER
    if not path.exists() and not path.with_suffix(".jsonl").exists():
        return None
    return PrivacyLedger.at(path, key=site.signing_key, witness=site.witness)


def _rebuild(site: "Site") -> None:
    from client.site import LEDGER
    from privacy.chain import EventChain

    chain = EventChain(site.folder / LEDGER, key=site.signing_key, witness=site.witness)
    chain.rebuild()
    _say(f"made again from its journal: {len(chain.verify())} events; open runs will cost their whole reserve")


def _fresh(site: "Site") -> "Account":
    """Return the account that the first charge would open."""
    from privacy.account import Account, Shard
    from privacy.caps import Caps

    policy = site.policy
    caps = Caps.of(policy.epsilon_cap, policy.delta_cap, policy.account.limits)
    return Account(terms=policy.account.terms, caps=caps, officer=policy.account.officer, shards=[Shard()])


def _facts(
    site: "Site", ledger: "PrivacyLedger | None", *, verify: bool, patience: Callable[[], Any]
) -> dict[str, Any]:
    events: list[dict[str, Any]] = []
    if ledger is not None:
        with patience():
            events = ledger.verify() if verify else ledger.events()
    account, day = ledger.today() if ledger is not None else (_fresh(site), int(time.time()) // 86_400)
    epsilon, delta = account.stated()
    refused = next((e for e in reversed(events) if e["kind"] == "deny"), None)
    wanted, held = _fresh(site).caps.to_json(), account.caps.to_json()
    return {
        "site": site.name,
        "composition": account.terms.composition,
        "order": account.terms.order if account.terms.composition == "renyi" else None,
        "unit": account.terms.unit,
        "epsilon": epsilon,
        "delta": delta,
        "epsilon_cap": float(account.caps.epsilon),
        "delta_cap": float(account.caps.delta),
        "closed": account.closed,
        "caps": [
            {
                "name": room.name,
                "governance": room.name not in FORMAL,
                "most": float(room.most),
                "spent": float(room.spent),
                "reserved": float(room.reserved),
                "left": float(room.left),
            }
            for room in account.rooms(list(range(account.terms.shards)), day)
        ],
        "runs": _runs(events, account),
        "last_refusal": None
        if refused is None
        else {"utc": refused["utc"], "run": refused["run"], "reason": refused["payload"]["reason"]},
        "site_yaml_differs": sorted(name for name in held if wanted[name] != held[name]),
        "verified": "journal, witness and file, too" if verify and events else "every event",
        "head": {"seq": events[-1]["seq"], "head": events[-1]["hash"]} if events else None,
        "events": events,
    }


def _runs(events: list[dict[str, Any]], account: "Account") -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        run, payload = event["run"], event["payload"]
        if event["kind"] == "reserve":
            found[run] = {
                "run": run,
                "utc": event["utc"],
                "epsilon": float(payload["epsilon"]),
                "delta": float(payload["delta"]),
                "reserved": float(payload["amount"]),
                "steps": 0,
                "of": sum(part["steps"] for part in payload["parts"].values()),
                "ended": None,
                "charged": None,
            }
        elif event["kind"] == "step_intent":
            found[run]["steps"] += payload["steps"]
        elif event["kind"] in ("commit", "abort", "recover") and run:
            found[run] |= {"ended": event["kind"], "charged": float(payload["amount"])}
    for run, entry in found.items():
        entry["doubt"] = run in account.runs and account.runs[run].doubt
    return list(found.values())


def _fits(account: "Account", asked: "Charge", day: int) -> dict[str, Any]:
    """Return how often a charge would fit, `None` for without end, and under which cap it would first not."""
    shards = list(range(account.terms.shards))
    why = "the account is closed" if account.closed else account.excess(asked, shards, day)
    times: dict[str, int] = {}
    for room in account.rooms(shards, day):
        if (amount := room.asked(asked)) and room.name != "run":
            times[room.name] = int(room.left // amount)
    first = min(times, key=lambda name: times[name], default=None)
    return {
        "epsilon": float(asked.epsilon),
        "delta": float(asked.delta),
        "amount": float(asked.amount),
        "times": 0 if why else None if first is None else times[first],
        "first_reached": first,
        "why_not": why or None,
    }


def _print(facts: Mapping[str, Any], events: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    order = f" at order {facts['order']:g}" if facts["order"] else ""
    console.print(
        f"Account of [bold]{escape(facts['site'])}[/]: {facts['composition']} composition{order}, "
        f"{len(facts['events'])} events{', closed' if facts['closed'] else ''}",
        highlight=False,
    )
    if not facts["events"]:
        console.print("Nothing was ever charged here; the caps are those of site.yaml.")
    console.print(
        f"One patient: ε = {facts['epsilon']:.4g} of {facts['epsilon_cap']:.4g}, δ = {facts['delta']:.1e} "
        f"of {facts['delta_cap']:.1e}",
        highlight=False,
    )
    caps = Table("cap", f"most ({'ε' if facts['unit'] == 'epsilon' else 'ρ'})", "spent", "reserved", "left",
                 title_justify="left")  # fmt: skip
    for cap in facts["caps"]:
        numbers = (_number(cap[name]) for name in ("most", "spent", "reserved", "left"))
        caps.add_row(cap["name"] + (" (governance)" if cap["governance"] else ""), *numbers)
    console.print(caps)
    if facts["runs"]:
        runs = Table("run", "begun", "ε", "reserved", "steps", "ended", "charged", title_justify="left")
        for run in facts["runs"][-SHOWN:]:
            ended = run["ended"] or ("open, journal in doubt" if run["doubt"] else "open")
            charged = "" if run["charged"] is None else _number(run["charged"])
            runs.add_row(escape(run["run"]), run["utc"][:16], f"{run['epsilon']:.4g}", _number(run["reserved"]),
                         f"{run['steps']} of {run['of']}", ended, charged)  # fmt: skip
        console.print(runs)
    if events:
        table = Table("event", "utc", "kind", "run", "says", title_justify="left")
        for event in facts["events"][-events:]:
            table.add_row(str(event["seq"]), event["utc"][:19], event["kind"], escape(event["run"]),
                          escape(_says(event)))  # fmt: skip
        console.print(table)
    if (refusal := facts["last_refusal"]) is not None:
        console.print(f"Last refusal, {refusal['utc'][:16]}: {escape(refusal['reason'])}", highlight=False)
    if facts["site_yaml_differs"]:
        names = ", ".join(facts["site_yaml_differs"])
        console.print(f"site.yaml asks for another {names}: nothing is charged until --adopt or the file is put back.")
    if facts["fits"] is not None:
        console.print(fits_line(facts["fits"]), highlight=False)
    if facts["events"]:
        console.print(f"Verified: {facts['verified']}. Head {facts['head']['seq']} {facts['head']['head']}")


def fits_line(fits: Mapping[str, Any]) -> str:
    """Say in words what `room` found."""
    asks = f"A run of ε = {fits['epsilon']:.4g} at δ = {fits['delta']:.1e}"
    if fits["why_not"]:
        return f"{asks} does not fit: {fits['why_not']}"
    if fits["times"] is None:
        return f"{asks} fits"
    return f"{asks} fits {fits['times']} times; then the {fits['first_reached']} cap is reached"


def _says(event: Mapping[str, Any]) -> str:
    payload = event["payload"]
    if event["kind"] == "reserve":
        return f"ε {float(payload['epsilon']):.4g} at δ {payload['delta']}, amount {payload['amount']}"
    if event["kind"] == "step_intent":
        return f"{payload['steps']} steps of {payload['purpose']}"
    if event["kind"] == "deny":
        return str(payload["reason"])
    if event["kind"] in ("commit", "abort", "recover"):
        return f"{payload.get('amount', '')} {payload['why']}".strip()
    if event["kind"] == "cosign":
        return f"head {payload['seq']} was seen by {payload['by'][:12]}…"
    return ""


def _number(value: float) -> str:
    return f"{value:.4g}"


def _key(path: Path) -> Any:
    from evaluation.trust import SigningKey

    try:
        return SigningKey.read(path)
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from error


def _patience(as_json: bool) -> Any:
    from rich.console import Console

    console = Console(stderr=True, quiet=as_json)
    return console.status("verifying every event")


def _say(line: str) -> None:
    click.echo(line)
