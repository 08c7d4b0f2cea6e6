"""Segmentation of cavity, myocardium and atrium; Dice per patient."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.frames import Frames
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM, UNLABELLED
from evaluation.task import per_subject
from evaluation.tasks import TASKS
from learning.learner import Learner
from learning.learners.segmenter import Segmenter, SegmenterLearner

METRICS = {"dice_cavity": CAVITY, "dice_myocardium": MYOCARDIUM, "dice_atrium": ATRIUM}


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
        """Return Dice per subject: mean over frames; 1 where both masks are empty, 0 where only one is."""
        if not isinstance(learner, SegmenterLearner):
            raise TypeError(f"{type(learner).__name__} does not segment")
        labelled = (frames.masks != UNLABELLED).any((1, 2))
        predicted = learner.predict(frames.pixels)
        scores = {
            name: per_subject(np.where(labelled, dice(predicted == k, frames.masks == k), np.nan), frames)
            for name, k in METRICS.items()
        }
        return {**scores, "dice": np.mean(list(scores.values()), 0)}


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return 2|A∩B| / (|A|+|B|) of masks `(n, h, w)`, 1 where both are empty: `(n,)`."""
    both, size = (a & b).sum((1, 2)), a.sum((1, 2)) + b.sum((1, 2))
    return np.where(size > 0, 2 * both / np.maximum(size, 1), 1.0)
