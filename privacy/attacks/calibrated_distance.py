"""Calibrated distance: nearer to the release than to other real people.

A common heart is near to everything. The score is the log of the distance to the nearest reference picture over that to
the nearest released one (GAN-Leaks: Chen et al. 2020, arXiv:1909.03935, attack calibration).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.attacks import ATTACKS
from privacy.attacks.distance import log_distance
from privacy.gallery import Gallery


@ATTACKS("calibrated_distance")
@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedDistance:
    """Nearness to the release, measured in nearness to other people."""

    kind: ClassVar[str] = "membership"

    def score(
        self, targets: Gallery, released: Gallery, reference: Gallery, *, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Score each picture of `targets`, `(n,)`; higher is more like a member."""
        del rng
        return log_distance(targets.features, reference.features) - log_distance(targets.features, released.features)
