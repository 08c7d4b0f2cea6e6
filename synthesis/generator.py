"""What a generator is: a learner that can also draw studies that never happened, of single frames or moving."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.clips import Clips
from cohorts.frames import Frames
from learning.learner import Learner


class Generator(Learner, Protocol):
    """A learner with a sampler."""

    def sample(self, conditions: Frames, *, seed: int, offset: int = 0, of_one_heart: int = 1) -> NDArray[np.uint8]:
        """Draw one image per row of `conditions` (their masks, views and phases; never their pixels).

        Law: image k depends on row k, `seed` and `offset` + k only, not on how many are drawn together. So many rows
        side by side as are `of_one_heart` begin with the same noise: 2 where ED and ES of one heart alternate.

        Returns:
            uint8, `(len(conditions), size, size)`.
        """
        ...


class ClipGenerator(Protocol):
    """What `Generator` is to frames, of clips: the loss of each row depends on its own real frames alone."""

    module: nn.Module

    def losses(self, clips: Clips, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return one loss per row, `(len(rows),)`."""
        ...

    def sample(
        self,
        conditions: Clips,
        *,
        seed: int,
        offset: int = 0,
        first: NDArray[np.uint8] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw one clip per row of `conditions` (never their pixels), beginning with the pictures `first` if given.

        `progress` is called with (clips, of so many).

        Law: clip k depends on row k, `seed` and `offset` + k only, not on how many are drawn together nor on their
        padding.

        Returns:
            uint8, `(len(conditions), T, size, size)`, black where a clip is padded.
        """
        ...
