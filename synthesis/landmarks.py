"""Where a ventricle lies in a mask: its long axis, and how wide it is along it.

The axis runs from the middle of the mitral plane to the farthest point of the cavity, as a reader of echocardiograms
draws it (Lang et al. 2015, doi:10.1016/j.echo.2014.10.003). Widths are areas of slabs across it over their thickness:
no pixel is lost, whatever the angle, and a mask of 64 px is nearly as good as one of 256.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.study import ATRIUM, BACKGROUND, CAVITY, MYOCARDIUM

Floats = NDArray[np.floating[Any]]

_FINE = 96  # up to this side a pixel is 4 points high and wide, above it 2: it may lie in two slabs


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The long axis of one cavity, in millimetres from the upper left corner of the picture, down before right.

    Attributes:
        base: middle of the mitral plane, `(2,)`.
        direction: unit vector from there towards the apex, `(2,)`.
        length_mm: from the mitral plane to the apex.
    """

    base: Floats
    direction: Floats
    length_mm: float

    def along_and_across(self, points: Floats) -> tuple[Floats, Floats]:
        """Return how far points `(n, 2)` lie towards the apex and, apex up, to the right of the axis, in mm."""
        from_base = points - self.base
        right = np.array([self.direction[1], -self.direction[0]])
        return from_base @ self.direction, from_base @ right


def long_axis(mask: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> Axis | None:
    """Return the long axis of the cavity in `mask`, `(height, width)`; `None` where there is no cavity.

    The mitral plane is where cavity and atrium meet; where no atrium is outlined, where the cavity is not walled in;
    where no wall is outlined either, the axis joins the two points of the cavity farthest apart, apex nearer to the
    probe, which is at the top.

    Args:
        mask: labels of `Clip.masks`.
        pixel_mm: height and width of one pixel.
    """
    inside = points_of(mask == CAVITY, pixel_mm)
    if not len(inside):
        return None
    plane = _border(mask == CAVITY, mask == ATRIUM, pixel_mm)
    if len(plane) < 2 and (mask == MYOCARDIUM).any():
        plane = _border(mask == CAVITY, mask == BACKGROUND, pixel_mm)
    base = _farthest(plane).mean(axis=0) if len(plane) > 1 else _lower(_farthest(inside))
    reach = np.linalg.norm(inside - base, axis=1)
    apex = int(reach.argmax())
    return Axis(base=base, direction=(inside[apex] - base) / reach[apex], length_mm=float(reach[apex]))


def points_of(region: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> Floats:
    """Return points that cover `region` evenly, as many to every pixel: `(n, 2)` in mm, down before right."""
    parts = _parts(region)
    within = (np.arange(parts) + 0.5) / parts
    shift = np.stack(np.meshgrid(within, within, indexing="ij"), axis=-1).reshape(1, -1, 2)
    points: Floats = (np.argwhere(region)[:, None] + shift).reshape(-1, 2) * np.asarray(pixel_mm)
    return points


def slabs(
    region: NDArray[np.bool_],
    axis: Axis,
    pixel_mm: tuple[float, float],
    *,
    count: int,
    start_mm: float = 0.0,
    stop_mm: float | None = None,
) -> tuple[Floats, Floats]:
    """Return the middle and the width of `region` in `count` slabs across `axis`, base first, in mm, each `(count,)`.

    What lies beyond the first or last slab counts to it, so that the areas add up to that of the region. An empty slab
    has width 0 and middle 0.

    Args:
        region: one structure, `(height, width)`.
        axis: of the cavity.
        pixel_mm: height and width of one pixel.
        count: of slabs, all of one thickness.
        start_mm: where the first begins, from the mitral plane towards the apex.
        stop_mm: where the last ends; by default at the apex.
    """
    along, across = axis.along_and_across(points_of(region, pixel_mm))
    stop = axis.length_mm if stop_mm is None else stop_mm
    thick = (stop - start_mm) / count
    index = np.clip((along - start_mm) / thick, 0, count - 1).astype(np.int64)
    n = np.bincount(index, minlength=count)
    middle = np.bincount(index, across, count) / np.maximum(n, 1)
    return middle, n * (pixel_mm[0] * pixel_mm[1] / _parts(region) ** 2 / thick)


def _parts(region: NDArray[np.bool_]) -> int:
    return 4 if len(region) <= _FINE else 2


def _border(one: NDArray[np.bool_], other: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> Floats:
    """Return the middles of the pixel edges between `one` and `other`, `(n, 2)` in mm."""
    across = (one[1:] & other[:-1]) | (one[:-1] & other[1:])
    beside = (one[:, 1:] & other[:, :-1]) | (one[:, :-1] & other[:, 1:])
    edges = np.concatenate([np.argwhere(across) + np.array([1, 0.5]), np.argwhere(beside) + np.array([0.5, 1])])
    out: Floats = edges * np.asarray(pixel_mm)
    return out


def _farthest(points: Floats) -> Floats:
    """Return the two of `points` that lie farthest apart, `(2, 2)`; they are corners of the convex hull."""
    turns = np.linspace(0, np.pi, 90, endpoint=False)
    shadows = points @ np.stack([np.cos(turns), np.sin(turns)])
    ends = np.stack([shadows.argmin(axis=0), shadows.argmax(axis=0)], axis=1)
    best = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1).argmax()
    out: Floats = points[ends[best]]
    return out


def _lower(pair: Floats) -> Floats:
    out: Floats = pair[pair[:, 0].argmax()]
    return out
