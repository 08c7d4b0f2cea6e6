"""What a downstream task is: train on these frames, score on those subjects."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cohorts.clips import Clips
from cohorts.frames import Frames
from evaluation.overall import Overall
from learning.learner import Learner


class Task(Protocol):
    """A use of a release. Every arm (real, synthetic, phantom) gets the same network, steps, batches and seed.

    A task of clips (`CLIP_TASKS`) is the same of `Clips`, where this says frames; `frames` is how many a clip has at
    most, and `shown` returns clips as it trains on them.

    Attributes:
        steps, batch_size, learning_rate: how every arm is trained, so that only its frames differ.
        primary: the metric that rules are written about.
    """

    steps: int
    batch_size: int
    learning_rate: float
    primary: str

    def learner(self) -> Learner:
        """Return the network with its initial weights, equal for every arm."""
        ...

    def scores(self, learner: Learner, frames: Any, /) -> Mapping[str, NDArray[np.float64]]:
        """Return each metric per subject of `frames`, `(subjects,)`; NaN where a subject has no label.

        The primary one is the better the higher, and lies in [0, 1].
        """
        ...

    def trivial(self, train: Any, test: Any, /) -> Mapping[str, NDArray[np.float64]]:
        """Return the scores on `test` of whoever looks at no picture and says what is most usual in `train`."""
        ...

    def overall(self, learner: Learner, frames: Any, /) -> Overall:
        """Return what is said of all subjects of `frames` together; nothing, where there is nothing more to say."""
        ...


def per_subject(values: NDArray[np.float64], frames: Frames | Clips) -> NDArray[np.float64]:
    """Average `(n,)` values over the frames, or clips, of each subject, ignoring NaN: `(subjects,)`."""
    known = ~np.isnan(values)
    total = np.bincount(frames.subject[known], values[known], len(frames.subjects))
    count = np.bincount(frames.subject[known], minlength=len(frames.subjects))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
