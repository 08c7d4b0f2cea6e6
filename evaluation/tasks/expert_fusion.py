"""Recognition of classes by the experts of several sites: accuracy per patient, and whose expert was heard."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.frames import Frames
from evaluation.overall import Overall
from evaluation.task import per_subject
from evaluation.tasks import TASKS
from learning.fusion import Attention
from learning.learner import Learner
from learning.learners.fused_experts import FusedExperts, FusedLearner

WEIGHT = "weight_"  # before the site whose expert it is, in the names of metrics


@TASKS("expert_fusion")
@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertFusion:
    """Train the heads between frozen experts; measure the share of each patient's frames that is named rightly.

    Nobody says from which site a patient is, and all classes are possible: what no expert has a word for is wrong.
    Beside it `weight_SITE` says how much of the decisions about a patient rests on the expert of that site.

    Attributes:
        maps, width, stages, blocks, stride, hidden: of `FusedExperts`; its defaults where not said.
        attention: of the same; score fusion, which hears all experts alike, where not said.
    """

    maps: str = FusedExperts().maps
    width: int = 8
    stages: int = 4
    blocks: int = 1
    stride: int = 2
    attention: str = Attention.NOTHING.value
    hidden: tuple[int, ...] = FusedExperts().hidden
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 3e-2
    seed: int = 0
    primary: str = "accuracy"

    def learner(self) -> FusedLearner:
        """Return the fusion with the same initial heads for every arm; its experts are put in as frozen weights."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return FusedExperts(
                maps=self.maps,
                width=self.width,
                stages=self.stages,
                blocks=self.blocks,
                stride=self.stride,
                attention=self.attention,
                hidden=self.hidden,
            ).build()

    def scores(self, learner: Learner, frames: Frames) -> Mapping[str, NDArray[np.float64]]:
        """Return accuracy and weights per subject, over its frames of a known class."""
        if not isinstance(learner, FusedLearner):
            raise TypeError(f"{type(learner).__name__} is no fusion of experts")
        named, weights = learner.predict(frames.pixels)
        known = frames.view >= 0
        found = {"accuracy": per_subject(np.where(known, (named == frames.view).astype(np.float64), np.nan), frames)}
        for words, weight in zip(learner.config.words, weights.T.astype(np.float64), strict=True):
            found[f"{WEIGHT}{words.site}"] = per_subject(np.where(known, weight.clip(0, 1), np.nan), frames)
        return found

    def trivial(self, train: Frames, test: Frames) -> Mapping[str, NDArray[np.float64]]:
        """Return the accuracy of whoever always names the class that is most frequent in `train`."""
        usual = np.bincount(train.view[train.view >= 0], minlength=1).argmax()
        right = np.where(test.view >= 0, (test.view == usual).astype(np.float64), np.nan)
        return {"accuracy": per_subject(right, test)}

    def overall(self, learner: Learner, frames: Frames) -> Overall:
        """Return nothing: every number is one of a patient."""
        return Overall(subject=frames.subject)
