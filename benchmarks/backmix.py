"""Does BackMix keep a classifier of views from reading the margin? Phantoms whose burned-in text betrays the view.

In training the text names the right view in a share of the frames (95 %, or `--right`), in the test it is drawn at
random ("shuffled") or left out, black ("clean"). Subjects of training and test differ. Grad-CAM is taken after the
third convolution (8 x 8).

python -m benchmarks.backmix [--right 1] [--write]
"""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.results import table, write
from cohorts.frames import VIEWS, Frames
from cohorts.phantom import scanner
from cohorts.phantom.simulate import stills_with_style
from evaluation.shortcut import focus, grad_cam, input_gradients
from learning.backmix import has_mask, write_beside
from learning.learner import fit
from learning.learners.backmix_classifier import BackMixClassifier, BackMixLearner
from learning.sector import overlap, sectors

TEXT = ("2CH", "APICAL 4CH", "LAX PS 15CM", "SAX")  # what betrays each of VIEWS
FEW = 0.05
ARMS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"mix": False},
    "BackMix, all masks": {},
    "BackMix, sectors found": {"found": True},
    "BackMix, own donors": {"donors": "own"},
    "BackMix, 5 % of masks": {"masked_share": FEW},
    "wBackMix λ=2, 5 %": {"masked_share": FEW, "weight": 2.0},
}
MEASURES = ("shuffled", "clean", "Grad-CAM inside, mean", "median", "focus@0.9", "gradient inside, mean")


def betrayed(n: int, *, seed: int, right: float) -> tuple[Frames, NDArray[np.bool_]]:
    """Simulate subjects whose text names the view with probability `right`, else a view at random; and true sectors."""
    frames, styles = stills_with_style(n, seed=seed, views=VIEWS)
    inside = scanner.fan(styles, frames.pixels.shape[-1])
    dice = np.random.default_rng(seed)
    said = np.where(dice.random(len(frames)) < right, frames.view, dice.integers(0, len(TEXT), len(frames)))
    return dataclasses.replace(frames, pixels=write_beside(frames.pixels, inside, [TEXT[i] for i in said])), inside


def train(
    arm: Mapping[str, Any], frames: Frames, inside: NDArray[np.bool_], *, seed: int, steps: int
) -> BackMixLearner:
    """Train one arm; every arm has the same initial weights, steps and batches."""
    config = {name: value for name, value in arm.items() if name != "found"}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        learner = BackMixClassifier(width=8, written=TEXT, seed=seed, **config).build()
    if not arm.get("found"):
        known = {p.tobytes(): m for p, m in zip(frames.pixels, inside, strict=True)}
        learner.find = lambda pixels: known[pixels.tobytes()]
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--subjects", type=int, default=120)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--right", type=float, default=0.95, help="share of training frames whose text is right")
    asked = parser.parse_args()
    test, inside = betrayed(60, seed=1000, right=0.0)
    scores: dict[str, list[list[float]]] = {name: [] for name in ARMS}
    masked = []
    for seed in range(asked.seeds):
        frames, true = betrayed(asked.subjects, seed=seed, right=asked.right)
        masked.append(int(has_mask(frames.subjects, share=FEW, seed=seed).sum()))
        for name, arm in ARMS.items():
            scores[name].append(measure(train(arm, frames, true, seed=seed, steps=asked.steps), test, inside))
            print(seed, name, *(f"{x:.3f}" for x in scores[name][-1]), flush=True)
    some = slice(None, None, 4)
    hit = overlap(sectors(test.pixels[some]), inside[some])
    mean = {name: np.mean(rows, axis=0) for name, rows in scores.items()}
    report = "\n\n".join([_told(asked, masked, len(test)), _table(mean), _gains(mean), _sectors(hit)])
    if not asked.write:
        print(report)
    elif asked.right == 1:
        write("BackMix, text always right", "python -m benchmarks.backmix --right 1 --write", report)
    else:
        write("BackMix", "python -m benchmarks.backmix --write", report)


def _told(asked: argparse.Namespace, masked: list[int], n_test: int) -> str:
    return (
        f"{asked.subjects} phantom subjects of training, 60 of test ({n_test} frames), four views, style wide, "
        f"{asked.steps} steps of 64, mean of {asked.seeds} seeds. "
        f"In training the text names the view with probability {asked.right:g}, else one of the four at random. "
        f"With 5 % of masks, {' and '.join(map(str, masked))} subjects have them."
    )


def _table(mean: Mapping[str, NDArray[np.float64]]) -> str:
    return table(("arm", *MEASURES), [(name, *(f"{x:.3f}" for x in row)) for name, row in mean.items()])


def _gains(mean: Mapping[str, NDArray[np.float64]]) -> str:
    """Say whether the aims were met: 15 points over plain, and nine tenths of that with 5 % of masks."""
    lines = []
    for column, what in enumerate(MEASURES[:2]):
        gain = mean["BackMix, all masks"][column] - mean["plain"][column]
        kept = {
            name: (mean[name][column] - mean["plain"][column]) / gain if gain > 0 else float("nan")
            for name in ARMS
            if "5 %" in name
        }
        lines.append(
            f"{what.capitalize()} backgrounds: BackMix gains {100 * gain:.1f} points over plain (aim 15: "
            f"{'met' if gain >= 0.15 else 'missed'}); of that is kept "
            + ", ".join(f"{name} {100 * k:.0f} % ({'met' if k >= 0.9 else 'missed'})" for name, k in kept.items())
            + " (aim 90 %)."
        )
    return "\n\n".join(lines)


def _sectors(hit: NDArray[np.float64]) -> str:
    return (
        f"Sectors found without labels, intersection over union with the simulator's on {len(hit)} test frames: mean "
        f"{hit.mean():.3f}, median {np.median(hit):.3f}, worst twentieth {np.quantile(hit, 0.05):.3f}, "
        f"worst {hit.min():.3f}."
    )


if __name__ == "__main__":
    main()
