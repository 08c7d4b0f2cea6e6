"""Grey values of any range become 8 bits, by a window that is said, never by one that is guessed from other studies."""

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.5, 99.5)


def window(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Map `low..high` to 0..255 linearly, rounding to nearest; what lies outside is clipped.

    Raises:
        ValueError: a value is not finite, or the window is empty.
    """
    if not low < high:
        raise ValueError(f"grey window {low:g}..{high:g} is empty")
    wide = values.astype(np.float32)
    if not np.isfinite(wide).all():
        raise ValueError("holds grey values that are not finite")
    grey: NDArray[np.uint8] = np.rint(np.clip((wide - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    return grey


def stretched(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Map the `PERCENTILES` of these values alone to 0..255: for magnetic resonance, whose grey has no unit.

    Give it a whole volume or cine at once, so that its frames stay comparable.

    Raises:
        ValueError: a value is not finite, or all values are equal.
    """
    wide = values.astype(np.float32)
    if not np.isfinite(wide).all():
        raise ValueError("holds grey values that are not finite")
    low, high = np.percentile(wide, PERCENTILES)
    if not low < high:  # a few bright pixels on an empty ground
        low, high = wide.min(), wide.max()
    return window(wide, float(low), float(high))
