"""Ejection fraction from moving four-chamber hearts, as EchoNet-Dynamic asks it; how near it comes, per patient."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.clips import Clips
from cohorts.frames import VIEWS
from cohorts.study import View
from evaluation.overall import Overall, of_fractions
from evaluation.task import per_subject
from evaluation.tasks import CLIP_TASKS
from evaluation.tasks.ejection_fraction import NEAR
from learning.learner import Learner
from learning.learners.ejection_fraction_clip import EjectionFractionClip as Regressor
from learning.learners.ejection_fraction_clip import EjectionFractionClipLearner


@CLIP_TASKS("ejection_fraction_clip")
@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionFractionClip:
    """Train a regressor of clips and measure it in one view (Ouyang et al. 2020, doi:10.1038/s41586-020-2145-8).

    `closeness` is 1 less the mean absolute error in units of 100 points, `error_points` that error, `near` the share
    of a patient's clips within `NEAR` points, and `correlation` the product of the standardised fraction and its
    standardised estimate, whose mean over patients is Pearson's r.

    Attributes:
        frames: most frames of a clip, over one beat, that training and test read.
        view: whose clips are measured; trained on are those of all views.
        width, stages, blocks, stride: of `EjectionFractionClip` among the learners of clips.
    """

    frames: int = 12
    view: str = View.A4C.value
    width: int = 8
    stages: int = 3
    blocks: int = 1
    stride: int = 2
    steps: int = 400
    batch_size: int = 8
    learning_rate: float = 4e-3
    seed: int = 0
    primary: str = "closeness"

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"view={self.view!r} must be one of {', '.join(VIEWS)}")

    def learner(self) -> EjectionFractionClipLearner:
        """Return the regressor with the same initial weights for every arm."""
        config = Regressor(
            width=self.width, stages=self.stages, blocks=self.blocks, frames=self.frames, stride=self.stride
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return config.build()

    def shown(self, clips: Clips) -> Clips:
        """Return all clips, from end diastole on where that is known; other views teach the fraction, too."""
        return clips.from_diastole()

    def scores(self, learner: Learner, clips: Clips) -> Mapping[str, NDArray[np.float64]]:
        """Return each metric per subject; NaN where a subject has no clip of the view with a known fraction."""
        seen = self._seen(clips)
        return _scores(_predicted(learner, seen), seen)

    def trivial(self, train: Clips, test: Clips) -> Mapping[str, NDArray[np.float64]]:
        """Return the scores of whoever says the mean of `train`."""
        usual = np.nanmean(train.lvef_percent) if np.isfinite(train.lvef_percent).any() else np.nan
        seen = self._seen(test)
        return _scores(np.full(len(seen), usual, np.float64), seen)

    def overall(self, learner: Learner, clips: Clips) -> Overall:
        """Return error, agreement and areas under the curve over patients."""
        seen = self._seen(clips)
        found, known = _predicted(learner, seen), seen.lvef_percent.astype(np.float64)
        return of_fractions(per_subject(found, seen), per_subject(known, seen))

    def _seen(self, clips: Clips) -> Clips:
        return self.shown(clips.rows(np.flatnonzero(clips.view == VIEWS.index(View(self.view)))))


def _predicted(learner: Learner, seen: Clips) -> NDArray[np.float64]:
    if not isinstance(learner, EjectionFractionClipLearner):
        raise TypeError(f"{type(learner).__name__} does not measure ejection fractions in clips")
    return learner.predict(seen).astype(np.float64)


def _scores(found: NDArray[np.float64], seen: Clips) -> Mapping[str, NDArray[np.float64]]:
    known = seen.lvef_percent.astype(np.float64)
    error = np.abs(found - known)
    near = np.where(np.isnan(error), np.nan, error <= NEAR)
    mean = {"found": per_subject(found, seen), "known": per_subject(known, seen)}
    return {
        "closeness": per_subject(1 - error / 100, seen),
        "error_points": per_subject(error, seen),
        "near": per_subject(near, seen),
        "correlation": _standard(mean["found"]) * _standard(mean["known"]),
    }


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `(values - mean) / spread` over those that are known; 0 where all are alike."""
    known = values[np.isfinite(values)]
    if not len(known):
        return values
    out: NDArray[np.float64] = (values - known.mean()) / max(float(known.std()), 1e-9)
    return out
