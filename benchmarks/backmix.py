"""Does BackMix keep a classifier of views from reading the margin? Phantoms whose burned-in text betrays the view.

In training the text, in letters twice as large as the phantoms', names the right view (in every frame, or in a share,
`--right`); in the test it is drawn at random ("shuffled") or left out, black ("clean"). Subjects of training and test
differ. Grad-CAM is taken after the third convolution (8 x 8). "5 %" are arms that know the sectors of one frame in
twenty; the others stay unmixed, as in the paper, or are mixed in sectors that a small network learnt from these few
("learnt"), or that are found without any of these masks ("fitted", or by a network that other phantoms taught).

python -m benchmarks.backmix [--right 0.95 --brief] [--write]
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.results import table, write
from cohorts.frames import VIEWS, Frames
from cohorts.phantom import scanner
from cohorts.phantom.simulate import stills_with_style
from evaluation.shortcut import focus, grad_cam, input_gradients
from learning.backmix import has_mask, name_of, write_beside
from learning.finder import taught
from learning.learner import fit
from learning.learners.backmix_classifier import BackMixClassifier, BackMixLearner
from learning.sector import Finder, overlap

TEXT = ("2CH", "APICAL 4CH", "LAX PS 15CM", "SAX")  # what betrays each of VIEWS
LETTERS = 2  # times as large as the phantoms' own
FEW = 0.05
PLAIN, ALL = "plain", "BackMix, all masks"
ARMS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {"mix": False},
    ALL: {},
    "BackMix, all masks, own donors": {"donors": "own"},
    "5 %, BackMix": {"masked_share": FEW},
    "5 %, wBackMix λ=1": {"masked_share": FEW, "weight": 1.0},
    "5 %, wBackMix λ=2": {"masked_share": FEW, "weight": 2.0},
    "5 %, wBackMix λ=10": {"masked_share": FEW, "weight": 10.0},
    "5 %, others learnt": {"masked_share": FEW, "others": "learnt", "few": True},
    "5 %, others learnt, λ=2": {"masked_share": FEW, "weight": 2.0, "others": "learnt", "few": True},
    "no mask, learnt from phantoms": {"masked_share": 0.0, "others": "learnt"},
    "no mask, fitted": {"masked_share": 0.0, "others": "fitted"},
}
BRIEF = (PLAIN, ALL, "5 %, wBackMix λ=2", "5 %, others learnt")
MEASURES = ("shuffled", "clean", "Grad-CAM inside, mean", "median", "focus@0.9", "gradient inside, mean")


def betrayed(n: int, *, seed: int, right: float) -> tuple[Frames, NDArray[np.bool_]]:
    """Simulate subjects whose text names the view with probability `right`, else a view at random; and true sectors."""
    frames, styles = stills_with_style(n, seed=seed, views=VIEWS)
    inside = scanner.fan(styles, frames.pixels.shape[-1])
    dice = np.random.default_rng(seed)
    said = np.where(dice.random(len(frames)) < right, frames.view, dice.integers(0, len(TEXT), len(frames)))
    lines = [TEXT[i] for i in said]
    pixels = write_beside(frames.pixels, inside, lines, letters=[LETTERS] * len(lines))
    return dataclasses.replace(frames, pixels=pixels), inside


def few(frames: Frames, seed: int) -> NDArray[np.bool_]:
    """Say of which frames the sector is known where it is of one in twenty, as the learner does."""
    return has_mask([name_of(p) for p in frames.pixels], share=FEW, seed=seed)


def train(
    arm: Mapping[str, Any], frames: Frames, inside: NDArray[np.bool_], *, learnt: Finder, seed: int, steps: int
) -> BackMixLearner:
    """Train one arm; all have the same initial weights, steps and batches. `learnt` was taught by few masks."""
    config = {name: value for name, value in arm.items() if name != "few"}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        learner = BackMixClassifier(width=8, written=TEXT, seed=seed, **config).build()
    known = {name_of(p): m for p, m in zip(frames.pixels, inside, strict=True)}
    learner.find = lambda pixels: known[name_of(pixels)]
    if arm.get("few"):
        learner.guess = learnt
    fit(learner, frames, steps=steps, batch_size=64, learning_rate=3e-3, seed=seed)
    return learner


def measure(learner: BackMixLearner, test: Frames, inside: NDArray[np.bool_]) -> list[float]:
    """Return the `MEASURES` on test frames with shuffled text."""
    clean = np.where(inside, test.pixels, np.uint8(0))
    right = [float((learner.predict(p).argmax(1) == test.view).mean()) for p in (test.pixels, clean)]
    cam = focus(grad_cam(learner.module, list(learner.module.children())[8], test.pixels), inside)
    gradient = focus(input_gradients(learner.module, test.pixels), inside)
    return [*right, cam.mean, cam.median, cam.at_tau, gradient.mean]


def main() -> None:
    """Train every arm on every seed and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--brief", action="store_true", help="four arms only")
    parser.add_argument("--subjects", type=int, default=120)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--right", type=float, default=1.0, help="share of training frames whose text is right")
    asked = parser.parse_args()
    test, inside = betrayed(60, seed=1000, right=0.0)
    arms = {name: ARMS[name] for name in (BRIEF if asked.brief else ARMS)}
    scores: dict[str, list[list[float]]] = {name: [] for name in arms}
    masked, hit = [], []
    for seed in asked.seeds:
        frames, true = betrayed(asked.subjects, seed=seed, right=asked.right)
        which = few(frames, seed)
        masked.append(int(which.sum()))
        learnt = taught(frames.pixels[which], true[which], seed=seed)
        for name, arm in arms.items():
            learner = train(arm, frames, true, learnt=learnt, seed=seed, steps=asked.steps)
            scores[name].append(measure(learner, test, inside))
            if arm.get("others") and not arm.get("weight"):
                hit.append((name, found(learner.guess, test.pixels[::4], inside[::4])))
            print(seed, name, *(f"{x:.3f}" for x in scores[name][-1]), flush=True)
    each = {name: np.array(rows) for name, rows in scores.items()}
    report = "\n\n".join([_told(asked, masked, len(test)), _table(each), _gains(each), _sectors(hit)])
    if not asked.write:
        print(report)
    else:
        always = asked.right == 1
        title = "BackMix" if always else f"BackMix, text right in {100 * asked.right:g} %"
        options = ("" if always else f" --right {asked.right:g}") + (" --brief" if asked.brief else "")
        write(title, f"python -m benchmarks.backmix{options} --write", report)


def found(finder: Finder, pixels: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return intersection over union of each sector found with the true one."""
    return overlap(np.stack([finder(p) for p in pixels]), inside)


def _told(asked: argparse.Namespace, masked: list[int], n_test: int) -> str:
    return (
        f"{asked.subjects} phantom subjects of training ({8 * asked.subjects} frames), 60 of test ({n_test} frames), "
        f"four views, style wide, {asked.steps} steps of 64, mean ± standard deviation of seeds "
        f"{', '.join(map(str, asked.seeds))}. In training the text names the view with probability {asked.right:g}, "
        "else one of the four at random. The size of the letters, the share of right texts and the number of steps "
        "were chosen on another seed, so that reading pays. With 5 % of masks, "
        f"{', '.join(map(str, masked))} frames have them."
    )


def _table(each: Mapping[str, NDArray[np.float64]]) -> str:
    rows = [
        (
            name,
            *(f"{m:.3f} ± {s:.3f}" if k < 2 else f"{m:.3f}" for k, (m, s) in enumerate(zip(*_spread(x), strict=True))),
        )
        for name, x in each.items()
    ]
    return table(("arm", *MEASURES), rows)


def _spread(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return rows.mean(axis=0), rows.std(axis=0, ddof=min(1, len(rows) - 1))


def _gains(each: Mapping[str, NDArray[np.float64]]) -> str:
    """Say whether the aims were met: 15 points over plain, saliency inside up, nine tenths kept with 5 % of masks."""
    mean = {name: rows.mean(axis=0) for name, rows in each.items()}
    lines = []
    for column, what in ((1, "Clean"), (0, "Shuffled")):
        gain = mean[ALL][column] - mean[PLAIN][column]
        share = {n: (m[column] - mean[PLAIN][column]) / gain if gain > 0 else np.nan for n, m in mean.items()}
        lines.append(
            f"{what} backgrounds: BackMix gains {100 * gain:.1f} points over plain (aim 15: "
            f"{'met' if gain >= 0.15 else 'missed'}); of that is kept (aim 90 % with 5 % of masks) "
            + "; ".join(
                f"{n} {100 * k:.0f} %" + (f" ({'met' if k >= 0.9 else 'missed'})" if n.startswith("5 %") else "")
                for n, k in share.items()
                if n[:2] in ("5 ", "no")
            )
            + "."
        )
    column = MEASURES.index("Grad-CAM inside, mean")
    before, after = mean[PLAIN][column], mean[ALL][column]
    lines.append(
        f"Grad-CAM inside the sector: {before:.3f} plain, {after:.3f} BackMix ({'up' if after > before else 'not up'})."
    )
    return "\n\n".join(lines)


def _sectors(hit: Sequence[tuple[str, NDArray[np.float64]]]) -> str:
    rows = []
    for name in dict.fromkeys(name for name, _ in hit):
        values = np.concatenate([v for n, v in hit if n == name])
        rows.append((name, *(f"{x:.3f}" for x in (values.mean(), np.quantile(values, 0.05), values.min()))))
    said = "Sectors found, intersection over union with the simulator's on a quarter of the test frames:"
    return f"{said}\n\n{table(('sectors', 'mean', 'worst twentieth', 'worst'), rows)}"


if __name__ == "__main__":
    main()
