"""Augmentation of one row at a time: gain, gamma, speckle, blur, shift. Nothing of another row is ever used."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cohorts.study import UNLABELLED


def appearance(x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Vary gain, contrast, sharpness and noise of images `(n, 1, h, w)` in [-1, 1]."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, generator=generator) * (high - low) + low

    lit = (x + 1) / 2
    lit = lit.clamp_min(1e-4) ** uniform(0.7, 1.4) * uniform(0.8, 1.25)
    lit = torch.lerp(F.avg_pool2d(lit, 3, 1, 1), lit, uniform(0.0, 1.3))
    grain = torch.randn(x.shape, generator=generator)
    lit = lit * (1 + uniform(0.0, 0.15) * grain)
    return lit.clamp(0, 1) * 2 - 1


def place(x: Tensor, masks: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn, scale and shift image and mask together, within what another probe position would do.

    Args:
        x: `(n, 1, h, w)` in [-1, 1].
        masks: uint8 `(n, h, w)`.
        generator: source of the random placement.
    """
    n = len(x)
    angle = (torch.rand(n, generator=generator) - 0.5) * 0.35
    scale = 1 + (torch.rand(n, 2, generator=generator) - 0.5) * 0.3
    shift = (torch.rand(n, 2, generator=generator) - 0.5) * 0.2
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([cos * scale[:, 0], -sin * scale[:, 0], shift[:, 0]], 1),
            torch.stack([sin * scale[:, 1], cos * scale[:, 1], shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = F.grid_sample(x + 1, grid, align_corners=False) - 1  # +1: what comes from outside is black
    labels = F.grid_sample(masks.unsqueeze(1).float(), grid, mode="nearest", align_corners=False).squeeze(1)
    unlabelled = (masks == UNLABELLED).flatten(1).all(1).view(-1, 1, 1)  # what comes in is unlabelled there as well
    return moved, torch.where(unlabelled, UNLABELLED, labels).to(torch.uint8)
