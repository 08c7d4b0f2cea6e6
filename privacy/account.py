"""The state of an account: what its events, read in order, add up to. No file is touched here.

A run goes none → reserved → active → closed: `reserve` holds what all its plans may cost, `step_intent` announces steps
before their result leaves, and `commit`, `abort` or `recover` closes it and spends. Every other transition is an error.

    spent     what closed runs cost; it never falls
    reserved  what open runs hold; spent and reserved together never pass a cap

The meaning of an event is never changed and no kind is ever removed, so that an old account always reads the same.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from privacy.caps import YEAR_DAYS, Caps, Room, Terms, text
from privacy.charge import EXACT, RENYI, ZERO, Charge, Part, conversion, groups_cost, total
from privacy.events import Event, canonical, verifies

VERSION = 1
DAY_SECONDS = 86_400
CLOSING = ("commit", "abort", "recover")
APPROVAL = b"pericard.ledger.caps/1\n"


class BrokenRule(ValueError):
    """An event that may not follow the ones before it."""


@dataclass(slots=True)
class Shard:
    """What the closed runs of one shard cost: in all, in δ, per purpose, and per day of the monotone time."""

    spent: Decimal = ZERO
    delta: Decimal = ZERO
    groups: dict[str, Decimal] = field(default_factory=dict)
    days: dict[int, Decimal] = field(default_factory=dict)


@dataclass(slots=True)
class OpenRun:
    """A run that is not closed: its reserve, the steps announced so far, and whether its journal may have a gap."""

    seq: int
    shards: list[int]
    amount: Decimal
    delta: Decimal
    groups: dict[str, Decimal]
    parts: dict[str, Part]
    done: dict[str, int] = field(default_factory=dict)
    doubt: bool = False


@dataclass(slots=True)
class Account:
    """Terms, caps, the second key, the charges of every shard, the open runs, and whether the account is closed."""

    terms: Terms
    caps: Caps
    officer: str
    shards: list[Shard]
    runs: dict[str, OpenRun] = field(default_factory=dict)
    closed: bool = False

    def apply(self, event: Event) -> None:
        """Take the next event in; raises `BrokenRule` where it may not come now or charges another amount."""
        kind, run, payload = event["kind"], event["run"], event["payload"]
        if kind in ("deny", "cosign"):
            return
        if self.closed:
            raise BrokenRule(f"{kind!r} after the account was closed")
        if kind == "policy":
            self._revise(Caps.from_json(payload["caps"]), payload["approval"], event["prev_hash"])
        elif kind == "reserve":
            self._reserve(run, event["seq"], payload)
        elif kind == "step_intent":
            self._intend(run, payload)
        elif kind == "recover" and not run:
            for open_run in self.runs.values():
                open_run.doubt = True
        elif kind in CLOSING:
            self._close(run, kind, payload, event["time"] // DAY_SECONDS)
        elif kind == "close":
            if self.runs:
                raise BrokenRule(f"the account is closed while {len(self.runs)} runs are open")
            self.closed = True
        else:
            raise BrokenRule(f"{kind!r} is no kind of event")

    def cost(self, run: str, kind: str) -> dict[str, Any]:
        """Return the payload of the event `kind` that closes the open `run`: what it costs, per purpose and in all.

        A run of a basic account is one block: once a step was announced all of it is spent. At the fixed order of a
        renyi account a run may stop when it likes, and costs its announced steps; but where the journal may have a
        gap a crash costs the whole reserve. Without any announced step an abort costs nothing.
        """
        open_run = self.runs[run]
        steps = sum(open_run.done.values())
        if kind == "abort" and not steps and not open_run.doubt:
            amount, delta, groups, why = ZERO, ZERO, dict.fromkeys(open_run.groups, ZERO), "no step was announced"
        elif self.terms.composition == RENYI and not open_run.doubt:
            groups = groups_cost(open_run.parts, open_run.done)
            amount, delta, why = total(groups.values()), ZERO, f"{steps} announced steps"
        else:
            amount, delta, groups = open_run.amount, open_run.delta, dict(open_run.groups)
            why = "a gap in the journal" if open_run.doubt else "the whole reserve"
        return {
            "amount": text(amount),
            "delta": text(delta),
            "by_purpose": {name: text(value) for name, value in sorted(groups.items())},
            "steps": dict(sorted(open_run.done.items())),
            "why": why,
        }

    def rooms(self, shards: list[int], day: int) -> Iterator[Room]:
        """Yield every cap of the account with what is charged under it, for the worst off of `shards`."""
        caps, terms = self.caps, self.terms
        spent = {s: self.shards[s].spent for s in shards}
        yield self._room("lifetime", caps.lifetime(terms), spent, lambda r: r.amount)
        if terms.composition != RENYI:
            deltas = {s: self.shards[s].delta for s in shards}
            yield self._room("lifetime delta", caps.delta, deltas, lambda r: r.delta)
        for name, most in caps.per_purpose.items():
            booked = {s: self.shards[s].groups.get(name, ZERO) for s in shards}
            yield self._room(f"purpose {name}", most, booked, lambda r, n=name: r.groups.get(n, ZERO))
        if caps.per_year is not None:
            recent = {
                s: total(amount for d, amount in self.shards[s].days.items() if d >= day - YEAR_DAYS) for s in shards
            }
            yield self._room("year", caps.per_year, recent, lambda r: r.amount)
        if caps.per_run is not None:
            yield Room(name="run", most=caps.per_run, spent=ZERO, reserved=ZERO)

    def excess(self, asked: Charge, shards: list[int], day: int) -> str:
        """Return which cap a charge would pass, and by what; "" where it fits."""
        if self.terms.composition == RENYI and asked.delta > self.caps.delta:
            return f"states its epsilon at delta {text(asked.delta)}, above the account's {text(self.caps.delta)}"
        for room in self.rooms(shards, day):
            amount = room.asked(asked)
            if EXACT.add(EXACT.add(room.spent, room.reserved), amount) > room.most:
                unit = "delta" if room.name == "lifetime delta" else self.terms.unit
                return (
                    f"asks for {unit} {text(amount)}, but {text(room.spent)} is spent and {text(room.reserved)} "
                    f"reserved of the {room.name} cap {text(room.most)}"
                )
        return ""

    def stated(self) -> tuple[float, float]:
        """Return (ε, δ) of spent and reserved together, for the worst off shard."""
        held = [self.held(shard) for shard in range(self.terms.shards)]
        amount, delta = max(amount for amount, _ in held), max(delta for _, delta in held)
        if self.terms.composition != RENYI or not amount:
            return float(amount), float(delta)
        at = float(self.caps.delta)
        return max(0.0, float(amount) + conversion(self.terms.order, at)), at

    def held(self, shard: int) -> tuple[Decimal, Decimal]:
        """Return what counts against the lifetime caps of a shard: (amount, δ), spent and reserved together."""
        here = [r for r in self.runs.values() if shard in r.shards]
        return (
            EXACT.add(self.shards[shard].spent, total(r.amount for r in here)),
            EXACT.add(self.shards[shard].delta, total(r.delta for r in here)),
        )

    def _room(self, name: str, most: Decimal, spent: Mapping[int, Decimal], of: Any) -> Room:
        rooms = [
            Room(name=name, most=most, spent=gone, reserved=total(of(r) for r in self.runs.values() if s in r.shards))
            for s, gone in spent.items()
        ]
        return min(rooms, key=lambda room: EXACT.subtract(EXACT.subtract(room.most, room.spent), room.reserved))

    def _revise(self, caps: Caps, approval: str, prev_hash: str) -> None:
        """Take new caps: tighter ones at once, a looser one only where the second key has signed it, here and now."""
        if looser := caps.looser_than(self.caps):
            message = approval_message(caps, prev_hash)
            if not (self.officer and verifies(bytes.fromhex(self.officer), approval, message)):
                raise BrokenRule(f"{', '.join(looser)} cannot be raised without the account's second key")
        caps.lifetime(self.terms)
        self.caps = caps

    def _reserve(self, run: str, seq: int, payload: Mapping[str, Any]) -> None:
        if run in self.runs:
            raise BrokenRule(f"run {run!r} is reserved twice")
        parts = {
            name: Part(group=part["purpose"], steps=part["steps"], each=Decimal(part["each"]))
            for name, part in payload["parts"].items()
        }
        self.runs[run] = OpenRun(
            seq=seq,
            shards=list(payload["shards"]),
            amount=Decimal(payload["amount"]),
            delta=Decimal(payload["delta_amount"]),
            groups={name: Decimal(value) for name, value in payload["by_purpose"].items()},
            parts=parts,
        )

    def _intend(self, run: str, payload: Mapping[str, Any]) -> None:
        open_run = self.runs.get(run)
        part = None if open_run is None else open_run.parts.get(payload["purpose"])
        if open_run is None or part is None:
            raise BrokenRule(f"steps of {payload['purpose']!r} that run {run!r} did not reserve")
        taken = open_run.done.get(payload["purpose"], 0) + payload["steps"]
        if taken > part.steps:
            raise BrokenRule(f"step {taken} of {part.steps} of {payload['purpose']!r} in run {run!r}")
        open_run.done[payload["purpose"]] = taken

    def _close(self, run: str, kind: str, payload: Mapping[str, Any], day: int) -> None:
        if run not in self.runs:
            raise BrokenRule(f"{kind!r} of run {run!r}, which is not open")
        if payload != (due := self.cost(run, kind)):
            raise BrokenRule(f"run {run!r} is charged {payload.get('amount')} where {due['amount']} is due")
        open_run = self.runs.pop(run)
        amount, delta = Decimal(payload["amount"]), Decimal(payload["delta"])
        for shard in (self.shards[s] for s in open_run.shards):
            shard.spent, shard.delta = EXACT.add(shard.spent, amount), EXACT.add(shard.delta, delta)
            for name, value in payload["by_purpose"].items():
                shard.groups[name] = EXACT.add(shard.groups.get(name, ZERO), Decimal(value))
            shard.days[day] = EXACT.add(shard.days.get(day, ZERO), amount)
            for old in [d for d in shard.days if d < day - YEAR_DAYS]:
                del shard.days[old]


def opened(event: Event) -> Account:
    """Return the account that an `open` event begins; raises `BrokenRule` for any other."""
    payload = event["payload"]
    if event["kind"] != "open" or payload.get("version") != VERSION:
        raise BrokenRule(f"{event['kind']!r} of version {payload.get('version')} opens no account")
    terms = Terms(**payload["terms"])
    caps = Caps.from_json(payload["caps"])
    caps.lifetime(terms)
    return Account(terms=terms, caps=caps, officer=payload["officer"], shards=[Shard() for _ in range(terms.shards)])


def approval_message(caps: Caps, prev_hash: str) -> bytes:
    """Return what the second key signs for looser caps: them, and the head of the chain they are to follow."""
    return APPROVAL + canonical({"caps": caps.to_json(), "prev_hash": prev_hash}).encode()


def reserve_payload(charge: Charge, shards: list[int]) -> dict[str, Any]:
    """Return what a `reserve` event says of a charge, beside the plans themselves."""
    return {
        "epsilon": text(charge.epsilon),
        "amount": text(charge.amount),
        "delta_amount": text(charge.delta_amount),
        "by_purpose": {name: text(value) for name, value in sorted(charge.groups.items())},
        "parts": {
            name: {"purpose": part.group, "steps": part.steps, "each": text(part.each)}
            for name, part in charge.parts.items()
        },
        "shards": shards,
    }


def dump(account: Account) -> str:
    """Return the account as canonical JSON: the row that stands for all events so far."""
    document = {
        "terms": account.terms.to_json(),
        "caps": account.caps.to_json(),
        "officer": account.officer,
        "closed": account.closed,
        "shards": [
            [text(s.spent), text(s.delta), _texts(s.groups), {str(d): text(a) for d, a in s.days.items()}]
            for s in account.shards
        ],
        "runs": {
            name: [
                r.seq, r.shards, text(r.amount), text(r.delta), _texts(r.groups),
                {n: [p.group, p.steps, text(p.each)] for n, p in r.parts.items()}, r.done, r.doubt,
            ]
            for name, r in account.runs.items()
        },
    }  # fmt: skip
    return canonical(document)


def load(row: str) -> Account:
    """Read what `dump` wrote: `load(dump(account)) == account`."""
    document = json.loads(row)
    return Account(
        terms=Terms(**document["terms"]),
        caps=Caps.from_json(document["caps"]),
        officer=document["officer"],
        closed=document["closed"],
        shards=[
            Shard(Decimal(spent), Decimal(delta), _amounts(groups), {int(d): Decimal(a) for d, a in days.items()})
            for spent, delta, groups, days in document["shards"]
        ],
        runs={
            name: OpenRun(
                seq, shards, Decimal(amount), Decimal(delta), _amounts(groups),
                {n: Part(group=g, steps=k, each=Decimal(e)) for n, (g, k, e) in parts.items()}, done, doubt,
            )
            for name, (seq, shards, amount, delta, groups, parts, done, doubt) in document["runs"].items()
        },
    )  # fmt: skip


def _texts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: text(value) for name, value in amounts.items()}


def _amounts(texts: Mapping[str, str]) -> dict[str, Decimal]:
    return {name: Decimal(value) for name, value in texts.items()}
