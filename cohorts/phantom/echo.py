"""What sends sound back: the mean echo of every point of a heart as a scanner of some style hears it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom.heart import DIRECTIONS, STEPS, Heart, locate
from cohorts.phantom.scanner import KNOBS, knob
from cohorts.study import View

Floats = NDArray[np.floating[Any]]

COARSE, STREAKS, RAYS = (10, 10), (40, 9), 14  # sizes of the random textures before they are interpolated
_BINS, _FIRST, _PER_WALL = 128, -1.0, 25.6  # profile through the wall: from one wall inside to three outside
_T = _FIRST + (np.arange(_BINS) + 0.5) / _PER_WALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """Random structure that stays with a clip: standard normal fields.

    Attributes:
        coarse: regional echogenicity, `COARSE`.
        streaks: fibrous layers across the beams, `STREAKS`.
        rays: shadow of each direction, `(RAYS,)`.
        wall: brightness along the contour, `(RAYS,)`.
    """

    coarse: Floats
    streaks: Floats
    rays: Floats
    wall: Floats


def texture(rng: np.random.Generator) -> Texture:
    """Draw the texture of one clip."""
    coarse, streaks, rays, wall = (
        rng.standard_normal(shape, dtype=np.float32) for shape in (COARSE, STREAKS, (RAYS,), (RAYS,))
    )
    return Texture(coarse=coarse, streaks=streaks, rays=rays, wall=wall)


def spline(points: int, knots: int) -> Floats:
    """Return weights `(points, knots)` that interpolate `knots` values smoothly (raised cosine), variance near one."""
    at = np.linspace(0, knots - 1, points)
    d = np.clip(np.abs(at[:, None] - np.arange(knots)), 0, 1)
    weights = 0.5 + 0.5 * np.cos(np.pi * d)
    out: Floats = (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)
    return out


_ALONG_WALL = spline(DIRECTIONS, RAYS)


def amplitude(heart: Heart, i: int, styles: Floats, fabric: Texture, x: Floats, z: Floats) -> Floats:
    """Return the amplitude of the echo of heart `i` at points `x`, `z` (over the depth), `(depths, lines)`.

    Power adds up over tissue, blood's haze, near-field clutter and noise; attenuation acts on all but the noise.
    """
    style = {name: float(knob(styles[i : i + 1], name)[0]) for name in KNOBS}
    depths, lines = x.shape
    at = locate(heart, i, x, z)
    inner = heart.inner[i].take(at.toward)
    outer = heart.outer[i].take(at.toward)
    through = (at.radius - inner) / (outer - inner)
    through -= _FIRST
    through *= _PER_WALL
    bins = np.clip(through, 0, _BINS - 1).astype(np.int32)

    wall, edge, outside = _profiles(style)
    along, shine = _brightness(heart, i, style, fabric)
    ventricle = wall.take(bins) * along.take(at.toward) + edge.take(bins) * shine.take(at.toward)
    above = np.clip(0.5 - at.below * 0.5, 0, 1)
    flesh = outside.take(bins)
    flesh = 1 - above * (1 - flesh)
    ventricle *= above
    bright = _decibel(style["specular_db"])

    rim = np.zeros_like(x)
    if heart.atrium_length[i] > 0:
        step = at.below * ((STEPS - 1) / float(heart.atrium_length[i]))
        index = np.clip(step, 0, STEPS - 1).astype(np.int32)
        inside = heart.atrium_half[i].take(index) - np.abs(at.across - heart.atrium_middle[i].take(index))
        inside = np.minimum(inside, (STEPS - 1 - step) * (float(heart.atrium_length[i]) / STEPS))
        flesh *= 1 - np.clip(inside * 0.4 + 0.5, 0, 1) * (1 - above)
        rim += (0.10 * bright) / (1 + (inside + 1.5) ** 2) * (at.below > 0)
        rim += _valve(heart, i, at.across, at.below, bright)
        apart = np.clip(-inside * 0.5 - 1.0, 0, 1)
    else:
        apart = np.ones_like(x)
    far = np.clip((through - (1.12 - _FIRST) * _PER_WALL) * 0.25, 0, 1)
    apart = np.maximum(1 - above, far) * apart if heart.view is not View.PSAX else far
    for u, v, a, b in heart.pools[i].tolist():
        q = 1 - ((at.along - u) / a) ** 2 - ((at.across - v) / b) ** 2
        flesh *= 1 - np.clip(q * 4 + 0.5, 0, 1) * apart
        rim += (0.06 * bright) / (1 + (q * 9 + 0.6) ** 2) * apart

    coarse, streaks = _fields(fabric, depths, lines)
    strength = style["texture_db"] * (np.log(10) / 10)
    tissue = np.exp(coarse * strength + streaks * (0.8 * strength))
    power = flesh * tissue * _decibel(style["tissue_db"])
    power += ventricle * np.sqrt(tissue)
    power += rim * np.sqrt(tissue)

    r = ((np.arange(depths, dtype=np.float32) + 0.5) / depths)[:, None]
    power += _decibel(style["haze_db"]) * np.exp(0.5 * strength * coarse)
    power += _decibel(style["clutter_db"]) * np.exp(-r * 9) * (1 + 0.5 * streaks**2)
    power += 300 * np.exp(-r * 60)
    behind = np.exp(-(((r - 0.9 - 0.02 * fabric.rays[0]) / 0.05) ** 2))
    power += _decibel(style["far_db"]) * behind * np.minimum(tissue * tissue, 20)
    rays = spline(lines, RAYS) @ fabric.rays
    edge_loss = np.linspace(-1, 1, lines, dtype=np.float32) ** 4
    loss = style["dropout"] * (5 * np.maximum(rays - 0.3, 0) * np.minimum(1, 2 * r) + 9 * edge_loss)
    power *= _decibel(style["attenuation_db"] * (r - 0.4) - loss)
    power += _decibel(style["noise_db"]) * np.exp(2.5 * (r - 0.7))
    out: Floats = np.sqrt(power, out=power)
    return out


def _decibel(value: float | Floats) -> Floats:
    out: Floats = np.exp(np.asarray(value, np.float32) * np.float32(np.log(10) / 10))
    return out


def _profiles(style: dict[str, float]) -> tuple[Floats, Floats, Floats]:
    """Muscle, its bright edges, and the tissue outside, by depth through the wall (0 inner, 1 outer surface)."""
    rise = np.clip((_T + 0.08) / 0.2, 0, 1)
    wall = rise * np.clip((1.12 - _T) / 0.2, 0, 1)
    edge = 0.3 * np.exp(-(((_T - 0.1) / 0.14) ** 2)) + 0.5 * np.exp(-(((_T - 1.05) / 0.16) ** 2))
    edge += 0.12 * np.exp(-(((_T - 0.6) / 0.4) ** 2))
    outside = np.clip((_T - 0.9) / 0.25, 0, 1)
    return wall.astype(np.float32), edge.astype(np.float32), outside.astype(np.float32)


def _brightness(heart: Heart, i: int, style: dict[str, float], fabric: Texture) -> tuple[Floats, Floats]:
    """Muscle and interface by direction: strong where the beam meets a wall head on, faint along it."""
    angle = np.linspace(-2, 2, DIRECTIONS, dtype=np.float32)
    du, dv = np.abs(angle) - 1, np.sign(angle) * (1 - np.abs(np.abs(angle) - 1))
    norm = np.sqrt(du * du + dv * dv)
    radius = heart.inner[i]
    u, v = heart.centre[i, 0] + radius * du / norm, heart.centre[i, 1] + radius * dv / norm
    tu, tv = np.gradient(u), np.gradient(v)
    sine, cosine = heart.axis[i]
    x, z = heart.origin[i, 0] + sine * u + cosine * v, heart.origin[i, 1] + cosine * u - sine * v
    bx, bz = sine * tu + cosine * tv, cosine * tu - sine * tv
    head_on = np.abs(x * bz - z * bx) / (np.sqrt((x * x + z * z) * (bx * bx + bz * bz)) + 1e-6)
    mottle = _ALONG_WALL @ fabric.wall
    if heart.view is not View.PSAX:
        mottle -= 0.9 * np.clip(angle, -0.5, 0.5)  # the septum and the inferior wall reflect more than those opposite
    fade = style["dropout"] * (1 - head_on)
    muscle = _decibel(-7 * fade + 2.5 * mottle * (0.4 + style["dropout"]))
    shine = _decibel(style["specular_db"] - 9 * (1 - head_on) - 10 * fade + 3.5 * mottle)
    return muscle, shine


def _valve(heart: Heart, i: int, across: Floats, below: Floats, bright: Floats) -> Floats:
    left, right = (float(a) for a in heart.annulus[i])
    closed, dip = (float(a) for a in heart.leaflet[i])
    half = (right - left) / 2
    aside = np.abs(across - (left + right) / 2) / half
    along = (1 - aside) / closed
    sheet = 0.35 * bright / (1 + ((below + dip * np.clip(along, 0, 1)) * (0.9 / (1 + dip / half))) ** 2)
    sheet *= (along > -0.05) & (along < 1.0 + 1e-3)
    hinge = ((aside - 1.08) * half / 3.5) ** 2 + (below / 3.0) ** 2
    sheet += 0.8 * bright / (1 + hinge**2)
    out: Floats = sheet
    return out


def _fields(fabric: Texture, depths: int, lines: int) -> tuple[Floats, Floats]:
    coarse = spline(depths, COARSE[0]) @ fabric.coarse @ spline(lines, COARSE[1]).T
    streaks = spline(depths, STREAKS[0]) @ fabric.streaks @ spline(lines, STREAKS[1]).T
    return coarse, streaks
