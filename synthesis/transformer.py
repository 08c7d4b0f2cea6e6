"""A small diffusion transformer on 4x8x8 latents, sixteen tokens, that sees the mask at full resolution.

Peebles & Xie 2023 (arXiv 2212.09748): adaptive layer norm, zero-initialised. Every condition enters through `nn.Linear`
or `nn.Embedding`, so per-subject gradients of any subset of its parameters are exact.
"""

import math

import torch
from torch import Tensor, nn

from learning.blocks import one_hot
from synthesis.autoencoder import CHANNELS, FACTOR, GRID, STRUCTURES

PATCH = 2
TOKENS = (GRID // PATCH) ** 2


class Attention(nn.Module):
    """Multi-head self-attention from plain linear layers: `(n, tokens, width)` -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        h = nn.functional.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.out(h.transpose(1, 2).reshape(n, tokens, width))
        return y


class Block(nn.Module):
    """Attention and a perceptron, each shifted, scaled and gated by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Transform tokens `(n, tokens, width)` under conditions `(n, width)`."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).unsqueeze(1).chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        y: Tensor = x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return y


class LatentTransformer(nn.Module):
    """Velocity field v(z, t | view, phase, mask) on standardised latents.

    Args of `forward`:
        z: `(n, 4, 8, 8)`; t: `(n,)` in [0, 1]; view, phase: int64 `(n,)` where -1 is the learned null;
        masks: uint8 `(n, 64, 64)` (all 255: the null mask); scanner: `(n, descriptors)` or `None`, the public
        simulator's own settings, known for phantoms only; at_sites: add the sites' token, one for each block, which
        is zero in the prior and the first thing that sites train; until: `(n,)`, for a student, which answers with
        the mean velocity from t down to there; drawn: `structures_of(masks)`, where they are the same in many calls.
    """

    def __init__(
        self, *, width: int, depth: int, heads: int, views: int, descriptors: int, student: bool = False
    ) -> None:
        super().__init__()
        self.width = width
        self.latent = nn.Linear(CHANNELS * PATCH**2, width)
        self.structures = nn.Linear(STRUCTURES * (FACTOR * PATCH) ** 2, width)
        self.position = nn.Embedding(TOKENS, width)
        self.mask_known = nn.Embedding(2, width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.view, self.phase = nn.Embedding(views + 1, width), nn.Embedding(3, width)
        self.site = nn.Embedding(1, (depth + 1) * width)
        self.scanner = nn.Sequential(nn.Linear(descriptors, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final = nn.Linear(width, CHANNELS * PATCH**2)
        if student:
            self.interval = nn.Linear(64, width)
            nn.init.zeros_(self.interval.weight)  # knowing no better, a mean velocity is the velocity
            nn.init.zeros_(self.interval.bias)
        nn.init.zeros_(self.site.weight)
        for layer in (self.final_modulation, self.final):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        *,
        view: Tensor,
        phase: Tensor,
        masks: Tensor,
        scanner: Tensor | None = None,
        at_sites: bool = False,
        until: Tensor | None = None,
        drawn: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity `(n, 4, 8, 8)`."""
        n = len(z)
        x = self.latent(nn.functional.pixel_unshuffle(z, PATCH).flatten(2).transpose(1, 2))
        x = x + (self.structures_of(masks) if drawn is None else drawn)
        c = self.time(_frequencies(t)) + self.view(view + 1) + self.phase(phase + 1)
        if until is not None:
            c = c + self.interval(_frequencies(t - until))
        if scanner is not None:
            c = c + self.scanner(scanner)
        tokens = c.unsqueeze(1).expand(-1, len(self.blocks) + 1, -1)
        if at_sites:
            tokens = tokens + self.site(torch.zeros(n, dtype=torch.long, device=z.device)).view(n, -1, self.width)
        conditions = nn.functional.silu(tokens)
        for k, block in enumerate(self.blocks):
            x = block(x, conditions[:, k])
        shift, scale = self.final_modulation(conditions[:, -1]).unsqueeze(1).chunk(2, -1)
        x = self.final(self.final_norm(x) * (1 + scale) + shift)
        return nn.functional.pixel_shuffle(x.transpose(1, 2).reshape(n, -1, GRID // PATCH, GRID // PATCH), PATCH)

    def structures_of(self, masks: Tensor) -> Tensor:
        """Return what each token sees of the masks `(n, 64, 64)`, and where it is: `(n, tokens, width)`."""
        patches = nn.functional.pixel_unshuffle(one_hot(masks), FACTOR * PATCH).flatten(2).transpose(1, 2)
        known = (masks != 255).flatten(1).any(1).long()
        where = torch.arange(TOKENS, device=masks.device).expand(len(masks), -1)
        tokens: Tensor = self.structures(patches) + self.position(where) + self.mask_known(known).unsqueeze(1)
        return tokens


def _frequencies(t: Tensor) -> Tensor:
    """Return 64 sines and cosines of `t` in [0, 1] (Vaswani et al. 2017), `(n, 64)`."""
    f = torch.exp(-math.log(1000.0) * torch.arange(32, device=t.device) / 32)
    angles = 1000.0 * t.unsqueeze(1) * f
    return torch.cat([angles.cos(), angles.sin()], 1)
