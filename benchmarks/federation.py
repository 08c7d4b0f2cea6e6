"""What it costs to ask hospitals, beside Flower's quickstart: `python -m benchmarks.federation --write`.

Four questions, four parts: what an exchange costs in each mode and loop (`federation_modes`, `federation_deployed`),
how many exchanges the same utility takes (`federation_utility`), and which share of the default campaign is overhead
(`federation_overhead`). Every measurement runs in a process of its own and is kept as a line of JSON as soon as it is
there: with `--kept FILE` an interrupted one goes on where it was. CPU seconds, for other processes may share the
machine; where the clock's seconds are given, the load is, too.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import federation_modes as modes
from benchmarks import federation_overhead as overhead
from benchmarks import federation_utility as utility
from benchmarks.results import table, write

TITLE = "Federation: what an exchange costs"
SITES = {modes.IN_PROCESS: (3, 10, 50, 200), modes.SIMULATION: (3, 10, 50), modes.DEPLOYMENT: (3,)}
LOOPS = (modes.OURS, modes.STOCK)
OVERRIDES = ("threads=1",)
HEAD = ("mode", "sites", "loop", "exchanges", "messages", "start CPU s", "CPU s", "of it training",
        "CPU ms per message, training apart", "start s", "s", "s per exchange", "load", "peak MiB", "bytes",
        "bytes per exchange")  # fmt: skip


def main() -> None:
    """Measure what is not kept, and print; with --write, into `RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/RESULTS.md")
    parser.add_argument("--kept", type=Path, help="a file of JSON lines: what was measured before, and will be")
    parser.add_argument(
        "--only", nargs="*", metavar="KIND", help="measure these kinds only, and report all that is kept"
    )
    parser.add_argument("--one", nargs="+", metavar="WORD", help="measure one and print it as JSON")
    told = parser.parse_args()
    if told.one:
        print(json.dumps(measure(told.one)))
        return
    lines = told.kept.read_text(encoding="utf-8").splitlines() if told.kept and told.kept.exists() else []
    known = {tuple(one["asked"]): one for one in map(json.loads, lines)}
    for asked in wanted():
        if asked not in known and (told.only is None or asked[0] in told.only):
            known[asked] = _alone(asked)
            if told.kept:
                with told.kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(known[asked]) + "\n")
    text = report([known[asked] for asked in wanted() if asked in known])
    if told.write:
        write(TITLE, "python -m benchmarks.federation --write", text)
    else:
        print(text)


def wanted() -> list[tuple[str, ...]]:
    """Return the words of every measurement."""
    return [
        *((mode, loop, str(n)) for mode, every in SITES.items() for n in every for loop in LOOPS),
        *(
            ("utility", task, loop, str(int(many)), str(seed))
            for task in utility.TASKS for seed in utility.SEEDS for loop, many in utility.LOOPS
        ),
        ("campaign", *OVERRIDES),
    ]  # fmt: skip


def measure(asked: Sequence[str]) -> dict[str, Any]:
    """Measure what these words ask for."""
    kind, *words = asked
    if kind == "campaign":
        found = overhead.measure(words)
    elif kind == "utility":
        found = utility.measure(words[0], words[1], words[2] == "1", int(words[3]))
    else:
        found = modes.measure(kind, words[0], int(words[1]))
    return {"asked": list(asked), **found}


def _alone(asked: Sequence[str]) -> dict[str, Any]:
    """Measure in a process of its own, whose memory and children are its own."""
    command = [sys.executable, "-m", "benchmarks.federation", "--one", *asked]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(found: list[dict[str, Any]]) -> str:
    """Return the tables and what they say."""
    by_mode = [one for one in found if one["asked"][0] in SITES]
    curves = [one for one in found if one["asked"][0] == "utility"]
    parts = [_costs(by_mode)] if by_mode else []
    parts += [utility.report(curves)] if curves else []
    parts += [overhead.report(one) for one in found if one["asked"][0] == "campaign"]
    if missing := [" ".join(asked) for asked in wanted() if list(asked) not in [one["asked"] for one in found]]:
        parts.append(f"Asked for, and not measured: {', '.join(missing)}.")
    return "\n\n".join(parts)


def _costs(found: list[dict[str, Any]]) -> str:
    rows = [_row(one) for one in found]
    return (
        "### What an exchange costs\n\n"
        f"Both loops move the arrays of a view classifier of width 8 for {modes.ROUNDS} rounds of {modes.STEPS} local "
        "steps. Stock is Flower's quickstart for PyTorch (FedAvg, a train and an evaluate message in each round) over "
        f"random pictures, {modes.STOCK_EXCHANGES} exchanges. Ours is a campaign of {modes.OUR_EXCHANGES} (discovery, "
        "reserve, one for each round) over phantom hospitals that it reads, without noise; it keeps every answer and "
        "a checkpoint on disk, signs what entered and left, and asks no site to evaluate. In process, everything is "
        "one process that has run once before, and training is what sites compute, reading their studies included. "
        "In a simulation and in a deployment, CPU and memory (proportional set sizes) are summed over all processes "
        "of Flower's and ours but the one that measures, loop and start apart; the loop is what the ServerApp "
        "spans. Deployed: TLS on loopback, one SuperNode a site, the stock one with Flower's defaults, ours with "
        "registered keys, a fleet-only listener and a SuperExec of its own; bytes are those of the connections "
        "between sites and coordinator, TLS, polling and the code that is sent included; in process, those of the "
        "serialised messages; a simulation has no wire. Seconds of the clock are of a machine with the load beside "
        "them.\n\n" + table(HEAD, rows)
    )  # fmt: skip


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    apart = 1000 * (one["cpu"] - one.get("training", 0.0)) / one["messages"] if "training" in one else None
    each = one["bytes"] // one["exchanges"] if "bytes" in one else None
    cells = (
        one["mode"], one["sites"], one["loop"], one["exchanges"], one["messages"], one["start_cpu"], one["cpu"],
        one.get("training"), apart, one["start"], one["seconds"], one["seconds"] / one["exchanges"], one["load"],
        one["peak_mib"], one.get("bytes"), each,
    )  # fmt: skip
    return tuple("–" if cell is None else cell for cell in cells)


if __name__ == "__main__":
    main()
