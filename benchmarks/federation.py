"""What it costs to ask hospitals: `python -m benchmarks.federation --write`, beside Flower's stock loop.

The same small arrays travel over the same in-memory grid, with real serialisation, to 3 to 200 virtual sites: once in
a campaign of ours (discovery, reserve, six exchanges that train without noise), once in FedAvg as Flower's quickstart
writes it (train and evaluate in each of six rounds). CPU seconds, since other processes share this machine; what sites
spend on training itself is measured apart.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.results import table, write

SITES, ROUNDS, STEPS = (3, 10, 50, 200), 6, 2
HEAD = ("sites", "loop", "exchanges", "messages", "bytes", "bytes per exchange", "CPU s", "of it training",
        "CPU ms per message, training apart", "peak MiB")  # fmt: skip


def main() -> None:
    """Measure and print; with --write, into `RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/RESULTS.md")
    parser.add_argument("--sites", type=int, nargs="+", default=SITES, help="how many virtual sites")
    parser.add_argument("--kept", type=Path, help="a file of JSON lines with what was measured before")
    parser.add_argument("--one", nargs=2, metavar=("LOOP", "SITES"), help="measure one and print it as JSON")
    told = parser.parse_args()
    if told.one:
        print(json.dumps(measure(told.one[0], int(told.one[1]))))
        return
    kept = told.kept.read_text(encoding="utf-8").splitlines() if told.kept and told.kept.exists() else []
    known = {(one["loop"], one["sites"]): one for one in map(json.loads, kept)}
    asked = [(loop, sites) for sites in told.sites for loop in ("ours", "stock")]
    text = report([known.get(one) or _alone(*one) for one in asked])
    command = f"python -m benchmarks.federation --sites {' '.join(map(str, told.sites))} --write"
    if told.write:
        write("Federation: what an exchange costs", command, text)
    else:
        print(text)


def _alone(loop: str, sites: int) -> dict[str, Any]:
    """Measure in a process of its own, whose peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.federation", "--one", loop, str(sites)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(loop: str, sites: int) -> dict[str, Any]:
    """Run one loop over so many sites, and return what it cost; what is loaded once is loaded before."""
    run = _ours if loop == "ours" else _stock
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "warm", 3)
        found = run(Path(folder) / "measured", sites)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"loop": loop, "sites": sites, "peak_mib": peak, **found}


def _ours(folder: Path, n: int) -> dict[str, Any]:
    from client import training
    from client.app import app
    from client.site import KEYS, Site
    from server.app import app as server_app
    from tests.hospitals import campaign, policy, reserve_stage, train_stage

    sites = []
    for k in range(n):
        cohort = {"reader": "canary", "seed": k}
        made = Site.create(folder / f"site-{k}", name=f"site-{k}", cohort=cohort, public_subjects=40, policy=policy())
        for key in KEYS:
            (made.folder / "secrets" / key).write_bytes(f"{k:032d}".encode())
        sites.append(made.folder)
    part = {"rounds": ROUNDS, "steps": STEPS}
    told = campaign(folder / "out", reserve_stage(), train_stage("reference", plan=None, **part), quorum=n)
    spent, fit = [0.0], training._fit

    def timed(*arguments: Any) -> Any:
        begun = time.process_time()
        try:
            return fit(*arguments)
        finally:
            spent[0] += time.process_time() - begun

    training._fit = timed
    try:
        grid = _grid(app, [{"site": str(site)} for site in sites])
        begun = time.process_time()
        server_app(grid, _context(grid, {"campaign": told.to_json()}))
        return _cost(grid, time.process_time() - begun, spent[0])
    finally:
        training._fit = fit


def _stock(folder: Path, n: int) -> dict[str, Any]:
    del folder
    from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg

    from tests.hospitals import WEIGHTS

    app, server = ClientApp(), ServerApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        given = message.content.array_records["arrays"]
        after = ArrayRecord({name: Array(array.numpy() + 1) for name, array in given.items()})
        metrics = MetricRecord({"train_loss": 0.5, "num-examples": 20})
        return Message(RecordDict({"arrays": after, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"accuracy": 0.5, "num-examples": 20})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        first = ArrayRecord({name: Array(array) for name, array in WEIGHTS.items()})
        FedAvg(min_available_nodes=n).start(grid=grid, initial_arrays=first, num_rounds=ROUNDS)

    grid = _grid(app, [{"partition-id": str(k)} for k in range(n)])
    begun = time.process_time()
    server(grid, _context(grid, {}))
    return _cost(grid, time.process_time() - begun, 0.0)


def _grid(app: Any, nodes: list[dict[str, str]]) -> Any:
    from server.grid import InProcessGrid

    counted: Counter[str] = Counter()

    def count(message: Any) -> None:
        counted[f"{message.metadata.message_type} {message.metadata.group_id}"] += 1

    grid = InProcessGrid(app, nodes, fault=count)
    grid.counted = counted
    return grid


def _context(grid: Any, config: dict[str, str]) -> Any:
    from flwr.app import Context, RecordDict

    return Context(grid.run.run_id, 1, {}, RecordDict(), config)


def _cost(grid: Any, seconds: float, training: float) -> dict[str, Any]:
    return {
        "messages": sum(grid.counted.values()), "bytes": grid.bytes_down + grid.bytes_up,
        "seconds": seconds, "training": training,
    }  # fmt: skip


def _exchanges(one: dict[str, Any]) -> int:
    """Return how often all sites were asked."""
    return int(one["messages"] // one["sites"])


def report(found: list[dict[str, Any]]) -> str:
    """Return the table and what it says."""
    rows = []
    for one in found:
        apart = 1000 * (one["seconds"] - one["training"]) / one["messages"]
        rows.append(
            (one["sites"], one["loop"], _exchanges(one), one["messages"], one["bytes"],
             one["bytes"] // _exchanges(one), one["seconds"], one["training"], apart, one["peak_mib"])
        )  # fmt: skip
    ours, stock = (next(one for one in found if one["loop"] == loop) for loop in ("ours", "stock"))
    return (
        f"A linear classifier of 34 weights, {ROUNDS} rounds of {STEPS} local steps. Ours keeps every answer on disk "
        "before it leaves and writes a checkpoint after every exchange; the stock loop keeps nothing, and its clients "
        "compute nothing. Ours asks no site to evaluate between exchanges, so the same rounds take "
        f"{_exchanges(ours)} exchanges with discovery and reserve, and {_exchanges(stock)} in the stock loop. "
        "Utility is not compared here. Over processes (a simulation or a deployment) nothing is measured here.\n\n"
        + table(HEAD, rows)
    )


if __name__ == "__main__":
    main()
