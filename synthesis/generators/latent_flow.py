"""Latent image flow: EchoFlow's image generator (Reynaud et al. 2025, arXiv 2503.22357) at hospital size.

A velocity field on the latents of the public autoencoder, conditioned on view, phase, LVEF and the full-resolution
mask, each of which may be unknown. It starts from a prior trained on the phantom; a site tunes few parameters under
patient-level DP: a token for its style (after textual inversion, Gal et al. 2022, arXiv 2208.01618) and the shifts of
the adaptive layer norms. It is sampled by a solver of its ODE or, where `sample_solver` is "jump", as the student that
`synthesis.distill` taught to cross whole intervals at one go.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import VIEWS, Frames
from cohorts.study import UNLABELLED
from learning import arrays
from learning.blocks import to_pixels, to_signal
from synthesis import flow, priors
from synthesis.autoencoder import CHANNELS, FACTOR, GRID, Autoencoder
from synthesis.generators import GENERATORS
from synthesis.precision import PRECISIONS, computing_in
from synthesis.transformer import LatentTransformer
from synthesis.unet import LatentUNet

SIZE = GRID * FACTOR
JUMP, STUDENT = "jump", "distilled"
BACKBONES: dict[str, type[LatentTransformer | LatentUNet]] = {"transformer": LatentTransformer, "unet": LatentUNet}


@GENERATORS("latent_flow")
@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFlow:
    """Config of the latent flow.

    Attributes:
        backbone: "transformer", or "unet", which has no public prior.
        width, depth, heads: size of the network; must be those of the prior.
        autoencoder_width: channels of the autoencoder at full resolution.
        descriptors: number of scanner settings the prior was told of.
        prior: start from the public prior; `False` starts from noise (tests, ablations).
        tune: regular expression of the parameter names that sites train.
        sample_steps: intervals from noise to data.
        sample_solver: one of `flow.SOLVERS`, or "jump": the network is a student; it was taught 1, 2 and 4 intervals.
        precision: of drawing: "bf16", "fp32", or "auto" for what this processor is fast in. Training is in float32.
        guidance: weight of classifier-free guidance on the mask, 1 is none; a student's is its teacher's.
        view_guidance: the same on the view; 2 makes nearly every picture one of the view asked for, at twice the time.

    Raises:
        ValueError: an unknown backbone, solver or precision, a U-Net from the prior, a student with guidance of its
            own.
    """

    backbone: str = "transformer"
    width: int = 160
    depth: int = 4
    heads: int = 5
    autoencoder_width: int = 32
    descriptors: int = 16
    prior: bool = True
    tune: str = r"site\.weight|modulation\.bias"
    sample_steps: int = 8
    sample_solver: str = "heun"
    precision: str = "fp32"
    guidance: float = 1.0
    view_guidance: float = 1.0

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone={self.backbone!r} must be one of {', '.join(BACKBONES)}")
        if self.prior and self.backbone != "transformer":
            raise ValueError(f"prior=True needs backbone='transformer': there is no public {self.backbone}")
        if self.sample_solver not in (*flow.SOLVERS, JUMP):
            raise ValueError(f"sample_solver={self.sample_solver!r} must be one of {', '.join((*flow.SOLVERS, JUMP))}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r} must be one of {', '.join(PRECISIONS)}")
        for name, weight in (("guidance", self.guidance), ("view_guidance", self.view_guidance)):
            if self.is_student and weight != 1.0:
                raise ValueError(f"{name}={weight} must be 1 for a student, whose teacher was guided already")

    @property
    def is_student(self) -> bool:
        """Whether the network crosses intervals instead of telling slopes."""
        return self.sample_solver == JUMP

    def build(self) -> "LatentFlowGenerator":
        """Return the generator, its autoencoder frozen and only `tune` trainable."""
        return LatentFlowGenerator(self)


class LatentFlowGenerator:
    """The network and its sampler; a `Generator`."""

    def __init__(self, config: LatentFlow) -> None:
        self.config = config
        self._encoded: tuple[Frames, Tensor] | None = None
        self.autoencoder = Autoencoder(config.autoencoder_width).eval().requires_grad_(False)
        self.module: nn.Module = BACKBONES[config.backbone](
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            views=len(VIEWS),
            descriptors=config.descriptors,
            student=config.is_student,
        )
        if config.prior:
            arrays.load_state(self.autoencoder, priors.load("autoencoder"))
            arrays.load_state(self.module, priors.load(STUDENT if config.is_student else "latent_flow"))
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
            lvef=torch.from_numpy(frames.lvef_percent[rows]),
            at_sites=True,
            until=t if self.config.is_student else None,  # over no time at all the mean velocity is the velocity
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
        offset: int = 0,
        batch_size: int = 64,
        at_sites: bool = True,
        of_one_heart: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw one image per row of `conditions`, uint8 `(n, 64, 64)`.

        Image k depends on row k, `seed` and `offset` + k only: not one bit of it on how many are drawn, for every batch
        is filled up to `batch_size` with rows that are thrown away, so that all run through the same kernels.

        Args:
            conditions: masks, views, phases and LVEF, each of which may be unknown.
            seed: names the noise.
            offset: number of the first image, so that many can be drawn in parts.
            batch_size: images at once; bounds the memory.
            at_sites: without it the sites' token is left out: the public prior speaks, as far as nothing else was
                trained.
            of_one_heart: how many rows, side by side, begin with the same latent noise; 2 where ED and ES alternate and
                no mask says that they are one heart. Speckle is each image's own.
            progress: called with (images drawn, images in all).
        """
        self.module.eval()
        self.autoencoder.decoder.to(memory_format=torch.channels_last)
        images = []
        for start in range(0, len(conditions), batch_size):
            rows = np.arange(start, min(start + batch_size, len(conditions)))
            filled = np.resize(rows, batch_size)
            with computing_in(self.config.precision):
                noise = _noise(seed, filled + offset, of_one_heart)
                images.append(self._draw(conditions, filled, noise, at_sites)[: len(rows)])
            if progress is not None:
                progress(int(rows[-1]) + 1, len(conditions))
        return np.concatenate(images) if images else np.zeros((0, SIZE, SIZE), np.uint8)

    def _draw(
        self, conditions: Frames, rows: NDArray[np.int64], noise: tuple[Tensor, Tensor], at_sites: bool
    ) -> NDArray[np.uint8]:
        latent_noise, pixel_noise = noise
        masks, steps = torch.from_numpy(conditions.masks[rows]), self.config.sample_steps
        if self.config.is_student:
            network = self._network(conditions, rows, masks, at_sites)
            z = flow.jump(lambda z, t, until: network(z, t, until=until), latent_noise, steps=steps)
        else:
            field = self.field(conditions, rows, at_sites=at_sites)
            z = flow.integrate(field, latent_noise, steps=steps, solver=self.config.sample_solver)
        return to_pixels(self.autoencoder.decode(z, masks, pixel_noise).float()).numpy()

    def field(self, conditions: Frames, rows: NDArray[np.int64], *, at_sites: bool) -> flow.Field:
        """Return the velocity field of some rows, guided as the config says."""
        masks = torch.from_numpy(conditions.masks[rows])
        conditional, nulls = self._network(conditions, rows, masks, at_sites), []
        if self.config.guidance != 1.0:
            shapeless = self._network(conditions, rows, torch.full_like(masks, UNLABELLED), at_sites)
            nulls.append((shapeless, self.config.guidance))
        if self.config.view_guidance != 1.0:
            nameless = replace(conditions, view=np.full_like(conditions.view, -1))
            nulls.append((self._network(nameless, rows, masks, at_sites), self.config.view_guidance))
        return lambda z, t: flow.guided(conditional(z, t), [(null(z, t), weight) for null, weight in nulls])

    def _network(
        self, conditions: Frames, rows: NDArray[np.int64], masks: Tensor, at_sites: bool
    ) -> Callable[..., Tensor]:
        return partial(
            self.module,
            view=torch.from_numpy(conditions.view[rows]),
            phase=torch.from_numpy(conditions.phase[rows]),
            masks=masks,
            lvef=torch.from_numpy(conditions.lvef_percent[rows]),
            drawn=cast("LatentTransformer | LatentUNet", self.module).structures_of(masks),
            at_sites=at_sites,
        )


def _noise(seed: int, rows: NDArray[np.int64], of_one_heart: int = 1) -> tuple[Tensor, Tensor]:
    """Draw latent and pixel noise for each row from its own stream, so that a row never depends on its batch.

    Rows of one heart have the latent noise of the first of them.
    """
    streams = [np.random.default_rng([seed, int(k)]) for k in rows]
    latent = np.stack([s.standard_normal((CHANNELS, GRID, GRID), np.float32) for s in streams])
    pixel = np.stack([s.standard_normal((1, SIZE, SIZE), np.float32) for s in streams])
    if of_one_heart > 1:
        latent = _noise(seed, rows - rows % of_one_heart)[0].numpy()
    return torch.from_numpy(latent), torch.from_numpy(pixel)
