"""Ejection fraction from ED and ES; how near it comes, per patient."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.frames import Frames, partners
from evaluation.overall import Overall, of_fractions
from evaluation.task import per_subject
from evaluation.tasks import TASKS
from learning.learner import Learner
from learning.learners.ejection_fraction import EjectionFraction as Regressor
from learning.learners.ejection_fraction import EjectionFractionLearner

NEAR = 10.0  # percentage points: about what two experts differ by


@TASKS("ejection_fraction")
@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionFraction:
    """Train a regressor on pairs of frames; `closeness` is 1 less the mean absolute error in units of 100 points.

    `near` is the share of a patient's clips within `NEAR` percentage points.
    """

    width: int = 16
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    primary: str = "closeness"

    def learner(self) -> EjectionFractionLearner:
        """Return the regressor with the same initial weights for every arm."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return Regressor(width=self.width).build()

    def scores(self, learner: Learner, frames: Frames) -> Mapping[str, NDArray[np.float64]]:
        """Return closeness and share of near clips per subject; NaN where no clip has both frames and a fraction."""
        return _scores(_predicted(learner, frames), frames)

    def trivial(self, train: Frames, test: Frames) -> Mapping[str, NDArray[np.float64]]:
        """Return the scores of whoever says the mean of `train`; a fraction counts where a clip has both frames."""
        usual = np.nanmean(train.lvef_percent) if np.isfinite(train.lvef_percent).any() else np.nan
        return _scores(np.where(partners(test) >= 0, usual, np.nan), test)

    def overall(self, learner: Learner, frames: Frames) -> Overall:
        """Return error, agreement and areas under the curve over patients."""
        found, known = _predicted(learner, frames), frames.lvef_percent.astype(np.float64)
        both = np.where(np.isfinite(found), known, np.nan)
        return of_fractions(per_subject(found, frames), per_subject(both, frames))


def _predicted(learner: Learner, frames: Frames) -> NDArray[np.float64]:
    if not isinstance(learner, EjectionFractionLearner):
        raise TypeError(f"{type(learner).__name__} does not measure ejection fractions")
    return learner.predict(frames).astype(np.float64)


def _scores(found: NDArray[np.float64], frames: Frames) -> Mapping[str, NDArray[np.float64]]:
    error = np.abs(found - frames.lvef_percent)
    near = np.where(np.isnan(error), np.nan, error <= NEAR)
    return {"closeness": per_subject(1 - error / 100, frames), "near": per_subject(near, frames)}
