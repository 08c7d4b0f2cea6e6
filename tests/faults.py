"""Faults: what goes wrong in one disturbed campaign, drawn from a seed; and how a process dies or its disk fills up.

A death at a moment is one at the n-th write that a process makes durable: before it, half way through it, or after it.
"""

import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.hospitals import NAMES

MESSAGES, SITE_MOMENTS, COORDINATOR_MOMENTS, DAY = 8, 24, 80, 86400.0
SITE_KINDS = (
    "request lost", "reply lost", "reply late", "site killed while it writes", "site killed at any time",
    "disk of the site full", "clock of the site jumps", "reply not finite", "reply of another shape", "reply torn",
    "site away",
)  # fmt: skip
COORDINATOR_KINDS = ("coordinator killed while it writes", "coordinator killed at any time", "coordinator's disk full")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: its kind, and how far, when, or how much."""

    kind: str
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Faults by (site, number of the message to it), and one for each of the coordinator's first attempts."""

    seed: int
    composition: str
    sites: Mapping[tuple[str, int], Fault]
    attempts: tuple[Fault, ...]


def schedule(seed: int) -> Schedule:
    """Draw what goes wrong; the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311
    sites: dict[tuple[str, int], Fault] = {}
    for _ in range(dice.randint(1, 8)):
        name, first, kind = dice.choice(NAMES), dice.randint(1, MESSAGES + 4), dice.choice(SITE_KINDS)
        length = dice.randint(2, 5) if kind == "site away" else 1
        for number in range(first, first + length):
            sites[name, number] = Fault(kind, _value(kind, dice))
    attempts = []
    for _ in range(dice.randint(0, 4)):
        kind = dice.choice(COORDINATOR_KINDS)
        attempts.append(Fault(kind, _value(kind, dice)))
    return Schedule(seed, dice.choice(("basic", "renyi")), sites, tuple(attempts))


def _value(kind: str, dice: random.Random) -> float:
    if kind == "site killed while it writes":
        return dice.randint(1, SITE_MOMENTS)
    if kind == "coordinator killed while it writes":
        return dice.randint(1, COORDINATOR_MOMENTS)
    if kind in ("site killed at any time", "reply late"):
        return dice.uniform(0.0, 0.15)
    if kind == "coordinator killed at any time":
        return dice.uniform(0.0, 4.0)
    if "disk" in kind:  # the largest size to which a file may grow
        return dice.choice((0, dice.randint(1, 3000), dice.randint(1, 20_000)))
    if "clock" in kind:
        return dice.choice((-400, -1, -0.01, 0.01, 1, 400)) * DAY
    return 0.0


def die_at(moment: int) -> None:
    """Kill this process at its n-th moment; every durable write has three or more."""
    left, mine = [moment], os.getpid()
    fsync, replace, pwrite = os.fsync, Path.replace, os.pwrite

    def here(last_act: Callable[[], object] = lambda: None) -> None:
        if os.getpid() != mine:  # a site's process, forked from the coordinator's
            return
        left[0] -= 1
        if left[0] == 0:
            last_act()
            os.kill(mine, signal.SIGKILL)

    def torn(handle: int, content: bytes, offset: int) -> int:
        here()
        here(lambda: pwrite(handle, content[: len(content) // 2], offset))
        done = pwrite(handle, content, offset)
        here()
        return done

    def then(do: Any) -> Any:
        def act(*arguments: Any) -> Any:
            here()
            done = do(*arguments)
            here()
            return done

        return act

    os.fsync, os.pwrite = then(fsync), torn
    Path.replace = then(replace)  # type: ignore[method-assign]


def die_within(seconds: float) -> None:
    """Kill this process after so many seconds, wherever it is then."""

    def wait() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def fill_disk(most: float) -> None:
    """Let no file of this process grow beyond `most` bytes; infinity takes that back."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if most == float("inf") else int(most), hard))


def set_clock(ahead: float) -> None:
    """Let the account and the log of this process be told a time that is so many seconds wrong."""
    from client import boundary
    from privacy import chain

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz or UTC) + timedelta(seconds=ahead)

    boundary.datetime = chain.datetime = Clock  # type: ignore[attr-defined]
