"""What an image flow is told: time, view, phase, ejection fraction, scanner, the sites' tokens.

Each may be unknown on its own, which has an embedding that is learned. Every one enters through `nn.Linear` or
`nn.Embedding`, so per-subject gradients of any subset of the parameters are exact.
"""

import math

import torch
from torch import Tensor, nn

LVEF_SCALE = (55.0, 20.0)  # percent


class Conditioned(nn.Module):
    """A velocity field v(z, t | view, phase, mask, LVEF) on standardised latents, in as many blocks as have tokens.

    Args of `forward`:
        z: `(n, 4, 8, 8)`.
        t: `(n,)` in [0, 1].
        view, phase: int64 `(n,)`, -1 where unknown.
        masks: uint8 `(n, 64, 64)`; all 255: the null mask.
        lvef: `(n,)` in percent, NaN where unknown; `None` where all are.
        scanner: `(n, descriptors)` or `None`, the public simulator's own settings, known for phantoms only.
        at_sites: add the sites' token, one for each block, which is zero in the prior and the first that sites train.
        until: `(n,)`, for a student, which answers with the mean velocity from t down to there.
        drawn: `structures_of(masks)`, where they are the same in many calls.
    """

    def be_told(self, *, width: int, blocks: int, views: int, descriptors: int, student: bool) -> None:
        """Make the layers that hear conditions, of `width`; not the constructor, so that weights come in one order."""
        self.width = width
        self.mask_known = nn.Embedding(2, width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.view, self.phase = nn.Embedding(views + 1, width), nn.Embedding(3, width)
        self.site = nn.Embedding(1, blocks * width)
        self.lvef = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width))
        self.known = nn.ModuleDict({"lvef": nn.Embedding(2, width)})  # 0 is the learned null
        self.scanner = nn.Sequential(nn.Linear(descriptors, width), nn.SiLU(), nn.Linear(width, width))
        if student:
            self.interval = nn.Linear(64, width)
            silence(self.interval)  # knowing no better, a mean velocity is the velocity
        silence(self.site, self.known["lvef"], self.lvef[-1])

    def tokens(
        self,
        t: Tensor,
        *,
        view: Tensor,
        phase: Tensor,
        lvef: Tensor | None,
        scanner: Tensor | None,
        at_sites: bool,
        until: Tensor | None,
    ) -> Tensor:
        """Return what each block is told, `(n, blocks, width)`."""
        c = self.time(_frequencies(t)) + self.view(view + 1) + self.phase(phase + 1)
        c = c + self._ejected(torch.full_like(t, torch.nan) if lvef is None else lvef, phase)
        if until is not None:
            c = c + self.interval(_frequencies(t - until))
        if scanner is not None:
            c = c + self.scanner(scanner)
        told: Tensor = c.unsqueeze(1).expand(-1, self.site.embedding_dim // self.width, -1)
        if at_sites:
            nowhere = torch.zeros(len(t), dtype=torch.long, device=t.device)
            told = told + self.site(nowhere).view(len(t), -1, self.width)
        return nn.functional.silu(told)

    def _ejected(self, lvef: Tensor, phase: Tensor) -> Tensor:
        """Return what is told of the ejection fraction, whose meaning depends on the phase: `(n, width)`."""
        known = lvef.isfinite()
        level = ((lvef - LVEF_SCALE[0]) / LVEF_SCALE[1]).nan_to_num().unsqueeze(1)
        of_phase = nn.functional.one_hot(phase + 1, 3)
        told: Tensor = self.known["lvef"](known.long()) + known.unsqueeze(1) * self.lvef(level * of_phase)
        return told


def outlined(masks: Tensor) -> Tensor:
    """Return whether anybody outlined anything, int64 `(n,)`."""
    return (masks != 255).flatten(1).any(1).long()


def silence(*layers: nn.Module) -> None:
    """Let layers begin at zero."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def _frequencies(t: Tensor) -> Tensor:
    """Return 64 sines and cosines of `t` in [0, 1] (Vaswani et al. 2017), `(n, 64)`."""
    f = torch.exp(-math.log(1000.0) * torch.arange(32, device=t.device) / 32)
    angles = 1000.0 * t.unsqueeze(1) * f
    return torch.cat([angles.cos(), angles.sin()], 1)
