"""A small 3D U-Net on latents of whole clips, told what the transformer is told; EchoFlow's other backbone.

Convolution in space, within each frame; between frames attention at each place of the coarse grid, turned by phases
(`video_transformer.Attention`): the heart cycle is a circle on which frames lie unevenly, so a kernel of fixed steps in
time would mean another stretch of the beat in every clip. After the spatio-temporal U-Net of Reynaud et al. 2024
(arXiv 2406.00808). Kernels are those of clips, `(1, 3, 3)`, and norms those of single frames, so padding reaches no
other frame and every layer sees one row a clip: per-subject gradients of any subset of its parameters are exact.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning.blocks import one_hot
from synthesis.autoencoder import CHANNELS, FACTOR, STRUCTURES
from synthesis.video_conditions import Told
from synthesis.video_transformer import Attention

_GROUPS = 8  # channels that are normalised together


def _convolution(inner: int, outer: int, kernel: int = 3, stride: int = 1) -> nn.Conv3d:
    """Return a convolution of each frame of `(n, channels, frames, h, w)`."""
    return nn.Conv3d(
        inner, outer, (1, kernel, kernel), stride=(1, stride, stride), padding=(0, kernel // 2, kernel // 2)
    )


def _normed(x: Tensor) -> Tensor:
    """Normalise groups of channels of each frame alone (Wu & He 2018, arXiv 1803.08494)."""
    n, channels, frames, h, w = x.shape
    flat = F.group_norm(x.transpose(1, 2).reshape(n * frames, channels, h, w), max(1, channels // _GROUPS))
    y: Tensor = flat.view(n, frames, channels, h, w).transpose(1, 2)
    return y


class Block(nn.Module):
    """Two convolutions around a shortcut, shifted, scaled and gated by the frame's condition; then between frames."""

    def __init__(self, inner: int, outer: int, told: int, *, heads: int = 0) -> None:
        super().__init__()
        self.conv1, self.conv2 = _convolution(inner, outer), _convolution(outer, outer)
        self.shortcut = nn.Identity() if inner == outer else _convolution(inner, outer, 1)
        self.modulation = nn.Linear(told, 3 * outer)
        self.temporal = Attention(outer, heads) if heads else None
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        if self.temporal is not None:
            nn.init.zeros_(self.temporal.out.weight)
            nn.init.zeros_(self.temporal.out.bias)

    def forward(self, x: Tensor, c: Tensor, *, angle: Tensor, seen: Tensor | None) -> Tensor:
        """Transform `(n, inner, frames, h, w)` under conditions `(n, frames, told)`."""
        shift, scale, gate = self.modulation(c).transpose(1, 2)[..., None, None].chunk(3, 1)
        h = self.conv1(F.silu(_normed(x)))
        y: Tensor = self.shortcut(x) + (1 + gate) * self.conv2(F.silu(_normed(h) * (1 + scale) + shift))
        if self.temporal is None:
            return y
        n, channels, frames, height, width = y.shape
        along = _normed(y).permute(0, 3, 4, 2, 1).reshape(n, height * width, frames, channels)
        moved = self.temporal(along, angle=angle, seen=seen).view(n, height, width, frames, channels)
        together: Tensor = y + moved.permute(0, 4, 3, 1, 2)
        return together


class VideoUNet(Told):
    """Velocity field of clips; arguments and answer of `forward` are those of `VideoTransformer`."""

    def __init__(self, *, width: int, depth: int, heads: int, views: int, grid: int) -> None:
        if grid % 2:
            raise ValueError(f"grid={grid} must be a multiple of 2")
        super().__init__(width=width, blocks=2 * depth + 1, views=views)
        self.grid, half = grid, max(8, width // 2)
        self.latent = _convolution(CHANNELS, half)
        self.first = _convolution(CHANNELS, half)
        self.structures = _convolution(STRUCTURES * FACTOR**2, half, 1)
        self.enter = nn.Linear(width, half)
        self.fine = nn.ModuleList(Block(half, half, width) for _ in range(depth))
        self.down = _convolution(half, width, stride=2)
        self.coarse = nn.ModuleList(Block(width, width, width, heads=heads) for _ in range(depth))
        self.out = Block(width + half, half, width, heads=heads)
        self.final = _convolution(half, CHANNELS)
        for layer in (self.first, self.final):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        *,
        phase: Tensor,
        real: Tensor,
        masks: Tensor,
        view: Tensor,
        first: Tensor,
        first_phase: Tensor,
        lvef: Tensor,
        heart_rate: Tensor,
        frame_rate: Tensor,
        at_sites: bool = False,
    ) -> Tensor:
        """Return the velocity `(n, frames, 4, grid, grid)`."""
        n, frames = phase.shape
        drawn = F.pixel_unshuffle(one_hot(masks.flatten(0, 1)), FACTOR).view(n, frames, -1, self.grid, self.grid)
        outlined = (masks != 255).flatten(2).any(2).long()
        given = first.flatten(1).isfinite().all(1).long()
        scalars = {"lvef": lvef, "heart_rate": heart_rate, "frame_rate": frame_rate}
        added, told = self.told(t, phase=phase, view=view, first_phase=first_phase, scalars=scalars, at_sites=at_sites)
        added = added + self.mask_known(outlined) + self.first_known(given).unsqueeze(1)
        x = self.latent(z.transpose(1, 2)) + self.structures(drawn.transpose(1, 2))
        x = x + self.first(first.nan_to_num().unsqueeze(2)) + self.enter(added).transpose(1, 2)[..., None, None]
        angle, seen = phase.nan_to_num(), None if bool(real.all()) else real
        depth = len(self.fine)
        for k, block in enumerate(self.fine):
            x = block(x, told[:, k], angle=angle, seen=seen)
        h = self.down(x)
        for k, block in enumerate(self.coarse):
            h = block(h, told[:, depth + k], angle=angle, seen=seen)
        h = F.interpolate(h, scale_factor=(1.0, 2.0, 2.0))
        x = self.out(torch.cat([h, x], 1), told[:, -1], angle=angle, seen=seen)
        y: Tensor = self.final(F.silu(_normed(x)))
        return y.transpose(1, 2)
