"""What an expert would outline: where points lie in a heart, and the label they get."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom.heart import DIRECTIONS, STEPS, Heart, direction
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """Where points lie in one heart, in millimetres.

    Attributes:
        across: v.
        below: distance below the mitral plane, negative above it.
        toward: index into the contour tables.
        radius: distance from the ventricle's centre.
        along: u.
    """

    along: Floats
    across: Floats
    below: Floats
    toward: NDArray[np.int32]
    radius: Floats


def locate(heart: Heart, i: int, x: Floats, z: Floats) -> Local:
    """Return where points `x`, `z` (over the depth) lie in heart `i`."""
    sine, cosine = (float(a) for a in heart.axis[i])
    depth = float(heart.depth[i])
    x = x * depth - float(heart.origin[i, 0])
    z = z * depth - float(heart.origin[i, 1])
    u = sine * x + cosine * z
    v = cosine * x - sine * z
    du, dv = u - float(heart.centre[i, 0]), v - float(heart.centre[i, 1])
    toward = ((direction(du, dv) + 2) * ((DIRECTIONS - 1) / 4) + 0.5).astype(np.int32)
    radius = np.sqrt(du * du + dv * dv)
    return Local(
        along=u, across=v, below=u + float(heart.slant[i]) * v - float(heart.length[i]), toward=toward, radius=radius
    )


def labels(heart: Heart, i: int, x: Floats, z: Floats) -> NDArray[np.uint8]:
    """Return the mask of heart `i` at points `x`, `z` (over the depth), uint8 labels of `Clip.masks`."""
    at = locate(heart, i, x, z)
    inner, outer = heart.inner[i].take(at.toward), heart.outer[i].take(at.toward)
    mask = np.zeros(at.radius.shape, np.uint8)
    if heart.atrium_length[i] > 0:
        step = at.below * ((STEPS - 1) / float(heart.atrium_length[i]))
        index = np.clip(step, 0, STEPS - 1).astype(np.int32)
        aside = np.abs(at.across - heart.atrium_middle[i].take(index))
        mask[(step >= 0) & (step < STEPS - 1) & (aside < heart.atrium_half[i].take(index))] = ATRIUM
    wall = (at.radius >= inner) & (at.radius < outer) & (at.below < float(heart.flare[i]) * (at.radius - inner))
    mask[wall] = MYOCARDIUM
    mask[(at.radius < inner) & (at.below < 0)] = CAVITY
    return mask
