"""People who are points: two pictures each, close together, in as many dimensions as a heart may have."""

from collections.abc import Sequence

import numpy as np

from privacy.gallery import Gallery

WORDS = ("low", "middle", "high")


def crowd(
    n: int, *, seed: int, views: Sequence[int] = (1, 0), dimension: int = 12, told: float = 0.0, own: float = 0.05
) -> Gallery:
    """Return `n` people with one picture in each of `views` and an EF class that pictures tell with weight `told`."""
    rng = np.random.default_rng(seed)
    people = rng.standard_normal((n, dimension))
    label = np.digitize(told * people[:, 0] + (1 - told) * rng.standard_normal(n), (-0.3, 0.3))
    pictures = np.repeat(people, len(views), axis=0) + own * rng.standard_normal((n * len(views), dimension))
    return Gallery(
        features=np.asarray(pictures / np.linalg.norm(pictures, axis=1, keepdims=True), np.float32),
        subject=np.repeat(np.arange(n), len(views)),
        subjects=tuple(f"{seed}-{i}" for i in range(n)),
        view=np.tile(np.array(views), n),
        phase=np.zeros(n * len(views), np.int64),
        attributes={"ef_class": np.array(WORDS, object)[label]},
    )
