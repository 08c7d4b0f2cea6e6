"""Segmenter: cavity, myocardium and atrium of one frame."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames
from cohorts.study import UNLABELLED
from learning.augment import appearance, place
from learning.blocks import STRUCTURE_CLASSES, ResidualBlock, norm, to_signal
from learning.learners import LEARNERS


@LEARNERS("segmenter")
@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """Config of a small U-Net (Ronneberger et al. 2015, arXiv 1505.04597).

    Attributes:
        width: channels at full resolution.
        depth: number of halvings.
    """

    width: int = 12
    depth: int = 3

    def build(self) -> "SegmenterLearner":
        """Return the learner with random weights."""
        return SegmenterLearner(self)


class UNet(nn.Module):
    """Residual U-Net that starts at half resolution: a quarter of the cost, half a pixel of the border."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2 ** min(i, 2) for i in range(depth + 1)]
        self.enter = nn.Conv2d(1, width, 5, stride=2, padding=2)
        self.down = nn.ModuleList(ResidualBlock(widths[i], widths[i + 1]) for i in range(depth))
        self.up = nn.ModuleList(ResidualBlock(widths[i + 1] + widths[i], widths[i]) for i in reversed(range(depth)))
        self.leave = nn.Sequential(norm(width), nn.SiLU(), nn.Conv2d(width, 4 * STRUCTURE_CLASSES, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(n, 4, h, w)` of images `(n, 1, h, w)`."""
        h, skips = self.enter(x), []
        for block in self.down:
            skips.append(h)
            h = block(F.avg_pool2d(h, 2))
        for block in self.up:
            h = block(torch.cat([F.interpolate(h, scale_factor=2.0), skips.pop()], 1))
        return F.pixel_shuffle(self.leave(h), 2)


class SegmenterLearner:
    """A U-Net under cross entropy and soft Dice (Milletari et al. 2016, arXiv 1606.04797), each row alone."""

    def __init__(self, config: Segmenter) -> None:
        self.module: nn.Module = UNet(config.width, config.depth)

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the `disagreement` of each row with its mask, on a picture that is moved and varied."""
        x, masks = place(
            to_signal(torch.from_numpy(frames.pixels[rows])), torch.from_numpy(frames.masks[rows]), generator=generator
        )
        return disagreement(self.module(appearance(x, generator=generator)), masks)

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return masks, uint8 `(n, 64, 64)`, of uint8 images of the same shape."""
        self.module.eval()
        parts = [
            self.module(to_signal(torch.from_numpy(pixels[i : i + 256]))).argmax(1).to(torch.uint8).numpy()
            for i in range(0, len(pixels), 256)
        ]
        return np.concatenate(parts) if parts else np.zeros_like(pixels)


def disagreement(logits: Tensor, masks: Tensor) -> Tensor:
    """Return cross entropy plus one minus the mean Dice of each row, `(n,)`.

    Args:
        logits: `(n, 4, h, w)`.
        masks: uint8, `(n, h, w)`; unlabelled pixels are worth nothing.
    """
    known = masks != UNLABELLED
    target = torch.where(known, masks, torch.zeros_like(masks)).long()
    entropy = F.cross_entropy(logits, target, reduction="none")
    entropy = (entropy * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
    shown = logits.softmax(1) * known.unsqueeze(1)
    wanted = F.one_hot(target, STRUCTURE_CLASSES).movedim(-1, 1) * known.unsqueeze(1)
    overlap = 2 * (shown * wanted).flatten(2).sum(2)
    dice = (overlap + 1) / (shown.flatten(2).sum(2) + wanted.flatten(2).sum(2) + 1)
    loss: Tensor = entropy + 1 - dice[:, 1:].mean(1)
    return loss
