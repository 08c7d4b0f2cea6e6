"""Latent video EDM: a picture that is shown beats again, at the ejection fraction that is asked for.

EchoDiffusion's task (Reynaud et al. 2023, arXiv 2303.12644) on latents of the public autoencoder: a frame, its phase
and an ejection fraction become a clip, by the diffusion of Karras et al. 2022 (arXiv 2206.00364). No mask is looked at,
for a mask says how far the heart of the source ejects; so any other fraction can be asked of the same anatomy.

Of the ejection fraction, every frame is told what its own phase makes of it: by how many percent of the full ventricle
its volume lies below that of the shown frame, by the emptying curve of a beat (`motion.contraction`). What is diffused
is how frames differ from the shown one, so that a network has motion to learn and not the person: to copy a picture
through it costs more training than to make it move. Without a picture, frames themselves are diffused. A clip of a real
picture shows a real anatomy: only a screened synthetic picture makes a synthetic clip.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.clips import Clips
from cohorts.frames import VIEWS
from cohorts.phantom import motion
from learning import arrays
from learning.blocks import to_pixels, to_signal
from synthesis import diffusion, flow, priors
from synthesis.autoencoder import CHANNELS, FACTOR, Autoencoder
from synthesis.generators import CLIP_GENERATORS
from synthesis.generators.latent_video_flow import masked_mean
from synthesis.precision import computing_in
from synthesis.video_sampling import between, keys, speckle
from synthesis.video_transformer import VideoTransformer

NAME = "latent_video_edm"
SPREAD = diffusion.SIGMA_DATA  # what is diffused is scaled to the σ_data that EDM's constants are for
MOTION = 0.3  # standard deviation of what a frame's latent differs by from the shown one's; latents have 1
P_MEAN, P_STD = 0.4, 1.4  # of ln σ: more noise than for pictures, since that is where motion is decided
_GIVEN = 0.8  # of the clips that a site trains on, the share that is told one of its own frames
_AT_ONCE = 32  # frames that are encoded or decoded together


@CLIP_GENERATORS(NAME)
@dataclass(frozen=True, slots=True, kw_only=True)
class LatentVideoEdm:
    """Config of the latent video EDM.

    Attributes:
        width, depth, heads: size of the transformer; must be those of the prior.
        autoencoder_width: channels of the autoencoder at full resolution.
        size: side of the frames; must be the prior's, a multiple of 16.
        prior: start from the prior that `pericard prior animate` makes and `PERICARD_PRIORS` finds, for none is
            shipped yet; `False` starts from noise (tests, ablations).
        tune: regular expression of the parameter names that sites train.
        sample_steps: noise levels of the sampler; each but the last asks the network twice (Heun).
        churn: S_churn, how much noise is put back before each step; 0 is the deterministic sampler.
        phases: moments of one beat that are drawn; frames between them are decoded from latents between theirs.
        guidance: weight of classifier-free guidance on LVEF and heart rate, 1 is none.
        precision: of drawing: "auto", "bf16" or "fp32".
    """

    width: int = 160
    depth: int = 4
    heads: int = 5
    autoencoder_width: int = 32
    size: int = 64
    prior: bool = True
    tune: str = r"site\.weight|modulation\.bias"
    sample_steps: int = 12
    churn: float = 0.0
    phases: int = 16
    guidance: float = 1.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.size % (2 * FACTOR):
            raise ValueError(f"size={self.size} must be a multiple of {2 * FACTOR}")
        if self.phases < 2:
            raise ValueError(f"phases={self.phases} must be at least 2")
        if self.sample_steps < 1:
            raise ValueError(f"sample_steps={self.sample_steps} must be at least 1")
        if not self.churn >= 0:
            raise ValueError(f"churn={self.churn} must be at least 0")

    def build(self) -> "LatentVideoEdmGenerator":
        """Return the generator, its autoencoder frozen and only `tune` trainable."""
        return LatentVideoEdmGenerator(self)


class LatentVideoEdmGenerator:
    """The network and its sampler; a `ClipGenerator`."""

    def __init__(self, config: LatentVideoEdm, *, start: str = NAME) -> None:
        """Build it; with `config.prior`, the weights are those of the public prior `start`."""
        self.config = config
        self._encoded: tuple[Clips, Tensor] | None = None
        self.autoencoder = Autoencoder(config.autoencoder_width).eval().requires_grad_(False)
        grid = config.size // FACTOR
        self.module: nn.Module = VideoTransformer(
            width=config.width, depth=config.depth, heads=config.heads, views=len(VIEWS), grid=grid
        )
        if config.prior:
            arrays.load_state(self.autoencoder, priors.load("autoencoder"))
            arrays.load_state(self.module, priors.load(start))
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(re.search(config.tune, name) is not None)
        if not any(p.requires_grad for p in self.module.parameters()):
            raise ValueError(f"tune={config.tune!r} matches no parameter of the latent video EDM")

    def losses(self, clips: Clips, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the denoising loss of each row, `(len(rows),)`: over its real frames alone.

        Most rows are told one of their own frames, never a frame that pads.
        """
        some, all_rows = clips.rows(rows), torch.arange(len(rows))
        z = self._latents(clips)[torch.from_numpy(rows)]
        draw, coin = torch.rand((2, len(rows)), generator=generator)
        at = (draw * torch.from_numpy(some.length)).long()
        told = conditions_of(some, some.phase)
        told["first"] = z[all_rows, at].where((coin < _GIVEN).view(-1, 1, 1, 1), torch.nan)
        told["first_phase"] = told["phase"][all_rows, at].where(coin < _GIVEN, torch.nan)
        return denoising_loss(self.module, z, told, generator, at_sites=True)

    @torch.inference_mode()
    def sample(
        self,
        conditions: Clips,
        *,
        seed: int,
        offset: int = 0,
        first: NDArray[np.uint8] | None = None,
        first_phase: NDArray[np.float32] | None = None,
        batch_size: int = 8,
        at_sites: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw one clip per row of `conditions`, uint8 `(n, T, size, size)`, black where it is padded.

        Clip k depends on row k, `seed` and `offset` + k only. Neither pixels nor masks of the conditions are looked at.

        Args:
            conditions: phases, views, ejection fractions and rates.
            seed: names the noise.
            offset: number of the first clip.
            first: pictures that shall beat, `(n, size, size)`.
            first_phase: of those pictures in cycles, `(n,)`; where not given, they are the clips' first frames.
            batch_size: clips at once; bounds the memory.
            at_sites: draw what sites learned.
            progress: called with (clips, of so many).

        Raises:
            ValueError: if a real frame has no phase, or pictures have another size than the network.
        """
        size = (self.config.size, self.config.size)
        if not np.isfinite(conditions.phase[conditions.real]).all():
            raise ValueError("phase must be known of every frame that is to be drawn")
        if conditions.masks.shape[2:] != size or (first is not None and first.shape[1:] != size):
            raise ValueError(f"clips and pictures must be of size={self.config.size}")
        if first is not None and first_phase is None:
            first_phase = conditions.phase[:, 0]
        self.module.eval()
        out = np.zeros(conditions.masks.shape, np.uint8)
        for start in range(0, len(conditions), batch_size):
            rows = np.arange(start, min(start + batch_size, len(conditions)))
            some = conditions.rows(rows)
            at = [keys(p[:n], self.config.phases) for p, n in zip(some.phase, some.length, strict=True)]
            most = max(len(a) for a in at)
            phase = np.stack([np.pad(p[a], (0, most - len(a))) for p, a in zip(some.phase, at, strict=True)])
            told = conditions_of(some, phase)
            told["real"] = torch.arange(most) < torch.tensor([len(a) for a in at])[:, None]
            if first is not None and first_phase is not None:
                told["first"], told["first_phase"] = self._encode(first[rows]), torch.from_numpy(first_phase[rows])
            latents = self._drawn(told, offset + rows, seed=seed, at_sites=at_sites)
            for i, row in enumerate(rows):
                length = int(some.length[i])
                z = between(latents[i, : len(at[i])], some.phase[i, at[i]], some.phase[i, :length])
                out[row, :length] = self._decoded(z, seed=seed, row=offset + int(row))
            if progress is not None:
                progress(int(rows[-1]) + 1, len(conditions))
        return out

    def _drawn(self, told: dict[str, Tensor], rows: NDArray[np.int64], *, seed: int, at_sites: bool) -> Tensor:
        """Return standardised latents `(n, moments, 4, grid, grid)`."""
        streams = [np.random.default_rng([seed, int(row)]) for row in rows]
        grid, frames = self.config.size // FACTOR, told["real"].sum(1).tolist()
        null = {name: torch.full_like(told[name], torch.nan) for name in ("lvef", "heart_rate")}

        def fresh() -> Tensor:
            noise = torch.zeros(*told["real"].shape, CHANNELS, grid, grid)
            for i, stream in enumerate(streams):
                drawn = stream.standard_normal((frames[i], CHANNELS, grid, grid), np.float32)
                noise[i, : frames[i]] = torch.from_numpy(drawn)
            return noise

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            with computing_in(self.config.precision):
                data = denoised(self.module, x, sigma, told, at_sites=at_sites)
                if self.config.guidance == 1.0:
                    return data
                unasked = denoised(self.module, x, sigma, {**told, **null}, at_sites=at_sites)
            return flow.guide(data, unasked, self.config.guidance)

        levels = diffusion.sigmas(self.config.sample_steps)
        drawn = diffusion.clean(denoise, fresh(), levels, churn=self.config.churn, fresh=fresh)
        rest, scale = at_rest(told["first"])
        return rest + scale / SPREAD * drawn

    def _latents(self, clips: Clips) -> Tensor:
        """Encode every frame once: the encoder is frozen, so what was encoded stays true."""
        if self._encoded is None or self._encoded[0] is not clips:
            flat = self._encode(clips.pixels.reshape(-1, *clips.pixels.shape[2:]))
            self._encoded = (clips, flat.view(*clips.phase.shape, *flat.shape[1:]))
        return self._encoded[1]

    @torch.no_grad()
    def _encode(self, pixels: NDArray[np.uint8]) -> Tensor:
        parts = torch.split(torch.from_numpy(pixels), _AT_ONCE)
        return torch.cat([self.autoencoder.encode(to_signal(part)) for part in parts])

    def _decoded(self, z: Tensor, *, seed: int, row: int) -> NDArray[np.uint8]:
        unknown = np.full((len(z), self.config.size, self.config.size), 255, np.uint8)
        noise, masks = speckle(unknown, seed=seed, row=row), torch.from_numpy(unknown)
        with computing_in(self.config.precision):
            parts = [
                self.autoencoder.decode(*part)
                for part in zip(*(torch.split(x, _AT_ONCE) for x in (z, masks, noise)), strict=True)
            ]
        return to_pixels(torch.cat(parts).float()).numpy()


def conditions_of(clips: Clips, phase: NDArray[np.float32]) -> dict[str, Tensor]:
    """Return what the network is told of `clips` at `phase`, `(n, frames)`: no mask, and no frame as yet."""
    n, size = len(clips), clips.masks.shape[-1]
    grid = size // FACTOR
    return {
        "phase": torch.from_numpy(phase),
        "real": torch.from_numpy(clips.real),
        "masks": torch.full((), 255, dtype=torch.uint8).expand(*phase.shape, size, size),
        "view": torch.from_numpy(clips.view),
        "first": torch.full((n, CHANNELS, grid, grid), torch.nan),
        "first_phase": torch.full((n,), torch.nan),
        "lvef": torch.from_numpy(clips.lvef_percent),
        "heart_rate": torch.from_numpy(clips.heart_rate_bpm),
        "frame_rate": torch.from_numpy(clips.frame_rate_hz),
    }


def emptied(told: dict[str, Tensor]) -> Tensor:
    """Return what frames are told for LVEF, `(n, frames)`: 55 and half of what left since the shown frame, in percent.

    55 is the middle of the network's scale. What left is LVEF times the difference of contractions, from end diastole
    where no frame is shown; NaN where LVEF or the phase is unknown. Where the heart rate
    is, the beat is that of 70 a minute.
    """
    phase, shown, rate = (told[name].numpy() for name in ("phase", "first_phase", "heart_rate"))
    end = motion.systole(np.nan_to_num(rate, nan=70.0))[:, None]
    now, then = motion.contraction(phase % 1, end), motion.contraction(shown[:, None] % 1, end)
    left = now - np.nan_to_num(then)
    return 55 + told["lvef"].unsqueeze(1) * torch.from_numpy(left) / 2


def at_rest(first: Tensor) -> tuple[Tensor, Tensor]:
    """Return from which latent frames differ, `(n, 1, 4, grid, grid)`, and by how much, `(n, 1, 1, 1, 1)`.

    That is the shown one and `MOTION`; 0 and 1 where none is shown.
    """
    scale = torch.where(first.flatten(1).isfinite().all(1), MOTION, 1.0)
    return first.nan_to_num().unsqueeze(1), scale.view(-1, 1, 1, 1, 1)


def denoised(module: nn.Module, x: Tensor, sigma: Tensor, told: dict[str, Tensor], *, at_sites: bool = False) -> Tensor:
    """Return D(x; σ) = c_skip x + c_out F(c_in x; c_noise) of what is diffused (EDM, equation 7).

    F is minus the transformer, told s/(1 + s), s = σ/σ_data: near what a velocity field is at that time.
    """

    def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
        t = torch.sigmoid(4 * c_noise - math.log(SPREAD))
        answer: Tensor = module(scaled, t, **{**told, "lvef": emptied(told)}, at_sites=at_sites)
        return -answer.float()

    return diffusion.preconditioned(network, x, sigma)


def denoising_loss(
    module: nn.Module, z: Tensor, told: dict[str, Tensor], generator: torch.Generator, *, at_sites: bool = False
) -> Tensor:
    """Return λ(σ) |D(x + σe; σ) - x|² of each clip over its real frames, `(n,)` (EDM, equation 8).

    Args:
        module: the transformer.
        z: standardised latents, `(n, frames, 4, grid, grid)`.
        told: its conditions.
        generator: of one σ a clip, and of the noise.
        at_sites: as of the transformer.
    """
    sigma = torch.empty(len(z)).log_normal_(P_MEAN, P_STD, generator=generator)
    rest, scale = at_rest(told["first"])
    data = SPREAD * (z - rest) / scale
    noisy = data + diffusion.like(sigma, z) * torch.randn(z.shape, generator=generator)
    errors = (denoised(module, noisy, sigma, told, at_sites=at_sites) - data).square()
    return diffusion.weight(sigma) * masked_mean(errors, told["real"])
