"""Find the training settings of `experiment=camus` where it costs no privacy: on phantoms that no prior has seen.

Three simulated hospitals of the size of CAMUS, whose pictures a public operator has changed in ways that the simulator
cannot (despeckled, sharpened, brightened), train under the budget of the experiment. The views are also shown mirrored,
as some hospitals do: otherwise the prior knows them already, and nothing could be told apart. One setting after the
other is moved over a coarse, fixed grid; the best is kept. Nothing real is opened, so ε need not pay for the choice
(`hyperparameters.public` of docs/epsilon-coverage.md). Some half an hour on two cores.

python -m benchmarks.settings {views,generator} [--write]
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter

from benchmarks import results
from cohorts.frames import Frames
from cohorts.phantom.simulate import stills
from conf.compose import compose
from conf.schema import Experiment, Training
from learning import arrays
from learning.learner import Learner, fit_private
from pericard.simulate import groups
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom
from server.plan import plans
from server.rounds import mean
from synthesis.parts import build

MEMBERS, HELD_OUT = 58, 30  # at each site; CAMUS has 348 people, half of them members, at three sites
SEED = 77  # of the phantoms; the priors were trained on others
REPEATS = 2  # with other noise

Pixels = NDArray[np.uint8]
Choice = dict[str, Any]


def _despeckled(x: Pixels) -> Pixels:
    out: Pixels = median_filter(x, (1, 3, 3))
    return out


def _sharpened(x: Pixels) -> Pixels:
    smooth = gaussian_filter(x.astype(np.float32), (0, 1, 1))
    return np.clip(x + 1.5 * (x - smooth), 0, 255).astype(np.uint8)


def _brightened(x: Pixels) -> Pixels:
    return (255 * (x / 255.0) ** 0.6).astype(np.uint8)


VENDORS: tuple[tuple[str, Callable[[Pixels], Pixels]], ...] = (
    ("site-a", _despeckled), ("site-b", _sharpened), ("site-c", _brightened),
)  # fmt: skip

# In the order in which they are searched: the first value of each is where the search starts.
GENERATOR: dict[str, tuple[Any, ...]] = {
    "reach": (0.1, 0.01, 0.03, 0.3, 1.0, 3.0),  # learning rate times clip norm: how far one full step goes
    "clip_norm": (0.1, 0.01, 0.03, 0.3, 1.0),
    "exchanges": (4, 2, 6, 8),
    "draws": (4, 16),
    "tune": (r"site\.weight|modulation\.bias", r"site\.weight", r"site\.weight|modulation"),
}
VIEWS: dict[str, tuple[Any, ...]] = {
    "reach": (0.1, 0.01, 0.03, 0.3, 1.0, 3.0),
    "clip_norm": (1.0, 0.1, 0.25, 0.5, 2.0),
    "exchanges": (2, 1, 4),
    "draws": (4, 16),
    "tune": (r"^13\.", "."),
}


@lru_cache(maxsize=1)
def hospitals(*, mirrored: bool) -> list[tuple[Frames, Frames]]:
    """Return members and held-out subjects of each site."""
    found, across = [], -1 if mirrored else 1
    for style, change in VENDORS:
        frames = stills(MEMBERS + HELD_OUT, seed=SEED, style=style)
        pixels = np.ascontiguousarray(change(frames.pixels)[:, :, ::across])
        frames = dataclasses.replace(frames, pixels=pixels, masks=np.ascontiguousarray(frames.masks[:, :, ::across]))
        found.append((frames.select(frames.subjects[:MEMBERS]), frames.select(frames.subjects[MEMBERS:])))
    return found


def training(choice: Choice) -> Training:
    """Return what the campaign would be told: every member in every step."""
    return Training(
        exchanges=choice["exchanges"],
        steps=5,
        sampling_rate=1.0,
        clip_norm=choice["clip_norm"],
        draws=choice["draws"],
        learning_rate=choice["reach"] / choice["clip_norm"],
    )


def measure(part: str, choice: Choice) -> tuple[float, float]:
    """Train in common from the public prior; return the held-out loss and, of views, the accuracy."""
    torch.set_num_threads(1)
    experiment, _ = compose(["experiment=camus", "cohort.root=none"], groups=groups())
    told = training(choice)
    if part == "views":
        experiment = dataclasses.replace(experiment, train_views=told)
    else:
        experiment = dataclasses.replace(experiment, train_generator=told)
    learner, plan = _start(part, experiment, choice["tune"])
    weights = arrays.trainable(learner.module)
    for _ in range(told.exchanges):
        changes = []
        for members, _held_out in hospitals(mirrored=part == "views"):
            arrays.load(learner.module, weights)
            fit_private(
                learner,
                members,
                plan,
                steps=told.steps,
                public_subjects=MEMBERS,
                learning_rate=told.learning_rate,
                random=SecureRandom(),
            )
            after = arrays.trainable(learner.module)
            changes.append({n: after[n] - weights[n] for n in after})
        change = mean(changes)
        weights = {n: (weights[n] + change[n]).astype(np.float32) for n in weights}
    arrays.load(learner.module, weights)
    return score(part, learner)


def score(part: str, learner: Learner) -> tuple[float, float]:
    """Return the mean loss on held-out subjects, the same flow times and noises every time, and the accuracy."""
    losses, right = [], []
    with torch.no_grad():
        for _, held_out in hospitals(mirrored=part == "views"):
            rows = np.tile(np.arange(len(held_out)), 4)
            dice = torch.Generator().manual_seed(SEED)
            losses.append(float(learner.losses(held_out, rows, generator=dice).mean()))
            if part == "views":
                right.append(float((learner.predict(held_out.pixels).argmax(1) == held_out.view).mean()))  # type: ignore[attr-defined]
    return float(np.mean(losses)), float(np.mean(right)) if right else float("nan")


def _start(part: str, experiment: Experiment, tune: str) -> tuple[Learner, DpPlan]:
    views, generator = plans(experiment, list(experiment.disclosure.plans()))
    kind, name = ("learner", "view_classifier") if part == "views" else ("generator", "latent_flow")
    learner = build(kind, name, {"tune": tune}, seed=0, prior="view_classifier" if part == "views" else "")
    return learner, views if part == "views" else generator


def search(part: str, grid: dict[str, tuple[Any, ...]], pool: ProcessPoolExecutor) -> tuple[Choice, list[list[object]]]:
    """Move one setting after the other, the first two once more at the end; return the best and all that was tried."""
    best: Choice = {name: values[0] for name, values in grid.items()}
    known: dict[tuple[Any, ...], tuple[float, float]] = {}

    def try_all(choices: Sequence[Choice]) -> list[tuple[float, float]]:
        new = [c for c in choices if tuple(c.values()) not in known]
        futures = [[pool.submit(measure, part, c) for _ in range(REPEATS)] for c in new]
        for choice, runs in zip(new, futures, strict=True):
            loss, right = (float(v) for v in np.mean([r.result() for r in runs], axis=0))
            known[tuple(choice.values())] = (loss, right)
            print(f"{time.strftime('%H:%M:%S')} {part}: {choice} loss {loss:.4f} accuracy {right:.3f}", flush=True)
        return [known[tuple(c.values())] for c in choices]

    for name in [*grid, "reach", "clip_norm"]:
        choices = [{**best, name: value} for value in grid[name]]
        tried = try_all(choices)
        best = choices[int(np.nanargmin([np.nan_to_num(loss, nan=np.inf) for loss, _ in tried]))]
    rows = [
        [*(str(v).replace("|", "\\|") for v in choice), *found]
        for choice, found in sorted(known.items(), key=lambda item: item[1])
    ]
    return best, [row if part == "views" else row[:-1] for row in rows]


def main() -> None:
    """Search one part; with `--write` the result becomes a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("views", "generator"))
    parser.add_argument("--write", action="store_true", help="into benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    part, grid = arguments.part, VIEWS if arguments.part == "views" else GENERATOR
    os.environ["OMP_NUM_THREADS"] = "1"
    learner = build("generator", "latent_flow", {}, seed=0)
    if part == "views":
        learner = build("learner", "view_classifier", {}, seed=0, prior="view_classifier")
    loss, right = score(part, learner)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        best, rows = search(part, grid, pool)
    told = ", ".join(f"{k}: {v:g}" for k, v in dataclasses.asdict(training(best)).items())
    accuracy = f", accuracy {right:.3f}" if part == "views" else ""
    text = (
        f"Before training: held-out loss {loss:.4f}{accuracy}. Chosen: `{{{told}}}`, tune `{best['tune']}`.\n\n"
        + results.table([*grid, "held-out loss", *(["accuracy"] if part == "views" else [])], rows)
    )
    if arguments.write:
        results.write(f"Training settings: {part}", f"python -m benchmarks.settings {part} --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
