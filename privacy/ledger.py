"""What a site has spent: an account that is charged, durably, before a gradient exists.

Errors::

    ValueError
    ├── LedgerRefusal         nothing was charged, and the refusal is itself written down as a `deny` event
    │   └── BudgetExceeded    a cap would be passed
    └── LedgerUnwritable      the account cannot be written, so nothing may be spent
    LedgerCorrupt             the account was changed behind the ledger's back; names the event

Events: `open` fixes terms and caps, `policy` changes caps, `reserve` holds what a run may cost, `step_intent` announces
noisy steps before their result leaves, `commit`, `abort` and `recover` close a run and spend, `deny` records a refusal,
`cosign` a partner's signature over the account's head, `close` ends the account. Each carries seq, prev_hash, utc,
time, actor, kind, run, key, payload and state. Amounts are decimal strings, rounded up.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from privacy.account import CLOSING, DAY_SECONDS, VERSION, Account, approval_message, reserve_payload
from privacy.caps import Caps, Limits, Room, Terms, text
from privacy.chain import Draft, EventChain, View, clock
from privacy.charge import charge
from privacy.events import Event, LedgerCorrupt, LedgerUnwritable, Signer
from privacy.mechanism import Plan
from privacy.witness import Cosigned, Head

__all__ = [
    "BudgetExceeded", "Cosigned", "Head", "LedgerCorrupt", "LedgerRefusal", "LedgerUnwritable", "Limits",
    "PrivacyLedger", "Receipt", "Terms",
]  # fmt: skip


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
    """The account of one site's subjects: add or remove one subject.

    A run reserves what all its plans may cost, announces steps before their result leaves, and is closed. In a basic
    account it is one (ε, δ) block and nothing is refunded once a step was announced; in a renyi account it costs its
    announced steps (`privacy.charge`). What was not announced in an unbroken journal is never refunded.

    Args:
        path: the account's file, created with its folder when absent; its journal stands beside it (`.jsonl`).
        epsilon_cap, delta_cap: what one subject may cost over the whole life of the account, delta_cap below 1. A renyi
            account states its ε at delta_cap.
        terms: how the account counts; those it was created with.
        limits: governance beside the lifetime cap.
        key: signs every event; the account is bound to the one it was created with. Without, the account is not signed.
        officer: 32 public bytes of the second key, without which no cap can ever be raised.
        witness: file outside the account's folder that keeps the newest head (`privacy.witness`).
        clock: tells the time.

    Raises:
        ValueError: if a cap is out of range, or terms or caps differ from the account's.
        LedgerCorrupt: if the account is not as it was written, as far as a look at its end can tell (see `verify`).
        LedgerUnwritable: if the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        epsilon_cap: float,
        delta_cap: float,
        terms: Terms | None = None,
        limits: Limits | None = None,
        key: Signer | None = None,
        officer: bytes | None = None,
        witness: Path | None = None,
        clock: Callable[[], datetime] = clock,
    ) -> None:
        terms = terms or Terms()
        caps = Caps.of(epsilon_cap, delta_cap, limits or Limits())
        caps.lifetime(terms)
        self.path = Path(path)
        self._chain = EventChain(self.path, key=key, witness=witness, clock=clock)
        opening = {
            "version": VERSION,
            "unit": "subject",
            "adjacency": "add or remove one",
            "terms": terms.to_json(),
            "caps": caps.to_json(),
            "officer": "" if officer is None else officer.hex(),
            "public_key": "" if key is None else key.public.hex(),
        }
        self._chain.create(Draft(kind="open", payload=opening))
        account, _ = self._chain.now()
        for then, asked in ((account.terms.to_json(), terms.to_json()), (account.caps.to_json(), caps.to_json())):
            for name, value in asked.items():
                if then[name] != value:
                    raise ValueError(
                        f"{path}: account was created with, or revised to {name}={then[name]}, not {value}"
                    )

    @classmethod
    def at(
        cls,
        path: Path,
        *,
        key: Signer | None = None,
        witness: Path | None = None,
        clock: Callable[[], datetime] = clock,
    ) -> "PrivacyLedger":
        """Return the account at `path`, whatever its terms and caps; raises `ValueError` where there is none."""
        if not path.exists():
            raise ValueError(f"{path}: there is no account")
        ledger = cls.__new__(cls)
        ledger.path, ledger._chain = path, EventChain(path, key=key, witness=witness, clock=clock)
        ledger._chain.now()
        return ledger

    def authorise(self, run: str, plans: Sequence[Plan], *, delta: float, shards: Sequence[int] = ()) -> Receipt:
        """Reserve for `run` what all its `plans` cost together; on disk before this returns.

        The same run with the same plans is charged once and gets the same receipt, however often it asks.

        Args:
            run: its name, new for every run of this account.
            plans: everything it will ever do; their purposes differ.
            delta: at which its ε is stated, in (0, 1).
            shards: which parts of the subjects it may draw from, each charged in full; none named means all.

        Raises:
            BudgetExceeded: if a cap would be passed for a subject of one of the shards.
            LedgerRefusal: if `run` is already charged for other plans, or two plans have one purpose.
            ValueError: if there are no plans, they cost no finite ε at this δ, or `delta` or a shard is out of range.
        """
        _check_name("run", run)
        if not plans:
            raise ValueError(f"run {run!r} has no plans: nothing to authorise")
        if not (math.isfinite(delta) and 0 < delta < 1):
            raise ValueError(f"delta={delta} must lie in (0, 1)")
        terms = self.terms
        chosen = sorted(set(shards)) if shards else list(range(terms.shards))
        if not set(chosen) <= set(range(terms.shards)):
            raise ValueError(f"shards={chosen} must lie in 0..{terms.shards - 1}")
        names = [plan.purpose for plan in plans]
        twice = next((name for name in names if names.count(name) > 1), None)
        wanted = {"plans": [plan.to_json() for plan in plans], "delta": repr(float(delta)), "shards": chosen}
        asked = None
        if twice is None and self._chain.find("reserve", run) is None:  # costs seconds: not while the account is locked
            asked = charge(plans, delta, composition=terms.composition, order=terms.order)

        def decide(view: View) -> Draft | Event:
            before = view.find("reserve", run, "")
            if before is not None and all(before["payload"][name] == value for name, value in wanted.items()):
                return before
            if before is not None:
                return _denial(run, LedgerRefusal, f"run {run!r} is already charged for other plans")
            if twice is not None or asked is None:
                return _denial(run, LedgerRefusal, f"run {run!r} has two plans of one purpose, {twice!r}")
            if view.account.closed:
                return _denial(run, LedgerRefusal, "the account is closed")
            if why := view.account.excess(asked, chosen, view.time // DAY_SECONDS):
                return _denial(run, BudgetExceeded, f"run {run!r} {why}")
            return Draft(kind="reserve", run=run, payload={**wanted, **reserve_payload(asked, chosen)})

        event = self._append(decide)
        charged = float(event["payload"]["epsilon"])
        return Receipt(run=run, epsilon=charged, delta=float(delta), head=event["hash"], seq=event["seq"])

    def intend(self, run: str, purpose: str, key: str, steps: int) -> None:
        """Announce that `steps` noisy steps of `purpose` are about to leave; on disk before this returns.

        The same `key` of a run announces once, however often it is repeated: a resumed round is not a new one.

        Raises:
            LedgerRefusal: if the run is not open, the purpose not authorised, the steps exceed the plan, or `key` was
                announced with another content.
        """
        for name, value in (("run", run), ("purpose", purpose), ("key", key)):
            _check_name(name, value)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps={steps!r} must be a whole number of at least 1")
        wanted = {"purpose": purpose, "steps": steps}

        def decide(view: View) -> Draft | Event:
            open_run = view.account.runs.get(run)
            if open_run is None:
                return _denial(run, LedgerRefusal, f"run {run!r} is {_standing(view, run)}")
            before = view.find("step_intent", run, key)
            if before is not None and before["payload"] == wanted:
                return before
            if before is not None:
                return _denial(run, LedgerRefusal, f"key {key!r} of run {run!r} was announced with another content")
            allowed = open_run.parts[purpose].steps if purpose in open_run.parts else 0
            done = open_run.done.get(purpose, 0)
            if done + steps > allowed:
                why = f"run {run!r} may take {allowed} steps of {purpose!r}, took {done} and asks for {steps} more"
                return _denial(run, LedgerRefusal, why)
            return Draft(kind="step_intent", run=run, key=key, payload=wanted)

        self._append(decide)

    def commit(self, run: str) -> Event:
        """Close a run that is over: spend its announced steps (renyi) or its reserve (basic); twice is once.

        Raises:
            LedgerRefusal: if the run was never reserved, or was closed in another way.
        """
        return self._close_run("commit", run)

    def abort(self, run: str) -> Event:
        """Close a run that will not go on; as `commit`, but all is given back where no step was ever announced.

        Raises:
            LedgerRefusal: if the run was never reserved, or was closed in another way.
        """
        return self._close_run("abort", run)

    def recover(self, run: str) -> Event:
        """Close a run that died, so that nobody can say how far it came.

        Its announced steps are spent in a renyi account whose journal has no gap since the run began, the whole
        reserve in any other: never a refund on doubt. This is asked for, by somebody who knows that the run is dead,
        and never happens when an account is opened: a site's process lives for one message, a run for hours. Recovering
        a run that still lives costs no privacy, since every later step of it is refused; it only ends the run.

        Raises:
            LedgerRefusal: if the run was never reserved, or was closed in another way.
        """
        return self._close_run("recover", run)

    def close(self) -> Event:
        """Recover every open run and end the account: nothing is charged to it again; twice is once.

        What was spent stays spent: the account follows its subjects, also under new pseudonyms.
        """
        while True:
            for run in self._chain.account().runs:
                self.recover(run)

            def decide(view: View) -> Draft | Event:
                if (before := view.find("close", "", "")) is not None:
                    return before
                if view.account.runs:  # reserved since: recover that one, too
                    return view.tail
                return Draft(kind="close", payload={"spent": text(max(s.spent for s in view.account.shards))})

            if (event := self._chain.append(decide))["kind"] == "close":
                return event

    def revise(
        self, *, epsilon_cap: float, delta_cap: float, limits: Limits | None = None, officer: Signer | None = None
    ) -> None:
        """Change the caps: tighter ones hold at once, a looser one needs the account's second key.

        Raises:
            LedgerRefusal: if a cap would be raised without the `officer` whose key the account names.
            ValueError: if a cap is out of range.
        """
        caps = Caps.of(epsilon_cap, delta_cap, limits or Limits())
        caps.lifetime(self.terms)

        def decide(view: View) -> Draft | Event:
            if caps == view.account.caps:
                return view.tail
            looser, approval = caps.looser_than(view.account.caps), ""
            if looser and (officer is None or officer.public.hex() != view.account.officer):
                return _denial("", LedgerRefusal, f"{', '.join(looser)} cannot be raised without the second key")
            if looser and officer is not None:
                approval = officer.sign(approval_message(caps, view.tail["hash"])).hex()
            payload = {"caps": caps.to_json(), "looser": looser, "approval": approval}
            return Draft(kind="policy", payload=payload)

        event = self._chain.append(decide)
        if event["kind"] == "deny":
            raise LedgerRefusal(event["payload"]["reason"])

    def cosign(self, cosigned: Cosigned) -> None:
        """Write down that a partner signed a head of this account; its witness, where there is one, holds us to it.

        Raises:
            LedgerRefusal: if the signature is wrong, or the account has no such head.
        """

        def decide(view: View) -> Draft | Event:
            if not cosigned.holds():
                return _denial("", LedgerRefusal, f"the signature over head {cosigned.seq} is not that of its key")
            if not self._chain.holds(Head(seq=cosigned.seq, head=cosigned.head)):
                return _denial("", LedgerRefusal, f"event {cosigned.seq} of this account has another hash")
            payload = {
                "seq": cosigned.seq, "head": cosigned.head, "by": cosigned.by, "signature": cosigned.signature,
            }  # fmt: skip
            return view.find("cosign", "", cosigned.signature) or Draft(
                kind="cosign", key=cosigned.signature, payload=payload
            )

        self._append(decide)
        if self._chain.witness is not None:
            self._chain.bear_witness(cosigned)

    def extends(self, head: Head) -> bool:
        """Say whether this account goes on from `head`, which somebody saw before; `False` after a roll-back."""
        return self._chain.holds(head)

    def bear_witness(self) -> None:
        """Begin the witness of an account that has none yet, or whose witness was lost."""
        self._chain.bear_witness()

    @property
    def terms(self) -> Terms:
        """How the account counts."""
        return self.today()[0].terms

    def spent(self) -> tuple[float, float]:
        """Return the (ε, δ) that count against the lifetime cap of the worst off subject: spent and reserved."""
        return self.account().stated()

    def account(self) -> Account:
        """Return the state of the account, after verifying the whole chain."""
        return self._chain.account()

    def today(self) -> tuple[Account, int]:
        """Return the state of the account and the day it is in monotone time; looks at the end of the chain only."""
        account, time = self._chain.now()
        return account, time // DAY_SECONDS

    def rooms(self, shards: Sequence[int] = ()) -> list[Room]:
        """Return every cap with what is left under it today, for the worst off of `shards` (none named means all)."""
        account, day = self.today()
        return list(account.rooms(list(shards) or list(range(account.terms.shards)), day))

    def events(self) -> list[Event]:
        """Return every event in order, each with its `hash`, after verifying the whole chain."""
        return self._chain.events()

    def verify(self) -> list[Event]:
        """Check all there is to check, and return the events; raises `LedgerCorrupt` naming what differs.

        Takes time with every event there ever was: once per run, not once per step.
        """
        return self._chain.verify()

    def head(self) -> str:
        """Return the hash of the newest event: what a partner keeps to hold this account to its past."""
        return str(self._chain.tail()["hash"])

    def newest(self) -> Head:
        """Return the head with its number: what a partner signs."""
        tail = self._chain.tail()
        return Head(seq=tail["seq"], head=tail["hash"])

    def _close_run(self, kind: str, run: str) -> Event:
        _check_name("run", run)

        def decide(view: View) -> Draft | Event:
            if run in view.account.runs:
                return Draft(kind=kind, run=run, payload=view.account.cost(run, kind))
            if (before := view.find(kind, run, "")) is not None:
                return before
            return _denial(run, LedgerRefusal, f"{kind} of run {run!r}, which is {_standing(view, run)}")

        return self._append(decide)

    def _append(self, decide: Callable[[View], Draft | Event]) -> Event:
        event = self._chain.append(decide)
        if event["kind"] == "deny":
            refusal = BudgetExceeded if event["payload"]["refusal"] == BudgetExceeded.__name__ else LedgerRefusal
            raise refusal(event["payload"]["reason"])
        return event


def _standing(view: View, run: str) -> str:
    closing = next((kind for kind in CLOSING if view.find(kind, run, "") is not None), None)
    return "not authorised" if closing is None else f"closed by {closing}"


def _denial(run: str, refusal: type[LedgerRefusal], reason: str) -> Draft:
    return Draft(kind="deny", run=run, payload={"refusal": refusal.__name__, "reason": reason})


def _check_name(name: str, value: str) -> None:
    if not (isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()):
        raise ValueError(f"{name}={value!r} must be 1 to 200 printable characters")
