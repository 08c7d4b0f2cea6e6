"""Layers that are safe for per-subject gradients: GroupNorm, nothing in place, no state that changes in forward."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRUCTURE_CLASSES = 4  # background, cavity, myocardium, atrium


def norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of at least eight channels a group, or of all channels (Wu & He 2018, arXiv 1803.08494)."""
    groups = max(g for g in range(1, max(1, channels // 8) + 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: `(n, inner, h, w)` -> `(n, outer, h, w)`."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2, self.conv2 = norm(outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.shortcut = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut plus residual."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        y: Tensor = self.shortcut(x) + h
        return y


def to_signal(pixels: Tensor) -> Tensor:
    """Map grey values 0..255 of `(n, h, w)` to [-1, 1] as `(n, 1, h, w)`: a constant, so it tells of nobody."""
    return pixels.float().unsqueeze(1) / 127.5 - 1


def to_pixels(signal: Tensor) -> Tensor:
    """Undo `to_signal`: `(n, 1, h, w)` in [-1, 1] -> uint8 `(n, h, w)`."""
    return ((signal.squeeze(1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def one_hot(masks: Tensor) -> Tensor:
    """Turn uint8 masks `(n, h, w)` into the three structures `(n, 3, h, w)`; 255 (nobody outlined it) becomes zeros."""
    return torch.stack([masks == k for k in range(1, STRUCTURE_CLASSES)], 1).float()
