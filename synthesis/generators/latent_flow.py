"""Latent image flow: EchoFlow's image generator (Reynaud et al. 2025, arXiv 2503.22357) at hospital size.

A velocity field on the latents of the public autoencoder, conditioned on view, phase and the full-resolution mask. It
starts from a prior trained on the phantom; a site tunes few parameters under patient-level DP: a token for its style
(after textual inversion, Gal et al. 2022, arXiv 2208.01618) and the shifts of the adaptive layer norms.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import VIEWS, Frames
from learning import arrays
from learning.blocks import to_pixels, to_signal
from synthesis import flow, priors
from synthesis.autoencoder import CHANNELS, FACTOR, GRID, Autoencoder
from synthesis.generators import GENERATORS
from synthesis.transformer import LatentTransformer

SIZE = GRID * FACTOR


@GENERATORS("latent_flow")
@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFlow:
    """Config of the latent flow.

    Attributes:
        width, depth, heads: size of the transformer; must be those of the prior.
        autoencoder_width: channels of the autoencoder at full resolution.
        descriptors: number of scanner settings the prior was told of.
        prior: start from the public prior; `False` starts from noise (tests, ablations).
        tune: regular expression of the parameter names that sites train.
        sample_steps: intervals of the ODE solver.
        guidance: weight of classifier-free guidance on the mask, 1 is none.
    """

    width: int = 160
    depth: int = 4
    heads: int = 5
    autoencoder_width: int = 32
    descriptors: int = 16
    prior: bool = True
    tune: str = r"site\.weight|modulation\.bias"
    sample_steps: int = 8
    guidance: float = 1.0

    def build(self) -> "LatentFlowGenerator":
        """Return the generator, its autoencoder frozen and only `tune` trainable."""
        return LatentFlowGenerator(self)


class LatentFlowGenerator:
    """The network and its sampler; a `Generator`."""

    def __init__(self, config: LatentFlow) -> None:
        self.config = config
        self._encoded: tuple[Frames, Tensor] | None = None
        self.autoencoder = Autoencoder(config.autoencoder_width).eval().requires_grad_(False)
        self.module: nn.Module = LatentTransformer(
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            views=len(VIEWS),
            descriptors=config.descriptors,
        )
        if config.prior:
            arrays.load_state(self.autoencoder, priors.load("autoencoder"))
            arrays.load_state(self.module, priors.load("latent_flow"))
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(re.search(config.tune, name) is not None)
        if not any(p.requires_grad for p in self.module.parameters()):
            raise ValueError(f"tune={config.tune!r} matches no parameter of the latent flow")

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the flow-matching loss of each row, `(len(rows),)`: mean squared error of the velocity."""
        z = self._latents(frames)[torch.from_numpy(rows)]
        t = torch.rand(len(rows), generator=generator)
        noise = torch.randn(z.shape, generator=generator)
        predicted = self.module(
            flow.interpolate(z, noise, t),
            t,
            view=torch.from_numpy(frames.view[rows]),
            phase=torch.from_numpy(frames.phase[rows]),
            masks=torch.from_numpy(frames.masks[rows]),
            at_sites=True,
        )
        losses: Tensor = (predicted - flow.velocity(z, noise)).square().flatten(1).mean(1)
        return losses

    @torch.no_grad()
    def _latents(self, frames: Frames) -> Tensor:
        """Encode every frame once: the encoder is frozen, so what was encoded stays true."""
        if self._encoded is None or self._encoded[0] is not frames:
            parts = [
                self.autoencoder.encode(to_signal(torch.from_numpy(frames.pixels[i : i + 256])))
                for i in range(0, len(frames), 256)
            ]
            self._encoded = (frames, torch.cat(parts))
        return self._encoded[1]

    @torch.inference_mode()
    def sample(
        self,
        conditions: Frames,
        *,
        seed: int,
        batch_size: int = 64,
        at_sites: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw one image per row of `conditions`, uint8 `(n, 64, 64)`; image k depends on row k, `seed` and k only.

        With `at_sites` off the sites' token is left out: the public prior speaks, as far as nothing else was trained.
        """
        self.module.eval()
        images = []
        for start in range(0, len(conditions), batch_size):
            rows = np.arange(start, min(start + batch_size, len(conditions)))
            latent_noise, pixel_noise = _noise(seed, rows)
            masks = torch.from_numpy(conditions.masks[rows])
            z = flow.integrate(self._field(conditions, rows, at_sites), latent_noise, steps=self.config.sample_steps)
            images.append(to_pixels(self.autoencoder.decode(z, masks, pixel_noise)).numpy())
            if progress is not None:
                progress(int(rows[-1]) + 1, len(conditions))
        return np.concatenate(images) if images else np.zeros((0, SIZE, SIZE), np.uint8)

    def _field(self, conditions: Frames, rows: NDArray[np.int64], at_sites: bool) -> Callable[[Tensor, Tensor], Tensor]:
        labels = {"view": torch.from_numpy(conditions.view[rows]), "phase": torch.from_numpy(conditions.phase[rows])}
        masks = torch.from_numpy(conditions.masks[rows])

        def field(z: Tensor, t: Tensor) -> Tensor:
            v: Tensor = self.module(z, t, **labels, masks=masks, at_sites=at_sites)
            if self.config.guidance == 1.0:
                return v
            null = self.module(z, t, **labels, masks=torch.full_like(masks, 255), at_sites=at_sites)
            return flow.guide(v, null, self.config.guidance)

        return field


def _noise(seed: int, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Draw latent and pixel noise for each row from its own stream, so that a row never depends on its batch."""
    streams = [np.random.default_rng([seed, int(k)]) for k in rows]
    latent = np.stack([s.standard_normal((CHANNELS, GRID, GRID), np.float32) for s in streams])
    pixel = np.stack([s.standard_normal((1, SIZE, SIZE), np.float32) for s in streams])
    return torch.from_numpy(latent), torch.from_numpy(pixel)
