"""Volumes of the left ventricle from masks, and its ejection fraction: does a heart have what was asked for?

The biplane method of disks, 20 disks (modified Simpson): Lang et al. 2015, doi:10.1016/j.echo.2014.10.003. Beside it
what can be had from one plane: the same disks taken for circles, and area and length. Pure functions of masks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS, Frames
from cohorts.study import CAVITY, View
from synthesis.landmarks import long_axis, slabs

Floats = NDArray[np.floating[Any]]

DISKS = 20
_MM3_PER_ML = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cavities:
    """Cavities of the left ventricle, each in one plane; NaN where a mask shows none.

    Attributes:
        length_mm: from the mitral plane to the apex, `(n,)`.
        diameters_mm: across the axis, base first, `(n, DISKS)`.
    """

    length_mm: NDArray[np.float64]
    diameters_mm: NDArray[np.float64]


def cavities(masks: NDArray[np.uint8], pixel_mm: Floats) -> Cavities:
    """Measure the cavity of every mask.

    Args:
        masks: `(n, height, width)`, labels of `Clip.masks`.
        pixel_mm: height and width of one pixel of each, `(n, 2)`.

    Raises:
        ValueError: shapes do not fit, or a pixel has no size.
    """
    if masks.ndim != 3 or pixel_mm.shape != (len(masks), 2):
        raise ValueError(f"masks {masks.shape} and pixel_mm {pixel_mm.shape} must be (n, height, width) and (n, 2)")
    if not (np.isfinite(pixel_mm).all() and (pixel_mm > 0).all()):
        raise ValueError("pixel_mm must be finite and greater than 0")
    length, diameters = np.full(len(masks), np.nan), np.full((len(masks), DISKS), np.nan)
    for k, mask in enumerate(masks):
        pixel = (float(pixel_mm[k, 0]), float(pixel_mm[k, 1]))
        axis = long_axis(mask, pixel)
        if axis is not None:
            length[k] = axis.length_mm
            diameters[k] = slabs(mask == CAVITY, axis, pixel, count=DISKS)[1]
    return Cavities(length_mm=length, diameters_mm=diameters)


def biplane_ml(four: Cavities, two: Cavities) -> NDArray[np.float64]:
    """Return volumes by the biplane method of disks, π/4 Σ aᵢ bᵢ L/20, in ml, `(n,)`; L is the longer of both axes."""
    length = np.maximum(four.length_mm, two.length_mm)
    out: NDArray[np.float64] = (
        np.pi / 4 * (four.diameters_mm * two.diameters_mm).sum(axis=1) * length / DISKS / _MM3_PER_ML
    )
    return out


def single_plane_ml(plane: Cavities) -> NDArray[np.float64]:
    """Return volumes by disks that are circles, in ml, `(n,)`."""
    return biplane_ml(plane, plane)


def area_length_ml(plane: Cavities) -> NDArray[np.float64]:
    """Return volumes by area and length, 8 A² / (3 π L), in ml, `(n,)`: exact for an ellipsoid of revolution."""
    area = plane.diameters_mm.sum(axis=1) * plane.length_mm / DISKS
    out: NDArray[np.float64] = 8 * area**2 / (3 * np.pi * plane.length_mm) / _MM3_PER_ML
    return out


def lvef_percent(end_diastolic: Floats, end_systolic: Floats) -> NDArray[np.float64]:
    """Return the share of the end-diastolic volume that is ejected, in percent; negative where the heart grew."""
    out: NDArray[np.float64] = 100 * (1 - np.asarray(end_systolic, np.float64) / end_diastolic)
    return out


def biplane_lvef(frames: Frames) -> NDArray[np.float64]:
    """Return the biplane ejection fraction of each subject from the masks of its A4C and A2C at ED and ES, in percent.

    Frames say nothing of the size of a pixel, and a fraction needs none: pixels are taken for unit squares. Of several
    frames of one view and phase the first counts. `(subjects,)`, NaN where one of the four masks is missing.
    """
    at = np.full((len(frames.subjects), 2, 2), -1, np.int64)
    apical = (VIEWS.index(View.A4C), VIEWS.index(View.A2C))
    for row in reversed(range(len(frames))):
        if frames.view[row] in apical and frames.phase[row] in (0, 1):
            at[frames.subject[row], apical.index(int(frames.view[row])), frames.phase[row]] = row
    found = np.full(len(frames.subjects), np.nan)
    whole = np.flatnonzero((at >= 0).all(axis=(1, 2)))
    unit = np.ones((len(whole), 2))
    ed, es = (
        biplane_ml(*(cavities(frames.masks[at[whole, view, phase]], unit) for view in (0, 1))) for phase in (0, 1)
    )
    found[whole] = lvef_percent(ed, es)
    return found
