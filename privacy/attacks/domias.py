"""Density ratio: the generator is likelier to have been trained where it is denser than people are.

log p_S(x) - log p_R(x) of release and reference (DOMIAS: van Breugel et al. 2023, arXiv:2302.12580), each density by
the distance to the k-th neighbour: log p(x) = -d log r_k(x) - log n + const (Loftsgaarden & Quesenberry 1965,
doi:10.1214/aoms/1177700079). Densities in 256 dimensions are noise, so features first go through a principal component
analysis that is fitted on the reference only and knows neither members nor release.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.attacks import ATTACKS
from privacy.attacks.distance import log_distance
from privacy.gallery import Gallery
from privacy.neighbours import Features


@ATTACKS("domias")
@dataclass(frozen=True, slots=True, kw_only=True)
class Domias:
    """The density ratio.

    Attributes:
        neighbours: k, at least 1.
        least: fewest dimensions, as far as there are so many.
        most: most dimensions.
        explained: share of the variance of the reference that ends the search between them.
    """

    kind: ClassVar[str] = "membership"

    neighbours: int = 3
    least: int = 8
    most: int = 32
    explained: float = 0.9

    def __post_init__(self) -> None:
        if not (self.neighbours >= 1 and 1 <= self.least <= self.most and 0 < self.explained <= 1):
            raise ValueError(
                f"needs neighbours={self.neighbours} >= 1, 1 <= least={self.least} <= most={self.most}, "
                f"explained={self.explained} in (0, 1]"
            )

    def score(
        self, targets: Gallery, released: Gallery, reference: Gallery, *, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Score each picture of `targets`, `(n,)`; higher is more like a member."""
        del rng
        centre, axes = self._axes(reference.features)
        seen = np.asarray((targets.features - centre) @ axes, np.float32)
        from_people, from_release = (
            log_distance(seen, np.asarray((g.features - centre) @ axes, np.float32), self.neighbours)
            for g in (reference, released)
        )
        ratio = axes.shape[1] * (from_people - from_release)
        return np.asarray(ratio + np.log(len(reference) / len(released)), np.float64)

    def _axes(self, features: Features) -> tuple[Features, Features]:
        """Return the mean and the leading principal axes, `(dimension, kept)`."""
        centre = features.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(features, rowvar=False).reshape(2 * features.shape[1:]))
        share = np.cumsum(variances[::-1]) / max(float(variances.sum()), 1e-12)
        kept = int(np.clip(np.searchsorted(share, self.explained) + 1, self.least, self.most))
        kept = min(kept, features.shape[1], max(1, len(features) - 1))
        return centre, np.asarray(axes[:, ::-1][:, :kept], np.float32)
