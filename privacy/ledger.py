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
from collections.abc import Sequence
from dataclasses import dataclass

from privacy.account import CLOSING, DAY_SECONDS, reserve_payload
from privacy.books import Books, denial
from privacy.caps import Limits, Terms, text
from privacy.chain import Draft, View
from privacy.charge import charge
from privacy.events import BudgetExceeded, Event, LedgerCorrupt, LedgerRefusal, LedgerUnwritable
from privacy.mechanism import Plan
from privacy.witness import Cosigned, Head

__all__ = [
    "BudgetExceeded", "Cosigned", "Head", "LedgerCorrupt", "LedgerRefusal", "LedgerUnwritable", "Limits",
    "PrivacyLedger", "Receipt", "Terms",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Says that a run is paid for: its (ε, δ), the number of its `reserve` event and the chain's hash there."""

    run: str
    epsilon: float
    delta: float
    head: str
    seq: int


class PrivacyLedger(Books):
    """The account of one site's subjects: add or remove one subject.

    A run reserves what all its plans may cost, announces steps before their result leaves, and is closed. In a basic
    account it is one (ε, δ) block and nothing is refunded once a step was announced; in a renyi account it costs its
    announced steps (`privacy.charge`). What was not announced in an unbroken journal is never refunded. How it is
    opened, read and kept is `Books`.
    """

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
                return denial(run, LedgerRefusal, f"run {run!r} is already charged for other plans")
            if twice is not None or asked is None:
                return denial(run, LedgerRefusal, f"run {run!r} has two plans of one purpose, {twice!r}")
            if view.account.closed:
                return denial(run, LedgerRefusal, "the account is closed")
            if why := view.account.excess(asked, chosen, view.time // DAY_SECONDS):
                return denial(run, BudgetExceeded, f"run {run!r} {why}")
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
                return denial(run, LedgerRefusal, f"run {run!r} is {_standing(view, run)}")
            before = view.find("step_intent", run, key)
            if before is not None and before["payload"] == wanted:
                return before
            if before is not None:
                return denial(run, LedgerRefusal, f"key {key!r} of run {run!r} was announced with another content")
            allowed = open_run.parts[purpose].steps if purpose in open_run.parts else 0
            done = open_run.done.get(purpose, 0)
            if done + steps > allowed:
                why = f"run {run!r} may take {allowed} steps of {purpose!r}, took {done} and asks for {steps} more"
                return denial(run, LedgerRefusal, why)
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

    def _close_run(self, kind: str, run: str) -> Event:
        _check_name("run", run)

        def decide(view: View) -> Draft | Event:
            if run in view.account.runs:
                return Draft(kind=kind, run=run, payload=view.account.cost(run, kind))
            if (before := view.find(kind, run, "")) is not None:
                return before
            return denial(run, LedgerRefusal, f"{kind} of run {run!r}, which is {_standing(view, run)}")

        return self._append(decide)


def _standing(view: View, run: str) -> str:
    closing = next((kind for kind in CLOSING if view.find(kind, run, "") is not None), None)
    return "not authorised" if closing is None else f"closed by {closing}"


def _check_name(name: str, value: str) -> None:
    if not (isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()):
        raise ValueError(f"{name}={value!r} must be 1 to 200 printable characters")
