"""Phase detector: the frames of a heart cycle's five phases, learnt without a label.

A small network registers each frame to the next; the picture is the only teacher. Which phase it is follows from the
fields by rules (Koehler et al. 2025, arXiv:2510.05819).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames, gather
from cohorts.study import Cohort, Study, SubjectKey
from conf.schema import Classes
from learning.blocks import ResidualBlock, norm, to_signal
from learning.learners import LEARNERS
from learning.motion import likeness, motion_curve, roughness, warp
from learning.phases import key_frames


@LEARNERS("phase_detector")
@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseDetector:
    """Config of a small registration network (after Balakrishnan et al. 2019, arXiv:1809.05231).

    Attributes:
        width: channels at half resolution.
        smoothness: what the mean squared gradient of the field costs, in pixels a pixel, at least 0.
        focus_height: about where the ventricle lies, 0 top to 1 bottom: above the middle in an echo, whose probe is at
            the top and whose atrium lies below.
    """

    width: int = 8
    smoothness: float = 0.01
    focus_height: float = 0.35

    def __post_init__(self) -> None:
        if not 0 <= self.smoothness < np.inf:
            raise ValueError(f"smoothness={self.smoothness} must be at least 0 and finite")
        if not 0 <= self.focus_height <= 1:
            raise ValueError(f"focus_height={self.focus_height} must lie in 0 to 1")

    def build(self) -> "PhaseDetectorLearner":
        """Return the learner with random weights."""
        return PhaseDetectorLearner(self)


class Registration(nn.Module):
    """U-Net over two frames; its field is as fine as every fourth pixel, and smooth between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.enter = nn.Conv2d(2, w, 5, stride=2, padding=2)
        self.down = nn.ModuleList([ResidualBlock(w, 2 * w), ResidualBlock(2 * w, 2 * w), ResidualBlock(2 * w, 2 * w)])
        self.up = nn.ModuleList([ResidualBlock(4 * w, 2 * w), ResidualBlock(4 * w, 2 * w)])
        last = nn.Conv2d(2 * w, 2, 3, padding=1)
        with torch.no_grad():
            last.weight.mul_(0.03)  # first guess: hardly anything moves
        self.leave = nn.Sequential(norm(2 * w), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """Return fields in pixels, across and down, `(n, 2, h, w)`, of pairs `(n, 2, h, w)` in [-1, 1]."""
        h, skips = self.enter(x), []
        for block in self.down:
            h = block(F.avg_pool2d(h, 2))
            skips.append(h)
        skips.pop()
        for block in self.up:
            h = block(torch.cat([F.interpolate(h, scale_factor=2.0), skips.pop()], 1))
        return F.interpolate(self.leave(h), scale_factor=4.0, mode="bilinear", align_corners=False)


class PhaseDetectorLearner:
    """A registration network under local correlation and smoothness, each pair of frames alone."""

    def __init__(self, config: PhaseDetector) -> None:
        self.config = config
        self.module: nn.Module = Registration(config.width)

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return how badly each row's frame and the next of its clip are brought together, in either order.

        A row whose clip has no other frame, or cannot be known again for want of a view, is worth nothing.
        """
        after = successors(frames)[rows]
        pair = np.stack([rows, np.where(after < 0, rows, after)], 1)
        x = to_signal(torch.from_numpy(frames.pixels[pair]).flatten(0, 1)).view(len(rows), 2, *frames.pixels.shape[1:])
        turned = torch.rand(len(rows), generator=generator) < 0.5
        x = torch.where(turned.view(-1, 1, 1, 1), x.flip(1), x)
        field = self.module(x)
        apart = 1 - likeness(warp(x[:, :1], field), x[:, 1:])
        loss: Tensor = (apart + self.config.smoothness * roughness(field)) * torch.from_numpy(after >= 0)
        return loss

    @torch.inference_mode()
    def fields(self, clip: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return where what stands in the next frame stood, `(frames, 2, 64, 64)`, of a cycle `(frames, 64, 64)`.

        Both orders of a pair are asked and their difference is halved, so that a frame beside itself does not move.
        """
        self.module.eval()
        x = to_signal(torch.from_numpy(clip))
        pair = torch.cat([x, x.roll(-1, 0)], 1)
        parts = [pair[i : i + 64] for i in range(0, len(pair), 64)]
        found = [(self.module(p) - self.module(p.flip(1))) / 2 for p in parts]
        return torch.cat(found).numpy()

    def motion(self, clip: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the curve of motion, `(frames,)`, of one cycle `(frames, 64, 64)`; raises as `motion_curve` does."""
        return motion_curve(self.fields(clip), focus=(self.config.focus_height, 0.5))

    def detect(self, clip: NDArray[np.uint8]) -> tuple[int, int, int, int, int]:
        """Return the frames of `learning.phases.PHASES` in one cycle `(frames, 64, 64)`.

        Raises:
            ValueError: what `motion` and `key_frames` refuse, such as a clip in which nothing moves.
        """
        return key_frames(self.motion(clip))


def successors(frames: Frames) -> NDArray[np.int64]:
    """Return, for each row, the row of the next frame of its clip, the last one's being the first; -1 where none is.

    Frames of a clip stand side by side (`cohorts.frames.gather`). A clip begins where subject or view changes, or with
    its end diastole; of unknown view, it cannot be told from the next.
    """
    n = len(frames)
    begins = np.ones(n, np.bool_)
    same = (frames.subject[1:] == frames.subject[:-1]) & (frames.view[1:] == frames.view[:-1])
    begins[1:] = ~same | (frames.phase[1:] == 0)
    first = np.flatnonzero(begins)
    count = np.diff(np.append(first, n))
    after = np.arange(1, n + 1)
    after[first + count - 1] = first
    alone = (np.repeat(count, count) < 2) | (frames.view < 0)
    return np.where(alone, -1, after).astype(np.int64)


def moments(cohort: Cohort, *, frames: int, size: int = 64) -> Frames:
    """Return so many moments of every clip, in order and evenly spaced, of unknown phase: no label of time is read.

    Where a clip has no more than `frames`, they are all its frames.
    """

    def blind(subject: SubjectKey) -> tuple[Study, ...]:
        return tuple(
            replace(s, clips=tuple(replace(c, ed_frame=None, es_frame=None) for c in s.clips))
            for s in cohort.of(subject)
        )

    return gather(replace(cohort, load=blind), size=size, classes=Classes(frames=frames))
