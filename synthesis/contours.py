"""One left heart as one vector of millimetres, taken from masks.

Per plane and moment: the lengths of ventricle, apical wall and atrium, then, for slabs across the long axis, where each
has its middle and how wide it is: of the cavity, of cavity and wall together, and of the atrium. Slabs are numbered
from the mitral plane, so the same number is the same place in every heart, and the volume follows from the vector.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom.simulate import APICAL
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM
from synthesis.landmarks import Axis, long_axis, points_of, slabs

Floats = NDArray[np.floating[Any]]

VIEWS, DISKS, ATRIAL = APICAL, 20, 10
PLANE = 3 + 4 * DISKS + 2 * ATRIAL  # numbers of one view at one moment
SIZE = PLANE * len(VIEWS) * 2
LENGTH, WIDTHS = 0, slice(3 + DISKS, 3 + 2 * DISKS)  # of the cavity, within a plane


def heart(masks: NDArray[np.uint8], pixel_mm: Floats) -> NDArray[np.float64] | None:
    """Return one heart as a vector, `(SIZE,)`; `None` where a cavity, a wall or an atrium is missing or no such thing.

    Whatever the masks hold, nothing is raised: whether a run breaks off must not depend on one patient.

    Args:
        masks: `(views, 2, height, width)`: `VIEWS`, at end diastole and end systole.
        pixel_mm: height and width of a pixel, `(views, 2)`.
    """
    found = []
    for view in range(len(VIEWS)):
        pixel = (float(pixel_mm[view, 0]), float(pixel_mm[view, 1]))
        for mask in masks[view]:
            axis = long_axis(mask, pixel)
            plane = None if axis is None else _plane(mask, axis, pixel)
            if plane is None:
                return None
            found.append(plane)
    return np.concatenate(found)


def planes(hearts: Floats) -> NDArray[np.float64]:
    """Return hearts `(n, SIZE)` as `(n, views, 2, PLANE)`, a copy."""
    return np.array(hearts, np.float64).reshape(len(hearts), len(VIEWS), 2, PLANE)


def volumes_ml(moments: Floats) -> NDArray[np.float64]:
    """Return the biplane volume at every moment of planes `(n, views, moments, PLANE)`, in ml, `(n, moments)`."""
    length, width = moments[..., LENGTH].max(axis=1), np.maximum(moments[..., WIDTHS], 0)
    out: NDArray[np.float64] = np.pi / 4 * width.prod(axis=1).mean(axis=2) * length / 1000
    return out


def lvef_percent(hearts: Floats) -> NDArray[np.float64]:
    """Return the biplane ejection fraction of hearts `(n, SIZE)`, in percent, `(n,)`."""
    ed, es = volumes_ml(planes(hearts)).T
    out: NDArray[np.float64] = 100 * (1 - es / np.maximum(ed, 1e-6))
    return out


def during(hearts: Floats, contraction: Floats) -> NDArray[np.float64]:
    """Return hearts `(n, SIZE)` at moments of the cycle, `(n, views, moments, PLANE)`.

    Every number goes straight from end diastole to end systole, so that both planes of a heart move as one.

    Args:
        hearts: at end diastole and end systole.
        contraction: 0 at end diastole, 1 at end systole, `(n, moments)`.
    """
    ends = planes(hearts)
    out: NDArray[np.float64] = ends[:, :, :1] + contraction[:, None, :, None] * (ends[:, :, 1:] - ends[:, :, :1])
    return out


def ejecting(hearts: Floats, lvef_percent: Floats) -> NDArray[np.float64]:
    """Return the hearts with their cavities at end systole widened or narrowed until the biplane LVEF is as asked."""
    ends = planes(hearts)
    ed, es = volumes_ml(ends).T
    scale = np.sqrt((1 - np.asarray(lvef_percent) / 100) * ed / np.maximum(es, 1e-6))
    ends[:, :, 1, WIDTHS] = np.maximum(ends[:, :, 1, WIDTHS], 0) * scale[:, None, None]
    return ends.reshape(len(hearts), SIZE)


def holding(hearts: Floats, edv_ml: Floats) -> NDArray[np.float64]:
    """Return the hearts enlarged or reduced as a whole until the biplane volume at end diastole is as asked."""
    out: NDArray[np.float64] = (
        hearts.astype(np.float64) * np.cbrt(np.asarray(edv_ml) / volumes_ml(planes(hearts))[:, 0])[:, None]
    )
    return out


def _plane(mask: NDArray[np.uint8], axis: Axis, pixel: tuple[float, float]) -> NDArray[np.float64] | None:
    """Return lengths, then middles and widths of cavity, of cavity with wall, and of atrium: `(PLANE,)` in mm."""
    whole = (mask == CAVITY) | (mask == MYOCARDIUM)
    rows, columns = np.nonzero(whole)
    above, _ = axis.along_and_across((np.stack([rows, columns], axis=1) + 0.5) * pixel)
    whole[rows[above < 0], columns[above < 0]] = False  # a wall may reach below the mitral plane
    if not ((mask == MYOCARDIUM).any() and (mask == ATRIUM).any() and whole.any()):
        return None
    cap = axis.along_and_across(points_of(whole, pixel))[0].max() - axis.length_mm
    deep = -axis.along_and_across(points_of(mask == ATRIUM, pixel))[0].min()
    if deep <= 0 or axis.length_mm + cap <= 0:
        return None  # an atrium above the mitral plane
    cavity = slabs(mask == CAVITY, axis, pixel, count=DISKS)
    outer = slabs(whole, axis, pixel, count=DISKS, stop_mm=axis.length_mm + cap)
    atrium = slabs(mask == ATRIUM, axis, pixel, count=ATRIAL, start_mm=-deep, stop_mm=0.0)
    # A slanted mitral plane cuts the first two slabs askew: there sides go on as they come from the third to the fifth.
    for sides in (cavity[0], *outer):
        sides[:2] = sides[2] + (sides[2] - sides[4]) * np.array([1, 0.5])
    cavity[1][:2] = cavity[1][:2].mean()
    return np.concatenate([[axis.length_mm, cap, deep], *cavity, *outer, *atrium])
