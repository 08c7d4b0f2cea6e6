"""View classifier that cannot read what is written beside the ultrasound sector."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames
from learning.augment import appearance, place
from learning.backmix import WRITTEN, Donors, OwnDonors, PhantomDonors, has_mask, mix, weights
from learning.blocks import to_signal
from learning.learners import LEARNERS
from learning.learners.view_classifier import ViewClassifier
from learning.sector import sector


@LEARNERS("backmix_classifier")
@dataclass(frozen=True, slots=True, kw_only=True)
class BackMixClassifier:
    """Config of a view classifier trained with BackMix (Bransby et al. 2024, arXiv:2406.19148).

    Attributes:
        width: channels after the first layer.
        tune: regular expression of the parameter names that are trained; "." trains all.
        mix: whether backgrounds are changed at all.
        masked_share: f, share of the subjects whose sector is taken as known, in [0, 1]; the others are not mixed.
        weight: λ, how much more the mixed count, from 0 to 1 / f: 0 is BackMix, 1 or 2 wBackMix.
        donors: "phantom" takes backgrounds from public phantoms, "own" from frames of the same subject.
        written: what may be written beside phantoms.
        seed: of the phantoms, and of who is masked.
    """

    width: int = 16
    tune: str = "."
    mix: bool = True
    masked_share: float = 1.0
    weight: float = 0.0
    donors: str = "phantom"
    written: tuple[str, ...] = WRITTEN
    seed: int = 2024

    def __post_init__(self) -> None:
        weights(np.zeros(0, np.bool_), share=self.masked_share, strength=self.weight)
        if self.donors not in ("own", "phantom"):
            raise ValueError(f"donors={self.donors!r} must be 'own' or 'phantom': no other subject's frame is used")

    def build(self) -> "BackMixLearner":
        """Return the learner with random weights."""
        return BackMixLearner(self)


class BackMixLearner:
    """The network of `ViewClassifier` under a weighted cross entropy, each row alone.

    Attributes:
        find: finds the sector `(h, w)` of a picture; masks drawn by hand may stand in for it.
    """

    def __init__(self, config: BackMixClassifier, find: Callable[[NDArray[np.uint8]], NDArray[np.bool_]] = sector):
        self._config = config
        self._views = ViewClassifier(width=config.width, tune=config.tune).build()
        self.module: nn.Module = self._views.module
        self.find = find
        self._known: dict[bytes, NDArray[np.bool_]] = {}

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the weighted cross entropy of each row; rows without a known view are worth nothing."""
        config = self._config
        masked = self._masked(frames, rows)
        inside = torch.from_numpy(
            np.stack([self._sector(frames.pixels[r], m) for r, m in zip(rows, masked, strict=True)])
        )
        # Black before it is turned: interpolation would carry writing over the border of the sector.
        x = to_signal(torch.from_numpy(frames.pixels[rows]) * inside)
        x, moved = place(x, inside.to(torch.uint8), generator=generator)
        if config.mix:
            known = torch.from_numpy(masked).view(-1, 1, 1, 1)
            x = torch.where(known, mix(x, moved > 0, self._donors(frames, rows), generator=generator), x)
        logits = self.module(appearance(x, generator=generator))
        entropy = F.cross_entropy(logits, torch.from_numpy(frames.view[rows]), reduction="none", ignore_index=-1)
        worth = weights(masked, share=config.masked_share, strength=config.weight)
        return entropy * torch.from_numpy(worth).to(entropy)

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities over `VIEWS`, `(n, 4)`, of uint8 images `(n, 64, 64)`; no sector is needed."""
        return self._views.predict(pixels)

    def _masked(self, frames: Frames, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not self._config.mix:
            return np.zeros(len(rows), np.bool_)
        names = tuple(str(frames.subjects[i]) for i in frames.subject[rows])
        return has_mask(names, share=self._config.masked_share, seed=self._config.seed)

    def _donors(self, frames: Frames, rows: NDArray[np.int64]) -> Donors:
        if self._config.donors == "own":
            return OwnDonors(frames=frames, rows=rows, find=self._find)
        written = tuple(self._config.written)  # a list where the config came as JSON
        return PhantomDonors(size=frames.pixels.shape[-1], seed=self._config.seed, written=written)

    def _sector(self, pixels: NDArray[np.uint8], wanted: bool) -> NDArray[np.bool_]:
        return self._find(pixels) if wanted else np.ones(pixels.shape, np.bool_)

    def _find(self, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the sector of one picture, which is sought once."""
        name = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        if name not in self._known:
            self._known[name] = self.find(pixels)
        return self._known[name]
