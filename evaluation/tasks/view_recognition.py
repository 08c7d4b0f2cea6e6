"""Recognition of the standard view; accuracy per patient."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.frames import VIEWS, Frames
from evaluation.overall import Overall, of_classes
from evaluation.task import per_subject
from evaluation.tasks import TASKS
from learning import arrays
from learning.learner import Learner
from learning.learners.view_classifier import ViewClassifier, ViewLearner
from synthesis import priors


@TASKS("view_recognition")
@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRecognition:
    """Train a view classifier and measure the share of each patient's frames that it names rightly.

    Where every patient has every view equally often, the mean over patients is the balanced accuracy.

    Attributes:
        prior: public weights that every arm begins with, as the classifier does that sites train in common; "" none.
    """

    width: int = 16
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    prior: str = ""
    primary: str = "accuracy"

    def learner(self) -> ViewLearner:
        """Return the classifier with the same initial weights for every arm."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            built = ViewClassifier(width=self.width, tune=".").build()
        if self.prior:
            arrays.load_state(built.module, priors.load(self.prior))
        return built

    def scores(self, learner: Learner, frames: Frames) -> Mapping[str, NDArray[np.float64]]:
        """Return the accuracy per subject over its frames of a known view."""
        return _scores(_probabilities(learner, frames).argmax(1), frames)

    def trivial(self, train: Frames, test: Frames) -> Mapping[str, NDArray[np.float64]]:
        """Return the scores of whoever always names the view that is most frequent in `train`."""
        usual = np.bincount(train.view[train.view >= 0], minlength=len(VIEWS)).argmax()
        return _scores(np.full(len(test), usual), test)

    def overall(self, learner: Learner, frames: Frames) -> Overall:
        """Return balanced accuracy, macro-F1, calibration error and Brier score over frames of a known view."""
        return of_classes(_probabilities(learner, frames), frames.view, frames.subject)


def _probabilities(learner: Learner, frames: Frames) -> NDArray[np.float32]:
    if not isinstance(learner, ViewLearner):
        raise TypeError(f"{type(learner).__name__} does not name views")
    return learner.predict(frames.pixels)


def _scores(named: NDArray[np.int64], frames: Frames) -> Mapping[str, NDArray[np.float64]]:
    right = (named == frames.view).astype(np.float64)
    return {"accuracy": per_subject(np.where(frames.view >= 0, right, np.nan), frames)}
