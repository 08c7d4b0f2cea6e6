"""Ejection fraction from two frames: how much emptier the ventricle is at end systole than at end diastole.

Both frames enter side by side as channels, with their difference: what moves is what counts (after the pair of frames
of the CAMUS protocol, Leclerc et al. 2019, doi:10.1109/TMI.2019.2900516).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames, partners
from learning.augment import appearance, place
from learning.blocks import norm, to_signal
from learning.learners import LEARNERS

SIZE = 64
MIDDLE, SPREAD = 50.0, 20.0  # percent: a public guess of where fractions lie, so that the network speaks near zero


@LEARNERS("ejection_fraction")
@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionFraction:
    """Config of a small convolutional regressor.

    Attributes:
        width: channels after the first layer.
    """

    width: int = 16

    def build(self) -> "EjectionFractionLearner":
        """Return the learner with random weights."""
        return EjectionFractionLearner(self)


class EjectionFractionLearner:
    """Five strided convolutions with GroupNorm over (ED, ES, ED - ES), and one number."""

    def __init__(self, config: EjectionFraction) -> None:
        w = config.width
        layers: list[nn.Module] = []
        for inner, outer in ((3, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w)):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), norm(outer), nn.SiLU()]
        self.module: nn.Module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * w * 16, 1))

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the squared error of each row's clip in units of `SPREAD`; without partner or fraction it is 0."""
        ed, es, known = _pairs(frames, rows)
        n = len(rows)
        pixels = to_signal(torch.from_numpy(frames.pixels[np.concatenate([ed, es])]))
        together = torch.cat([pixels[:n], pixels[n:]], 2)  # one above the other: both are varied alike
        seen = appearance(together, generator=generator)
        moved = _placed_alike(seen[:, :, :SIZE], seen[:, :, SIZE:], generator=generator)
        wanted = torch.from_numpy(np.where(known, (frames.lvef_percent[rows] - MIDDLE) / SPREAD, 0)).float()
        found: Tensor = self.module(moved).squeeze(1)
        return (found - wanted).square() * torch.from_numpy(known)

    @torch.inference_mode()
    def predict(self, frames: Frames) -> NDArray[np.float32]:
        """Return the ejection fraction of each row's clip, 0 to 100 percent, `(n,)`; NaN where it is a single frame."""
        self.module.eval()
        found = np.full(len(frames), np.nan, np.float32)
        for start in range(0, len(frames), 256):
            rows = np.arange(start, min(start + 256, len(frames)))
            ed, es, _ = _pairs(frames, rows)
            pair = partners(frames)[rows] >= 0
            pixels = [to_signal(torch.from_numpy(frames.pixels[which])) for which in (ed, es)]
            raw = self.module(_with_difference(*pixels)).squeeze(1) * SPREAD + MIDDLE
            found[rows[pair]] = raw.clamp(0, 100).numpy()[pair]
        return found


def _pairs(frames: Frames, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the ED and the ES row of each row's clip, and whether its fraction can be learned from."""
    other = partners(frames)[rows]
    both = other >= 0
    other = np.where(both, other, rows)
    first = frames.phase[rows] == 0
    known = both & np.isfinite(frames.lvef_percent[rows])
    return np.where(first, rows, other), np.where(first, other, rows), known


def _placed_alike(ed: Tensor, es: Tensor, *, generator: torch.Generator) -> Tensor:
    """Turn, scale and shift both frames of a clip by the same dice."""
    state, nothing = generator.get_state(), torch.zeros(len(ed), SIZE, SIZE, dtype=torch.uint8)
    moved_ed, _ = place(ed, nothing, generator=generator)
    generator.set_state(state)
    moved_es, _ = place(es, nothing, generator=generator)
    return _with_difference(moved_ed, moved_es)


def _with_difference(ed: Tensor, es: Tensor) -> Tensor:
    return torch.cat([ed, es, ed - es], 1)
