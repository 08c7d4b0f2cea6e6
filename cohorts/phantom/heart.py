"""Hearts in front of the probe: contours at a moment of the cycle, in the plane of a view.

Contours become tables of radius over direction about the ventricle's centre, so that asking a pixel how deep it lies in
the wall costs two look-ups, whether for the mask or for the echo.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom.anatomy import Anatomy, axial_scale, half_widths, radial_scale, regional
from cohorts.phantom.scanner import knob, sin_half_angle
from cohorts.study import View

Floats = NDArray[np.floating[Any]]

DIRECTIONS = 1024  # entries of a contour table
STEPS = 64  # entries of an atrium's table
POSE_DRAWS = 12  # uniforms that place one heart under one probe

_BEYOND = 1.25  # contours continue below the mitral plane, so that walls keep a direction there
_PSI = np.linspace(-1, 1, 129)
_SIDE = np.sign(_PSI).astype(np.float32)
_TAU = (_BEYOND * np.abs(_PSI) ** 1.7).astype(np.float32)
_MITRAL = float(np.interp(1.0, _TAU[64:], np.arange(65)))  # points from the apex to the mitral plane
_GRID = np.linspace(-2, 2, DIRECTIONS).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heart:
    """Hearts, one per row, in millimetres.

    Attributes:
        depth: depth of the picture, `(n,)`.
        origin: x and z of the apex (of the centre in PSAX), `(n, 2)`.
        axis: sine and cosine of the long axis' angle to the vertical, `(n, 2)`.
        length: apex to mitral plane, `(n,)`; far away in PSAX.
        slant: obliquity of the mitral plane as a tangent, `(n,)`.
        flare: how far the wall reaches below the mitral plane per millimetre of its thickness, `(n,)`.
        centre: u and v about which the contours are tabulated, `(n, 2)`.
        inner: radius of the inner wall by direction, `(n, DIRECTIONS)`.
        outer: radius of the outer wall by direction, `(n, DIRECTIONS)`.
        annulus: v of both ends of the mitral plane, `(n, 2)`.
        atrium_length: 0 where the view shows none, `(n,)`.
        atrium_middle: v of the atrium's midline by depth below the mitral plane, `(n, STEPS)`.
        atrium_half: half its width there, `(n, STEPS)`.
        leaflet: fraction of the annulus the leaflets close, and their depth into the ventricle, `(n, 2)`.
        pools: other blood: u, v, semi-axes along u and v, `(n, m, 4)`.
    """

    view: View
    depth: Floats
    origin: Floats
    axis: Floats
    length: Floats
    slant: Floats
    flare: Floats
    centre: Floats
    inner: Floats
    outer: Floats
    annulus: Floats
    atrium_length: Floats
    atrium_middle: Floats
    atrium_half: Floats
    leaflet: Floats
    pools: Floats


def direction(du: Floats, dv: Floats) -> Floats:
    """Return the direction of a point about the centre: 0 towards the apex, -2 and 2 towards the base.

    Monotone in the angle but without an arc tangent (the diamond angle).
    """
    turn = dv / (np.abs(du) + np.abs(dv) + 1e-6)
    out: Floats = np.where(du < 0, turn, np.copysign(np.float32(2), dv) - turn)
    return out


def place(
    anatomy: Anatomy, view: View, uniforms: Floats, styles: Floats, contraction: Floats, opening: Floats
) -> Heart:
    """Put hearts under the probe.

    Args:
        anatomy: the subjects, `n` rows.
        view: the plane.
        uniforms: how the probe is held and what the neighbouring chambers are like, `(n, POSE_DRAWS)`.
        styles: the scanners, `(n, knobs)`.
        contraction: 0 at end diastole, 1 at end systole, `(n,)`.
        opening: 0 mitral valve closed, 1 open, `(n,)`.
    """
    if view is View.PSAX:
        return _short_axis(anatomy, uniforms, styles, contraction)
    walls = _walls(anatomy, view, contraction)
    depth, origin, axis = _probe(anatomy.long_axis, view, uniforms[:, :5], styles)
    left, right = walls.annulus.T
    mitral = np.stack([left, left + (1.0 if view is not View.PLAX else 0.56) * (right - left)], axis=1)
    size, middle, half = _atrium(anatomy, mitral, uniforms[:, 5:7], contraction)
    dip, flare = 3 + 6 * uniforms[:, 7], 0.35 * uniforms[:, 8]
    return Heart(
        view=view,
        depth=depth,
        origin=origin,
        axis=axis,
        length=walls.length,
        slant=anatomy.slant[:, int(view is View.A2C)],
        flare=flare,
        centre=walls.centre,
        inner=walls.inner,
        outer=walls.outer,
        annulus=mitral.astype(np.float32),
        atrium_length=size,
        atrium_middle=middle,
        atrium_half=half,
        leaflet=np.stack([1 - 0.62 * opening, dip + 12 * opening], axis=1),
        pools=_pools(view, anatomy.long_axis, walls, uniforms[:, 9:]),
    )


class _Walls(NamedTuple):
    length: Floats
    centre: Floats
    inner: Floats
    outer: Floats
    annulus: Floats
    beside: Floats  # v of both outer surfaces near the mitral plane


def _walls(anatomy: Anatomy, view: View, contraction: Floats) -> _Walls:
    at_rest = anatomy.long_axis
    length = (at_rest * axial_scale(anatomy, contraction)).astype(np.float32)
    half = half_widths(anatomy, view, _TAU, _SIDE) * regional(anatomy, contraction, _TAU)
    half *= (at_rest * radial_scale(anatomy, contraction))[:, None]
    bow = anatomy.bend[:, [int(view is View.A2C)]] * at_rest[:, None]
    u, v = _TAU * length[:, None], bow * np.sin(np.pi * np.minimum(_TAU, 1)).astype(np.float32) + _SIDE * half
    thick = _thickness(anatomy, view, contraction)
    tu, tv = _tangent(u), _tangent(v)
    norm = np.sqrt(tu * tu + tv * tv) + 1e-6
    centre = np.stack([0.5 * length, bow[:, 0]], axis=1)
    inner = _tabulate(u, v, centre)
    outer = np.maximum(_tabulate(u - thick * tv / norm, v + thick * tu / norm, centre), inner + 2)
    low, part = int(_MITRAL), _MITRAL - int(_MITRAL)
    annulus = np.stack(
        [v[:, i] * (1 - part) + v[:, j] * part for i, j in ((64 - low, 63 - low), (64 + low, 65 + low))], 1
    )
    beside = annulus + np.stack([-thick[:, 10], thick[:, -10]], axis=1)
    return _Walls(length, centre, inner, outer, annulus, beside)


def _probe(at_rest: Floats, view: View, uniforms: Floats, styles: Floats) -> tuple[Floats, Floats, Floats]:
    """Depth of the picture, where the apex lies, and the direction of the long axis."""
    a, b, c, d, e = uniforms.T
    if view is View.PLAX:
        tilt = np.deg2rad(74 + 23 * a)
        depth = at_rest / (0.40 + 0.12 * b)
        middle = np.stack([(0.10 * c - 0.10) * depth, (0.40 + 0.12 * d) * depth], axis=1)
    else:
        tilt = np.deg2rad(-15 + 26 * a + 19 * b)
        apex_row = 0.07 + 0.22 * c
        extent = np.clip(0.64 - 0.30 * knob(styles, "depth") + 0.08 * d, 0.34, 0.91 - apex_row)
        depth = at_rest * np.cos(tilt) / extent
        column = (0.38 * e - 0.14) * sin_half_angle(styles)
        middle = np.stack([column * depth, (apex_row + extent / 2) * depth], axis=1)
    axis = np.stack([np.sin(tilt), np.cos(tilt)], axis=1).astype(np.float32)
    origin = (middle - 0.5 * at_rest[:, None] * axis).astype(np.float32)
    if view is not View.PLAX:
        # A window is where the apex can be seen: keep it inside the fan.
        reach = 0.75 * origin[:, 1] * sin_half_angle(styles)
        origin[:, 0] = np.clip(origin[:, 0], -reach, reach)
    return depth.astype(np.float32), origin, axis


def _atrium(anatomy: Anatomy, mitral: Floats, uniforms: Floats, contraction: Floats) -> tuple[Floats, Floats, Floats]:
    """Length, midline and half-width of the left atrium, which fills while the ventricle empties."""
    filling = 0.72 + 0.28 * contraction
    size = (anatomy.long_axis * anatomy.atrium * filling).astype(np.float32)
    w = np.linspace(0, 1, STEPS, dtype=np.float32)
    mouth, middle = (mitral[:, 1] - mitral[:, 0]) / 2, mitral.mean(axis=1)
    bulge = mouth * (anatomy.atrium_width - 1) * filling + 2
    round_ = np.sqrt(1 - w ** (2.2 + 3 * uniforms[:, :1]))
    half = (0.92 * mouth[:, None] + bulge[:, None] * np.maximum(np.sin(np.pi * w), 0) ** 0.8) * round_
    leaning = (0.52 * uniforms[:, 1] - 0.30) * size
    return size, (middle[:, None] + leaning[:, None] * w).astype(np.float32), half.astype(np.float32)


def _tangent(along: Floats) -> Floats:
    # Differences over several points: a kink at the mitral plane must not tear the outer wall.
    padded = np.pad(along, ((0, 0), (3, 3)), mode="reflect", reflect_type="odd")
    out: Floats = padded[:, 6:] - padded[:, :-6]
    return out


def _thickness(anatomy: Anatomy, view: View, contraction: Floats) -> Floats:
    weight = (0.5 + 0.5 * np.tanh(_PSI / 0.15)).astype(np.float32)
    wall = anatomy.wall[:, :1] * (1 - weight) + anatomy.wall[:, 1:] * weight
    wall = wall * (0.62 + 0.38 * np.minimum(_TAU / 0.35, 1)) * (1.25 if view is View.A2C else 1.0)
    grown = 1 + anatomy.thickening * anatomy.lvef_percent / 100 * contraction
    out: Floats = (wall * grown[:, None]).astype(np.float32)
    return out


def _tabulate(u: Floats, v: Floats, centre: Floats) -> Floats:
    du, dv = u - centre[:, :1], v - centre[:, 1:]
    angle = np.maximum.accumulate(direction(du, dv), axis=1)
    radius = np.sqrt(du * du + dv * dv)
    rows = [np.interp(_GRID, a, r) for a, r in zip(angle, radius, strict=True)]
    return np.array(rows, np.float32).reshape(len(u), DIRECTIONS)


def _pools(view: View, w: Floats, walls: _Walls, draws: Floats) -> Floats:
    """Other chambers as ellipses in ventricle coordinates; they are background in the mask.

    A4C shows the right ventricle and atrium, A2C the left appendage and the coronary sinus, PLAX the aortic root and
    the right ventricle; `w` is the ventricle's length at rest.
    """
    length, size, small = walls.length, 0.8 + 0.5 * draws[:, 0], 0.04 + 0.08 * draws[:, 2]
    (left, right), (far_left, far_right) = walls.annulus.T, walls.beside.T
    if view is View.A4C:
        pools = (
            (length - 0.28 * w, far_left - 0.2 * w * size, 0.46 * w, 0.32 * w * size),
            (length + 0.28 * w, left - (0.22 + 0.08 * draws[:, 1]) * w, 0.29 * w * size, 0.25 * w * size),
        )
    elif view is View.A2C:
        pools = (
            (length + 0.05 * w, far_right + 0.06 * w, small * w, 1.2 * small * w),
            (length + 0.04 * w, far_left - 0.04 * w, 0.6 * small * w, 0.8 * small * w),
        )
    else:
        pools = (
            (length + 0.26 * w, right - 0.13 * w, 0.34 * w, (0.15 + 0.04 * draws[:, 2]) * w),
            (length - 0.25 * w, far_right + 0.13 * w * size, 0.55 * w, 0.13 * w * size),
        )
    return np.stack([np.stack(p, axis=1) for p in pools], axis=1).astype(np.float32)


def _short_axis(anatomy: Anatomy, uniforms: Floats, styles: Floats, contraction: Floats) -> Heart:
    n = len(uniforms)
    rest = 0.5 * anatomy.width.mean(axis=1) * anatomy.long_axis
    scale = radial_scale(anatomy, contraction) * regional(anatomy, contraction, np.full(1, 0.5, np.float32))[:, 0]
    side = 2 - np.abs(_GRID)
    angle = np.sign(_GRID) * np.arctan2(np.minimum(np.abs(_GRID), side), 1 - np.abs(_GRID))
    waves = np.arange(2, 5)[:, None] * angle
    shape = 1 + 0.6 * (anatomy.fourier[:, 0, 0, 0] @ np.cos(waves) + anatomy.fourier[:, 0, 1, 0] @ np.sin(waves))
    inner = ((rest * scale)[:, None] * shape).astype(np.float32)
    grown = 1 + anatomy.thickening * anatomy.lvef_percent / 100 * contraction
    weight = (0.5 + 0.5 * np.sin(angle)).astype(np.float32)
    wall = (anatomy.wall[:, :1] * (1 - weight) + anatomy.wall[:, 1:] * weight) * grown[:, None]
    depth = 2 * (rest + anatomy.wall.mean(axis=1)) / (0.34 + 0.20 * uniforms[:, 0])
    origin = np.stack([(-0.02 + 0.14 * uniforms[:, 1]) * depth, (0.44 + 0.12 * uniforms[:, 2]) * depth], axis=1)
    outside = rest + anatomy.wall[:, 0]
    pools = np.stack([-0.15 * rest, -(outside + 0.35 * rest), 1.15 * rest, 0.75 * rest], axis=1)[:, None]
    nothing = np.zeros(n, np.float32)
    return Heart(
        view=View.PSAX,
        depth=depth.astype(np.float32),
        origin=origin.astype(np.float32),
        axis=np.stack([nothing, nothing + 1], axis=1),
        length=nothing + 1e4,
        slant=nothing,
        flare=nothing,
        centre=np.zeros((n, 2), np.float32),
        inner=inner,
        outer=(inner + wall).astype(np.float32),
        annulus=np.stack([-rest, rest], axis=1).astype(np.float32),
        atrium_length=nothing,
        atrium_middle=np.zeros((n, STEPS), np.float32),
        atrium_half=np.zeros((n, STEPS), np.float32),
        leaflet=np.zeros((n, 2), np.float32),
        pools=pools.astype(np.float32),
    )
