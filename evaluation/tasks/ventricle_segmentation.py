"""Segmentation of cavity, myocardium and atrium; Dice and distance of the rims, per patient."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.frames import Frames
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM, UNLABELLED
from evaluation.measures import dice, hd95
from evaluation.overall import Overall
from evaluation.task import per_subject
from evaluation.tasks import TASKS
from learning.learner import Learner
from learning.learners.segmenter import Segmenter, SegmenterLearner

METRICS = {"cavity": CAVITY, "myocardium": MYOCARDIUM, "atrium": ATRIUM}
MOMENTS = ("ed", "es")


@TASKS("ventricle_segmentation")
@dataclass(frozen=True, slots=True, kw_only=True)
class VentricleSegmentation:
    """Train a segmenter and measure Dice (Dice 1945); `dice` is the mean of the three structures."""

    width: int = 12
    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 3e-3
    seed: int = 0
    primary: str = "dice"

    def learner(self) -> SegmenterLearner:
        """Return the segmenter with the same initial weights for every arm."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return Segmenter(width=self.width).build()

    def scores(self, learner: Learner, frames: Frames) -> Mapping[str, NDArray[np.float64]]:
        """Return each metric per subject, mean over outlined frames; of empty masks as `evaluation.measures` says.

        `dice_cavity` and so on, at both moments together and at each, and `hd95_cavity_ed_mm` and so on where the size
        of a pixel is known, `..._pixels` where it is not.
        """
        if not isinstance(learner, SegmenterLearner):
            raise TypeError(f"{type(learner).__name__} does not segment")
        return _scores(learner.predict(frames.pixels), frames)

    def trivial(self, train: Frames, test: Frames) -> Mapping[str, NDArray[np.float64]]:
        """Return the scores of whoever outlines in every picture what most of `train` show at each place."""
        outlined = train.masks[_outlined(train)]
        shown = np.stack([(outlined == k).sum(0) for k in range(len(METRICS) + 1)])
        return _scores(np.broadcast_to(shown.argmax(0).astype(np.uint8), test.masks.shape), test)

    def overall(self, learner: Learner, frames: Frames) -> Overall:
        """Return nothing: every number is one of a patient."""
        return Overall(subject=frames.subject)


def _scores(predicted: NDArray[np.uint8], frames: Frames) -> Mapping[str, NDArray[np.float64]]:
    outlined, known = _outlined(frames), np.isfinite(frames.pixel_mm).all(1)
    units = {"mm": (known, frames.pixel_mm), "pixels": (~known, np.ones_like(frames.pixel_mm))}
    found: dict[str, NDArray[np.float64]] = {}
    for name, k in METRICS.items():
        here = predicted == k, frames.masks == k
        overlap = np.where(outlined, dice(*here), np.nan)
        found[f"dice_{name}"] = per_subject(overlap, frames)
        for phase, moment in enumerate(MOMENTS):
            at = frames.phase == phase
            found[f"dice_{name}_{moment}"] = per_subject(np.where(at, overlap, np.nan), frames)
            for unit, (has, pixel) in units.items():
                rows = np.flatnonzero(outlined & at & has)
                if len(rows):
                    apart = np.full(len(frames), np.nan)
                    apart[rows] = hd95(here[0][rows], here[1][rows], pixel[rows])
                    found[f"hd95_{name}_{moment}_{unit}"] = per_subject(apart, frames)
    return {**found, "dice": np.mean([found[f"dice_{name}"] for name in METRICS], 0)}


def _outlined(frames: Frames) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (frames.masks != UNLABELLED).any((1, 2))
    return found
