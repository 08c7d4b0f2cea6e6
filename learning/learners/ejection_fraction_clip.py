"""Ejection fraction from a moving heart: a small network of (2+1)-dimensional convolutions over one clip.

Tran et al. 2018, arXiv:1711.11248, as EchoNet-Dynamic uses it (Ouyang et al. 2020, doi:10.1038/s41586-020-2145-8): each
convolution in space is followed by one in time. GroupNorm stands where they have batch statistics, which mix patients.
Two things are ours, as hospitals have hundreds of clips and not thousands: each frame enters beside its difference from
the mean of the clip, for what moves is what counts; and features are told with their spread over time.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.clips import Clips
from learning.augment import appearance, place
from learning.blocks import norm, to_signal
from learning.learners import CLIP_LEARNERS
from learning.learners.ejection_fraction import MIDDLE, SPREAD

_LOUDER = 3.0  # than the picture itself: so that what moves is about as bright


@CLIP_LEARNERS("ejection_fraction_clip")
@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionFractionClip:
    """Config of a regressor of clips.

    `EjectionFractionClip(width=64, stages=4, blocks=2, frames=32, stride=1)` has the layers of R(2+1)D-18.

    Attributes:
        width: channels of the first stage; each later one has twice as many.
        stages: resolutions in space and, from the second on, in time.
        blocks: residual blocks a stage.
        frames: how many frames of a clip are looked at, evenly spaced over its length.
        stride: of the first convolution beyond the usual 2; 2 costs a quarter.
    """

    width: int = 8
    stages: int = 3
    blocks: int = 1
    frames: int = 16
    stride: int = 2

    def __post_init__(self) -> None:
        for name in ("width", "stages", "blocks", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.frames < 4:
            raise ValueError(f"frames={self.frames} must be at least 4")

    def build(self) -> "EjectionFractionClipLearner":
        """Return the learner with random weights."""
        return EjectionFractionClipLearner(self)


class SpaceTime(nn.Module):
    """A convolution in space, then one in time, with as many weights as one in both would have."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        between = max(4, (27 * inner * outer) // (9 * inner + 3 * outer) // 4 * 4)
        self.space = nn.Conv3d(inner, between, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.norm = norm(between)
        self.time = nn.Conv3d(between, outer, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(n, outer, t, h, w)`, each of t, h and w divided by the stride."""
        y: Tensor = self.time(F.relu(self.norm(self.space(x))))
        return y


class Block(nn.Module):
    """Two of them around a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = SpaceTime(inner, outer, stride), norm(outer)
        self.second, self.norm2 = SpaceTime(outer, outer, 1), norm(outer)
        same = inner == outer and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv3d(inner, outer, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block."""
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(self.shortcut(x) + y)


class ClipNet(nn.Module):
    """Stem, stages of blocks, mean over space, mean and spread over time, one number."""

    def __init__(self, config: EjectionFractionClip) -> None:
        super().__init__()
        self.stride = config.stride
        widths = [config.width * 2**i for i in range(config.stages)]
        self.stem = nn.Conv3d(2, widths[0], (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.norm = norm(widths[0])
        shapes = [
            (widths[max(i - 1, 0)] if j == 0 else widths[i], widths[i], 2 if i > 0 and j == 0 else 1)
            for i in range(config.stages)
            for j in range(config.blocks)
        ]
        self.blocks = nn.Sequential(*(Block(*shape) for shape in shapes))
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one number for each clip `(n, 1, t, h, w)`, `(n,)`."""
        if self.stride > 1:
            x = F.avg_pool3d(x, (1, self.stride, self.stride))
        moving = _LOUDER * (x - x.mean(2, keepdim=True))
        h = self.blocks(F.relu(self.norm(self.stem(torch.cat([x, moving], 1))))).mean((3, 4))
        spread = (h.var(2, correction=0) + 1e-6).sqrt()
        y: Tensor = self.head(torch.cat([h.mean(2), spread], 1))
        return y.squeeze(1)


class EjectionFractionClipLearner:
    """A `ClipNet` under the squared error of each clip alone."""

    def __init__(self, config: EjectionFractionClip) -> None:
        self.config = config
        self.module: nn.Module = ClipNet(config)

    def losses(self, clips: Clips, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the squared error of each clip in units of `SPREAD`; without a known fraction it is 0."""
        seen = self._moments(clips, rows, generator=generator)
        n, t, h, w = seen.shape
        stacked = appearance(seen.reshape(n, 1, t * h, w), generator=generator)  # a clip is varied as one picture
        x = _placed_alike(stacked.reshape(n, 1, t, h, w), generator=generator)
        wanted = (clips.lvef_percent[rows] - MIDDLE) / SPREAD
        known = np.isfinite(wanted)
        error: Tensor = self.module(x) - torch.from_numpy(np.where(known, wanted, 0)).float()
        return error.square() * torch.from_numpy(known)

    @torch.inference_mode()
    def predict(self, clips: Clips) -> NDArray[np.float32]:
        """Return the ejection fraction of each clip, 0 to 100 percent, `(n,)`."""
        self.module.eval()
        found = [
            self.module(self._moments(clips, np.arange(k, min(k + 32, len(clips)))).unsqueeze(1))
            for k in range(0, len(clips), 32)
        ]
        raw = torch.cat(found) if found else torch.zeros(0)
        return np.asarray((raw * SPREAD + MIDDLE).clamp(0, 100).numpy(), np.float32)

    def _moments(self, clips: Clips, rows: NDArray[np.int64], *, generator: torch.Generator | None = None) -> Tensor:
        """Return evenly spaced frames of each clip, `(n, frames, h, w)` in [-1, 1]; in training from a drawn start."""
        n, frames = len(rows), self.config.frames
        start = torch.rand(n, generator=generator).numpy() if generator is not None else np.zeros(n)
        length = clips.length[rows][:, None]
        at = (np.arange(frames) + start[:, None]) * np.maximum(length - 1, 0) / frames
        picked = clips.pixels[rows[:, None], np.round(at).astype(np.int64)]
        flat: Tensor = to_signal(torch.from_numpy(picked.reshape(-1, *picked.shape[2:])))
        return flat.reshape(picked.shape)


def _placed_alike(x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Turn, scale and shift all frames of a clip by the same dice; `(n, 1, t, h, w)`."""
    state, nothing = generator.get_state(), torch.zeros(len(x), *x.shape[3:], dtype=torch.uint8)
    moved = []
    for k in range(x.shape[2]):
        generator.set_state(state)
        moved.append(place(x[:, :, k], nothing, generator=generator)[0])
    return torch.stack(moved, 2)
