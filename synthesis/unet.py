"""A small U-Net on 4x8x8 latents that sees the mask at their resolution: EchoFlow's other image network.

Reynaud et al. 2025 (arXiv 2503.22357): structures are beside the latent as further channels; Ronneberger et al. 2015
(arXiv 1505.04597): two resolutions and a shortcut between. Time and conditions scale and shift each block after its
second norm (Dhariwal & Nichol 2021, arXiv 2105.05233). GroupNorm throughout, nothing in place: per-subject gradients of
any subset of its parameters are exact.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning.blocks import norm, one_hot
from synthesis.autoencoder import CHANNELS, FACTOR, STRUCTURES
from synthesis.image_conditions import Conditioned, outlined, silence
from synthesis.transformer import Attention


class ToldBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, told by a token: `(n, inner, h, w)` -> `(n, outer, h, w)`."""

    def __init__(self, inner: int, outer: int, told: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2, self.conv2 = norm(outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.modulation = nn.Linear(told, 2 * outer)
        self.shortcut = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)
        silence(self.modulation, self.conv2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Return shortcut plus residual under conditions `(n, told)`."""
        shift, scale = self.modulation(c).view(len(x), -1, 1, 1).chunk(2, 1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x)))) * (1 + scale) + shift
        y: Tensor = self.shortcut(x) + self.conv2(F.silu(h))
        return y


class Look(nn.Module):
    """Attention between all places of a map, around a shortcut: `(n, width, h, w)` -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.attention = norm(width), Attention(width, heads)
        silence(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        found = self.attention(self.norm(x).flatten(2).transpose(1, 2))
        y: Tensor = x + found.transpose(1, 2).reshape(x.shape)
        return y


class LatentUNet(Conditioned):
    """Velocity field of convolutions; see `Conditioned` for what it is told.

    `depth` blocks at 8x8 of `width` channels, as many at 4x4 of twice that with attention of `heads` after each, and
    as many again at 8x8, the first of which also sees what was there before.
    """

    def __init__(
        self, *, width: int, depth: int, heads: int, views: int, descriptors: int, student: bool = False
    ) -> None:
        super().__init__()
        w = width
        self.enter = nn.Conv2d(CHANNELS + STRUCTURES, w, 3, padding=1)
        self.be_told(width=w, blocks=3 * depth, views=views, descriptors=descriptors, student=student)
        self.down = nn.ModuleList(ToldBlock(w, w, w) for _ in range(depth))
        self.halve = nn.Conv2d(w, 2 * w, 4, stride=2, padding=1)
        self.middle = nn.ModuleList(ToldBlock(2 * w, 2 * w, w) for _ in range(depth))
        self.look = nn.ModuleList(Look(2 * w, heads) for _ in range(depth))
        self.up = nn.ModuleList(ToldBlock(3 * w if k == 0 else w, w, w) for k in range(depth))
        self.leave = nn.Sequential(norm(w), nn.SiLU(), nn.Conv2d(w, CHANNELS, 3, padding=1))
        silence(self.leave[-1])

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        *,
        view: Tensor,
        phase: Tensor,
        masks: Tensor,
        lvef: Tensor | None = None,
        scanner: Tensor | None = None,
        at_sites: bool = False,
        until: Tensor | None = None,
        drawn: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity `(n, 4, 8, 8)`."""
        told = self.tokens(t, view=view, phase=phase, lvef=lvef, scanner=scanner, at_sites=at_sites, until=until)
        told = told + self.mask_known(outlined(masks)).unsqueeze(1)
        down, middle, up = told.chunk(3, 1)
        x = self.enter(torch.cat([z, self.structures_of(masks) if drawn is None else drawn], 1))
        for k, block in enumerate(self.down):
            x = block(x, down[:, k])
        h = self.halve(x)
        for k, (block, look) in enumerate(zip(self.middle, self.look, strict=True)):
            h = look(block(h, middle[:, k]))
        x = torch.cat([x, F.interpolate(h, scale_factor=2.0)], 1)
        for k, block in enumerate(self.up):
            x = block(x, up[:, k])
        velocity: Tensor = self.leave(x)
        return velocity

    def structures_of(self, masks: Tensor) -> Tensor:
        """Return the share of each cell that each structure covers, in [-1, 1]: `(n, 3, 8, 8)`."""
        return 2 * F.avg_pool2d(one_hot(masks), FACTOR) - 1
