"""A small U-Net that sees the mask in its middle and decoder alone, through spatially adaptive normalisation.

SPADE: Park et al. 2019 (arXiv 1903.07291, equation 1), here on GroupNorm without weights, h ↦ h (1 + γ(m)) + β(m), as
in semantic diffusion (Wang et al. 2022, arXiv 2207.00050; for echo Stojanovski et al. 2023, arXiv 2305.05424). γ and β
depend on nothing but the mask, so a sampler asks for them once for all its steps.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cohorts.study import UNLABELLED
from learning.blocks import norm, one_hot

STRUCTURES = 3
FEATURES = 64


class Spade(nn.Module):
    """GroupNorm without weights, scaled and shifted by what the mask says at each place."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm(channels).num_groups, channels, affine=False)
        self.see, self.tell = nn.Conv2d(STRUCTURES, hidden, 3, padding=1), nn.Conv2d(hidden, 2 * channels, 3, padding=1)

    def told(self, structures: Tensor, known: Tensor) -> Tensor:
        """Return γ and β, `(n, 2 channels, h, w)`, of one-hot structures and of what is known, `(n, hidden)`."""
        seen: Tensor = self.tell(F.relu(self.see(structures) + known[:, :, None, None]))
        return seen

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        """Return h (1 + γ) + β of the normalised `h`."""
        gamma, beta = told.chunk(2, 1)
        y: Tensor = self.norm(h) * (1 + gamma) + beta
        return y


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, told the condition in between: the encoder's, which sees no mask."""

    def __init__(self, inner: int, outer: int, told: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2, self.conv2 = norm(outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.condition = nn.Linear(told, outer)
        self.shortcut = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Transform `(n, inner, h, w)` under conditions `(n, told)`."""
        h = self.conv1(F.silu(self.norm1(x))) + self.condition(c)[:, :, None, None]
        y: Tensor = self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))
        return y


class SpadeBlock(nn.Module):
    """The same with SPADE for both norms: the middle's and the decoder's."""

    def __init__(self, inner: int, outer: int, told: int, hidden: int) -> None:
        super().__init__()
        self.spade1, self.conv1 = Spade(inner, hidden), nn.Conv2d(inner, outer, 3, padding=1)
        self.spade2, self.conv2 = Spade(outer, hidden), nn.Conv2d(outer, outer, 3, padding=1)
        self.condition = nn.Linear(told, outer)
        self.shortcut = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def told(self, structures: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the mask says to the first and to the second norm."""
        return self.spade1.told(structures, known), self.spade2.told(structures, known)

    def forward(self, x: Tensor, c: Tensor, told: tuple[Tensor, Tensor]) -> Tensor:
        """Transform `(n, inner, h, w)` under conditions `(n, told)` and what the mask says."""
        h = self.conv1(F.silu(self.spade1(x, told[0]))) + self.condition(c)[:, :, None, None]
        y: Tensor = self.shortcut(x) + self.conv2(F.silu(self.spade2(h, told[1])))
        return y


class SpadeUNet(nn.Module):
    """U-Net of one block a level on images or latents `(n, channels, h, w)`; h and w divisible by 2^(levels - 1).

    Args of `forward`:
        x: `(n, channels, h, w)`; level: `(n,)`, how noisy it is, a number of the order of one; view, phase: int64
        `(n,)` where -1 is the learned null; masks: uint8 `(n, H, W)` of any size (all 255: the learned null mask);
        drawn: `structures_of(masks, h, w)`, where they are the same in many calls.
    """

    def __init__(
        self, *, channels: int, width: int, multiples: tuple[int, ...], hidden: int, views: int, phases: int = 2
    ) -> None:
        super().__init__()
        widths, told = [width * m for m in multiples], 4 * width
        self.time = nn.Sequential(nn.Linear(FEATURES, told), nn.SiLU(), nn.Linear(told, told))
        self.view, self.phase = nn.Embedding(views + 1, told), nn.Embedding(phases + 1, told)
        self.mask_known = nn.Embedding(2, hidden)
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(Block(w, w, told) for w in widths)
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.middle = SpadeBlock(widths[-1], widths[-1], told, hidden)
        after = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(
            SpadeBlock(a + w, w, told, hidden) for a, w in zip(reversed(after), reversed(widths), strict=True)
        )
        self.leave = nn.Sequential(norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))
        nn.init.zeros_(self.leave[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.leave[-1].bias)  # type: ignore[arg-type]

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        *,
        view: Tensor,
        phase: Tensor,
        masks: Tensor,
        drawn: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Return what is asked of the network, of the shape of `x`."""
        told = self.structures_of(masks, *x.shape[-2:]) if drawn is None else drawn
        c = F.silu(self.time(waves(level)) + self.view(view + 1) + self.phase(phase + 1))
        h, skips = self.enter(x), []
        for k, block in enumerate(self.down):
            h = block(h, c)
            skips.append(h)
            if k < len(self.halve):
                h = self.halve[k](h)
        h = self.middle(h, c, told[0])
        for k, block in enumerate(self.up):
            h = block(torch.cat([F.interpolate(h, scale_factor=2.0) if k else h, skips.pop()], 1), c, told[k + 1])
        y: Tensor = self.leave(h)
        return y

    def structures_of(self, masks: Tensor, height: int, width: int) -> list[tuple[Tensor, Tensor]]:
        """Return what the masks say to the middle and to each block of the decoder, for x of that height and width."""
        known = self.mask_known((masks != UNLABELLED).flatten(1).any(1).long())
        structures, deepest = one_hot(masks), len(self.down) - 1
        scales = [deepest, *range(deepest, -1, -1)]
        blocks = [self.middle, *self.up]
        return [
            block.told(F.interpolate(structures, (height >> k, width >> k), mode="nearest-exact"), known)
            for block, k in zip(blocks, scales, strict=True)
        ]


def waves(level: Tensor) -> Tensor:
    """Return sines and cosines of `(n,)` numbers of the order of one, at 32 frequencies from 1 to 100, `(n, 64)`."""
    f = torch.exp(math.log(100.0) * torch.arange(FEATURES // 2, device=level.device) / (FEATURES // 2 - 1))
    angles = level.unsqueeze(1) * f
    return torch.cat([angles.cos(), angles.sin()], 1)
