"""Where the seconds of the default campaign go: every one is spent in exactly one part, the innermost that was timed.

`pericard simulate` runs whole, in this process; what it calls is wrapped by timers here, not in the product. Seconds
are the CPU's, of all threads, and the clock's.
"""

import contextlib
import functools
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import table

TRAINING, SITES, COORDINATOR, START, FEDERATING = (
    "training at the sites", "other work at the sites", "work of the coordinator", "start", "federating",
)  # fmt: skip
REST = (FEDERATING, "the campaign's loop, its own files, and what is in no other part")
STAGES = ("prior", "sample", "screen", "attack", "audit", "utility", "certify", "shapes", "tutor", "film")
PARTS: tuple[tuple[str, str, tuple[str, str]], ...] = (
    ("server.plan", "campaign", (START, "noise for the budget")),
    ("pericard.hospitals", "make", (START, "simulated hospitals")),
    *((f"server.stages.{name}", "run", (COORDINATOR, f"stage {name}")) for name in STAGES),
    ("server.stages.train", "_people", (COORDINATOR, "simulated people to watch a training by")),
    ("server.metrics", "Watch.__call__", (COORDINATOR, "watching a training on simulated people")),
    ("client.site", "Site._once", (SITES, "reading studies")),
    ("server.grid", "InProcessGrid._wire", (FEDERATING, "both ways over the wire")),
    ("server.grid", "InProcessGrid._deliver", (FEDERATING, "delivery")),
    ("learning.messages", "encode", (FEDERATING, "messages: schema and digests")),
    ("learning.messages", "decode", (FEDERATING, "messages: schema and digests")),
    ("learning.messages", "weigh", (FEDERATING, "messages: schema and digests")),
    ("client.app", "guard", (FEDERATING, "the guard, and admission")),
    ("client.countersign", "countersign", (SITES, "countersigning")),
    ("client.journal", "Journal._write", (FEDERATING, "journals of the sites")),
    ("privacy.ledger", "PrivacyLedger.__init__", (FEDERATING, "accounts of the sites")),
    ("privacy.ledger", "PrivacyLedger.verify", (FEDERATING, "accounts of the sites")),
    ("privacy.ledger", "PrivacyLedger.authorise", (FEDERATING, "accounts of the sites")),
    ("privacy.ledger", "PrivacyLedger.intend", (FEDERATING, "accounts of the sites")),
    ("server.federate", "moved", (FEDERATING, "aggregation, and its checks")),
    ("server.federate", "apart", (FEDERATING, "aggregation, and its checks")),
    ("server.federate", "_require_finite", (FEDERATING, "aggregation, and its checks")),
    ("server.federate", "_blend", (FEDERATING, "aggregation, and its checks")),
    ("server.federate", "Checkpoint.write", (FEDERATING, "checkpoints")),
    ("server.federate", "Checkpoint.read", (FEDERATING, "checkpoints")),
    ("server.progress", "Journal.__call__", (FEDERATING, "progress, and notes of what left")),
    ("server.left", "note", (FEDERATING, "progress, and notes of what left")),
)
IMPORTED = ("torch", "opacus", "client.training", "client.assessment", "client.screening", "pericard.simulate")


class Spent:
    """Seconds by part: the clock of the innermost part runs, that of all around it stands."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, str], list[float]] = {}
        self._open: list[tuple[str, str]] = [(START, "Python and imports")]
        # Both clocks begin with the process, so that what came before this line is counted.
        self._cpu, self._wall = 0.0, time.time() - _age()

    def _credit(self) -> None:
        cpu, wall = time.process_time(), time.time()
        part = self.parts.setdefault(self._open[-1], [0.0, 0.0, 0])
        part[0] += cpu - self._cpu
        part[1] += wall - self._wall
        self._cpu, self._wall = cpu, wall

    @contextlib.contextmanager
    def inside(self, part: tuple[str, str]) -> Iterator[None]:
        """Credit `part` with what is spent in the block."""
        self._credit()
        self._open.append(part)
        try:
            yield
        finally:
            self._credit()
            self.parts[self._open.pop()][2] += 1

    def timed(self, call: Callable[..., Any], part: tuple[str, str]) -> Callable[..., Any]:
        """Return `call`, timed."""

        @functools.wraps(call)
        def inner(*arguments: Any, **named: Any) -> Any:
            with self.inside(part):
                return call(*arguments, **named)

        return inner


def _age() -> float:
    """Return the seconds since this process began."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - ticks / 100


def _wrap(spent: Spent) -> None:
    """Put timers around what the campaign calls; this process is for nothing else."""
    for module, path, part in PARTS:
        holder: Any = importlib.import_module(module)
        *outer, name = path.split(".")
        for word in outer:
            holder = getattr(holder, word)
        setattr(holder, name, spent.timed(getattr(holder, name), part))
    from client.outbox import Outbox

    answer = Outbox.answer

    def answered(self: Any, request: object, run: str, key: str, kind: type, compute: Callable[[], Any]) -> Any:
        work = (TRAINING, "gradients, clipping, noise") if key.startswith("train.") else (SITES, key.partition(".")[0])
        with spent.inside((FEDERATING, "outboxes of the sites")):
            return answer(self, request, run, key, kind, spent.timed(compute, work))

    Outbox.answer = answered


def measure(overrides: list[str]) -> dict[str, Any]:
    """Run the default campaign with `overrides`, and return what was spent in each part."""
    spent = Spent()
    for module in IMPORTED:
        importlib.import_module(module)
    _wrap(spent)
    from pericard.simulate import command

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr), spent.inside(REST):
        code = command(overrides, Path(folder) / "out", resume=False, as_json=True)
    parts = [{"group": g, "part": p, "cpu": c, "wall": w, "calls": n} for (g, p), (c, w, n) in spent.parts.items()]
    return {"mode": "campaign", "sites": 0, "overrides": overrides, "exit": code, "parts": parts}


def report(one: dict[str, Any]) -> str:
    """Return where the seconds went, and the share of what is neither work nor start."""
    total, wall = (sum(part[clock] for part in one["parts"]) for clock in ("cpu", "wall"))
    rows, groups = [], []
    for group in (TRAINING, SITES, COORDINATOR, START, FEDERATING):
        mine = sorted((p for p in one["parts"] if p["group"] == group), key=lambda p: -p["cpu"])
        cpu, seconds = (sum(p[clock] for p in mine) for clock in ("cpu", "wall"))
        groups.append((group, cpu, seconds, 100 * cpu / total, 100 * seconds / wall))
        rows += [(group, p["part"], p["calls"], p["cpu"], p["wall"]) for p in mine]
    groups.append(("all", total, wall, 100.0, 100.0))
    share = next(row[3:] for row in groups if row[0] == FEDERATING)
    held = "holds" if max(share) <= 5 else "does not hold"
    seconds_of = {row[0]: row[1] for row in groups}
    beside = 100 * seconds_of[FEDERATING] / seconds_of[TRAINING]
    return (
        "### Overhead of the default campaign\n\n"
        f"`pericard simulate {' '.join(one['overrides'])}` (exit {one['exit']}), all in one process. Overhead is all "
        "that is there only because the work is federated: messages and their checks, guard, admission, journals, "
        "outboxes and accounts of the sites, aggregation, checkpoints, progress, the campaign's loop, and whatever no "
        "timer was put around. Not in it: training, scoring, attacking and screening at the sites; at the coordinator "
        "drawing, choosing and certifying what is released, and watching a training on simulated people; what comes "
        f"before the first message. It is {share[0]:.2f} % of the CPU seconds and {share[1]:.2f} % of the clock's; "
        f"the bound of 5 % {held}. Beside the CPU seconds of training alone it is {beside:.1f} %.\n\n"
        + table(("group", "CPU s", "s", "% of CPU", "% of time"), groups)
        + "\n\n"
        + table(("group", "part", "times", "CPU s", "s"), rows)
    )
