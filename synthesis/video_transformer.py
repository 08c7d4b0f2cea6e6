"""A transformer over space and time on latents of whole clips: the image flow's network with attention between frames.

Factorised as EchoFlow's video model is (Reynaud et al. 2025, arXiv 2503.22357): attention within each frame, then
between frames at each place. Frames lie on the circle of the heart cycle: phase enters as sines and cosines of whole
multiples of its angle, and turns queries and keys by such angles (rotary embedding, Su et al. 2021, arXiv 2104.09864),
so the network knows neither a first frame nor an end, and a whole turn changes nothing. Without attention between
frames it is the image network: layers of both have the same names, so that the image prior can be put in (`inflate`).
Every layer sees one row a clip, so per-subject gradients of any subset of its parameters are exact.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from learning.blocks import one_hot
from synthesis.autoencoder import CHANNELS, FACTOR, STRUCTURES
from synthesis.transformer import PATCH
from synthesis.video_conditions import Told


class Attention(nn.Module):
    """Attention along the last but one axis but width: `(n, a, b, width)` attends along `b`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, *, angle: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: `(n, a, b, width)`.
            angle: by which queries and keys are turned, `(n, b)` in cycles.
            seen: which of `b` may be attended to, `(n, b)`.
        """
        n, a, b, width = x.shape
        q, k, v = self.qkv(x).view(n * a, b, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if angle is not None:
            turns = angle.repeat_interleave(a, 0)
            q, k = _turned(q, turns), _turned(k, turns)
        # Written out: the fused kernel's backward pass takes thrice as long on a processor for so few tokens.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if seen is not None:
            scores = scores.masked_fill(~seen.repeat_interleave(a, 0)[:, None, None, :], -torch.inf)
        h = scores.softmax(-1).to(v.dtype) @ v
        y: Tensor = self.out(h.transpose(1, 2).reshape(n, a, b, width))
        return y


class Block(nn.Module):
    """Attention in space, attention in time, a perceptron, each shifted, scaled and gated by the frame's condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention, self.temporal = Attention(width, heads), Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        for layer in (self.modulation, self.temporal.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, c: Tensor, *, angle: Tensor, seen: Tensor | None) -> Tensor:
        """Transform tokens `(n, frames, places, width)` under conditions `(n, frames, width)`."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).unsqueeze(2).chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        between = (self.norm1(x) * (1 + scale1) + shift1).transpose(1, 2)
        x = x + gate1 * self.temporal(between, angle=angle, seen=seen).transpose(1, 2)
        y: Tensor = x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return y


class VideoTransformer(Told):
    """Velocity field v(z, t | phases, masks, view, first frame, LVEF, rates) on standardised latents of clips."""

    def __init__(self, *, width: int, depth: int, heads: int, views: int, grid: int) -> None:
        if grid % PATCH:
            raise ValueError(f"grid={grid} must be a multiple of {PATCH}")
        super().__init__(width=width, blocks=depth + 1, views=views)
        self.grid = grid
        self.latent = nn.Linear(CHANNELS * PATCH**2, width)
        self.first = nn.Linear(CHANNELS * PATCH**2, width)
        self.structures = nn.Linear(STRUCTURES * (FACTOR * PATCH) ** 2, width)
        self.position = nn.Embedding((grid // PATCH) ** 2, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final = nn.Linear(width, CHANNELS * PATCH**2)
        for layer in (self.first, self.final_modulation, self.final):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

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
        """Return the velocity.

        Args:
            z: `(n, frames, 4, grid, grid)`.
            t: `(n,)` in [0, 1].
            phase: `(n, frames)` in cycles, NaN where unknown.
            real: `(n, frames)`, false for padding, which no other frame sees.
            masks: uint8 `(n, frames, size, size)`; all 255: the null mask.
            view: `(n,)`, -1 where unknown.
            first: standardised latent of one frame of the clip, `(n, 4, grid, grid)`, NaN where there is none.
            first_phase: its phase, `(n,)`, NaN where unknown.
            lvef: `(n,)` in percent, NaN where unknown, as the rates.
            heart_rate: `(n,)` in beats per minute.
            frame_rate: `(n,)` in Hz.
            at_sites: add the sites' token, one for each block, which is zero in the prior.
        """
        n, frames = phase.shape
        structures = one_hot(masks.flatten(0, 1)).view(n, frames, STRUCTURES, *masks.shape[2:])
        outlined = (masks != 255).flatten(2).any(2).long()
        given = first.flatten(1).isfinite().all(1)
        beside = self.first(_patches(first.nan_to_num(), PATCH)) + self.first_known(given.long()).unsqueeze(1)
        where = torch.arange(self.position.num_embeddings, device=z.device).expand(n, -1)
        x = self.latent(_patches(z, PATCH)) + self.structures(_patches(structures, FACTOR * PATCH))
        x = x + (beside + self.position(where)).unsqueeze(1) + self.mask_known(outlined).unsqueeze(2)
        scalars = {"lvef": lvef, "heart_rate": heart_rate, "frame_rate": frame_rate}
        x_motion, conditions = self.told(
            t, phase=phase, view=view, first_phase=first_phase, scalars=scalars, at_sites=at_sites
        )
        x = x + x_motion.unsqueeze(2)
        angle, seen = phase.nan_to_num(), None if bool(real.all()) else real
        for k, block in enumerate(self.blocks):
            x = block(x, conditions[:, k], angle=angle, seen=seen)
        shift, scale = self.final_modulation(conditions[:, -1]).unsqueeze(2).chunk(2, -1)
        x = self.final(self.final_norm(x) * (1 + scale) + shift)
        side = self.grid // PATCH
        return F.pixel_shuffle(x.transpose(2, 3).reshape(n, frames, -1, side, side), PATCH)


def inflate(image: Mapping[str, NDArray[np.floating]], network: VideoTransformer) -> dict[str, NDArray[np.floating]]:
    """Return a state of `network` whose frames start as the image flow of state `image` would draw each alone.

    Places are interpolated to the network's grid; the image flow's null phase stands for every phase.
    """
    own: dict[str, NDArray[np.floating]] = {n: t.numpy().copy() for n, t in network.state_dict().items()}
    for name, array in image.items():
        if name in own and own[name].shape == array.shape:
            own[name] = np.asarray(array, np.float32)
    places = torch.from_numpy(np.asarray(image["position.weight"], np.float32))
    side, wanted = math.isqrt(len(places)), network.grid // PATCH
    square = F.interpolate(places.T.reshape(1, -1, side, side), size=(wanted, wanted), mode="bicubic")
    own["position.weight"] = square.flatten(2)[0].T.contiguous().numpy()
    own["phase_known.weight"] = np.repeat(np.asarray(image["phase.weight"], np.float32)[:1], 2, 0)
    return own


def _patches(x: Tensor, side: int) -> Tensor:
    """Turn `(..., channels, h, w)` into `(..., places, channels * side²)`."""
    return F.pixel_unshuffle(x, side).flatten(-2).transpose(-1, -2)


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    """Turn pairs of `(n, heads, b, d)` by 0, 0, 1, 1, 2, 2, ... times the `angle` `(n, b)` in cycles."""
    pairs = x.shape[-1] // 2
    times = torch.arange(pairs, device=x.device) // 2
    by = 2 * math.pi * angle[:, None, :, None] * times
    one, other = x.chunk(2, -1)
    cosine, sine = by.cos().to(x.dtype), by.sin().to(x.dtype)
    return torch.cat([one * cosine - other * sine, one * sine + other * cosine], -1)
