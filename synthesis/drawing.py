"""Hearts that are vectors of millimetres as masks: at any moment of the cycle, under a probe that somebody holds."""

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS as ALL_VIEWS
from cohorts.phantom import motion
from cohorts.study import ATRIUM, BACKGROUND, CAVITY, MYOCARDIUM
from synthesis import contours
from synthesis.contours import ATRIAL, DISKS, LENGTH, VIEWS
from synthesis.shape import Shapes

Floats = NDArray[np.floating[Any]]

_LEAST_WALL_MM = 2.0
_ROUND = np.linspace(0, 1, 5)  # along the last slab
_NAME = crc32(b"probe of the statistical shape model")


def render(hearts: Floats, *, seed: int, size: int = 64, phase: Floats | None = None) -> Shapes:
    """Draw hearts `(n, SIZE)` as masks, held under the probe as a public range of sonographers hold it.

    Args:
        hearts: of `synthesis.contours`.
        seed: names probes and heart rates; those of heart `k` depend on the seed and `k` alone.
        size: side of the masks in pixels.
        phase: moments of the cycle, `(moments,)`, the same for all; `None` takes end diastole and end systole of each.
    """
    n = len(hearts)
    rate = np.array([48 + 57 * _stream(seed, k, 0).random() for k in range(n)], np.float32)
    end_systole = motion.systole(rate)
    when = np.stack([np.zeros(n, np.float32), end_systole], 1) if phase is None else np.tile(phase, (n, 1)) % 1
    moments = contours.during(hearts, motion.contraction(when, end_systole[:, None]))
    masks = np.zeros((*moments.shape[:3], size, size), np.uint8)
    pixel_mm = np.zeros((n, len(VIEWS), 2), np.float32)
    at_rest = contours.planes(hearts)[:, :, 0, LENGTH]
    for k in range(n):
        for v, view in enumerate(VIEWS):
            uniforms = _stream(seed, k, 1 + ALL_VIEWS.index(view)).random(5)
            down, right, pixel_mm[k, v] = _probe(max(float(at_rest[k, v]), 20.0), uniforms, size)
            for t, plane in enumerate(moments[k, v]):
                masks[k, v, t] = draw(plane, down, right)
    volume = contours.volumes_ml(moments).astype(np.float32)
    return Shapes(
        masks=masks,
        pixel_mm=pixel_mm,
        phase=when.astype(np.float32),
        volume_ml=volume,
        lvef_percent=contours.lvef_percent(hearts).astype(np.float32),
        edv_ml=contours.volumes_ml(contours.planes(hearts))[:, 0].astype(np.float32),
        heart_rate_bpm=rate,
        views=VIEWS,
    )


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


def _probe(length: float, uniforms: Floats, size: int) -> tuple[Floats, Floats, tuple[float, float]]:
    """Return how far each pixel lies from the apex along and across the axis, and a pixel's height and width, in mm."""
    tilt, high, extent, aside, aspect = (float(u) for u in uniforms)
    angle, depth = np.deg2rad(-15 + 40 * tilt), length / (0.40 + 0.18 * extent)
    width = depth * (1.1 + 0.4 * aspect)
    at = (np.arange(size) + 0.5) / size
    down = depth * (at[:, None] - 0.10 - 0.14 * high)
    right = width * (at[None, :] - 0.5) - depth * (0.2 * aside - 0.1) + 0.5 * length * np.sin(angle)
    along, across = np.cos(angle) * down + np.sin(angle) * right, np.cos(angle) * right - np.sin(angle) * down
    return along, across, (depth / size, width / size)


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


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((seed, _NAME), spawn_key=key))
