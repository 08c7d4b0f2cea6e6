"""Contrast echo of the phantom: pictures whose cavities are filled with a contrast agent, for benchmarks alone.

The agent makes blood brighter than muscle, and the scanner is turned down for it, so that tissue darkens. Only the
left heart is filled, for nothing else is outlined; how densely, how evenly and how far down differs from clip to clip.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cohorts.frames import Frames
from cohorts.study import ATRIUM

CAVITY = 1
LEVEL = (130.0, 225.0)  # grey value of blood
TISSUE = (0.4, 0.9)  # share of its grey value that tissue keeps
SPECKLE = (0.1, 0.3)  # standard deviation, of the level
SWIRL = (0.0, 0.25)  # the same of slow unevenness
SHADOW = (0.0, 0.6)  # share of the level that is lost from the top of the cavity to the bottom of the picture
EDGE = (0.012, 0.03)  # standard deviation of the edge, of the height of the picture


def opacify(frames: Frames, fans: NDArray[np.bool_], *, seed: int) -> Frames:
    """Return `frames` as contrast studies show them; ED and ES of a clip, side by side, share their settings.

    Args:
        frames: of outlined pictures, a pair of every clip.
        fans: where each has echoes, `(n, size, size)`; text and black around it betray nothing of the agent.
        seed: names the draws; clip `k` is the same however many there are.
    """
    pixels = np.empty_like(frames.pixels)
    for row, (image, mask) in enumerate(zip(frames.pixels, frames.masks, strict=True)):
        settings = np.random.default_rng((seed, row // 2, 2)).random(6)
        filled = _fill(image, mask, settings, np.random.default_rng((seed, row // 2, row % 2)))
        pixels[row] = np.where(fans[row], filled, image)
    return dataclasses.replace(frames, pixels=pixels)


def _fill(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], settings: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    ends = np.array((LEVEL, TISSUE, SPECKLE, SWIRL, SHADOW, EDGE))
    level, tissue, grain, swirl, shadow, edge = ends[:, 0] + settings * (ends[:, 1] - ends[:, 0])
    size = len(image)
    cavity = (mask == CAVITY) | (mask == ATRIUM)
    lit = gaussian_filter(cavity.astype(np.float64), edge * size)
    top = np.flatnonzero(cavity.any(1))[0] if cavity.any() else 0
    below = np.clip((np.arange(size) - top) / size, 0, 1)[:, None]
    uneven = 1 + grain * _noise(rng, size, 0.01) + swirl * _noise(rng, size, 0.1)
    blood = level * (1 - shadow * below) * uneven
    grey = (1 - lit) * tissue * image + lit * blood
    return np.asarray(np.clip(grey, 0, 255).round(), np.uint8)


def _noise(rng: np.random.Generator, size: int, length: float) -> NDArray[np.float64]:
    """Return noise of mean 0 and standard deviation 1, correlated over `length` of the height of the picture."""
    noise = gaussian_filter(rng.standard_normal((size, size)), length * size)
    return np.asarray(noise / noise.std())
