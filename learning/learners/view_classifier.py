"""View classifier: which standard view a frame shows."""

import re
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import VIEWS, Frames
from learning.augment import appearance
from learning.blocks import norm, to_signal
from learning.learners import LEARNERS


@LEARNERS("view_classifier")
@dataclass(frozen=True, slots=True, kw_only=True)
class ViewClassifier:
    """Config of a small convolutional classifier.

    Attributes:
        width: channels after the first layer.
        tune: regular expression of the parameter names that are trained: the last layer, because the prior has seen
            every view; "." trains all.
    """

    width: int = 16
    tune: str = r"^13\."

    def build(self) -> "ViewLearner":
        """Return the learner with random weights."""
        return ViewLearner(self)


class ViewLearner:
    """Five strided convolutions with GroupNorm and a linear head over `VIEWS`."""

    def __init__(self, config: ViewClassifier) -> None:
        w = config.width
        layers: list[nn.Module] = []
        for inner, outer in ((1, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w)):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), norm(outer), nn.SiLU()]
        self.module: nn.Module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * w * 16, len(VIEWS)))
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(re.search(config.tune, name) is not None)

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the cross entropy of each row; rows without a known view are worth nothing."""
        x = appearance(to_signal(torch.from_numpy(frames.pixels[rows])), generator=generator)
        view = torch.from_numpy(frames.view[rows])
        return F.cross_entropy(self.module(x), view, reduction="none", ignore_index=-1)

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities over `VIEWS`, `(n, 4)`, of uint8 images `(n, 64, 64)`."""
        self.module.eval()
        parts = [self.module(to_signal(torch.from_numpy(p))).softmax(1).numpy() for p in _batches(pixels)]
        return np.concatenate(parts) if parts else np.zeros((0, len(VIEWS)), np.float32)


def _batches(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [pixels[i : i + 256] for i in range(0, len(pixels), 256)]
