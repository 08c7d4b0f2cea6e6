"""How many exchanges two loops need for the same utility: Flower's, which evaluates in every round, and ours.

Three phantom hospitals, each with the style of a scanner, train one model in common from random weights, without noise.
Both loops average the same learner, trained by the same code on the same members with the same settings; they differ in
how many local steps an exchange holds, and in what else they ask. An exchange is one message to every site and its
answer, and the count is the grid's own. Utility is that of new people of all three scanners, whom no site trained on.
"""

import contextlib
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.federation_modes import OURS, STOCK, _context, _grid
from benchmarks.results import table
from cohorts.frames import VIEWS, Frames, concatenate
from cohorts.phantom.simulate import stills
from learning import arrays

STYLES, PEOPLE, NEW, SIZE = ("site-a", "site-b", "site-c"), 96, 32, 64
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is learnt.

    Attributes:
        name, config: of the learner.
        batch, rate: of its training.
        many: local steps of an exchange of ours, and of the stock loop where it is told as many.
        measure: what is measured.
        levels: the utilities to be reached; the last ends a training.
        rounds: most rounds, with one local epoch and with `many` steps.
    """

    name: str
    config: dict[str, Any]
    batch: int
    rate: float
    many: int
    measure: str
    levels: tuple[float, ...]
    rounds: tuple[int, int]


TASKS = {
    "views": Task(
        name="view_classifier", config={"width": 8, "tune": "."}, batch=32, rate=3e-3, many=60,
        measure="accuracy of the view", levels=(0.7, 0.8, 0.9), rounds=(30, 10),
    ),
}  # fmt: skip
EPOCH = 0  # local steps: once through a site's own members
LOOPS = ((STOCK, EPOCH), (STOCK, 1), (OURS, EPOCH), (OURS, 1))  # 1: the many steps of the task


class _Reached(Exception):
    """The last level was reached."""


@dataclass
class _Curve:
    """Utility after each exchange with all sites that ended in new weights."""

    task: Task
    seed: int
    new: Frames
    grid: Any = None

    def __post_init__(self) -> None:
        self.points: list[tuple[int, float]] = []

    def note(self, weights: Any) -> None:
        from synthesis.parts import build

        learner: Any = build("learner", self.task.name, self.task.config, seed=self.seed)
        arrays.load(learner.module, weights)
        self.points.append((sum(self.grid.counted.values()) // len(STYLES), _utility(learner, self.new)))
        if self.points[-1][1] >= self.task.levels[-1]:
            raise _Reached


def measure(task: str, loop: str, many: bool, seed: int) -> dict[str, Any]:
    """Train once, and return the exchanges and the utility after each that changed the weights."""
    told = TASKS[task]
    curve = _Curve(task=told, seed=seed, new=_new())
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Reached):
        sites = _hospitals(Path(folder) / "sites")
        rounds, steps = told.rounds[many], told.many if many else EPOCH
        run = _ours if loop == OURS else _stock
        run(curve, sites, Path(folder) / "out", rounds, steps)
    return {"mode": "utility", "task": task, "loop": loop, "many": many, "seed": seed, "points": curve.points}


def _new() -> Frames:
    """Return new people of every scanner."""
    return concatenate(
        [stills(NEW, seed=9000 + k, size=SIZE, style=style, views=VIEWS) for k, style in enumerate(STYLES)]
    )


def _utility(learner: Any, new: Frames) -> float:
    return float((learner.predict(new.pixels).argmax(1) == new.view).mean())


def _hospitals(root: Path) -> list[Path]:
    from client.site import KEYS, Site
    from tests.hospitals import policy

    views, folders = [view.value for view in VIEWS], []
    allowed = policy(max_steps=1000, seconds_per_message=3600)
    for k, style in enumerate(STYLES):
        cohort = {"reader": "phantom", "subjects": PEOPLE, "seed": k, "site": style, "views": views}
        made = Site.create(root / style, name=style, cohort=cohort, public_subjects=PEOPLE, policy=allowed)
        for key in KEYS:
            (made.folder / "secrets" / key).write_bytes(f"{k:032d}".encode())
        folders.append(made.folder)
    return folders


def _members(site: Path) -> Frames:
    from client.site import Site
    from cohorts.split import Split

    return Site(site).frames(Split.MEMBERS, size=SIZE)


def _epoch(members: Frames, batch: int) -> int:
    return math.ceil(len(members) / batch)


def _ours(curve: _Curve, sites: list[Path], out: Path, rounds: int, steps: int) -> None:
    """Run a campaign of ours; its checkpoints say what the weights are."""
    from client.app import app as client_app
    from server.app import app as server_app
    from server.federate import Checkpoint
    from tests import hospitals

    task = curve.task
    stage = hospitals.train_stage(
        "reference", plan=None, name=task.name, config=task.config, rounds=rounds, batch_size=task.batch,
        steps=steps or _epoch(_members(sites[0]), task.batch), learning_rate=task.rate,
    )  # fmt: skip
    told = hospitals.campaign(out, hospitals.reserve_stage(), stage, size=SIZE, seed=curve.seed, seconds=3600.0)
    curve.grid = _grid(client_app, [{"site": str(site)} for site in sites])
    with _noted(Checkpoint, lambda checkpoint: curve.note(checkpoint.kept)):
        server_app(curve.grid, _context(curve.grid, {"campaign": told.to_json()}))


@contextlib.contextmanager
def _noted(kind: Any, note: Callable[[Any], None]) -> Iterator[None]:
    write = kind.write

    def written(self: Any, folder: Path) -> None:
        write(self, folder)
        note(self)

    kind.write = written
    try:
        yield
    finally:
        kind.write = write


def _stock(curve: _Curve, sites: list[Path], out: Path, rounds: int, steps: int) -> None:
    """Run Flower's FedAvg over clients that train by our code and score their own members."""
    del out
    from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg

    from client.training import seed_of
    from learning.learner import fit
    from synthesis.parts import build

    task, members = curve.task, {str(site): _members(site) for site in sites}
    app, server, number = ClientApp(), ServerApp(), dict.fromkeys(members, 0)

    def given(message: Message) -> Any:
        learner: Any = build("learner", task.name, task.config, seed=curve.seed)
        arrays.load(learner.module, {n: a.numpy() for n, a in message.content.array_records["arrays"].items()})
        return learner

    @app.train()
    def train(message: Message, context: Context) -> Message:
        site, learner = str(context.node_config["site"]), given(message)
        mine = members[site]
        number[site] += 1
        seed = seed_of(curve.seed, Path(site).name, "reference", number[site])
        taken = steps or _epoch(mine, task.batch)
        fit(learner, mine, steps=taken, batch_size=task.batch, learning_rate=task.rate, seed=seed)
        after = ArrayRecord({n: Array(a) for n, a in arrays.trainable(learner.module).items()})
        metrics = MetricRecord({"num-examples": len(mine)})
        return Message(RecordDict({"arrays": after, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        mine = members[str(context.node_config["site"])]
        metrics = MetricRecord({"score": _utility(given(message), mine), "num-examples": len(mine)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    def seen(done: int, weights: ArrayRecord) -> None:
        if done:
            curve.note({n: a.numpy() for n, a in weights.items()})

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        first = arrays.trainable(build("learner", task.name, task.config, seed=curve.seed).module)
        start = ArrayRecord({n: Array(a) for n, a in first.items()})
        strategy = FedAvg(min_available_nodes=len(sites))
        strategy.start(grid=grid, initial_arrays=start, num_rounds=rounds, evaluate_fn=seen)

    curve.grid = _grid(app, [{"site": str(site)} for site in sites])
    server(curve.grid, _context(curve.grid, {}))


def reached(one: dict[str, Any], level: float) -> int | None:
    """Return the exchanges after which utility was first at `level`, or nothing."""
    return next((exchanges for exchanges, utility in one["points"] if utility >= level), None)


def report(found: list[dict[str, Any]]) -> str:
    """Return how many exchanges every loop needed for each utility, and whether a quarter is enough."""
    parts = [
        "### Exchanges for equal utility\n\n"
        f"Three phantom hospitals of {PEOPLE} people, about half of them members, each with the style of its scanner; "
        f"{NEW} new people of each scanner are tested. One model from random weights, without noise; both loops train "
        "by the same code, members, batches and rates, and average with equal or nearly equal weights. Stock is "
        "FedAvg with a train and an evaluate exchange in each round; ours has discovery and reserve before the first "
        "and no evaluate exchange, and both are counted by the grid up to the end of the round that was good enough. "
        "The levels were chosen when one curve of ours had been seen, and none of the stock loop."
    ]
    for name, task in TASKS.items():
        mine = [one for one in found if one["task"] == name]
        if mine:
            parts.append(_of_task(name, task, mine))
    return "\n\n".join(parts)


def _of_task(name: str, task: Task, found: list[dict[str, Any]]) -> str:
    seeds = sorted({one["seed"] for one in found})
    rows, curves, typical = [], [], dict[tuple[str, int, float], float]()
    for loop, many in LOOPS:
        mine = [one for one in found if (one["loop"], bool(one["many"])) == (loop, bool(many))]
        steps = f"{task.many} steps" if many else "one epoch"
        cells = []
        for level in task.levels:
            needed = [reached(one, level) for one in mine]
            there = [n for n in needed if n is not None]
            if there and len(there) == len(needed):
                typical[loop, many, level] = statistics.median(there)
                cells.append(f"{statistics.median(there):g} ({', '.join(map(str, there))})")
            else:
                cells.append(f"not always: {', '.join('–' if n is None else str(n) for n in needed) or 'not run'}")
        rows.append((loop, steps, len(mine), *cells))
        curves += [
            (loop, steps, one["seed"], ", ".join(f"{n}: {utility:.3f}" for n, utility in one["points"])) for one in mine
        ]
    said = [
        *_compared("the quickstart's one local epoch a round", (OURS, 1), (STOCK, EPOCH), task, typical),
        *_compared(f"a stock loop told to take {task.many} local steps as well", (OURS, 1), (STOCK, 1), task, typical),
        *_compared("one local epoch in both", (OURS, EPOCH), (STOCK, EPOCH), task, typical),
    ]
    head = ("loop", "local steps of an exchange", "seeds", *(f"exchanges to {level:g}" for level in task.levels))
    return "\n\n".join(
        [
            f"#### {task.measure.capitalize()} ({name}, seeds {', '.join(map(str, seeds))})\n\n"
            "Median of the seeds, and each of them:",
            table(head, rows),
            "\n".join(said),
            "Utility after each exchange that gave new weights:",
            table(("loop", "local steps of an exchange", "seed", "exchanges: utility"), curves),
        ]
    )


def _compared(
    words: str, ours: tuple[str, int], stock: tuple[str, int], task: Task, typical: dict[tuple[str, int, float], float]
) -> list[str]:
    """Return one line that sets medians beside each other, where both are known."""
    both = [level for level in task.levels if (*ours, level) in typical and (*stock, level) in typical]
    if not both:
        return []
    shares = {level: typical[*ours, level] / typical[*stock, level] for level in both}
    each = ", ".join(f"{share:.2f} at {level:g}" for level, share in shares.items())
    kept = [level for level, share in shares.items() if share <= 0.25]
    verdict = "nowhere" if not kept else "everywhere" if len(kept) == len(both) else f"at {', '.join(map(str, kept))}"
    return [f"- Beside {words}, ours needs this share of the exchanges: {each}. At most a quarter: {verdict}."]
