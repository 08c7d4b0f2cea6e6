"""An account as a file: opened, read, verified, its caps revised, its heads shown to others and kept by a witness."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from privacy.account import DAY_SECONDS, VERSION, Account, approval_message
from privacy.caps import Caps, Limits, Room, Terms
from privacy.chain import Draft, EventChain, View, clock
from privacy.events import BudgetExceeded, Event, LedgerCorrupt, LedgerRefusal, Signer
from privacy.witness import Cosigned, Head


class Books:
    """The account of one site's subjects: add or remove one subject.

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
    ) -> Self:
        """Return the account at `path`, whatever its terms and caps.

        Raises:
            ValueError: if there is none.
            LedgerCorrupt: if there was one, as its journal shows, or it is not as it was written.
        """
        if not path.exists() and (journal := path.with_suffix(".jsonl")).exists():
            raise LedgerCorrupt(f"event 1 is missing: {path.name} is gone, {journal.name} is there to rebuild it from")
        if not path.exists():
            raise ValueError(f"{path}: there is no account")
        ledger = cls.__new__(cls)
        ledger.path, ledger._chain = path, EventChain(path, key=key, witness=witness, clock=clock)
        ledger._chain.now()
        return ledger

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
                return denial("", LedgerRefusal, f"{', '.join(looser)} cannot be raised without the second key")
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
                return denial("", LedgerRefusal, f"the signature over head {cosigned.seq} is not that of its key")
            if not self._chain.holds(Head(seq=cosigned.seq, head=cosigned.head)):
                return denial("", LedgerRefusal, f"event {cosigned.seq} of this account has another hash")
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

    def _append(self, decide: Callable[[View], Draft | Event]) -> Event:
        event = self._chain.append(decide)
        if event["kind"] == "deny":
            refusal = BudgetExceeded if event["payload"]["refusal"] == BudgetExceeded.__name__ else LedgerRefusal
            raise refusal(event["payload"]["reason"])
        return event


def denial(run: str, refusal: type[LedgerRefusal], reason: str) -> Draft:
    """Return the event that says what was refused, and why; its words stay at the site."""
    return Draft(kind="deny", run=run, payload={"refusal": refusal.__name__, "reason": reason})
