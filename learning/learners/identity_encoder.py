"""Identity encoder: pictures of one person lie close together, pictures of two people apart.

Contrastive learning with the subject as the class (van den Oord et al. 2018, arXiv:1807.03748), in a form in which no
subject meets another: what is pushed apart is always public, phantoms whose embeddings stand still (after He et al.
2020, arXiv:1911.05722). So it can be trained under patient-level privacy, or on the phantom at no cost.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames
from cohorts.likeness import SIDE, descriptor
from cohorts.phantom import simulate
from learning.blocks import norm, to_signal
from learning.learners import LEARNERS


@LEARNERS("identity_encoder")
@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityEncoder:
    """Config of a small convolutional encoder.

    Attributes:
        width: channels after the first layer.
        dimension: of an embedding.
        temperature: of the softmax over similarities, > 0.
        strangers: public pictures that every row is told from.
        seed: of the phantoms that are the strangers.
    """

    width: int = 24
    dimension: int = 128
    temperature: float = 0.1
    strangers: int = 256
    seed: int = 77

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"temperature={self.temperature} must be greater than 0 and finite")
        if self.strangers < 1:
            raise ValueError(f"strangers={self.strangers} must be at least 1")

    def build(self) -> "IdentityLearner":
        """Return the learner with random weights."""
        return IdentityLearner(self)


class IdentityLearner:
    """Four strided convolutions with GroupNorm and a linear map onto the unit sphere."""

    def __init__(self, config: IdentityEncoder) -> None:
        self.config = config
        w = config.width
        layers: list[nn.Module] = []
        for inner, outer in ((1, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w)):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), norm(outer), nn.SiLU()]
        self.module: nn.Module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * w * 16, config.dimension))

    @cached_property
    def _strangers(self) -> Tensor:
        n = -(-self.config.strangers // 4)  # a phantom has two views at two phases
        return to_signal(torch.from_numpy(simulate.stills(n, seed=self.config.seed).pixels))[: self.config.strangers]

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return, for each row, how badly another picture of its subject is told from the strangers.

        A row without another picture of its subject, or of unknown view, is worth nothing.
        """
        other, known = _another(frames, rows, generator)
        one = self._embedded(to_signal(torch.from_numpy(frames.pixels[rows])))
        two = self._embedded(to_signal(torch.from_numpy(frames.pixels[other])))
        with torch.no_grad():
            strangers = self._embedded(self._strangers)
        near = (one * two).sum(1, keepdim=True)
        logits = torch.cat([near, one @ strangers.T], 1) / self.config.temperature
        found: Tensor = -logits.log_softmax(1)[:, 0] * torch.from_numpy(known)
        return found

    def _embedded(self, x: Tensor) -> Tensor:
        z: Tensor = F.normalize(self.module(x), dim=1)
        return z

    @torch.inference_mode()
    def embed(self, pixels: NDArray[np.uint8], *, copies: float = 0.0) -> NDArray[np.float32]:
        """Return embeddings `(n, d)` on the unit sphere of images `(n, 64, 64)`; their products are similarities.

        Args:
            pixels: uint8.
            copies: share in [0, 1) of the similarity that is plain correlation (`cohorts.likeness`): what a copy keeps
                and what of a person never changes are not the same, and each head sees what the other overlooks.
        """
        self.module.eval()
        parts = [
            self._embedded(to_signal(torch.from_numpy(pixels[i : i + 256]))).numpy() for i in range(0, len(pixels), 256)
        ]
        learned = np.concatenate(parts) if parts else np.zeros((0, self.config.dimension), np.float32)
        if not copies:
            return learned
        nothing = np.zeros(SIDE * SIDE, np.float32)
        plain = [descriptor(picture) for picture in pixels]
        seen = np.stack([nothing if d is None else d for d in plain]) if plain else np.zeros((0, SIDE * SIDE))
        both: NDArray[np.float32] = np.concatenate([np.sqrt(1 - copies) * learned, np.sqrt(copies) * seen], 1)
        return both.astype(np.float32)


def _another(
    frames: Frames, rows: NDArray[np.int64], generator: torch.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return a random other row of each row's subject, and whether there is one and its view is known."""
    order = np.argsort(frames.subject, kind="stable")
    starts = np.searchsorted(frames.subject[order], np.arange(len(frames.subjects) + 1))
    first, count = starts[:-1][frames.subject[rows]], np.diff(starts)[frames.subject[rows]]
    place = np.empty(len(frames), np.int64)
    place[order] = np.arange(len(frames))
    dice = torch.rand(len(rows), generator=generator).numpy()
    step = 1 + np.minimum((dice * np.maximum(count - 1, 1)).astype(np.int64), np.maximum(count - 2, 0))
    other = order[first + (place[rows] - first + step) % count]
    return other, (count > 1) & (frames.view[rows] >= 0)
