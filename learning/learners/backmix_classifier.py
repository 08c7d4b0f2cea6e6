"""View classifier that cannot read what is written beside the ultrasound sector."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cohorts.frames import Frames
from learning.augment import appearance, place
from learning.backmix import WRITTEN, Donors, OwnDonors, PhantomDonors, has_mask, mix, name_of, weights
from learning.blocks import to_signal
from learning.learners import LEARNERS
from learning.learners.view_classifier import ViewClassifier, ViewLearner
from learning.sector import Finder, sector

OTHERS = ("unmixed", "fitted", "learnt")


@LEARNERS("backmix_classifier")
@dataclass(frozen=True, slots=True, kw_only=True)
class BackMixClassifier:
    """Config of a view classifier trained with BackMix (Bransby et al. 2024, arXiv:2406.19148).

    Attributes:
        width: channels after the first layer.
        tune: regular expression of the parameter names that are trained; "." trains all.
        mix: whether backgrounds are changed at all.
        masked_share: f, share of the frames whose sector is taken as known, in [0, 1].
        weight: λ, how much more these count, from 0 to 1 / f: 0 is BackMix, 1 or 2 wBackMix.
        others: what becomes of the other frames: "unmixed" as in the paper; "fitted" mixes them in the sector that
            `learning.sector` finds; "learnt" in that of a network which public phantoms taught.
        donors: "phantom" takes backgrounds from public phantoms, "own" from frames of the same subject.
        written: what may be written beside phantoms.
        seed: of the phantoms, and of who is masked.
    """

    width: int = 16
    tune: str = "."
    mix: bool = True
    masked_share: float = 1.0
    weight: float = 0.0
    others: str = "unmixed"
    donors: str = "phantom"
    written: tuple[str, ...] = WRITTEN
    seed: int = 2024

    def __post_init__(self) -> None:
        weights(np.zeros(0, np.bool_), share=self.masked_share, strength=self.weight)
        if self.donors not in ("own", "phantom"):
            raise ValueError(f"donors={self.donors!r} must be 'own' or 'phantom': no other subject's frame is used")
        if self.others not in OTHERS:
            raise ValueError(f"others={self.others!r} must be one of {', '.join(OTHERS)}")

    def build(self) -> "BackMixLearner":
        """Return the learner with random weights."""
        return BackMixLearner(self)


class BackMixLearner(ViewLearner):
    """The network of `ViewClassifier` under a weighted cross entropy, each row alone; no sector is needed to predict.

    Attributes:
        find: finds the sector `(h, w)` of a picture of which it is taken as known; masks drawn by hand may stand in.
        guess: finds it of the others, unless they stay unmixed.
    """

    def __init__(self, config: BackMixClassifier, find: Finder = sector) -> None:
        super().__init__(ViewClassifier(width=config.width, tune=config.tune))
        self._config = config
        self.find = find
        self.guess: Finder = self._taught if config.others == "learnt" else sector
        self._known: dict[tuple[str, bool], NDArray[np.bool_]] = {}

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the weighted cross entropy of each row; rows without a known view are worth nothing."""
        config = self._config
        names = [name_of(frames.pixels[r]) for r in rows]
        masked = has_mask(names, share=config.masked_share, seed=config.seed)
        mixed = np.full(len(rows), config.mix) & (masked | (config.others != "unmixed"))
        found = [
            self._sector(frames.pixels[r], name, known) if m else np.ones(frames.pixels.shape[1:], np.bool_)
            for r, name, known, m in zip(rows, names, masked, mixed, strict=True)
        ]
        inside = torch.from_numpy(np.stack(found))
        # Black before it is turned: interpolation would carry writing over the border of the sector.
        x = to_signal(torch.from_numpy(frames.pixels[rows]) * inside)
        x, moved = place(x, inside.to(torch.uint8), generator=generator)
        if config.mix:
            chosen = torch.from_numpy(mixed).view(-1, 1, 1, 1)
            x = torch.where(chosen, mix(x, moved > 0, self._donors(frames, rows), generator=generator), x)
        logits = self.module(appearance(x, generator=generator))
        entropy = F.cross_entropy(logits, torch.from_numpy(frames.view[rows]), reduction="none", ignore_index=-1)
        worth = weights(masked, share=config.masked_share, strength=config.weight)
        return entropy * torch.from_numpy(worth).to(entropy)

    def _donors(self, frames: Frames, rows: NDArray[np.int64]) -> Donors:
        if self._config.donors == "own":
            return OwnDonors(frames=frames, rows=rows, find=self._own)
        return self._recipe(frames.pixels.shape[-1])

    def _recipe(self, size: int) -> PhantomDonors:
        written = tuple(self._config.written)  # a list where the config came as JSON
        return PhantomDonors(size=size, seed=self._config.seed, written=written)

    def _taught(self, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        from learning.finder import taught_by_phantoms  # here, because it is made of another learner

        return taught_by_phantoms(self._recipe(pixels.shape[-1]))(pixels)

    def _own(self, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        name = name_of(pixels)
        known = has_mask([name], share=self._config.masked_share, seed=self._config.seed)[0]
        return self._sector(pixels, name, bool(known))

    def _sector(self, pixels: NDArray[np.uint8], name: str, known: bool) -> NDArray[np.bool_]:
        """Return the sector of one picture, which is sought once."""
        if (name, known) not in self._known:
            self._known[name, known] = (self.find if known else self.guess)(pixels)
        return self._known[name, known]
