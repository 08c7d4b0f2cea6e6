"""Auxiliary model: what learned from the release knows its members better than what learned from other people does.

One autoencoder learns from the release and one from the reference; a picture's score is the log of its error under the
second over its error under the first (Mitchell et al. 2026, arXiv:2606.10481, with an autoencoder as the auxiliary
model). The autoencoder is linear, for then the best one is known without training: the principal components.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.attacks import ATTACKS
from privacy.gallery import Gallery
from privacy.neighbours import Features

_LEAST = 1e-6


@ATTACKS("auxiliary_loss")
@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliaryLoss:
    """The difference of two models.

    Attributes:
        rank: width of the autoencoders, at most; never more than half the dimension or half of what they learn from.
    """

    kind: ClassVar[str] = "membership"

    rank: int = 64

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank={self.rank} must be at least 1")

    def score(
        self, targets: Gallery, released: Gallery, reference: Gallery, *, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Score each picture of `targets`, `(n,)`; higher is more like a member."""
        n = min(len(released), len(reference))  # models that learned from more err less: equal numbers for both
        rank = max(1, min(self.rank, targets.features.shape[1] // 2, n // 2))
        errors = [_errors(_some(g.features, n, rng), targets.features, rank) for g in (reference, released)]
        return np.asarray(np.log(errors[0]) - np.log(errors[1]), np.float64)


def _some(features: Features, n: int, rng: np.random.Generator) -> Features:
    return features if len(features) == n else features[np.sort(rng.choice(len(features), n, replace=False))]


def _errors(learned: Features, asked: Features, rank: int) -> NDArray[np.float64]:
    """Return the squared error of each row of `asked` under the best linear autoencoder of `learned`, `(n,)`."""
    centre = learned.mean(axis=0)
    centred = (learned - centre).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    away = (asked - centre).astype(np.float64)
    lost = away - (away @ axes[:, -rank:]) @ axes[:, -rank:].T
    return np.asarray(np.maximum((lost * lost).sum(axis=1), _LEAST), np.float64)
