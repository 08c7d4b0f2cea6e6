"""What a site has spent: an account that is charged, durably, before a gradient exists.

Errors::

    ValueError
    ├── LedgerRefusal         nothing was charged, and the refusal is itself written down as a `deny` event
    │   └── BudgetExceeded    the cap would be passed
    └── LedgerUnwritable      the account cannot be written, so nothing may be spent
    LedgerCorrupt             the account was changed behind the ledger's back; names the event

Events: `open` fixes the caps, `reserve` charges a run, `intent` announces noisy steps before their result leaves,
`deny` records a refusal; each carries seq, prev_hash, utc, kind, run, payload. Amounts are decimal strings, rounded up.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

from privacy.chain import Event, EventChain, LedgerCorrupt, LedgerUnwritable
from privacy.mechanism import DpPlan, Plan, epsilon, plan_from_json

__all__ = ["BudgetExceeded", "LedgerCorrupt", "LedgerRefusal", "LedgerUnwritable", "PrivacyLedger", "Receipt"]

EPSILON_QUANTUM = Decimal("0.000001")
ACCOUNT = {"unit": "subject", "adjacency": "add or remove one", "composition": "basic", "accountant": "pld"}


class LedgerRefusal(ValueError):
    """A request the ledger does not grant; nothing was charged."""


class BudgetExceeded(LedgerRefusal):
    """Granting the request would pass a cap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Says that a run is paid for: its (ε, δ), the number of its `reserve` event and the chain's hash there."""

    run: str
    epsilon: float
    delta: float
    head: str
    seq: int


class PrivacyLedger:
    """The account of one site's subjects: add or remove one subject, basic composition over runs.

    A run is one (ε, δ) block of plans fixed before it starts; its ε is their joint composition by PLD. Nothing is ever
    refunded. The account's caps are those it was created with.

    Args:
        path: the account's file; created with its folder when absent.
        epsilon_cap: lifetime bound on the sum of ε over runs.
        delta_cap: lifetime bound on the sum of δ over runs, below 1.

    Raises:
        ValueError: if a cap is out of range or differs from the account's.
        LedgerCorrupt: if the chain of events does not verify.
        LedgerUnwritable: if the file cannot be written.
    """

    def __init__(self, path: Path, *, epsilon_cap: float, delta_cap: float) -> None:
        self._epsilon_cap = _amount("epsilon_cap", epsilon_cap)
        self._delta_cap = _delta("delta_cap", delta_cap)
        account = {**ACCOUNT, "epsilon_cap": str(self._epsilon_cap), "delta_cap": str(self._delta_cap)}
        self.path = Path(path)
        self._chain = EventChain(self.path, {"kind": "open", "run": "", "payload": account})
        opened = self._chain.events()[0]
        for name, value in account.items():
            if opened["payload"].get(name) != value:
                raise ValueError(f"{path}: account was created with {name}={opened['payload'].get(name)}, not {value}")

    def authorise(self, run: str, plans: Sequence[Plan], *, delta: float) -> Receipt:
        """Charge `run` for all its `plans` together; on disk before this returns.

        The same run with the same plans is charged once and gets the same receipt, however often it asks.

        Raises:
            BudgetExceeded: if a cap would be passed.
            LedgerRefusal: if `run` is already charged for other plans.
            ValueError: if there are no plans, they cost no finite ε at this δ, or `delta` is not in (0, 1).
        """
        _check_name("run", run)
        if not plans:
            raise ValueError(f"run {run!r} has no plans: nothing to authorise")
        asked_delta = _delta("delta", delta)
        wanted = {"plans": [plan.to_json() for plan in plans], "delta": str(asked_delta)}
        asked_epsilon = None if _reserve(self.events(), run) else _rounded_up(epsilon(plans, delta))

        def charge(events: list[Event]) -> Event:
            before = _reserve(events, run)
            if before is not None:
                if any(before["payload"][name] != value for name, value in wanted.items()):
                    return _denial(run, LedgerRefusal, f"run {run!r} is already charged for other plans")
                return before
            amount = _rounded_up(epsilon(plans, delta)) if asked_epsilon is None else asked_epsilon
            spent_epsilon, spent_delta = _spent(events)
            for name, spent, more, cap in (
                ("epsilon", spent_epsilon, amount, self._epsilon_cap),
                ("delta", spent_delta, asked_delta, self._delta_cap),
            ):
                if spent + more > cap:
                    why = f"run {run!r} asks for {name} {more}, but {spent} of the cap {cap} is spent"
                    return _denial(run, BudgetExceeded, why)
            return {"kind": "reserve", "run": run, "payload": {**wanted, "epsilon": str(amount)}}

        event = self._append(charge)
        charged = float(event["payload"]["epsilon"])
        return Receipt(run=run, epsilon=charged, delta=float(delta), head=event["hash"], seq=event["seq"])

    def intend(self, run: str, purpose: str, key: str, steps: int) -> None:
        """Announce that `steps` noisy steps of `purpose` are about to leave; on disk before this returns.

        The same `key` of a run announces once, however often it is repeated: a resumed round is not a new one.

        Raises:
            LedgerRefusal: if the run or purpose is not authorised, the steps exceed the plan, or `key` was announced
                with another content.
        """
        for name, value in (("run", run), ("purpose", purpose), ("key", key)):
            _check_name(name, value)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps={steps!r} must be a whole number of at least 1")
        wanted = {"purpose": purpose, "key": key, "steps": steps}

        def announce(events: list[Event]) -> Event:
            reserve = _reserve(events, run)
            if reserve is None:
                return _denial(run, LedgerRefusal, f"run {run!r} is not authorised")
            intents = [event for event in events if event["kind"] == "intent" and event["run"] == run]
            before = next((event for event in intents if event["payload"]["key"] == key), None)
            if before is not None and before["payload"] == wanted:
                return before
            if before is not None:
                return _denial(run, LedgerRefusal, f"key {key!r} of run {run!r} was announced with another content")
            plans = [plan_from_json(plan) for plan in reserve["payload"]["plans"]]
            allowed = sum(p.steps if isinstance(p, DpPlan) else 1 for p in plans if p.purpose == purpose)
            done = sum(event["payload"]["steps"] for event in intents if event["payload"]["purpose"] == purpose)
            if done + steps > allowed:
                why = f"run {run!r} may take {allowed} steps of {purpose!r}, took {done} and asks for {steps} more"
                return _denial(run, LedgerRefusal, why)
            return {"kind": "intent", "run": run, "payload": wanted}

        self._append(announce)

    def spent(self) -> tuple[float, float]:
        """Return (ε, δ) summed over the charged runs, each ε rounded up to a millionth."""
        spent_epsilon, spent_delta = _spent(self.events())
        return float(spent_epsilon), float(spent_delta)

    def events(self) -> list[Event]:
        """Return every event in order, each with its `hash`, after verifying the whole chain."""
        return self._chain.events()

    def head(self) -> str:
        """Return the hash of the newest event: what a partner keeps to hold this account to its past."""
        return str(self.events()[-1]["hash"])

    def _append(self, decide: Callable[[list[Event]], Event]) -> Event:
        event = self._chain.append(decide)
        if event["kind"] == "deny":
            refusal = BudgetExceeded if event["payload"]["refusal"] == BudgetExceeded.__name__ else LedgerRefusal
            raise refusal(event["payload"]["reason"])
        return event


def _denial(run: str, refusal: type[LedgerRefusal], reason: str) -> Event:
    return {"kind": "deny", "run": run, "payload": {"refusal": refusal.__name__, "reason": reason}}


def _reserve(events: list[Event], run: str) -> Event | None:
    return next((event for event in events if event["kind"] == "reserve" and event["run"] == run), None)


def _spent(events: list[Event]) -> tuple[Decimal, Decimal]:
    charged = [event["payload"] for event in events if event["kind"] == "reserve"]
    return sum((Decimal(c["epsilon"]) for c in charged), Decimal(0)), sum(
        (Decimal(c["delta"]) for c in charged), Decimal(0)
    )


def _amount(name: str, value: float) -> Decimal:
    """Return `value` as the decimal it was written as, so that sums are exact."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value} must be finite and not negative")
    return Decimal(repr(float(value)))


def _delta(name: str, value: float) -> Decimal:
    if not value < 1:
        raise ValueError(f"{name}={value} must be below 1")
    return _amount(name, value)


def _rounded_up(value: float) -> Decimal:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"epsilon={value} must be finite and not negative: these plans cannot be charged")
    return Decimal(value).quantize(EPSILON_QUANTUM, ROUND_CEILING)


def _check_name(name: str, value: str) -> None:
    if not (isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()):
        raise ValueError(f"{name}={value!r} must be 1 to 200 printable characters")
