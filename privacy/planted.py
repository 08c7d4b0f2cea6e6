"""Altered copies of an image: the positive control that shows whether an attack or a filter would see a leak.

One level is all its alterations at once, each drawn up to the stated size: a copy that a generator trained with the
usual augmentations could return. Level 2 is the one that an attack has to find.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """Largest alterations of one level.

    Attributes:
        degrees: rotation, either way.
        shift: shift along each axis in image sides, either way.
        scale: factor of enlargement or shrinking.
        gamma: exponent on grey values in [0, 1], always applied in full.
        speckle: standard deviation of multiplicative noise.
        noise: standard deviation of additive noise, in the range of grey values.
    """

    degrees: float
    shift: float
    scale: float
    gamma: float
    speckle: float
    noise: float


LEVELS = {
    1: Alteration(degrees=2, shift=0.015, scale=1.02, gamma=0.9, speckle=0.05, noise=0.01),
    2: Alteration(degrees=5, shift=0.03, scale=1.05, gamma=0.8, speckle=0.1, noise=0.02),
    3: Alteration(degrees=10, shift=0.06, scale=1.1, gamma=0.6, speckle=0.2, noise=0.05),
}


def altered_copy(image: NDArray[np.uint8], *, level: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a copy of `image`, `(height, width)`, altered at `level` 1 to 3."""
    from scipy.ndimage import affine_transform

    if level not in LEVELS:
        raise ValueError(f"level={level} must be one of {sorted(LEVELS)}")
    most = LEVELS[level]
    turn, zoom, down, right = rng.uniform(-1, 1, 4)
    angle, scale = np.deg2rad(most.degrees * turn), most.scale**zoom
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    centre = (np.array(image.shape) - 1) / 2
    shift = most.shift * np.array([down, right]) * image.shape
    grey = affine_transform(image / 255.0, matrix, offset=centre - matrix @ (centre + shift), order=1)
    grey = grey.clip(0, 1) ** most.gamma
    grey = grey * (1 + most.speckle * rng.standard_normal(image.shape)) + most.noise * rng.standard_normal(image.shape)
    return np.asarray(np.round(255 * grey.clip(0, 1)), np.uint8)
