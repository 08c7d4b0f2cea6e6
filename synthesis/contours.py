"""One left heart as one vector of millimetres, from masks and back.

Per plane and moment: the lengths of ventricle, apical wall and atrium, then, for slabs across the long axis, where each
has its middle and how wide it is: of the cavity, of cavity and wall together, and of the atrium. Slabs are numbered
from the mitral plane, so the same number is the same place in every heart, and the volume follows from the vector.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom.simulate import APICAL
from cohorts.study import ATRIUM, BACKGROUND, CAVITY, MYOCARDIUM
from synthesis.landmarks import Axis, long_axis, points_of, slabs

Floats = NDArray[np.floating[Any]]

VIEWS, DISKS, ATRIAL = APICAL, 20, 10
PLANE = 3 + 4 * DISKS + 2 * ATRIAL  # numbers of one view at one moment
SIZE = PLANE * len(VIEWS) * 2
LENGTH, WIDTHS = 0, slice(3 + DISKS, 3 + 2 * DISKS)  # of the cavity, within a plane
_LEAST_WALL_MM = 2.0
_ROUND = np.linspace(0, 1, 5)  # along the last slab


def heart(masks: NDArray[np.uint8], pixel_mm: Floats) -> NDArray[np.float64] | None:
    """Return one heart as a vector, `(SIZE,)`; `None` where a cavity, a wall or an atrium is missing or no such thing.

    Whatever the masks hold, nothing is raised: whether a run breaks off must not depend on one patient.

    Args:
        masks: `(views, 2, height, width)`: `VIEWS`, at end diastole and end systole.
        pixel_mm: height and width of a pixel, `(views, 2)`.
    """
    planes = []
    for view in range(len(VIEWS)):
        pixel = (float(pixel_mm[view, 0]), float(pixel_mm[view, 1]))
        for mask in masks[view]:
            axis = long_axis(mask, pixel)
            plane = None if axis is None else _plane(mask, axis, pixel)
            if plane is None:
                return None
            planes.append(plane)
    return np.concatenate(planes)


def volumes_ml(hearts: Floats) -> NDArray[np.float64]:
    """Return the biplane volumes of hearts `(n, SIZE)` at end diastole and end systole, in ml, `(n, 2)`."""
    planes = hearts.reshape(len(hearts), len(VIEWS), 2, PLANE)
    length, width = planes[..., LENGTH].max(axis=1), np.maximum(planes[..., WIDTHS], 0)
    out: NDArray[np.float64] = np.pi / 4 * width.prod(axis=1).mean(axis=2) * length / 1000
    return out


def ejecting(hearts: Floats, lvef_percent: Floats) -> NDArray[np.float64]:
    """Return the hearts with their cavities at end systole widened or narrowed until the biplane LVEF is as asked."""
    planes = np.array(hearts, np.float64).reshape(len(hearts), len(VIEWS), 2, PLANE)
    ed, es = volumes_ml(hearts).T
    scale = np.sqrt((1 - np.asarray(lvef_percent) / 100) * ed / np.maximum(es, 1e-6))
    planes[:, :, 1, WIDTHS] = np.maximum(planes[:, :, 1, WIDTHS], 0) * scale[:, None, None]
    return planes.reshape(len(hearts), SIZE)


def draw(plane: Floats, down_mm: Floats, right_mm: Floats) -> NDArray[np.uint8]:
    """Draw one plane, `(PLANE,)`, as labels at points given from the apex: `down_mm` to the base, `right_mm` across."""
    length, cap, deep = (float(max(v, 1.0)) for v in plane[:3])
    cavity, outer = plane[3 : 3 + 2 * DISKS].reshape(2, DISKS), plane[3 + 2 * DISKS : 3 + 4 * DISKS].reshape(2, DISKS)
    atrium = plane[3 + 4 * DISKS :].reshape(2, ATRIAL)[:, ::-1]  # its last slab is the one farthest from the valve
    up = length - down_mm
    left, right = _sides(up / length, cavity)
    wall_left, wall_right = _sides(up / (length + cap), outer)
    thin = np.where(up < length, _LEAST_WALL_MM, 0.0)
    wall_left, wall_right = np.minimum(wall_left, left - thin), np.maximum(wall_right, right + thin)
    far_left, far_right = _sides(-up / deep, atrium)
    mask = np.full(up.shape, BACKGROUND, np.uint8)
    mask[(up <= 0) & (up >= -deep) & (right_mm > far_left) & (right_mm < far_right)] = ATRIUM
    mask[(up > 0) & (up < length + cap) & (right_mm > wall_left) & (right_mm < wall_right)] = MYOCARDIUM
    mask[(up > 0) & (up < length) & (right_mm > left) & (right_mm < right)] = CAVITY
    return mask


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


def _sides(at: Floats, middle_and_width: Floats) -> tuple[Floats, Floats]:
    """Return where the left and the right side lie `at` shares of the way from the first slab's edge to the last's.

    The last slab is round: an ellipse has two thirds of the width at its edge as the mean width of its last slab.
    """
    middle, width = middle_and_width[0], np.maximum(middle_and_width[1], 0)
    count = len(middle)
    centres = (np.arange(count) + 0.5) / count
    along = np.concatenate([centres[:-1], (count - 1 + _ROUND**0.5) / count])
    half = np.concatenate([width[:-1], 1.5 * width[-1] * np.sqrt(1 - _ROUND**0.5)]) / 2
    wide, mid = np.interp(at, along, half), np.interp(at, centres, middle)
    return mid - wide, mid + wide
