"""Who the phantom's subjects are: left ventricles drawn from ranges of adult echocardiography, sick and healthy.

A contour is given in *ventricle coordinates*: `u` runs along the long axis from the apex (0) to the mitral plane
(the length), `v` across it, both in millimetres; every contour is star shaped about a point half-way up the axis.
Ranges are wider than the reference ranges of Lang et al. 2015 (doi:10.1016/j.echo.2014.10.003), on purpose: a prior
that covers every hospital is worth more than one that resembles a single hospital.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.study import View

Floats = NDArray[np.floating[Any]]

FOURIER = 3
DRAWS = 26 + 8 * FOURIER  # uniforms that make one subject
DISCS = 64

_DISC_TAU = ((np.arange(DISCS) + 0.5) / DISCS).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Subjects, one per row; millimetres unless a name says otherwise.

    Attributes:
        long_axis: LV length from apex to mitral plane at end diastole, `(n,)`.
        width: largest inner diameter over length at end diastole, A4C and A2C, `(n, 2)`.
        wall: thickness at end diastole, septal/inferior and lateral/anterior, `(n, 2)`.
        apex: where along the axis the apical cap ends, A4C and A2C, `(n, 2)`.
        blunt: exponent of the cap: 1.6 pointed, 3 blunt, `(n,)`.
        taper: how much narrower the mitral plane is than the widest disc, `(n, 2)`.
        bend: sideways bow of the axis over its length, `(n, 2)`.
        slant: obliquity of the mitral plane as a tangent, `(n, 2)`.
        atrium: atrial length at end systole over the ventricle's, `(n,)`.
        atrium_width: atrial bulge over the annulus, `(n,)`.
        regional: how the contraction varies along the axis, `(n, 2)`.
        shortening: long-axis shortening over the ejection fraction, `(n,)`.
        thickening: wall thickening at an ejection fraction of one, `(n,)`.
        fourier: personal contour, `(n, 2 views, 2 sides, 2, FOURIER)`.
        lvef_percent: biplane ejection fraction, `(n,)`.
        heart_rate_bpm: beats per minute, `(n,)`.
    """

    long_axis: Floats
    width: Floats
    wall: Floats
    apex: Floats
    blunt: Floats
    taper: Floats
    bend: Floats
    slant: Floats
    atrium: Floats
    atrium_width: Floats
    regional: Floats
    shortening: Floats
    thickening: Floats
    fourier: Floats
    lvef_percent: Floats
    heart_rate_bpm: Floats

    def rows(self, index: NDArray[np.int64]) -> "Anatomy":
        """Return the subjects at `index`, repeats allowed."""
        return Anatomy(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def draw(uniforms: Floats, *, lvef: tuple[float, float], small: NDArray[np.bool_]) -> Anatomy:
    """Turn uniforms `(n, DRAWS)` into subjects.

    Args:
        uniforms: one row per subject.
        lvef: lowest and highest LVEF in percent; the middle is common.
        small: whose heart is a tenth shorter, `(n,)`: women's.
    """
    if uniforms.ndim != 2 or uniforms.shape[1] != DRAWS:
        raise ValueError(f"uniforms must be (n, {DRAWS}), not {uniforms.shape}")
    columns = iter(uniforms.T)

    def span(low: float, high: float) -> Floats:
        out: Floats = (low + (high - low) * next(columns)).astype(np.float32)
        return out

    def pair(low: float, high: float) -> Floats:
        return np.stack([span(low, high), span(low, high)], axis=1)

    # Two uniforms make a trapezoid: the middle is common, the ends stay well covered.
    ef = lvef[0] + (lvef[1] - lvef[0]) * (0.7 * next(columns) + 0.3 * next(columns))
    failing = np.clip((55 - ef) / 45, 0, 1).astype(np.float32)
    width = span(0.44, 0.66) + 0.12 * failing
    amplitude = (0.07 / np.arange(1, FOURIER + 1)).astype(np.float32)
    return Anatomy(
        long_axis=(span(70, 100) + 8 * failing) * (1 - 0.1 * small),
        width=np.clip(width[:, None] * pair(0.92, 1.08), 0.40, 0.82),
        wall=pair(7.5, 18.5),
        apex=pair(0.42, 0.75),
        blunt=span(1.7, 2.7),
        taper=pair(0.0, 0.42),
        bend=pair(-0.06, 0.05),
        slant=pair(-0.22, 0.22),
        atrium=span(0.42, 0.92),
        atrium_width=span(0.95, 1.75),
        regional=np.stack([span(-0.2, 0.45), span(-0.08, 0.08)], axis=1),
        shortening=span(0.12, 0.34),
        thickening=span(0.3, 0.7),
        heart_rate_bpm=span(48, 105),
        lvef_percent=ef.astype(np.float32),
        fourier=(2 * uniforms[:, -8 * FOURIER :].reshape(-1, 2, 2, 2, FOURIER) - 1) * amplitude,
    )


def later(anatomy: Anatomy, uniforms: Floats) -> Anatomy:
    """Return the subjects at a later study: LVEF within 3 points, another heart rate; `uniforms` `(n, 2)`."""
    drifted = np.clip(anatomy.lvef_percent + 6 * uniforms[:, 0] - 3, 8, 80)
    return replace(anatomy, lvef_percent=drifted, heart_rate_bpm=48 + 57 * uniforms[:, 1])


def half_widths(anatomy: Anatomy, view: View, tau: Floats, side: Floats) -> Floats:
    """Return the distance from the axis to the inner wall at end diastole over the length, `(n, len(tau))`.

    Args:
        anatomy: the subjects.
        view: `View.A2C`, or any other for the shape of A4C.
        tau: position along the axis, 0 apex, 1 mitral plane.
        side: -1 septal/inferior wall, +1 lateral/anterior wall, per position.
    """
    k = int(view is View.A2C)
    end = anatomy.apex[:, k : k + 1]
    cap = np.clip(1 - np.minimum(tau / end, 1), 0, 1)
    shape = (1 - cap**2) ** (1 / anatomy.blunt[:, None])
    below = np.clip((tau - end) / (1 - end), 0, 1)
    shape *= 1 - anatomy.taper[:, k : k + 1] * below**2
    waves = np.arange(1, FOURIER + 1, dtype=np.float32)[:, None] * np.pi * np.minimum(tau, 1)
    left, right = (
        anatomy.fourier[:, k, s, 0] @ np.cos(waves) + anatomy.fourier[:, k, s, 1] @ np.sin(waves) for s in (0, 1)
    )
    shape *= 1 + np.where(side < 0, left, right)
    out: Floats = (0.5 * anatomy.width[:, k : k + 1] * shape).astype(np.float32)
    return out


def radial_scale(anatomy: Anatomy, contraction: Floats) -> Floats:
    """Return by how much the ventricle is narrower at each `contraction`, 0 end diastole to 1 end systole, `(n,)`.

    Solves the biplane method of discs for the scale, so that the volume is `1 - contraction * LVEF` of that at end
    diastole whatever the contours: the law that ties the label to the masks.
    """
    areas = np.ones((len(contraction), DISCS), np.float32)
    for view in (View.A4C, View.A2C):
        areas *= half_widths(anatomy, view, _DISC_TAU, -np.ones_like(_DISC_TAU)) + half_widths(
            anatomy, view, _DISC_TAU, np.ones_like(_DISC_TAU)
        )
    kept = (1 - contraction * anatomy.lvef_percent / 100) / axial_scale(anatomy, contraction)
    moved = (areas * regional(anatomy, contraction, _DISC_TAU) ** 2).sum(axis=1)
    out: Floats = np.sqrt(kept * areas.sum(axis=1) / moved).astype(np.float32)
    return out


def axial_scale(anatomy: Anatomy, contraction: Floats) -> Floats:
    """Return by how much the ventricle is shorter at each `contraction`, `(n,)`: the annulus descends."""
    return (1 - contraction * anatomy.shortening * anatomy.lvef_percent / 100).astype(np.float32)


def regional(anatomy: Anatomy, contraction: Floats, tau: Floats) -> Floats:
    """Return the local narrowing beside the global one, `(n, len(tau))`."""
    slope, wave = anatomy.regional[:, :1], anatomy.regional[:, 1:]
    out: Floats = (1 + contraction[:, None] * (slope * (tau - 0.5) + wave * np.cos(2 * np.pi * tau))).astype(np.float32)
    return out
