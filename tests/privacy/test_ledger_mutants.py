"""Ledgers that are wrong in one place: each must turn one of our own tests red, or the tests prove nothing."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from privacy import account as account_module
from privacy import charge as charge_module
from privacy.account import Account
from privacy.caps import Room
from privacy.chain import EventChain
from privacy.store import Rows
from tests.accounts import three_runs
from tests.privacy import test_chain as chain
from tests.privacy import test_ledger as ledger
from tests.privacy import test_ledger_runs as runs


def _reserve_holds_nothing(patch: pytest.MonkeyPatch) -> None:
    """Charge at the end of a run instead of before it."""
    original = Account._reserve

    def later(self: Account, run: str, seq: int, payload: dict[str, Any]) -> None:
        original(self, run, seq, {**payload, "amount": "0.0", "delta_amount": "0.0", "by_purpose": {}})

    patch.setattr(Account, "_reserve", later)


def _check_after(patch: pytest.MonkeyPatch) -> None:
    """Refuse the run after the one that passed the cap."""
    patch.setattr(Room, "asked", lambda self, charge: Decimal(0))


def _refund_on_doubt(patch: pytest.MonkeyPatch) -> None:
    original = Account.cost

    def forgetful(self: Account, run: str, kind: str) -> dict[str, Any]:
        self.runs[run].doubt = False
        return original(self, run, kind)

    patch.setattr(Account, "cost", forgetful)


def _refund_in_a_basic_account(patch: pytest.MonkeyPatch) -> None:
    original = Account.cost

    def generous(self: Account, run: str, kind: str) -> dict[str, Any]:
        return original(self, run, "abort" if not self.runs[run].done else kind)

    patch.setattr(Account, "cost", generous)


def _float_sums(patch: pytest.MonkeyPatch) -> None:
    class Floats:
        add = staticmethod(lambda a, b: Decimal(float(a) + float(b)))
        subtract = staticmethod(lambda a, b: Decimal(float(a) - float(b)))
        multiply = staticmethod(lambda a, b: Decimal(float(a) * float(b)))

    patch.setattr(charge_module, "EXACT", Floats)
    patch.setattr(account_module, "EXACT", Floats)


def _round_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(charge_module, "ROUND_CEILING", "ROUND_FLOOR")


def _forget_keys(patch: pytest.MonkeyPatch) -> None:
    original = Rows.find
    patch.setattr(Rows, "find", lambda self, kind, run, key: original(self, kind, run, key) if not key else None)


def _charge_one_shard(patch: pytest.MonkeyPatch) -> None:
    original = Account._reserve

    def lazy(self: Account, run: str, seq: int, payload: dict[str, Any]) -> None:
        original(self, run, seq, {**payload, "shards": payload["shards"][:1]})

    patch.setattr(Account, "_reserve", lazy)


def _believe_the_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EventChain, "_time", lambda self, newest: int(self._clock().timestamp()))


def _drop_what_a_killed_writer_left(patch: pytest.MonkeyPatch) -> None:
    original = EventChain.append

    def tidy(self: EventChain, decide: Any) -> Any:
        lines = self.journal.path.read_bytes().splitlines(keepends=True)
        with self.store.reading() as rows:
            self.journal.path.write_bytes(b"".join(lines[: rows.tail().seq]))
        return original(self, decide)

    patch.setattr(EventChain, "append", tidy)


def _forget_the_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EventChain, "_compare_journal", lambda self, rows: None)


def _take_in_and_write_at_once(patch: pytest.MonkeyPatch) -> None:
    """Commit the event of a killed writer together with the next one: killed again, the journal is two ahead."""
    original = EventChain._settle
    patch.setattr(EventChain, "_settle", lambda self, rows: (*original(self, rows)[:2], False))


def _killed_writers(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        chain.test_two_writers_killed_one_after_the_other_leave_the_journal_one_event_ahead(three_runs(path), patch)


def _killed_writer(path: Path) -> None:
    chain.test_an_event_whose_writer_was_killed_before_the_commit_is_taken_in(three_runs(path), path)


def _flipped_byte(path: Path) -> None:
    chain.test_one_flipped_byte_is_named_wherever_it_lies(three_runs(path), path)


Test = Callable[[Path], None]
MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Test]] = {
    "charge after the run": (
        _reserve_holds_nothing,
        ledger.test_a_denied_request_is_an_event_and_leaves_the_state_unchanged,
    ),
    "check after the charge": (_check_after, ledger.test_delta_has_a_cap_of_its_own),
    "refund on doubt": (
        _refund_on_doubt,
        partial(runs.test_a_gap_in_the_journal_costs_every_open_run_its_whole_reserve, ending="recover"),
    ),
    "refund in a basic account": (
        _refund_in_a_basic_account,
        partial(runs.test_an_ending_costs_its_share_of_the_reserve, composition="basic", ending="recover", steps=0),
    ),
    "add floats": (_float_sums, ledger.test_amounts_add_up_exactly_where_floats_would_not),
    "round down": (_round_down, lambda path: runs.test_the_cost_at_an_order_is_never_rounded_down()),
    "forget keys": (_forget_keys, ledger.test_intents_are_idempotent_and_end_with_the_plan),
    "charge one shard of two": (
        _charge_one_shard,
        runs.test_shards_are_charged_all_or_none_and_the_worst_off_subject_counts,
    ),
    "believe the clock": (
        _believe_the_clock,
        runs.test_what_is_charged_under_a_clock_set_back_expires_no_earlier,
    ),
    "drop what a killed writer left": (_drop_what_a_killed_writer_left, _killed_writer),
    "take in and write at once": (_take_in_and_write_at_once, _killed_writers),
    "forget the journal": (_forget_the_journal, _flipped_byte),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_of_the_ledger_turns_a_test_red(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, test = MUTANTS[name]
    (tmp_path / "sound").mkdir()
    (tmp_path / "mutant").mkdir()
    charge_module.renyi_of_one.cache_clear()
    test(tmp_path / "sound")
    mutate(monkeypatch)
    charge_module.renyi_of_one.cache_clear()
    with pytest.raises((AssertionError, ValueError, RuntimeError, pytest.fail.Exception)):
        test(tmp_path / "mutant")
    charge_module.renyi_of_one.cache_clear()
