"""Eight processes share one account and hundreds of them are killed: nothing is lost, and nothing is given away."""

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from evaluation.trust import SigningKey
from privacy.charge import renyi_of_one
from privacy.ledger import LedgerCorrupt, LedgerRefusal, PrivacyLedger
from tests import crashing
from tests.accounts import copy, edit, flip, restore

KILLS = 400
RHO = {plan.purpose: Fraction(renyi_of_one(plan, 6.0)) for plan in (crashing.TRAIN, crashing.AUDIT)}
Event = dict[str, Any]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an account after all its processes were killed, and nothing else was done to it."""
    folder = tmp_path_factory.mktemp("crashed")
    (folder / "told").mkdir()
    SigningKey.create().write(folder / "signing.pem")
    command = [sys.executable, "-m", "tests.crashing", str(folder), str(KILLS), "7"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] >= KILLS
    crashing.account(folder)._chain.append(lambda view: view.tail)  # the next process takes in what the last one left
    return folder


@pytest.fixture
def ledger(crashed: Path) -> PrivacyLedger:
    return crashing.account(crashed)


def told(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what the processes said after the account had answered; a kill may have torn the last line of each."""
    for path in (folder / "told").iterdir():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)


def test_the_chain_verifies_and_something_happened(ledger: PrivacyLedger) -> None:
    kinds = [event["kind"] for event in ledger.verify()]
    for kind in ("reserve", "step_intent", "commit", "abort", "recover", "deny"):
        assert kinds.count(kind) >= 5, kind
    assert len(kinds) > 3 * KILLS
    assert "step_intent" in kinds[-len(kinds) // 4 :], "the account was empty long before the last kill"


def test_spent_and_reserved_never_pass_a_cap_in_any_prefix(ledger: PrivacyLedger) -> None:
    events = ledger.events()
    most = {"all": Fraction(ledger.rooms()[0].most), "audit": Fraction("0.9")}
    spent, held = dict.fromkeys(most, Fraction()), {}
    fullest = dict.fromkeys(most, Fraction())
    for event in events:
        payload = event["payload"]
        if event["kind"] == "reserve":
            held[event["run"]] = amounts(payload)
        elif event["kind"] in ("commit", "abort", "recover") and event["run"]:
            reserved, paid = held.pop(event["run"]), amounts(payload)
            for name in most:
                assert 0 <= paid[name] <= reserved[name]
                spent[name] += paid[name]
        for name, cap in most.items():
            used = spent[name] + sum(amount[name] for amount in held.values())
            assert used <= cap, event["seq"]
            fullest[name] = max(fullest[name], used / cap)
    assert fullest["all"] > Fraction(1, 2), "the cap was never near"
    assert fullest["audit"] > Fraction(95, 100), "nobody was killed while all raced for the last of a cap"


def amounts(payload: dict[str, Any]) -> dict[str, Fraction]:
    return {"all": Fraction(payload["amount"]), "audit": Fraction(payload["by_purpose"].get("audit", "0"))}


def test_no_event_is_lost_that_a_process_was_answered(crashed: Path, ledger: PrivacyLedger) -> None:
    events = ledger.events()
    intents = {(e["run"], e["key"]): e["payload"] for e in events if e["kind"] == "step_intent"}
    answered = 0
    for said in told(crashed):
        answered += 1
        if said["act"] == "intend":
            assert intents[said["run"], said["key"]] == {"purpose": said["purpose"], "steps": said["steps"]}
        else:
            event = events[said["seq"] - 1]
            assert (event["kind"], event["run"], event["hash"]) == (said["act"], said["run"], said["head"])
    assert answered > KILLS


def test_a_closed_run_paid_for_all_that_left_and_for_every_doubt(crashed: Path, ledger: PrivacyLedger) -> None:
    sent: dict[str, set[tuple[str, str, int]]] = {}
    for said in told(crashed):
        if said["act"] == "intend":  # a repeated key sends the same answer again: no new noise
            sent.setdefault(said["run"], set()).add((said["key"], said["purpose"], said["steps"]))
    reserved: dict[str, Event] = {}
    doubted: set[str] = set()
    checked = in_doubt = 0
    for event in ledger.events():
        if event["kind"] == "reserve":
            reserved[event["run"]] = event
        elif event["kind"] == "recover" and not event["run"]:
            doubted |= set(reserved)
        elif event["kind"] in ("commit", "abort", "recover"):
            run, paid = event["run"], Fraction(event["payload"]["amount"])
            assert paid >= sum(RHO[purpose] * steps for _, purpose, steps in sent.get(run, ()))
            reserve = reserved.pop(run)
            checked += 1
            if run in doubted:
                in_doubt += 1
                assert paid == Fraction(reserve["payload"]["amount"])
    assert checked > 30
    assert in_doubt > 3


def test_what_is_done_to_it_afterwards_is_named(ledger: PrivacyLedger, tmp_path: Path) -> None:
    events = ledger.events()
    at = next(e["seq"] for e in events[len(events) // 2 :] if e["kind"] == "step_intent")
    backup = copy(ledger, tmp_path / "backup")
    flip(ledger.path, events[at - 1]["prev_hash"].encode() + b'","run"')
    with pytest.raises(LedgerCorrupt, match=rf"event {at} was edited"):
        ledger.verify()
    restore(ledger, backup, ".db")
    edit(ledger, "DELETE FROM events WHERE seq = ?", (at,))
    with pytest.raises(LedgerCorrupt, match=rf"event {at} is missing"):
        ledger.verify()
    restore(ledger, backup, ".db")
    for _ in range(3):
        with pytest.raises(LedgerRefusal):
            ledger.commit("nobody")
    restore(ledger, backup, ".db")
    with pytest.raises(LedgerCorrupt, match=rf"event {len(events) + 1} is missing from ledger\.db.* an older copy"):
        ledger.verify()
