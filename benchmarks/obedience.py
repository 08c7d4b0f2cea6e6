"""Do drawn hearts have what was asked of them: ejection fraction, structures, view?

Shapes of simulated people with ejection fractions from 15 to 75 percent are requests. Each is answered once. What was
drawn is measured as if nobody knew the request: a segmenter, taught by other phantoms, outlines the pictures, disks in
two planes (`evaluation.volumes`) give the ejection fraction of each end-diastolic and end-systolic pair, the public
classifier names the view. The phantom's own pictures of the very same requests stand first: what they miss, the
instrument misses. KID x 1000 (`benchmarks.sampling`) says how far pictures lie from those of other simulated people, so
that nobody obeys at the price of looking like nothing.

python -m benchmarks.obedience [--write] [--hearts N] [--kept FOLDER]
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.sampling import kid
from cohorts.frames import VIEWS, Frames
from cohorts.phantom import simulate
from evaluation.volumes import biplane_lvef
from learning import arrays
from learning.blocks import to_signal
from learning.learner import fit
from learning.learners.segmenter import Segmenter, SegmenterLearner
from learning.learners.view_classifier import ViewClassifier, ViewLearner
from synthesis import priors, shape
from synthesis.generators.latent_flow import JUMP, LatentFlow

SEED, TAUGHT, N_DRAWS = 907, 902, 1  # TAUGHT is the seed of the people who taught the segmenter
TAUGHT_BY, STEPS = 1500, 3500
ARMS = {
    "Heun, 8 steps": LatentFlow(),
    **{f"student, {n} jump{'s' if n > 1 else ''}": LatentFlow(sample_solver=JUMP, sample_steps=n) for n in (4, 2, 1)},
}
IMAGE_HEAD = ("drawn by", "r", "MAE, points", "bias, points", "hearts", "IoU cavity", "myocardium", "atrium",
              "view as asked", "KID x 1000")  # fmt: skip
ABOUT = f"n_draws: {N_DRAWS}. Every request is answered once, and every answer is counted."
Picture = NDArray[np.uint8]


def instrument(*, people: int = TAUGHT_BY, steps: int = STEPS, kept: Path | None = None) -> SegmenterLearner:
    """Return a segmenter taught by phantoms of all ejection fractions, read from the folder `kept` if it is there."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        learner = Segmenter(width=24).build()
    path = None if kept is None else kept / f"instrument-{people}-{steps}.safetensors"
    if path is not None and path.exists():
        arrays.load_state(learner.module, arrays.read(path))
        return learner
    taught_by = shape.stills(shape.spread(people, seed=TAUGHT), seed=TAUGHT)
    fit(learner, taught_by, steps=steps, batch_size=16, learning_rate=3e-3, seed=0)
    if path is not None:
        arrays.write(path, arrays.state(learner.module))
    return learner


def judge_of_views() -> ViewLearner:
    """Return the public view classifier."""
    learner = ViewClassifier(tune=".").build()
    arrays.load_state(learner.module, priors.load("view_classifier"))
    return learner


def drawn(config: LatentFlow, wanted: Frames) -> Picture:
    """Answer every request once."""
    return config.build().sample(wanted, seed=SEED)


def agreement(found: NDArray[np.float64], asked: NDArray[np.float64]) -> tuple[float, float, float, int]:
    """Return r, mean absolute error and bias in points, and of how many hearts an ejection fraction was found."""
    known = np.isfinite(found)
    off = found[known] - asked[known]
    r = float(np.corrcoef(found[known], asked[known])[0, 1])
    return r, float(np.abs(off).mean()), float(off.mean()), int(known.sum())


def overlaps(found: Picture, asked: Picture) -> list[float]:
    """Return the intersection over union of each structure, over the pictures that were asked to show it."""
    scores = []
    for k in (1, 2, 3):
        shown = (asked == k).any((1, 2))
        one, two = found[shown] == k, asked[shown] == k
        scores.append(float(((one & two).sum((1, 2)) / (one | two).sum((1, 2))).mean()))
    return scores


@torch.inference_mode()
def features(views: ViewLearner, pixels: Picture) -> NDArray[np.float64]:
    """Return what the public view classifier sees before it names a view."""
    body = list(views.module.children())[:-1]
    return torch.nn.Sequential(*body)(to_signal(torch.from_numpy(pixels))).double().numpy()


def row(
    pixels: Picture, wanted: Frames, segmenter: SegmenterLearner, views: ViewLearner, others: NDArray[np.float64]
) -> list[object]:
    """Measure what was drawn against what was wanted."""
    masks = segmenter.predict(pixels)
    lvef = biplane_lvef(dataclasses.replace(wanted, masks=masks))
    asked = wanted.lvef_percent[np.searchsorted(wanted.subject, np.arange(len(wanted.subjects)))].astype(np.float64)
    seen = views.predict(pixels).argmax(1)
    by_view = [f"{(seen == v)[wanted.view == v].mean():.3f} {VIEWS[v]}" for v in np.unique(wanted.view)]
    return [*agreement(lvef, asked), *overlaps(masks, wanted.masks), ", ".join(by_view),
            f"{kid(features(views, pixels), others)[0]:.1f}"]  # fmt: skip


def images(hearts: int, segmenter: SegmenterLearner) -> str:
    """Return the table of images."""
    views = judge_of_views()
    wanted = shape.stills(shape.spread(hearts, seed=SEED), seed=SEED)
    others = features(views, simulate.stills(hearts, seed=SEED + 3).pixels)
    unseen = biplane_lvef(wanted)
    known = agreement(unseen, wanted.lvef_percent[:: len(wanted) // hearts].astype(np.float64))
    rows: list[list[object]] = [["masks that were asked, no picture", *known, "", "", "", "", ""]]
    rows.append(["phantoms of the same requests", *row(wanted.pixels, wanted, segmenter, views, others)])
    for name, config in ARMS.items():
        rows.append([name, *row(drawn(config, wanted), wanted, segmenter, views, others)])
        print(rows[-1], flush=True)
    return results.table(IMAGE_HEAD, rows)


def main() -> None:
    """Measure, and print or write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--hearts", type=int, default=300)
    parser.add_argument("--kept", type=Path, help="folder that keeps the instrument between runs")
    told = parser.parse_args()
    text = f"{ABOUT}\n\n{images(told.hearts, instrument(kept=told.kept))}"
    if told.write:
        results.write("Obedience", "python -m benchmarks.obedience --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
