"""Distance membership: whoever was trained on lies closer to the release.

The score of a picture is minus the log of its distance to the nearest released one (Hilprecht et al. 2019,
doi:10.2478/popets-2019-0067, with one neighbour; Chen et al. 2020, arXiv:1909.03935, "full black-box").
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.attacks import ATTACKS
from privacy.gallery import Gallery
from privacy.neighbours import Features, nearest

LEAST = 1e-3  # closer is a copy, however close


def log_distance(queries: Features, bank: Features, k: int = 1) -> NDArray[np.float64]:
    """Return the log of the distance of each query to its `k`-th neighbour in `bank`, or the last there is."""
    distances, _ = nearest(queries, bank, min(k, len(bank)))
    return np.log(np.maximum(distances[:, -1].astype(np.float64), LEAST))


@ATTACKS("distance")
@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """Nearness to the release."""

    kind: ClassVar[str] = "membership"

    def score(
        self, targets: Gallery, released: Gallery, reference: Gallery, *, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Score each picture of `targets`, `(n,)`; higher is more like a member. The reference is not used."""
        del reference, rng
        return -log_distance(targets.features, released.features)
