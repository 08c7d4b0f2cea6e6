"""The public embedding in which images are compared: no weights, every image alone, so it costs no privacy.

`a @ b` of two embedded images is the Pearson correlation of their 32 × 32 thumbnails, the trivial baseline that finds a
subject again in echo stills and that any learned embedding has to beat.
"""

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import resize

SIDE = 32


def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed images, each from its own pixels only.

    Args:
        pixels: uint8, `(n, height, width)`.

    Returns:
        float32, `(n, 1024)`; rows have mean zero and norm one, a constant image is all zero (it resembles nothing).
    """
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 (n, height, width), not {pixels.dtype} {pixels.shape}")
    small = np.empty((len(pixels), SIDE * SIDE), np.float32)
    for row, image in zip(small, pixels, strict=True):
        row[:] = resize(image, SIDE, nearest=False).reshape(-1)
    small -= small.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(small, axis=1, keepdims=True)
    np.divide(small, norm, out=small, where=norm > 1e-6)
    return small
