"""One loop over some sites, in one mode: in process, in a simulation, or deployed. Each is measured in its own process.

Both loops move the arrays of a view classifier of width 8, take two local steps in each of six rounds, and begin and
end where their ServerApp says so.
"""

import json
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.federation_tree import Tree, watched
from evaluation.reviewed import OFFLINE, programs

ROUNDS, STEPS, SIZE, SUBJECTS = 6, 2, 64, 8
OURS, STOCK = "ours", "stock"
IN_PROCESS, SIMULATION, DEPLOYMENT = "in-process", "simulation", "deployment"
STOCK_EXCHANGES, OUR_EXCHANGES = 2 * ROUNDS, 2 + ROUNDS
LEARNER = {"name": "view_classifier", "config": {"width": 8, "tune": "."}, "batch_size": 8, "learning_rate": 1e-2}
BUNDLE = """[project]
name = "quickstart"
version = "1.0.0"
description = "Quickstart"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "flower"
fab-include = ["/quickstart.py"]

[tool.flwr.app.components]
serverapp = "quickstart:server"
clientapp = "quickstart:client"

[tool.flwr.app.config]
out = ""
sites = 0
"""


def measure(mode: str, loop: str, sites: int) -> dict[str, Any]:
    """Run one loop, and return what it cost."""
    from benchmarks import federation_deployed as deployed

    runs: Mapping[tuple[str, str], Callable[[Path, int], dict[str, Any]]] = {
        (IN_PROCESS, OURS): _ours_in_process, (IN_PROCESS, STOCK): _stock_in_process,
        (SIMULATION, OURS): _ours_simulated, (SIMULATION, STOCK): _stock_simulated,
        (DEPLOYMENT, OURS): deployed.ours, (DEPLOYMENT, STOCK): deployed.stock,
    }  # fmt: skip
    exchanges = OUR_EXCHANGES if loop == OURS else STOCK_EXCHANGES
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        before = os.getloadavg()[0]
        found = runs[mode, loop](Path(folder), sites)
        load = (before + os.getloadavg()[0]) / 2
    if found.setdefault("messages", exchanges * sites) != exchanges * sites:
        raise RuntimeError(f"{found['messages']} messages are not {exchanges} exchanges with {sites} sites")
    return {"mode": mode, "loop": loop, "sites": sites, "exchanges": exchanges, "load": load, **found}


def campaign(out: Path, n: int) -> Any:
    """Return our loop: discovery, reserve, and a training without noise."""
    from tests import hospitals

    stage = hospitals.train_stage("reference", plan=None, rounds=ROUNDS, steps=STEPS, **LEARNER)
    return hospitals.campaign(out, hospitals.reserve_stage(), stage, quorum=n, size=SIZE, seconds=1800.0)


def make_sites(root: Path, n: int, **changes: Any) -> list[Path]:
    """Make hospitals of a few phantoms, whose lots fall as they do every time; `changes` are of their policy."""
    from client.site import KEYS, Site
    from tests.hospitals import policy

    folders = []
    for k in range(n):
        cohort = {"reader": "phantom", "subjects": SUBJECTS, "seed": k, "site": "site-a"}
        told = policy(**changes)
        made = Site.create(root / f"site-{k:03d}", name=f"site-{k}", cohort=cohort, public_subjects=40, policy=told)
        for key in KEYS:
            (made.folder / "secrets" / key).write_bytes(f"{k:032d}".encode())
        folders.append(made.folder)
    return folders


def began_and_ended(out: Path) -> tuple[float, float]:
    """Return when a campaign was begun and when its last stage was done."""
    root = out / "campaign"
    return (root / "campaign.json").stat().st_mtime, max(p.stat().st_mtime for p in root.glob("*/done.json"))


def of_tree(tree: Tree, first: float, begun: float, ended: float) -> dict[str, Any]:
    """Return what the processes used before the loop and in it."""
    return {
        "start": begun - first, "seconds": ended - begun, "start_cpu": tree.used(first, begun),
        "cpu": tree.used(begun, ended), "peak_mib": tree.peak(first, ended),
    }  # fmt: skip


def write_quickstart(app: Path) -> None:
    """Write the bundle of the stock loop into the new folder `app`."""
    app.mkdir(parents=True)
    (app / "pyproject.toml").write_text(BUNDLE, encoding="utf-8")
    source = Path(__file__).with_name("federation_quickstart.py")
    (app / "quickstart.py").write_bytes(source.read_bytes())


def flower_environment(home: Path) -> dict[str, str]:
    """Return an environment for programs of Flower's that do not know our packages."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("FLWR_")}
    own = {"FLWR_HOME": str(home), "PATH": programs(), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return kept | OFFLINE | own


def start_quickstart(flwr: Callable[..., dict[str, Any]], root: Path, n: int, *more: str) -> tuple[float, float]:
    """Run the stock loop on a SuperLink to its end; returns when it began and ended."""
    from server.superlink import CONNECTION, SimulationFailed

    out = root / "times.json"
    write_quickstart(root / "quickstart")
    (root / "run.toml").write_text(f"out = {json.dumps(str(out))}\nsites = {n}\n", encoding="utf-8")
    begun = flwr("run", str(root / "quickstart"), CONNECTION, "-c", str(root / "run.toml"), *more)
    status, asked = "", time.monotonic()
    while not status.startswith("finished"):
        time.sleep(0.5)
        if time.monotonic() - asked > (2 if out.exists() else 20):  # asking costs seconds of a core
            status = str(flwr("ls", CONNECTION, "--run-id", str(begun["run-id"]))["runs"][0]["status"])
            asked = time.monotonic()
    if status != "finished:completed":
        raise SimulationFailed(f"the stock loop is {status!r}")
    first, last = json.loads(out.read_text(encoding="utf-8"))
    return float(first), float(last)


def _ours_in_process(root: Path, n: int) -> dict[str, Any]:
    from client import training
    from client.app import app as client_app
    from server.app import app as server_app

    def once(folder: Path, sites: int) -> tuple[Any, Callable[[], None]]:
        told = campaign(folder / "out", sites)
        grid = _grid(client_app, [{"site": str(site)} for site in make_sites(folder / "sites", sites)])
        return grid, lambda: server_app(grid, _context(grid, {"campaign": told.to_json()}))

    return _in_process(root, n, once, [(training, "_fit")])


def _stock_in_process(root: Path, n: int) -> dict[str, Any]:
    import torch

    from benchmarks import federation_quickstart as quickstart

    torch.set_num_threads(1)

    def once(folder: Path, sites: int) -> tuple[Any, Callable[[], None]]:
        folder.mkdir()
        grid = _grid(quickstart.client, [{"partition-id": str(k)} for k in range(sites)])
        told = {"out": str(folder / "times.json"), "sites": sites}
        return grid, lambda: quickstart.server(grid, _context(grid, told))

    return _in_process(root, n, once, [(quickstart, "learn"), (quickstart, "test")])


def _in_process(
    root: Path, n: int, once: Callable[[Path, int], tuple[Any, Callable[[], None]]], work: list[tuple[Any, str]]
) -> dict[str, Any]:
    """Run once over three sites, so that what is loaded once is loaded, and then measure."""
    once(root / "warm", 3)[1]()
    spent = [0.0]
    for module, name in work:
        setattr(module, name, _timed(getattr(module, name), spent))
    grid, run = once(root / "measured", n)
    wall, cpu = time.time(), time.process_time()
    run()
    return {
        "start": None, "start_cpu": None, "seconds": time.time() - wall, "cpu": time.process_time() - cpu,
        "training": spent[0], "messages": sum(grid.counted.values()), "bytes": grid.bytes_down + grid.bytes_up,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def _timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def inner(*arguments: Any) -> Any:
        begun = time.process_time()
        try:
            return call(*arguments)
        finally:
            spent[0] += time.process_time() - begun

    return inner


def _grid(app: Any, nodes: list[dict[str, str]]) -> Any:
    from server.grid import InProcessGrid

    counted: Counter[str] = Counter()

    def count(message: Any) -> None:
        counted[f"{message.metadata.message_type} {message.metadata.group_id}"] += 1

    grid = InProcessGrid(app, nodes, fault=count)
    grid.counted = counted
    return grid


def _context(grid: Any, config: dict[str, Any]) -> Any:
    from flwr.app import Context, RecordDict

    return Context(grid.run.run_id, 1, {}, RecordDict(), config)


def _ours_simulated(root: Path, n: int) -> dict[str, Any]:
    from server.simulation import run_simulation

    make_sites(root / "sites", n)
    with watched() as tree:
        first = time.time()
        run_simulation(campaign(root / "out", n), root / "sites", seconds=3600)
        return of_tree(tree, first, *began_and_ended(root / "out"))


def _stock_simulated(root: Path, n: int) -> dict[str, Any]:
    from server.superlink import superlink

    told = f"num-supernodes={n} client-resources-num-cpus=1 client-resources-num-gpus=0.0 init-args-log-to-driver=false"
    with watched() as tree:
        first = time.time()
        with superlink(root, flower_environment(root / "home") | {"RAY_TMPDIR": str(root)}) as link:
            times = start_quickstart(link.flwr, root, n, "--federation-config", told)
        return of_tree(tree, first, *times)
