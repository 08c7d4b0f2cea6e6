"""Random lives of an account, against a reference that fits on one page and adds fractions.

Any order of reserving, announcing, closing, crashing at every point of a write, tearing the journal and turning the
clock must leave account and reference agreeing to the last digit.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import dp_accounting
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from evaluation.trust import SigningKey
from privacy import journal as journal_module
from privacy import store
from privacy.account import dump
from privacy.journal import Journal
from privacy.ledger import BudgetExceeded, LedgerRefusal, Limits, PrivacyLedger, Terms
from privacy.mechanism import DpPlan, LaplacePlan, Plan, epsilon
from tests.accounts import Clock, journal

ORDER, DELTA, SHARDS = 6.0, 1e-6, 2
TRAIN = DpPlan(purpose="train.views", sampling_rate=0.1, noise_multiplier=4.0, clip_norm=1.0, steps=30, draws=1)
HARD = DpPlan(purpose="train.views", sampling_rate=0.2, noise_multiplier=2.0, clip_norm=1.0, steps=7, draws=1)
AUDIT = LaplacePlan(purpose="disclosure.members", epsilon=0.7)
LABELS = LaplacePlan(purpose="labels", epsilon=0.3)
BUNDLES: tuple[tuple[Plan, ...], ...] = ((TRAIN,), (HARD, AUDIT), (AUDIT,), (LABELS, AUDIT), (LABELS,))
GROUP = {"train.views": "train", "disclosure.members": "audit", "labels": "labels"}
RUNS = ("a", "b", "c", "d", "e", "f")
KEYS = ("k1", "k2", "k3")
FAR = 366 * 86_400
POINTS = ("before the journal", "after the journal", "after the witness", "and the next one, too")


class Killed(BaseException):
    """The process ends here, as far as the account can tell."""


def up(value: Fraction, digits: int) -> Fraction:
    return Fraction(math.ceil(value * 10**digits), 10**digits)


def rho(plan: Plan) -> Fraction:
    """Return ρ of one step, rounded up to 18 digits, by the accountant or by the formula of randomised response."""
    if isinstance(plan, DpPlan):
        account = dp_accounting.rdp.RdpAccountant(orders=[ORDER])
        step = dp_accounting.GaussianDpEvent(plan.noise_multiplier)
        exact = float(account.compose(dp_accounting.PoissonSampledDpEvent(plan.sampling_rate, step)).rdp[0])
    else:
        p = 1 / (1 + math.exp(-plan.epsilon))
        exact = math.log(p**ORDER * (1 - p) ** (1 - ORDER) + (1 - p) ** ORDER * p ** (1 - ORDER)) / (ORDER - 1)
    return up(Fraction(exact), 18)


RHO = {plan: rho(plan) for plan in (TRAIN, HARD, AUDIT, LABELS)}
EPSILON = {plans: up(Fraction(epsilon(plans, DELTA)), 10) for plans in (*BUNDLES, (HARD,))}


@dataclass
class Run:
    plans: tuple[Plan, ...]
    shards: tuple[int, ...]
    done: dict[str, int] = field(default_factory=dict)
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    doubt: bool = False
    closed: str = ""
    receipt: Any = None


@dataclass
class Reference:
    """What an account must do, without a file, a hash or a lock."""

    renyi: bool
    caps: dict[str, Fraction]
    runs: dict[str, Run] = field(default_factory=dict)
    charges: list[tuple[Run, dict[str, Fraction], int]] = field(default_factory=list)

    def cost(self, run: Run, done: dict[str, int] | None = None) -> dict[str, Fraction]:
        """Return the cost per cap, of the whole run or of what was `done`."""
        if not self.renyi:
            groups = {GROUP[p.purpose]: up(Fraction(EPSILON[p,]), 10) for p in run.plans}
            return {"all": EPSILON[run.plans], "delta": Fraction(1, 10**6), **groups}
        groups = {}
        for p in run.plans:
            steps = steps_of(p) if done is None else done.get(p.purpose, 0)
            groups[GROUP[p.purpose]] = groups.get(GROUP[p.purpose], Fraction()) + up(RHO[p] * steps, 10)
        return {"all": sum(groups.values(), Fraction()), **groups}

    def used(self, shard: int, since: int | None = None) -> dict[str, Fraction]:
        found: dict[str, Fraction] = {}
        open_runs = [(r, self.cost(r), None) for r in self.runs.values() if not r.closed]
        for run, cost, day in [*self.charges, *open_runs]:
            if shard in run.shards and (since is None or day is None or day >= since):
                for name, amount in cost.items():
                    found[name] = found.get(name, Fraction()) + amount
        return found

    def fits(self, run: Run, day: int) -> bool:
        cost = self.cost(run)
        if cost["all"] > self.caps["run"]:
            return False
        for shard in run.shards:
            used, recent = self.used(shard), self.used(shard, since=day - 365)
            if any(used.get(n, 0) + cost.get(n, 0) > cap for n, cap in self.caps.items() if n not in ("run", "year")):
                return False
            if recent.get("all", 0) + cost["all"] > self.caps["year"]:
                return False
        return True

    def close(self, name: str, how: str, day: int) -> None:
        run = self.runs[name]
        run.closed = how
        if how == "abort" and not run.done and not run.doubt:
            cost = {}
        elif self.renyi and not run.doubt:
            cost = self.cost(run, run.done)
        else:
            cost = self.cost(run)
        self.charges.append((run, cost, day))


def steps_of(plan: Plan) -> int:
    return plan.steps if isinstance(plan, DpPlan) else 1


class Life(RuleBasedStateMachine):
    """One account, opened anew for every act, as a site's processes do."""

    composition: ClassVar[str] = "basic"

    @initialize(tight=st.booleans(), year=st.sampled_from(["1.4", "3.0", "9.0"]), run=st.sampled_from(["0.9", "2.0"]))
    def begin(self, tight: bool, year: str, run: str) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.key, self.clock = SigningKey.create(), Clock()
        self.latest = int(self.clock().timestamp())
        renyi = self.composition == "renyi"
        cap = (4.0 if renyi else 1.6) if tight else (6.0 if renyi else 4.0)
        self.settings: dict[str, Any] = {
            "epsilon_cap": cap, "delta_cap": 4e-6, "key": self.key, "clock": self.clock,
            "terms": Terms(composition=self.composition, order=ORDER, shards=SHARDS),
            "limits": Limits(per_run=float(run), per_year=float(year), per_purpose={"audit": 2.2, "labels": 0.65}),
            "witness": self.folder / "elsewhere" / "heads.json",
        }  # fmt: skip
        lifetime = self.ledger().rooms()[0].most
        caps = {"all": Fraction(lifetime), "run": Fraction(run), "year": Fraction(year)}
        caps |= {"audit": Fraction("2.2"), "labels": Fraction("0.65")}
        self.model = Reference(renyi, caps if renyi else caps | {"delta": Fraction(4, 10**6)})
        self.sent: dict[str, dict[str, int]] = {}
        self.spent_before = [Fraction()] * SHARDS

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def ledger(self) -> PrivacyLedger:
        return PrivacyLedger(self.folder / "ledger.sqlite", **self.settings)

    @property
    def day(self) -> int:
        self.latest = max(self.latest, int(self.clock().timestamp()))
        return self.latest // 86_400

    def act(self, allowed: bool, kill: str, call: Callable[[PrivacyLedger], Any], refusal: type[Exception]) -> Any:
        """Do what must be granted or refused as the model says; return whether the model must take it in."""
        day = self.day
        if not allowed:
            before = dump(self.ledger().account())
            with pytest.raises(refusal):
                call(self.ledger())
            assert dump(self.ledger().account()) == before, "a refusal changed the account"
            return None
        if kill == "no":
            return call(self.ledger())
        with killed_at(kill), pytest.raises(Killed):
            call(self.ledger())
        if kill == "and the next one, too":  # who has just taken in the other's event, and writes down a refusal
            with killed_at("after the journal"), pytest.raises(Killed):
                self.ledger().commit("nobody")
        assert day == self.day
        return None if kill == "before the journal" else Killed

    @rule(name=st.sampled_from(RUNS), plans=st.sampled_from(BUNDLES), shards=st.sampled_from([(0,), (1,), (0, 1)]),
          kill=st.sampled_from(["no", "no", "no", *POINTS]))  # fmt: skip
    def reserve(self, name: str, plans: tuple[Plan, ...], shards: tuple[int, ...], kill: str) -> None:
        old, new = self.model.runs.get(name), Run(plans, shards)
        known = old is not None and (old.plans, old.shards) == (plans, shards)
        allowed = known or (old is None and self.model.fits(new, self.day))
        refusal: type[Exception] = LedgerRefusal if old else BudgetExceeded
        granted = self.act(
            allowed, "no" if known else kill,
            lambda ledger: ledger.authorise(name, plans, delta=DELTA, shards=shards), refusal,
        )  # fmt: skip
        if known and old is not None:
            assert old.receipt in (None, granted), "the same question got another answer"
        elif granted is not None:
            self.model.runs[name] = new
            new.receipt = None if granted is Killed else granted

    def some(self, which: int) -> str:
        """Return one of the open runs, or for the larger numbers any name at all."""
        open_runs = sorted(name for name, run in self.model.runs.items() if not run.closed)
        return open_runs[which % len(open_runs)] if open_runs and which < 12 else RUNS[which % len(RUNS)]

    @rule(which=st.integers(0, 14), what=st.integers(0, 8), key=st.sampled_from(KEYS),
          steps=st.sampled_from([1, 1, 3, 10]), kill=st.sampled_from(["no", "no", "no", *POINTS]))  # fmt: skip
    def intend(self, which: int, what: int, key: str, steps: int, kill: str) -> None:
        name = self.some(which)
        run = self.model.runs.get(name)
        purposes = [p.purpose for p in run.plans] if run else []
        purpose = purposes[what % len(purposes)] if purposes and what < 7 else [*GROUP, "else"][what % 4]
        allowed, known = False, False
        if run is not None and not run.closed:
            known = run.keys.get(key) == (purpose, steps)
            most = next((steps_of(p) for p in run.plans if p.purpose == purpose), 0)
            allowed = known or (key not in run.keys and run.done.get(purpose, 0) + steps <= most)
        granted = self.act(
            allowed, "no" if known else kill,
            lambda ledger: (ledger.intend(name, purpose, key, steps), True)[1], LedgerRefusal,
        )  # fmt: skip
        if granted is not None and run is not None and not known:
            run.keys[key] = (purpose, steps)
            run.done[purpose] = run.done.get(purpose, 0) + steps
            if granted is not Killed:  # only then does anything leave the process
                sent = self.sent.setdefault(name, {})
                sent[purpose] = sent.get(purpose, 0) + steps

    @rule(which=st.integers(0, 14), how=st.sampled_from(["commit", "abort", "recover"]),
          kill=st.sampled_from(["no", "no", *POINTS]))  # fmt: skip
    def close(self, which: int, how: str, kill: str) -> None:
        name = self.some(which)
        run = self.model.runs.get(name)
        again = run is not None and run.closed == how
        allowed = run is not None and run.closed in ("", how)
        granted = self.act(
            allowed, "no" if again else kill, lambda ledger: getattr(ledger, how)(name), LedgerRefusal
        )  # fmt: skip
        if granted is not None and run is not None and not again:
            self.model.close(name, how, self.day)

    @rule(line=st.booleans(), dice=st.integers(0, 3))
    def tear(self, line: bool, dice: int) -> None:
        """A crash in the middle of a line: of an event that is in the database, or of one that never got there."""
        if dice:  # not too often: after a tear everything that is open costs all of its reserve
            return
        path = journal(self.ledger())
        settle = self.ledger()
        settle._chain.append(lambda view: view.tail)  # what a killed writer left is taken in first
        content = path.read_bytes()
        path.write_bytes(content[:-5] if line else content + b'{"event":{"act')
        for run in self.model.runs.values():
            run.doubt = run.doubt or not run.closed
        settle._chain.append(lambda view: view.tail)

    @rule(seconds=st.sampled_from([3600, -3600, 40 * 86_400, -FAR, FAR]), dice=st.integers(0, 2))
    def turn_the_clock(self, seconds: int, dice: int) -> None:
        if dice:
            return
        self.clock.turn(seconds=seconds)
        self.ledger()._chain.append(lambda view: view.tail)  # no event: the account has not seen this time yet
        if seconds < 0:
            self.latest = self.ledger()._chain.now()[1]

    @invariant()
    def account_and_reference_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        ledger = self.ledger()
        ledger._chain.append(lambda view: view.tail)
        events = ledger.verify()
        account = ledger.today()[0]  # the state that the events add up to: so they have just been verified
        for shard in range(SHARDS):
            amount, delta = map(Fraction, account.held(shard))
            used = self.model.used(shard)
            assert amount == used.get("all", 0), f"shard {shard}: {float(amount)} for {float(used.get('all', 0))}"
            assert delta == used.get("delta", 0)
            assert amount <= self.model.caps["all"]
            assert all(used.get(n, 0) <= cap for n, cap in self.model.caps.items() if n not in ("run", "year", "all"))
            spent = Fraction(account.shards[shard].spent)
            assert spent >= self.spent_before[shard] >= 0
            self.spent_before[shard] = spent
        for name, sent in self.sent.items():
            closing = next(
                (e for e in events if e["run"] == name and e["kind"] in ("commit", "abort", "recover")), None
            )
            if closing is not None:
                paid, run = Fraction(closing["payload"]["amount"]), self.model.runs[name]
                assert paid >= (self.model.cost(run, sent)["all"] if self.model.renyi else EPSILON[run.plans])


class RenyiLife(Life):
    composition = "renyi"


@contextmanager
def killed_at(point: str) -> Iterator[None]:
    """End the process at one of the points at which a write can be interrupted."""
    from privacy.witness import Witness

    write, move = Journal.write, Witness.move

    def killing_write(self: Journal, lines: bytes, offset: int) -> None:
        if point == "before the journal":
            raise Killed
        write(self, lines, offset)
        if point in ("after the journal", "and the next one, too"):
            raise Killed

    def killing_move(self: Witness, *arguments: Any) -> None:
        move(self, *arguments)
        if point == "after the witness":
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "write", killing_write)
        patch.setattr(Witness, "move", killing_move)
        yield


LIVES = {"basic": Life, "renyi": RenyiLife}
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What survives a power cut is not asked here, and waiting for a disk thousands of times is all that it costs."""
    monkeypatch.setattr(store, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(journal_module, "sync", lambda handle: None)


@pytest.mark.parametrize("composition", LIVES)
def test_any_life_of_an_account_agrees_with_the_reference(composition: str) -> None:
    run_state_machine_as_test(LIVES[composition], settings=settings(max_examples=15, stateful_step_count=40, **QUIET))


@pytest.mark.slow
@pytest.mark.parametrize("composition", LIVES)
def test_many_long_lives_of_an_account_agree_with_the_reference(composition: str) -> None:
    run_state_machine_as_test(LIVES[composition], settings=settings(max_examples=60, stateful_step_count=50, **QUIET))
