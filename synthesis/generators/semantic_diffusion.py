"""Semantic diffusion: the mask enters by SPADE, the picture leaves by one of three diffusions, in one of three spaces.

"ddpm" in "pixels" is the generator of Stojanovski et al. 2023 (arXiv 2305.05424), "edm" in "pixels" and in "gamma" are
those of Stojanovski et al. 2024 (arXiv 2409.19371), at hospital size; "v" is what EchoNet-Synthetic predicts (Reynaud
et al. 2024, arXiv 2406.00808). "avae" is the space of the house's own public autoencoder.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import VIEWS, Frames
from learning import arrays
from learning.blocks import to_pixels, to_signal
from synthesis import diffusion, priors
from synthesis.autoencoder import Autoencoder
from synthesis.gamma import GammaAutoencoder
from synthesis.generators import GENERATORS
from synthesis.precision import PRECISIONS, computing_in
from synthesis.spade import SpadeUNet

SOLVERS = {"ddpm": ("ancestral", "ddim"), "v": ("ddim", "ancestral"), "edm": ("heun", "euler")}
PRIORS: dict[str, tuple[str, ...]] = {"pixels": (), "gamma": ("gamma",), "avae": ("autoencoder",)}
SMALLEST = 4  # times the narrowest that the network works on


@GENERATORS("semantic_diffusion")
@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticDiffusion:
    """Config of semantic diffusion.

    Attributes:
        space: what is diffused: "pixels", the latents of the "gamma" autoencoder, or of the house's "avae".
        factor: of the Γ-autoencoder, 2 or 4; the public one has 4.
        size: side of the pictures and of the masks, in pixels.
        width, hidden: channels of the network at its full resolution, and inside of SPADE.
        multiples: channels of each level, in `width`; each level halves the resolution.
        autoencoder_width: channels of the autoencoder.
        prediction: "ddpm" (the noise), "v" (the velocity) or "edm" (the preconditioned data).
        schedule: of "ddpm" and "v": "cosine" or "linear".
        prior: take the public autoencoder of the space; `False` leaves it at noise (tests, ablations). The network
            starts from noise all the same.
        tune: regular expression of the parameter names that sites train.
        sample_steps: from noise to data, 1 to 200.
        sample_solver: "ddim" or "ancestral" of "ddpm" and "v", "heun" or "euler" of "edm".
        churn: S_churn, the noise that an "edm" puts back on its way.
        precision: of drawing: "bf16", "fp32", or "auto" for what this processor is fast in. Training is in float32.

    Raises:
        ValueError: an unknown name, a solver of another prediction, a number out of its bounds.
    """

    space: str = "gamma"
    factor: int = 4
    size: int = 64
    width: int = 32
    hidden: int = 32
    multiples: tuple[int, ...] = (1, 2, 4)
    autoencoder_width: int = 32
    prediction: str = "edm"
    schedule: str = "cosine"
    prior: bool = True
    tune: str = "."
    sample_steps: int = 20
    sample_solver: str = "heun"
    churn: float = 0.0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name, known in (
            ("space", tuple(PRIORS)),
            ("prediction", tuple(SOLVERS)),
            ("schedule", diffusion.SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(known)}")
        if self.sample_solver not in SOLVERS[self.prediction]:
            among = " or ".join(SOLVERS[self.prediction])
            raise ValueError(f"sample_solver={self.sample_solver!r} must be {among} for prediction={self.prediction!r}")
        if not 1 <= self.sample_steps <= 200:
            raise ValueError(f"sample_steps={self.sample_steps} must be from 1 to 200")
        if not self.churn >= 0:
            raise ValueError(f"churn={self.churn} must be at least 0")

    @property
    def stands_on(self) -> tuple[str, ...]:
        """Names of the public priors in it; the network itself has none and starts from noise."""
        return PRIORS[self.space] if self.prior else ()

    def build(self) -> "SemanticDiffusionGenerator":
        """Return the generator, its autoencoder frozen and only `tune` trainable."""
        return SemanticDiffusionGenerator(self)


class Space(Protocol):
    """What is diffused in: pictures `(n, 1, s, s)` in [-1, 1] to arrays `factor` times smaller and back."""

    channels: int
    factor: int

    def encode(self, x: Tensor) -> Tensor:
        """Return what is diffused, `(n, channels, s/factor, s/factor)`."""
        ...

    def decode(self, z: Tensor, masks: Tensor, noise: Tensor) -> Tensor:
        """Return pictures in [-1, 1]; masks uint8 `(n, s, s)` and noise `(n, 1, s, s)` for those that look at them."""
        ...


class Pixels(nn.Module):
    """No autoencoder at all."""

    channels = factor = 1

    def encode(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def decode(self, z: Tensor, masks: Tensor, noise: Tensor) -> Tensor:
        """Return `z`."""
        return z


def space_of(config: SemanticDiffusion) -> Space:
    """Return the space a config names, with the public weights of its autoencoder if the config asks for them.

    Raises:
        ValueError: a size that it cannot divide, or a prior of another factor or width than the public one.
    """
    made: nn.Module
    if config.space == "pixels":
        made = Pixels()
    elif config.space == "gamma":
        made = GammaAutoencoder(config.autoencoder_width, config.factor)
    else:
        made = Autoencoder(config.autoencoder_width)
    space = cast("Space", made)
    halved = space.factor * 2 ** (len(config.multiples) - 1)
    if config.size < SMALLEST or config.size % halved:
        raise ValueError(f"size={config.size} must be a multiple of {halved}, at least {SMALLEST}")
    for name in config.stands_on:
        arrays.load_state(made, priors.load(name))
    made.eval().requires_grad_(False)
    return space


class SemanticDiffusionGenerator:
    """The network, its space and its samplers; a `Generator`."""

    def __init__(self, config: SemanticDiffusion) -> None:
        self.config = config
        self._encoded: tuple[Frames, Tensor] | None = None
        self.space = space_of(config)
        self.kept = diffusion.signal_kept(config.schedule)
        self.module: nn.Module = SpadeUNet(
            channels=self.space.channels,
            width=config.width,
            multiples=tuple(config.multiples),
            hidden=config.hidden,
            views=len(VIEWS),
        )
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(re.search(config.tune, name) is not None)
        if not any(p.requires_grad for p in self.module.parameters()):
            raise ValueError(f"tune={config.tune!r} matches no parameter of the semantic diffusion")

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the mean squared error of each row, `(len(rows),)`: of the noise, of v, or EDM's weighted one."""
        z = self._latents(frames)[torch.from_numpy(rows)]
        network = self._network(frames, rows)
        if self.config.prediction == "edm":
            sigma = diffusion.draw_sigma(len(rows), generator)
            noisy = z + diffusion.like(sigma, z) * torch.randn(z.shape, generator=generator)
            error = (diffusion.preconditioned(network, noisy, sigma) - z).square()
            return diffusion.weight(sigma) * error.flatten(1).mean(1)
        level = torch.randint(1, len(self.kept), (len(rows),), generator=generator)
        noise, kept = torch.randn(z.shape, generator=generator), self.kept[level]
        target = noise if self.config.prediction == "ddpm" else diffusion.velocity(z, noise, kept)
        predicted = network(diffusion.diffuse(z, noise, kept), self._told(level))
        losses: Tensor = (predicted - target).square().flatten(1).mean(1)
        return losses

    @torch.no_grad()
    def _latents(self, frames: Frames) -> Tensor:
        """Encode every frame once: the autoencoder is frozen, so what was encoded stays true."""
        if self._encoded is None or self._encoded[0] is not frames:
            self._held(frames)
            parts = [
                self.space.encode(to_signal(torch.from_numpy(frames.pixels[i : i + 256])))
                for i in range(0, len(frames), 256)
            ]
            self._encoded = (frames, torch.cat(parts))
        return self._encoded[1]

    def _held(self, frames: Frames) -> None:
        if frames.masks.shape[1:] != (self.config.size, self.config.size):
            raise ValueError(f"frames of {frames.masks.shape[1:]} pixels, but size={self.config.size}")

    @torch.inference_mode()
    def sample(
        self,
        conditions: Frames,
        *,
        seed: int,
        offset: int = 0,
        batch_size: int = 64,
        of_one_heart: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw one image per row of `conditions`, uint8 `(n, size, size)`.

        Image k depends on row k, `seed` and `offset` + k only: not one bit of it on how many are drawn, for every batch
        is filled up to `batch_size` with rows that are thrown away, so that all run through the same kernels.

        Args:
            conditions: masks, views and phases.
            seed: names the noise.
            offset: number of the first image, so that many can be drawn in parts.
            batch_size: images at once; bounds the memory.
            of_one_heart: how many rows, side by side, begin with the same noise: 2 where ED and ES alternate.
            progress: called with (images drawn, images in all).

        Raises:
            ValueError: masks of another size.
        """
        self._held(conditions)
        self.module.eval()
        images = []
        for start in range(0, len(conditions), batch_size):
            rows = np.arange(start, min(start + batch_size, len(conditions)))
            filled = np.resize(rows, batch_size)
            with computing_in(self.config.precision):
                images.append(self._draw(conditions, filled, seed, filled + offset, of_one_heart)[: len(rows)])
            if progress is not None:
                progress(int(rows[-1]) + 1, len(conditions))
        return np.concatenate(images) if images else np.zeros((0, self.config.size, self.config.size), np.uint8)

    def _draw(
        self, conditions: Frames, rows: NDArray[np.int64], seed: int, numbers: NDArray[np.int64], of_one_heart: int
    ) -> NDArray[np.uint8]:
        size = self.config.size // self.space.factor
        streams = [np.random.default_rng([seed, int(k - k % of_one_heart)]) for k in numbers]

        def fresh(shape: tuple[int, int, int] = (self.space.channels, size, size)) -> Tensor:
            return torch.from_numpy(np.stack([stream.standard_normal(shape, np.float32) for stream in streams]))

        noise, pixel_noise = fresh(), fresh((1, self.config.size, self.config.size))
        masks = torch.from_numpy(conditions.masks[rows])
        drawn = cast("SpadeUNet", self.module).structures_of(masks, size, size)
        network = partial(self._network(conditions, rows), drawn=drawn)
        if self.config.prediction == "edm":
            z = diffusion.clean(
                partial(diffusion.preconditioned, network),
                noise,
                diffusion.sigmas(self.config.sample_steps),
                step=diffusion.heun if self.config.sample_solver == "heun" else diffusion.euler,
                churn=self.config.churn,
                fresh=fresh,
            )
        else:
            eta = 1.0 if self.config.sample_solver == "ancestral" else 0.0
            denoise = partial(self._believed, network)
            z = diffusion.descend(denoise, noise, self.kept, steps=self.config.sample_steps, eta=eta, fresh=fresh)
        return to_pixels(self.space.decode(z, masks, pixel_noise).float()).numpy()

    def _believed(self, network: diffusion.Denoiser, x: Tensor, level: Tensor) -> Tensor:
        """Return the data that the network believes in; where data lie in [-1, 1], so do beliefs."""
        kept, output = self.kept[level], network(x, self._told(level)).float()
        of = diffusion.data_of_noise if self.config.prediction == "ddpm" else diffusion.data_of_velocity
        data = of(x, output, kept)
        return data if self.config.space == "avae" else data.clamp(-1, 1)

    def _told(self, level: Tensor) -> Tensor:
        return level.float() / (len(self.kept) - 1)

    def _network(self, frames: Frames, rows: NDArray[np.int64]) -> Callable[..., Tensor]:
        return partial(
            self.module,
            view=torch.from_numpy(frames.view[rows]),
            phase=torch.from_numpy(frames.phase[rows]),
            masks=torch.from_numpy(frames.masks[rows]),
        )
