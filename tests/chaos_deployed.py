"""Disturbed deployments: `python -m tests.chaos_deployed FOLDER` prints a line of JSON for each number it reads.

The programs of a deployment over TLS (`tests/deployment.py`) are killed, halted, cut off and filled up while a campaign
runs, as a seed says; with `whole` behind FOLDER that is one that ends with a certificate (`tests/whole.py`). A blow
falls when so many ClientApps have begun and its aim lives, and counts only if it hit. What must hold afterwards is in
`tests.verdicts`, and that no process is left behind.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tests.deployment import COORDINATOR, Deployment, Process
from tests.hospitals import NAMES
from tests.relay import CUT, SILENT, SLOW
from tests.verdicts import Scene, told_again, verdicts
from tests.whole import Whole

TRAINED, WHOLE = 15, 28  # ClientApps of a campaign that is trained alone, and of one with a certificate, or so
ATTEMPTS, TICK_SECONDS, TRIAL_SECONDS = 10, 0.25, 3000.0
KILLED, HANGS, POWER, DISK, LINE = "is killed", "hangs", "loses power", "finds its disk full", "line"
SITE_BLOWS = (
    f"ClientApp {KILLED}", f"ClientApp {KILLED}", f"ClientApp {HANGS}", f"ClientApp {DISK}", f"SuperNode {KILLED}",
    f"SuperNode {HANGS}", f"SuperExec {KILLED}", f"site {POWER}", f"{LINE} {CUT}", f"{LINE} {SILENT}", f"{LINE} {SLOW}",
)  # fmt: skip
AWAY = {
    f"SuperNode {KILLED}", f"SuperNode {HANGS}", f"SuperExec {KILLED}", f"site {POWER}", f"{LINE} {CUT}",
    f"{LINE} {SILENT}",
}  # fmt: skip
COORDINATOR_BLOWS = (
    f"SuperLink {KILLED}", f"SuperLink {HANGS}", f"SuperExec {KILLED}", f"ServerApp {KILLED}", f"ServerApp {HANGS}",
    f"ServerApp {DISK}", f"SuperLink {DISK}", f"{COORDINATOR} {KILLED}", f"{COORDINATOR} {POWER}",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What befalls whom.

    Attributes:
        owner: a hospital, or the coordinator.
        kind: what.
        after: how many ClientApps of all hospitals begin first.
        age: seconds that the aim lives before.
        seconds: how long it lasts, where it does.
        most: bytes to which a file may grow, of a full disk.
    """

    owner: str
    kind: str
    after: int
    age: float
    seconds: float
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The blows against one campaign, and how its accounts are kept."""

    seed: int
    composition: str
    blows: tuple[Blow, ...]


def schedule(seed: int, most: int = TRAINED) -> Schedule:
    """Draw what goes wrong before so many ClientApps have begun; the same for the same seed."""
    dice = random.Random(f"deployed {seed}")  # noqa: S311
    blows = []
    for _ in range(dice.randint(1, 4)):
        owner = dice.choice((*NAMES, COORDINATOR, COORDINATOR))
        blows.append(
            Blow(
                owner=owner,
                kind=dice.choice(COORDINATOR_BLOWS if owner == COORDINATOR else SITE_BLOWS),
                after=dice.randint(1, most),
                age=dice.choice((0.0, dice.uniform(0.0, 3.0), dice.uniform(0.0, 8.0))),
                seconds=dice.uniform(2.0, 25.0),
                most=dice.choice((0, dice.randint(1, 3000), dice.randint(1, 40_000))),
            )
        )
    return Schedule(seed=seed, composition=dice.choice(("basic", "renyi")), blows=tuple(blows))


class Blows:
    """The blows of a schedule, those that fell and those that last."""

    def __init__(self, deployment: Deployment, told: Schedule) -> None:
        self._deployment, self._waiting = deployment, list(told.blows)
        self._born: dict[int, float] = {}
        self._begun: set[int] = set()
        self._lasting: list[tuple[float, Callable[[], None]]] = []
        self._down: set[str] = set()
        self.faults: list[str] = []
        self.wrong: set[str] = set()  # what ended and was not struck
        self._silent = set(NAMES)
        self.rests_until = 0.0  # the coordinator, after its death

    def tick(self) -> None:
        """Look around, strike what is due, and end what has lasted."""
        now, alive = time.monotonic(), self._deployment.alive()
        for process in alive:
            self._born.setdefault(process.pid, now)
        self._begun |= {p.pid for p in alive if p.role == "ClientApp"}
        self._silent -= {p.owner for p in alive if p.role == "ClientApp"}
        for name in set(NAMES) - self._down:
            if code := self._deployment.running[name].poll():
                self.wrong.add(f"pericard site run of {name} ended with {code}")
        for until, end in list(self._lasting):
            if now >= until:
                self._lasting.remove((until, end))
                end()
        for blow in list(self._waiting):
            if len(self._begun) >= blow.after and self._falls(blow, alive, now):
                self._waiting.remove(blow)

    def lost(self) -> list[str]:
        """Say who had no part in this campaign and was not struck before sites joined: afterwards all come back."""
        return [f"{name} was asked nothing, or answered nothing" for name in sorted(self._silent)]

    def over(self) -> None:
        """End everything that lasts; no more blows fall."""
        self._waiting.clear()
        for _, end in self._lasting:
            end()
        self._lasting.clear()

    def _hit(self, blow: Blow, *, joined: bool) -> None:
        whose = "coordinator's" if blow.owner == COORDINATOR else "site's"
        about = blow.kind if blow.kind.partition(" ")[0] in (COORDINATOR, "site") else f"{whose} {blow.kind}"
        self.faults.append(about)
        if blow.kind in AWAY and not joined:
            self._silent.discard(blow.owner)  # who is away when sites join has a part in the next campaign only

    def _last(self, blow: Blow, end: Callable[[], None]) -> None:
        self._lasting.append((time.monotonic() + blow.seconds, end))

    def _falls(self, blow: Blow, alive: list[Process], now: float) -> bool:
        """Strike if the aim lives; returns whether the blow is done with."""
        aim, _, what = blow.kind.partition(" ")
        if aim == LINE:
            self._trouble(blow, what)
        elif blow.kind == f"{COORDINATOR} {KILLED}" or what == POWER:
            if blow.owner == COORDINATOR and self._deployment.ended():
                return False
            self._power(blow, whole=what == POWER)
        else:
            old = [p for p in alive if (p.owner, p.role) == (blow.owner, aim) and now - self._born[p.pid] >= blow.age]
            return bool(old) and self._process(blow, what, old[0].pid)
        return True

    def _process(self, blow: Blow, what: str, pid: int) -> bool:
        try:
            if what == DISK:
                before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (blow.most, before[1]))
                self._last(blow, lambda: _quietly(resource.prlimit, pid, resource.RLIMIT_FSIZE, before))
            elif what == HANGS:
                os.kill(pid, signal.SIGSTOP)
                self._last(blow, lambda: _quietly(os.kill, pid, signal.SIGCONT))
            else:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self._hit(blow, joined=self._deployment.joined())
        return True

    def _trouble(self, blow: Blow, what: str) -> None:
        relay, joined = self._deployment.relays[blow.owner], self._deployment.joined()
        relay.ail(what)

        def end() -> None:
            if relay.trouble == what:
                if relay.met:
                    self._hit(blow, joined=joined)
                relay.ail("")

        self._last(blow, end)

    def _power(self, blow: Blow, *, whole: bool) -> None:
        process = self._deployment.running[blow.owner]
        if whole:
            hit = self._deployment.kill(blow.owner)
        elif hit := process.poll() is None:
            process.kill()
            process.wait()
        if not hit:  # it is down already
            return
        self._hit(blow, joined=self._deployment.joined())
        if blow.owner == COORDINATOR:
            self.rests_until = time.monotonic() + blow.seconds
        else:
            self._down.add(blow.owner)
            self._last(blow, lambda: self._up(blow.owner))

    def _up(self, name: str) -> None:
        self._down.discard(name)
        self._deployment.start(name)


def _quietly(act: Callable[..., object], *arguments: object) -> None:
    with contextlib.suppress(ProcessLookupError):
        act(*arguments)


def trial(deployment: Deployment, seed: int) -> dict[str, Any]:
    """Disturb one campaign until it ends, and return what came of it."""
    scene, folder, began = replace(deployment.scene, run=f"run-{seed}"), deployment.root / f"{seed}", time.monotonic()
    told = schedule(seed, WHOLE if isinstance(scene, Whole) else TRAINED)
    folder.mkdir()
    deployment.begin(scene, told.composition)
    blows, ends = Blows(deployment, told), list[str]()
    while len(ends) < ATTEMPTS and (not ends or ends[-1].startswith(("killed", "refused"))):
        while time.monotonic() < blows.rests_until:
            blows.tick()
            time.sleep(TICK_SECONDS)
        deployment.start(COORDINATOR)
        while not (end := deployment.ended()):
            blows.tick()
            time.sleep(TICK_SECONDS)
            if time.monotonic() - began > TRIAL_SECONDS:
                deployment.kill(COORDINATOR)
                end = "broken: it does not end"
                break
        ends.append(end)
    blows.over()
    wrong = [] if ends[-1] == "finished" else [f"never finished: {ends[-1]}"]
    wrong += [*sorted(blows.wrong), *blows.lost(), *deployment.settle()]
    deployment.collect(folder)
    finished = ends[-1] == "finished"
    wrong += [*scene.ended(folder / "out"), *told_again(scene, folder, told.composition)] if finished else []
    return {
        "seed": seed, "composition": told.composition, "attempts": ends,
        "wrong": wrong + verdicts(scene, folder, told.composition), "faults": blows.faults,
        "partial": finished and any(len(there) < len(NAMES) for there in scene.answered(folder / "out").values()),
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip


def main(root: Path, scene: Scene, seeds: Iterable[int]) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts this in the background ignores Ctrl-C
    deployment, left = Deployment(root, scene), list[str]()
    try:
        for seed in seeds:
            found = trial(deployment, seed)
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
            if not found["wrong"]:
                shutil.rmtree(root / f"{seed}")
    finally:
        left = deployment.stop()
    if left:
        raise RuntimeError("; ".join(left))


if __name__ == "__main__":
    asked = Whole if sys.argv[2:] == ["whole"] else Scene
    scene = asked(rounds=2, plain_rounds=1, phantoms=True, seconds=300.0)
    main(Path(sys.argv[1]), scene, map(int, iter(sys.stdin.readline, "")))
