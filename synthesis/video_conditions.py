"""What the networks of moving hearts are told beside masks and latents: phases, view, LVEF, rates, a first frame.

Frames lie on the circle of the heart cycle, so phase enters as sines and cosines of whole multiples of its angle. All
that may be unknown has a learned null. Names of the layers are the same in every network that is told so.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HARMONICS = 4  # of the phase, as a condition
SCALARS = ("lvef", "heart_rate", "frame_rate")
_SCALE = {"lvef": (55.0, 20.0), "heart_rate": (75.0, 20.0), "frame_rate": (50.0, 20.0)}  # percent, 1/min, Hz


class Told(nn.Module):
    """The conditions of a velocity field on clips as vectors of `width`, for a network of so many `blocks`."""

    def __init__(self, *, width: int, blocks: int, views: int) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.motion = nn.Sequential(
            nn.Linear(4 * HARMONICS + len(SCALARS), width), nn.SiLU(), nn.Linear(width, 2 * width)
        )
        self.view = nn.Embedding(views + 1, width)  # 0 is the learned null, here and of all that may be unknown
        self.mask_known, self.first_known, self.phase_known = (nn.Embedding(2, width) for _ in range(3))
        self.known = nn.ModuleDict({name: nn.Embedding(2, width) for name in SCALARS})
        self.site = nn.Embedding(1, blocks * width)
        for embedding in (self.first_known, self.phase_known, self.site, *self.known.values()):
            nn.init.zeros_(embedding.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.motion[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.motion[-1].bias)  # type: ignore[arg-type]

    def told(
        self,
        t: Tensor,
        *,
        phase: Tensor,
        view: Tensor,
        first_phase: Tensor,
        scalars: Mapping[str, Tensor],
        at_sites: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to the frames, `(n, frames, width)`, and what modulates them.

        The latter is `(n, blocks, frames, width)`: with the sites' token, if it speaks, one for each block. Scalars are
        those of clips, `(n,)`, or of frames, `(n, frames)`.
        """
        n = len(t)
        scalars = {k: v if v.ndim == 2 else v.unsqueeze(1).expand_as(phase) for k, v in scalars.items()}
        x_motion, c_motion = self.motion(_moving(phase, first_phase, scalars)).chunk(2, -1)
        c = (self.time(_frequencies(t)) + self.view(view + 1)).unsqueeze(1)
        for name, value in scalars.items():
            c = c + self.known[name](value.isfinite().long())
        c = c + c_motion + self.phase_known(phase.isfinite().long())
        tokens = c.unsqueeze(1).expand(-1, self.site.embedding_dim // self.width, -1, -1)
        if at_sites:
            token = self.site(torch.zeros(n, dtype=torch.long, device=t.device))
            tokens = tokens + token.view(n, -1, 1, self.width)
        return x_motion, F.silu(tokens)


def _moving(phase: Tensor, first_phase: Tensor, scalars: Mapping[str, Tensor]) -> Tensor:
    """Return what moves a frame: harmonics of its phase and of the first frame's, scalars; unknown is 0.

    `(n, frames, 4 * HARMONICS + 3)`.
    """
    n, frames = phase.shape
    levels = [((value - _SCALE[name][0]) / _SCALE[name][1]).nan_to_num() for name, value in scalars.items()]
    once = _harmonics(first_phase).unsqueeze(1).expand(n, frames, -1)
    return torch.cat([_harmonics(phase), once, torch.stack(levels, -1)], -1)


def _harmonics(phase: Tensor) -> Tensor:
    """Return sines and cosines of whole multiples of a phase in cycles, `(..., 2 * HARMONICS)`; 0 where unknown."""
    angle = 2 * math.pi * phase.unsqueeze(-1) * torch.arange(1, HARMONICS + 1, device=phase.device)
    return torch.cat([angle.cos(), angle.sin()], -1).nan_to_num()


def _frequencies(t: Tensor) -> Tensor:
    """Return 64 sines and cosines of `t` in [0, 1] (Vaswani et al. 2017), `(n, 64)`."""
    f = torch.exp(-math.log(1000.0) * torch.arange(32, device=t.device) / 32)
    angles = 1000.0 * t.unsqueeze(1) * f
    return torch.cat([angles.cos(), angles.sin()], 1)
