"""Privacy accounts for tests: small ones, signed ones, and what somebody with a database tool does to them."""

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evaluation.trust import SigningKey
from privacy.ledger import PrivacyLedger, Terms
from privacy.mechanism import DpPlan, LaplacePlan, Plan

DELTA = 1e-6
RENYI = Terms(composition="renyi", order=6.0)
TRAINING = DpPlan(purpose="train", sampling_rate=0.1, noise_multiplier=4.0, clip_norm=1.0, steps=200, draws=4)
WORKED = DpPlan(purpose="train", sampling_rate=0.05, noise_multiplier=4.0, clip_norm=1.0, steps=1500, draws=1)
TRIGGERS = ("no_update", "no_delete", "in_order")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def turn(self, **by: float) -> None:
        self.time += timedelta(**by)


def account(folder: Path, **changes: Any) -> PrivacyLedger:
    settings: dict[str, Any] = {"epsilon_cap": 8.0, "delta_cap": 1e-5}
    return PrivacyLedger(folder / "ledger.sqlite", **(settings | changes))


def signed(folder: Path, **changes: Any) -> PrivacyLedger:
    """Return the account of `folder`, signed with the key that lies there."""
    path = folder / "signing.pem"
    if not path.exists():
        SigningKey.create().write(path)
    return account(folder, key=SigningKey.read(path), **changes)


def three_runs(folder: Path) -> PrivacyLedger:
    """Return a signed account of three runs: events 1 to 4, and an intent of the last."""
    made = signed(folder)
    for run in ("one", "two", "three"):
        made.authorise(run, count(0.1), delta=DELTA)
    made.intend("three", "count", "release", 1)
    return made


def count(amount: float, purpose: str = "count") -> list[Plan]:
    return [LaplacePlan(purpose=purpose, epsilon=amount)]


def kinds(ledger: PrivacyLedger) -> list[str]:
    return [event["kind"] for event in ledger.events()]


def edit(ledger: PrivacyLedger, statement: str, values: tuple[Any, ...] = ()) -> None:
    """Edit the file as somebody with a database tool would: triggers first, then rows."""
    connection = sqlite3.connect(ledger.path)
    with connection:
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        connection.execute(statement, values)
    connection.close()


def journal(ledger: PrivacyLedger) -> Path:
    return ledger.path.with_suffix(".jsonl")


def copy(ledger: PrivacyLedger, to: Path) -> Path:
    """Make a backup of the database and its journal."""
    to.mkdir()
    for path in (ledger.path, journal(ledger)):
        shutil.copy(path, to / path.name)
    return to


def restore(ledger: PrivacyLedger, backup: Path, *suffixes: str) -> None:
    """Put files of a backup back, as the last resort of an administrator, or the first of an insider."""
    for suffix in suffixes:
        shutil.copy(backup / ledger.path.with_suffix(suffix).name, ledger.path.with_suffix(suffix))


def flip(path: Path, within: bytes) -> None:
    """Flip one bit of the first occurrence of `within`."""
    content = bytearray(path.read_bytes())
    content[content.index(within) + len(within) // 2] ^= 1
    path.write_bytes(content)
