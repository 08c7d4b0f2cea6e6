"""Who looks like whom: one person under two identifiers is found by the picture, for no table admits it.

Pictures are compared as 32x32 grey values, each brought to mean 0 and length 1 alone, so that brightness, contrast and
resolution do not matter; the scalar product of two is their Pearson correlation. Among 500 people of CAMUS one study
under two identifiers correlates at 0.998 and more, and nobody else above 0.97.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
ALIKE = 0.985  # correlation from which two pictures are one; between the 0.97 and the 0.998 of CAMUS
FLAT = 2.0  # standard deviation of grey values below which a picture shows nothing to compare
_ROWS = 1024  # of the matrix of correlations at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The two pictures by which two owners are most alike: their rows, and their correlation."""

    first: int
    second: int
    correlation: float


def descriptor(picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Return `(SIDE * SIDE,)`, mean 0, length 1, of a picture `(height, width)`; `None` where it shows nothing."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.float32).ravel()
    values = values - values.mean()
    if values.std() < FLAT:
        return None
    unit: NDArray[np.float32] = values / np.linalg.norm(values)
    return unit


def alike(descriptors: NDArray[np.float32], owners: NDArray[np.int64], *, at_least: float = ALIKE) -> Iterator[Pair]:
    """Yield, for every two owners with a pair of pictures that correlates `at_least` so much, their best pair.

    Args:
        descriptors: `(n, SIDE * SIDE)`, one row a picture.
        owners: `(n,)`, whom each picture belongs to; pictures of one owner are not compared.
        at_least: in (0, 1].
    """
    best: dict[tuple[int, int], Pair] = {}
    for start in range(0, len(descriptors), _ROWS):
        block = descriptors[start : start + _ROWS] @ descriptors[start:].T
        for row, column in np.argwhere(block >= at_least):
            i, j = start + int(row), start + int(column)
            if owners[i] == owners[j]:
                continue
            key = (min(int(owners[i]), int(owners[j])), max(int(owners[i]), int(owners[j])))
            found = Pair(first=i, second=j, correlation=min(float(block[row, column]), 1.0))
            if key not in best or best[key].correlation < found.correlation:
                best[key] = found
    yield from sorted(best.values(), key=lambda pair: -pair.correlation)
