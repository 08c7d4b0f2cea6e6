"""Latent video flow: EchoFlow's moving hearts (Reynaud et al. 2025, arXiv 2503.22357) at hospital size.

A velocity field on latents of whole clips, under their phases, masks, first frame, view, LVEF and rates. Frames of a
clip are drawn together at some phases of one beat, once; whatever frames are asked for, of however many beats, lie on
that circle and are decoded from it, so that no clip is too long and its end meets its beginning. Where beats shall
differ, or phases are unknown, every frame is drawn, in windows that overlap (`window`). Image and video denoisers may
take turns (JVID, Reynaud et al. 2024, arXiv 2409.14149): both follow one path in one latent space.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.clips import Clips
from cohorts.frames import VIEWS
from learning import arrays
from learning.blocks import to_pixels, to_signal
from synthesis import enlarger, flow, priors
from synthesis.autoencoder import CHANNELS, FACTOR, GRID, Autoencoder
from synthesis.generators import CLIP_GENERATORS
from synthesis.precision import computing_in
from synthesis.video_sampling import between, keys, speckle, steady
from synthesis.video_transformer import VideoTransformer, inflate
from synthesis.video_unet import VideoUNet
from synthesis.video_windows import drawn_in_windows

BACKBONES: dict[str, type[VideoTransformer] | type[VideoUNet]] = {"transformer": VideoTransformer, "unet": VideoUNet}
PRIOR_SIZES = (GRID * FACTOR, enlarger.SIZE)
_GIVEN = 0.5  # of the clips that a site trains on, the share that is told one of its own frames
_AT_ONCE = 16  # frames that are encoded or decoded together


@CLIP_GENERATORS("latent_video_flow")
@dataclass(frozen=True, slots=True, kw_only=True)
class LatentVideoFlow:
    """Config of the latent video flow.

    Attributes:
        width, depth, heads: size of the transformer; must be those of the prior.
        autoencoder_width: channels of the autoencoder at full resolution.
        size: side of the frames, a multiple of 16; with the prior 64, or 112, whose latents are drawn as those of 64
            are and enlarged.
        backbone: "transformer", which the prior is of, or "unet", a small 3D U-Net without one.
        prior: start from the public prior; `False` starts from noise (tests, ablations).
        tune: regular expression of the parameter names that sites train.
        sample_steps: intervals of the ODE solver; sample_solver: its name.
        phases: moments of one beat that are drawn; frames between them are decoded from latents between theirs.
        harmonics: of the heart beat that latents may follow (`video_sampling.steady`); 0 leaves what flickers.
        window: 0, or how many frames are drawn together of clips whose every frame is drawn; `phases` is not used.
        overlap: frames that a window has in common with the one before it; at most half of it.
        pattern: for each interval "V", frames drawn together, or "I", each alone; "" is all "V".
        guidance: weight of classifier-free guidance on masks and LVEF, 1 is none.
        precision: of drawing: "auto", "bf16" or "fp32".
    """

    width: int = 160
    depth: int = 4
    heads: int = 5
    autoencoder_width: int = 32
    size: int = 64
    backbone: str = "transformer"
    prior: bool = True
    tune: str = r"site\.weight|modulation\.bias"
    sample_steps: int = 8
    sample_solver: str = "heun"
    phases: int = 16
    harmonics: int = 3
    window: int = 0
    overlap: int = 0
    pattern: str = ""
    guidance: float = 1.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.size % (2 * FACTOR):
            raise ValueError(f"size={self.size} must be a multiple of {2 * FACTOR}")
        if set(self.pattern) - set("VI") or len(self.pattern) not in (0, self.sample_steps):
            raise ValueError(f"pattern={self.pattern!r} must be sample_steps={self.sample_steps} times V or I")
        if self.sample_solver not in flow.SOLVERS:
            raise ValueError(f"sample_solver={self.sample_solver!r} must be one of {', '.join(flow.SOLVERS)}")
        if self.phases < 2:
            raise ValueError(f"phases={self.phases} must be at least 2")
        if self.harmonics < 0:
            raise ValueError(f"harmonics={self.harmonics} must be at least 0")
        if self.window < 0 or not 0 <= 2 * self.overlap <= self.window:
            raise ValueError(f"overlap={self.overlap} must be at most half of window={self.window}, neither below 0")
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone={self.backbone!r} must be one of {', '.join(BACKBONES)}")
        if self.prior and self.backbone != "transformer":
            raise ValueError(f"backbone={self.backbone!r} has no prior; use prior=False")
        if self.prior and self.size not in PRIOR_SIZES:
            raise ValueError(f"size={self.size} has no prior, only {PRIOR_SIZES} have; use prior=False")

    @property
    def side(self) -> int:
        """Side of the pictures whose latents the network draws: the prior's, or without it that of the frames."""
        return PRIOR_SIZES[0] if self.prior else self.size

    def build(self) -> "LatentVideoFlowGenerator":
        """Return the generator, its autoencoder frozen and only `tune` trainable."""
        return LatentVideoFlowGenerator(self)


class LatentVideoFlowGenerator:
    """The network and its sampler; a `ClipGenerator`."""

    def __init__(self, config: LatentVideoFlow, *, inflated: bool = False) -> None:
        """Build it; `inflated` starts from the public image prior, where training the video prior begins."""
        self.config = config
        self._encoded: tuple[Clips, Tensor] | None = None
        self.autoencoder = Autoencoder(config.autoencoder_width).eval().requires_grad_(False)
        network = BACKBONES[config.backbone](
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            views=len(VIEWS),
            grid=config.side // FACTOR,
        )
        self.enlarger = enlarger.Enlarger().eval().requires_grad_(False) if config.side < config.size else None
        self.module: nn.Module = network
        if config.prior or inflated:
            arrays.load_state(self.autoencoder, priors.load("autoencoder"))
        if self.enlarger is not None:
            arrays.load_state(self.enlarger, priors.load(enlarger.NAME))
        if config.prior:
            arrays.load_state(self.module, priors.load("latent_video_flow"))
        elif inflated and isinstance(network, VideoTransformer):
            arrays.load_state(self.module, inflate(priors.load("latent_flow"), network))
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(re.search(config.tune, name) is not None)
        if not any(p.requires_grad for p in self.module.parameters()):
            raise ValueError(f"tune={config.tune!r} matches no parameter of the latent video flow")

    def losses(self, clips: Clips, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the flow-matching loss of each row, `(len(rows),)`: over its real frames alone.

        Half of the rows are told one of their own frames, never a frame that pads.
        """
        some = clips.rows(rows)
        z = self._latents(clips)[torch.from_numpy(rows)]
        t = torch.rand(len(rows), generator=generator)
        noise = torch.randn(z.shape, generator=generator)
        draw, coin = torch.rand((2, len(rows)), generator=generator)
        at = (draw * torch.from_numpy(some.length)).long()
        told = (coin < _GIVEN).view(-1, 1, 1, 1)
        first = z[torch.arange(len(rows)), at].where(told, torch.nan)
        conditions = self._conditions(some, first=first)
        conditions["first_phase"] = conditions["phase"][torch.arange(len(rows)), at].where(coin < _GIVEN, torch.nan)
        predicted = self.module(flow.interpolate(z, noise, t), t, **conditions, at_sites=True)
        return masked_mean((predicted - flow.velocity(z, noise)).square(), conditions["real"])

    @torch.inference_mode()
    def sample(
        self,
        conditions: Clips,
        *,
        seed: int,
        offset: int = 0,
        first: NDArray[np.uint8] | None = None,
        batch_size: int = 4,
        at_sites: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw one clip per row of `conditions`, uint8 `(n, T, size, size)`, black where it is padded.

        Clip k depends on row k, `seed` and `offset` + k only. Of the pixels of the conditions nothing is looked at;
        `first`, `(n, size, size)`, are pictures to begin with, at the phase of each clip's first frame.

        Raises:
            ValueError: if a real frame has no phase, or pictures have another size than the network.
        """
        if not self.config.window and not np.isfinite(conditions.phase[conditions.real]).all():
            raise ValueError(
                "phase must be known of every frame that is to be drawn, or else drawn in windows (window)"
            )
        if conditions.masks.shape[2:] != (self.config.size, self.config.size):
            raise ValueError(f"masks of {conditions.masks.shape[2:]} must be of size={self.config.size}")
        self.module.eval()
        self.autoencoder.decoder.to(memory_format=torch.channels_last)
        out = np.zeros(conditions.masks.shape, np.uint8)
        for start in range(0, len(conditions), batch_size):
            rows = np.arange(start, min(start + batch_size, len(conditions)))
            some = conditions.rows(rows)
            given = None if first is None else self._encode(first[rows])
            every, length = bool(self.config.window), some.length
            at = [
                np.arange(length[i]) if every else keys(some.phase[i, : length[i]], self.config.phases)
                for i in range(len(rows))
            ]
            latents = self._drawn(some, at, offset + rows, given, seed=seed, at_sites=at_sites)
            for i, row in enumerate(rows):
                z, masks = latents[i, : len(at[i])], some.masks[i, : length[i]]
                z = z if every else steady(z, some.phase[i, at[i]], harmonics=self.config.harmonics)
                z = z if every else between(z, some.phase[i, at[i]], some.phase[i, : length[i]])
                out[row, : length[i]] = self._decoded(z, masks, seed=seed, row=offset + int(row))
            if progress is not None:
                progress(int(rows[-1]) + 1, len(conditions))
        return out

    def _drawn(
        self,
        some: Clips,
        at: list[NDArray[np.int64]],
        rows: NDArray[np.int64],
        first: Tensor | None,
        *,
        seed: int,
        at_sites: bool,
    ) -> Tensor:
        """Follow the field for the frames `at` of each clip; latents `(n, most frames, 4, g, g)`."""
        most, grid = max(len(a) for a in at), self.config.side // FACTOR
        index = np.stack([np.pad(a, (0, most - len(a))) for a in at])
        pick = np.arange(len(rows))[:, None], index
        key = Clips(
            **{
                **{name: getattr(some, name) for name in ("view", "lvef_percent", "heart_rate_bpm", "frame_rate_hz")},
                **{name: getattr(some, name)[pick] for name in ("pixels", "masks", "phase")},
            },
            length=np.array([len(a) for a in at]),
            subject=some.subject,
            subjects=some.subjects,
        )
        noise = np.zeros((len(rows), most, CHANNELS, grid, grid), np.float32)
        for i, row in enumerate(rows):
            drawn = np.random.default_rng([seed, int(row)])
            noise[i, : len(at[i])] = drawn.standard_normal(noise[i, : len(at[i])].shape, np.float32)
        nothing = torch.full((len(rows), CHANNELS, grid, grid), torch.nan)
        told = self._conditions(key, first=nothing if first is None else first)
        beginning = torch.from_numpy(some.phase[:, 0])
        told["first_phase"] = torch.full_like(beginning, torch.nan) if first is None else beginning
        return flow.integrate(
            self._field(told, at_sites=at_sites),
            torch.from_numpy(noise),
            steps=self.config.sample_steps,
            solver=self.config.sample_solver,
        )

    def _field(self, told: dict[str, Tensor], *, at_sites: bool) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the velocity: of frames together or, in intervals the pattern marks "I", of each alone."""
        steps, pattern = self.config.sample_steps, self.config.pattern or "V" * self.config.sample_steps

        def asked(z: Tensor, t: Tensor, conditions: dict[str, Tensor]) -> Tensor:
            with computing_in(self.config.precision):
                v: Tensor = self.module(z, t, **conditions, at_sites=at_sites)
            return v.float()

        def field(z: Tensor, t: Tensor, conditions: dict[str, Tensor]) -> Tensor:
            v = asked(z, t, conditions)
            if self.config.guidance == 1.0:
                return v
            null = {"masks": torch.full_like(conditions["masks"], 255), "lvef": conditions["lvef"] * torch.nan}
            return flow.guide(v, asked(z, t, {**conditions, **null}), self.config.guidance)

        def mixed(z: Tensor, t: Tensor) -> Tensor:
            # The end of an interval belongs to the next one, so that whatever the solver, its field is a field.
            interval = min(int((1 - float(t[0])) * steps + 1e-4), steps - 1)
            if pattern[interval] == "V":
                window, overlap = self.config.window, self.config.overlap
                return drawn_in_windows(field, z, t, told, window, overlap) if window else field(z, t, told)
            frames = z.shape[1]
            alone = {k: _each_frame(k, v, frames) for k, v in told.items()}
            return field(z.flatten(0, 1).unsqueeze(1), t.repeat_interleave(frames), alone).view(z.shape)

        return mixed

    def _conditions(self, clips: Clips, *, first: Tensor) -> dict[str, Tensor]:
        """Return what the network is told of `clips`, but for the phase of the first frame."""
        return {
            "phase": torch.from_numpy(clips.phase),
            "real": torch.from_numpy(clips.real),
            "masks": torch.from_numpy(_nearest(clips.masks, self.config.side)),
            "view": torch.from_numpy(clips.view),
            "first": first,
            "lvef": torch.from_numpy(clips.lvef_percent),
            "heart_rate": torch.from_numpy(clips.heart_rate_bpm),
            "frame_rate": torch.from_numpy(clips.frame_rate_hz),
        }

    def _latents(self, clips: Clips) -> Tensor:
        """Encode every frame once: the encoder is frozen, so what was encoded stays true."""
        if self._encoded is None or self._encoded[0] is not clips:
            flat = self._encode(clips.pixels.reshape(-1, *clips.pixels.shape[2:]))
            self._encoded = (clips, flat.view(*clips.phase.shape, *flat.shape[1:]))
        return self._encoded[1]

    @torch.no_grad()
    def _encode(self, pixels: NDArray[np.uint8]) -> Tensor:
        side = (self.config.side, self.config.side)
        parts = (to_signal(part) for part in torch.split(torch.from_numpy(pixels), _AT_ONCE))
        return torch.cat([self.autoencoder.encode(F.interpolate(part, size=side, mode="area")) for part in parts])

    def _decoded(self, z: Tensor, masks: NDArray[np.uint8], *, seed: int, row: int) -> NDArray[np.uint8]:
        parts = []
        noise = speckle(masks, seed=seed, row=row)
        for start in range(0, len(z), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            shapes = torch.from_numpy(masks[some])
            with computing_in(self.config.precision):
                latent = z[some] if self.enlarger is None else self.enlarger(z[some], shapes).float()
                drawn = self.autoencoder.decode(latent, shapes, noise[some])
            parts.append(to_pixels(drawn.float()).numpy())
        return np.concatenate(parts)


def masked_mean(errors: Tensor, real: Tensor) -> Tensor:
    """Return the mean of `(n, frames, ...)` over real frames, `(n,)`: padding neither adds to it nor divides it."""
    each = errors.flatten(2).mean(2).where(real, 0.0)
    mean: Tensor = each.sum(1) / real.sum(1)
    return mean


def _nearest(masks: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return masks `(..., size, size)` at another side: of each new pixel what its middle shows."""
    size = masks.shape[-1]
    if side == size:
        return masks
    at = ((np.arange(side) + 0.5) * size / side).astype(np.int64)
    return np.ascontiguousarray(masks[..., at[:, None], at])


def _each_frame(name: str, value: Tensor, frames: int) -> Tensor:
    """Turn a condition of `n` clips into that of `n * frames` clips of one frame."""
    if name in ("phase", "masks"):
        return value.flatten(0, 1).unsqueeze(1)
    if name == "real":
        return torch.ones(len(value) * frames, 1, dtype=torch.bool)
    return value.repeat_interleave(frames, 0)
