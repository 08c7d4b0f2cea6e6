"""What a generator is: a learner that can also draw studies that never happened."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import Frames
from learning.learner import Learner


class Generator(Learner, Protocol):
    """A learner with a sampler."""

    def sample(self, conditions: Frames, *, seed: int) -> NDArray[np.uint8]:
        """Draw one image per row of `conditions` (their masks, views and phases; never their pixels).

        Law: image k depends on row k, `seed` and k only, not on how many are drawn together.

        Returns:
            uint8, `(len(conditions), size, size)`.
        """
        ...
