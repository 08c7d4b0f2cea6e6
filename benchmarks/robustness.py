"""What one hostile site of five can do to a training in common, under each strategy of the coordinator.

Five phantom hospitals train a view classifier from random weights, without DP, over the real messages and checks of
the coordinator. One of them, `site-b`, answers with the opposite of its change ten times over, with what is no number,
or with noise ten times as long as its change. Accuracy is that of frames of new subjects of all five sites. Every cell
is the mean over two seeds of the weights and batches.

OMP_NUM_THREADS=1 python -m benchmarks.robustness [--write]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from benchmarks import results
from cohorts.frames import VIEWS, Frames
from cohorts.phantom.simulate import stills
from conf.aggregation import STRATEGIES, Aggregation
from learning import arrays, messages
from learning.learner import fit
from learning.learners.view_classifier import ViewLearner
from learning.messages import Train, Trained
from server.federate import federate
from server.grid import InProcessGrid
from server.rounds import QuorumLost, Weights
from synthesis.parts import build

SITES = (("site-a", 1), ("site-b", 2), ("site-c", 3), ("wide", 4), ("wide", 5))  # style of scanner, population
NAMES = ("site-a", "site-b", "site-c", "site-d", "site-e")
HOSTILE = "site-b"
MEMBERS, NEW = 48, 24  # subjects of each site
EXCHANGES, STEPS, BATCH, RATE = 8, 12, 32, 3e-3
SEEDS = (0, 1)

Change = dict[str, NDArray[np.float32]]


def opposite(change: Change, dice: np.random.Generator) -> Change:
    """Send the opposite, ten times over."""
    del dice
    return {n: np.float32(-10) * a for n, a in change.items()}


def no_number(change: Change, dice: np.random.Generator) -> Change:
    """Send what is no number."""
    del dice
    return {n: np.full_like(a, np.nan) for n, a in change.items()}


def noise(change: Change, dice: np.random.Generator) -> Change:
    """Send noise, ten times as long as the change, array by array."""
    drawn = {n: dice.normal(size=a.shape) for n, a in change.items()}
    return {
        n: np.asarray(10 * np.linalg.norm(a) / np.linalg.norm(drawn[n]) * drawn[n], np.float32)
        for n, a in change.items()
    }


ATTACKS: dict[str, Callable[[Change, np.random.Generator], Change] | None] = {
    "none": None, "opposite × 10": opposite, "no number": no_number, "noise × 10": noise,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a training came to: the share of new frames named rightly, and in how many exchanges who was named."""

    accuracy: float
    named: int
    others_named: int


@lru_cache(maxsize=1)
def hospitals() -> list[tuple[Frames, Frames]]:
    """Return members and new subjects of each site."""
    found = []
    for style, seed in SITES:
        frames = stills(MEMBERS + NEW, seed=seed, style=style, views=VIEWS)
        found.append((frames.select(frames.subjects[:MEMBERS]), frames.select(frames.subjects[MEMBERS:])))
    return found


def measure(strategy: str, attack: str, seed: int, folder: Path) -> Outcome | str:
    """Train in common, with checkpoints in `folder`; return what came of it, or why it went no further."""
    spoil = ATTACKS[attack]
    app, learner = ClientApp(), cast(ViewLearner, build("learner", "view_classifier", {"tune": "."}, seed=seed))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        asked, k = messages.decode(message.content, Train), int(context.node_config["k"])
        arrays.load(learner.module, asked.arrays)
        words = [asked.seed, k, asked.round]
        fit(
            learner,
            hospitals()[k][0],
            steps=asked.steps,
            batch_size=asked.batch_size,
            learning_rate=asked.learning_rate,
            seed=int(np.random.default_rng(words).integers(2**31)),
        )
        after = arrays.trainable(learner.module)
        change = {n: after[n] - asked.arrays[n] for n in after}
        record = messages.encode(Trained(arrays=change))
        if spoil is not None and NAMES[k] == HOSTILE:  # after the schema, which would not let it out
            sent = {n: a.numpy() for n, a in record.array_records[messages.ARRAYS].items()}
            spoilt = spoil(sent, np.random.default_rng(words))
            record[messages.ARRAYS] = ArrayRecord({n: Array(spoilt[n]) for n in sorted(spoilt)})
        return Message(record, reply_to=message)

    def request(number: int, weights: Weights) -> Train:
        return Train(
            run="robustness", stage="reference", round=number, kind="learner", name="view_classifier", config={},
            prior="", plan=None, size=64, steps=STEPS, batch_size=BATCH, learning_rate=RATE, seed=seed,
            proximal=0.0, personal="", arrays=weights, frozen={},
        )  # fmt: skip

    grid = InProcessGrid(app, [{"k": str(k)} for k in range(len(NAMES))])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        end = federate(
            grid,
            dict(zip(NAMES, grid.get_node_ids(), strict=True)),
            arrays.trainable(learner.module),
            request,
            rounds=EXCHANGES,
            quorum=5 if strategy.endswith("krum") else 4,
            seconds=60.0,
            step=Aggregation(strategy=strategy),
            folder=folder,
            progress=lambda done, words: None,
        )
    except QuorumLost as lost:
        return f"stops, names {', '.join(lost.failed)}"
    arrays.load(learner.module, end.kept)
    right = [learner.predict(new.pixels).argmax(1) == new.view for _, new in hospitals()]
    named = [{*told.get("apart", ()), *told["failed"]} for told in end.history]
    return Outcome(
        accuracy=float(np.concatenate(right).mean()),
        named=sum(HOSTILE in names for names in named),
        others_named=sum(len(names - {HOSTILE}) for names in named),
    )


def cell(outcomes: Sequence[Outcome | str]) -> str:
    """Return accuracy in percent, and in which share of exchanges the hostile site, and others, were named."""
    good = [o for o in outcomes if isinstance(o, Outcome)]
    if len(good) < len(outcomes):
        return next(o for o in outcomes if isinstance(o, str))
    exchanges = EXCHANGES * len(good)
    accuracy = 100 * float(np.mean([o.accuracy for o in good]))
    named, others = sum(o.named for o in good), sum(o.others_named for o in good)
    return f"{accuracy:.1f} % ({named}/{exchanges}" + (f", others {others})" if others else ")")


def worst(strategy: str, row: Sequence[Sequence[Outcome | str]]) -> str:
    """Return how many points the worst attack that did not stop the training took, against the same undisturbed."""
    none, *attacked = [
        100 * float(np.mean([o.accuracy for o in outcomes if isinstance(o, Outcome)]))
        for outcomes in row
        if any(isinstance(o, Outcome) for o in outcomes)
    ]
    return f"{strategy} {none - min(attacked):.1f}"


def main() -> None:
    """Measure every strategy under every attack; with `--write` the result becomes a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into benchmarks/RESULTS.md")
    parser.add_argument("--folder", type=Path, help="of checkpoints, from which a run that was broken off goes on")
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, choices=STRATEGIES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder, rows, losses = arguments.folder or Path(tempfile.mkdtemp()), [], []
    for strategy in arguments.strategies:
        found: list[list[Outcome | str]] = []
        for attack in ATTACKS:
            since = time.perf_counter()
            run = f"{strategy}-{list(ATTACKS).index(attack)}"
            found.append([measure(strategy, attack, seed, folder / f"{run}-{seed}") for seed in SEEDS])
            print(f"{strategy:12s} {attack:14s} {cell(found[-1])} ({time.perf_counter() - since:.0f} s)", flush=True)
        rows.append([strategy, *map(cell, found)])
        losses.append(worst(strategy, found))
    frames = sum(len(new.pixels) for _, new in hospitals())
    text = (
        f"{len(NAMES)} phantom sites of {MEMBERS} members, {EXCHANGES} exchanges of {STEPS} steps, no DP; one site is "
        f"hostile. Accuracy on {frames} frames of new subjects, mean of {len(SEEDS)} seeds; in brackets, in how many "
        "of all exchanges the hostile site was named (as apart from the others, or refused), and how often another.\n\n"
        + results.table(["strategy", *ATTACKS], rows)
        + f"\n\nPoints lost to the worst attack: {', '.join(losses)}."
    )
    if arguments.write:
        results.write("Robustness", "OMP_NUM_THREADS=1 python -m benchmarks.robustness --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
