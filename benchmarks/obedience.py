"""Do drawn hearts have what was asked of them: ejection fraction, structures, view?

Shapes of simulated people with ejection fractions from 15 to 75 percent are requests. Each is answered once. What was
drawn is measured as if nobody knew the request: `benchmarks.instrument`, a segmenter taught by other phantoms, outlines
the pictures, disks in two planes (`evaluation.volumes`) give the ejection fraction of each end-diastolic and
end-systolic pair, the public classifier names the view. The phantom's own pictures of the very same requests stand
first: what they miss, the instrument misses. KID x 1000 (`benchmarks.sampling`) says how far pictures lie from those of
other simulated people, so that nobody obeys at the price of looking like nothing.

python -m benchmarks.obedience [--write] [--hearts N]
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import instrument, results
from benchmarks.sampling import kid
from cohorts.frames import VIEWS, Frames
from cohorts.phantom import simulate
from evaluation.volumes import biplane_lvef
from learning import arrays
from learning.blocks import to_signal
from learning.learners.view_classifier import ViewClassifier, ViewLearner
from synthesis import priors, shape
from synthesis.generators.latent_flow import JUMP, LatentFlow

SEED, N_DRAWS = 907, 1
CALIBRATION = SEED + 2  # seed of the people whom no request shows
ARMS = {
    "Heun, 8 steps": LatentFlow(),
    "Heun, 8 steps, view guidance 2": LatentFlow(view_guidance=2.0),
    "Heun, 4 steps, guidance 1.7 on mask and view": LatentFlow(sample_steps=4, guidance=1.7, view_guidance=1.7),
    "student, 2 jumps": LatentFlow(sample_solver=JUMP, sample_steps=2),
}
IMAGE_HEAD = ("drawn by", "r", "MAE, points", "bias, points", "hearts", "IoU cavity", "myocardium", "atrium",
              "KID x 1000")  # fmt: skip
ABOUT = (
    f"n_draws: {N_DRAWS}. Every request is answered once, and every answer is counted. Fractions are calibrated by a "
    "line on phantoms of other people. Aims: r ≥ 0.95 and MAE ≤ 5 points of pairs of pictures, IoU ≥ 0.8 of each "
    "structure, view as asked ≥ 0.97; *missed* stands where an aim was missed. Of films see the section Moving hearts."
)
AIMS: dict[str, Callable[[float], bool]] = {
    "r": lambda v: v >= 0.95, "MAE, points": lambda v: v <= 5,
    **dict.fromkeys(("IoU cavity", "myocardium", "atrium"), lambda v: v >= 0.8),
    **dict.fromkeys((*VIEWS, "all"), lambda v: v >= 0.97),
}  # fmt: skip
Picture = NDArray[np.uint8]


def judge_of_views() -> ViewLearner:
    """Return the public view classifier."""
    learner = ViewClassifier(tune=".").build()
    arrays.load_state(learner.module, priors.load("view_classifier"))
    return learner


def drawn(config: LatentFlow, wanted: Frames) -> Picture:
    """Answer every request once, end diastole and end systole of one heart with one noise, as campaigns do."""
    return config.build().sample(wanted, seed=SEED, of_one_heart=2)


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


def calibration(people: int) -> NDArray[np.float64]:
    """Return slope and intercept of the true fraction on the measured one, over pairs of pictures of phantoms."""
    known = shape.stills(shape.spread(people, seed=CALIBRATION), seed=CALIBRATION)
    found = biplane_lvef(dataclasses.replace(known, masks=instrument.segmenter().predict(known.pixels)))
    seen = np.isfinite(found)
    line: NDArray[np.float64] = np.polyfit(found[seen], _fractions(known)[seen], 1)
    return line


def row(
    pixels: Picture, wanted: Frames, line: NDArray[np.float64], views: ViewLearner, others: NDArray[np.float64]
) -> list[object]:
    """Measure apical pictures against what was wanted."""
    masks = instrument.segmenter().predict(pixels)
    lvef = np.polyval(line, biplane_lvef(dataclasses.replace(wanted, masks=masks)))
    drawn_kid = f"{kid(features(views, pixels), others)[0]:.1f}"
    return [*instrument.agreement(lvef, _fractions(wanted)), *overlaps(masks, wanted.masks), drawn_kid]


def named(pixels: Picture, wanted: Frames, views: ViewLearner) -> list[object]:
    """Return which share of the pictures of each view, and of all, is classified as asked."""
    right = views.predict(pixels).argmax(1) == wanted.view
    return [*(float(right[wanted.view == v].mean()) for v in range(len(VIEWS))), float(right.mean())]


def _fractions(wanted: Frames) -> NDArray[np.float64]:
    first = np.searchsorted(wanted.subject, np.arange(len(wanted.subjects)))
    return wanted.lvef_percent[first].astype(np.float64)


def _judged(head: Sequence[str], cells: Sequence[object]) -> list[object]:
    return [
        f"{cell:.4g} *missed*" if isinstance(cell, float) and name in AIMS and not AIMS[name](cell) else cell
        for name, cell in zip(head, cells, strict=True)
    ]


def images(hearts: int) -> str:
    """Return the tables of images."""
    views, line = judge_of_views(), calibration(hearts)
    wanted = shape.stills(shape.spread(hearts, seed=SEED), seed=SEED)
    some = shape.stills(shape.spread(hearts // 2, seed=SEED + 1), seed=SEED + 1, views=VIEWS)
    others = features(views, simulate.stills(hearts, seed=SEED + 3).pixels)
    known = instrument.agreement(biplane_lvef(wanted), _fractions(wanted))
    measured: list[list[object]] = [["masks that were asked, no picture", *known, "", "", "", ""]]
    measured.append(["phantoms of the same requests", *row(wanted.pixels, wanted, line, views, others)])
    seen: list[list[object]] = [["phantoms of the same requests", *named(some.pixels, some, views)]]
    for name, config in ARMS.items():
        measured.append([name, *row(drawn(config, wanted), wanted, line, views, others)])
        seen.append([name, *named(drawn(config, some), some, views)])
        print(measured[-1], seen[-1], flush=True)
    view_head = ("drawn by", *VIEWS, "all")
    tables = ((IMAGE_HEAD, measured), (view_head, seen))
    return "\n\n".join(results.table(head, [_judged(head, r) for r in rows]) for head, rows in tables)


def main() -> None:
    """Measure, and print or write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--hearts", type=int, default=150)
    told = parser.parse_args()
    text = f"{ABOUT}\n\n{images(told.hearts)}"
    if told.write:
        results.write("Obedience", "python -m benchmarks.obedience --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
