"""A small diffusion transformer on 4x8x8 latents, sixteen tokens, that sees the mask at full resolution.

Peebles & Xie 2023 (arXiv 2212.09748): adaptive layer norm, zero-initialised.
"""

import torch
from torch import Tensor, nn

from learning.blocks import one_hot
from synthesis.autoencoder import CHANNELS, FACTOR, GRID, STRUCTURES
from synthesis.image_conditions import Conditioned, outlined, silence

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
        if torch.is_grad_enabled():
            # Written out: the fused kernel's backward pass takes thrice as long on a processor for so few tokens.
            h = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1).to(v.dtype) @ v
        else:
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


class LatentTransformer(Conditioned):
    """Velocity field of sixteen tokens; see `Conditioned` for what it is told."""

    def __init__(
        self, *, width: int, depth: int, heads: int, views: int, descriptors: int, student: bool = False
    ) -> None:
        super().__init__()
        self.latent = nn.Linear(CHANNELS * PATCH**2, width)
        self.structures = nn.Linear(STRUCTURES * (FACTOR * PATCH) ** 2, width)
        self.position = nn.Embedding(TOKENS, width)
        self.be_told(width=width, blocks=depth + 1, views=views, descriptors=descriptors, student=student)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final = nn.Linear(width, CHANNELS * PATCH**2)
        silence(self.final_modulation, self.final)

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
        x = self.latent(nn.functional.pixel_unshuffle(z, PATCH).flatten(2).transpose(1, 2))
        x = x + (self.structures_of(masks) if drawn is None else drawn)
        told = self.tokens(t, view=view, phase=phase, lvef=lvef, scanner=scanner, at_sites=at_sites, until=until)
        for k, block in enumerate(self.blocks):
            x = block(x, told[:, k])
        shift, scale = self.final_modulation(told[:, -1]).unsqueeze(1).chunk(2, -1)
        x = self.final(self.final_norm(x) * (1 + scale) + shift)
        return nn.functional.pixel_shuffle(x.transpose(1, 2).reshape(len(z), -1, GRID // PATCH, GRID // PATCH), PATCH)

    def structures_of(self, masks: Tensor) -> Tensor:
        """Return what each token sees of the masks `(n, 64, 64)`, and where it is: `(n, tokens, width)`."""
        patches = nn.functional.pixel_unshuffle(one_hot(masks), FACTOR * PATCH).flatten(2).transpose(1, 2)
        where = torch.arange(TOKENS, device=masks.device).expand(len(masks), -1)
        known = self.mask_known(outlined(masks)).unsqueeze(1)
        tokens: Tensor = self.structures(patches) + self.position(where) + known
        return tokens
