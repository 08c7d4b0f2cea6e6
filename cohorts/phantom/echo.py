"""What sends sound back: the mean echo of every point of a heart as a scanner of some style hears it.

Levels are powers relative to muscle. Nothing here is random but a clip's `Texture`, and that is drawn by the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom.heart import DIRECTIONS, STEPS, Heart
from cohorts.phantom.masks import Local, locate
from cohorts.study import View

Floats = NDArray[np.floating[Any]]

COARSE, STREAKS, RAYS = (10, 10), (44, 9), 14  # sizes of the random textures before they are interpolated
_BINS, _FIRST, _PER_WALL = 128, -1.0, 25.6  # profile through the wall: from one wall inside to three outside
_T = _FIRST + (np.arange(_BINS) + 0.5) / _PER_WALL
_ANGLE = np.linspace(-2, 2, DIRECTIONS, dtype=np.float32)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a probe hears whatever the heart does, each `(depths, lines)`.

    Attributes:
        x: where the echo comes from, over the depth.
        z: the same, away from the probe.
        tissue: echogenicity of flesh, one on average.
        layered: the same for interfaces, which vary less.
        veil: power that lies over the heart: haze, near-field clutter, what is far behind.
        heard: share of the power that comes back from there.
        noise: power of the electronics.
    """

    x: Floats
    z: Floats
    tissue: Floats
    layered: Floats
    veil: Floats
    heard: Floats
    noise: Floats


def surroundings(view: View, setting: Mapping[str, float], fabric: Texture, x: Floats, z: Floats) -> Surroundings:
    """Lay out the surroundings of one clip at points `x`, `z` for a scanner set to `setting`."""
    depths, lines = x.shape
    coarse = _spline(depths, COARSE[0]) @ fabric.coarse @ _spline(lines, COARSE[1]).T
    streaks = _spline(depths, STREAKS[0]) @ fabric.streaks @ _spline(lines, STREAKS[1]).T
    r = ((np.arange(depths, dtype=np.float32) + 0.5) / depths)[:, None]
    across = np.linspace(-1, 1, lines, dtype=np.float32)
    tissue_db = setting["texture_db"] * (coarse + streaks)
    # Lung and diaphragm: the inferior side of A2C and the lateral side of A4C are often the brightest of the picture.
    aside = {View.A2C: -across, View.A4C: across}.get(view, np.zeros_like(across))
    tissue_db += (5 + 4 * fabric.wall[0]) * np.clip(1.6 * aside - 0.3, 0, 1) * np.minimum(1, 1.6 * r)
    tissue = _power(tissue_db)
    layered = np.sqrt(tissue)

    veil = _power(setting["haze_db"]) * _power(0.4 * setting["texture_db"] * coarse)
    reach = 0.13 * np.exp(0.5 * np.tanh(fabric.wall[3]))
    veil += _power(setting["clutter_db"]) * np.exp(-r / reach) * (0.6 + 0.4 * streaks**2)
    veil += 300 * np.exp(-r * 70)
    behind = np.exp(-(((r - 0.93 + 0.02 * fabric.rays[0] + 0.05 * across**2) / 0.045) ** 2))
    patches = 4 * (_spline(lines, RAYS) @ fabric.wall[::-1])
    veil += _power(setting["far_db"] + patches - 3) * behind * np.minimum(tissue * layered, 10)

    shadow = np.maximum(_spline(lines, RAYS) @ fabric.rays - 0.4, 0) * np.minimum(1, 2 * r)
    loss = setting["dropout"] * (5 * shadow + 8 * across**4)
    heard = _power(setting["attenuation_db"] * (r - 0.4) - loss)
    noise = _power(setting["noise_db"] + 11 * (r - 0.7))
    return Surroundings(x=x, z=z, tissue=tissue, layered=layered, veil=veil, heard=heard, noise=noise)


def amplitude(heart: Heart, i: int, setting: Mapping[str, float], fabric: Texture, around: Surroundings) -> Floats:
    """Return the amplitude of the echo of heart `i` in its surroundings, `(depths, lines)`.

    Power adds up over muscle, interfaces and tissue; dropout and attenuation act on all of it but the noise.
    """
    at = locate(heart, i, around.x, around.z)
    inner = heart.inner[i].take(at.toward)
    through = (at.radius - inner) / (heart.outer[i].take(at.toward) - inner)
    bins = np.clip((through - _FIRST) * _PER_WALL, 0, _BINS - 1).astype(np.int32)
    wall, edge, outside = _profiles(fabric)
    muscle, shine = _brightness(heart, i, setting, fabric)
    above = np.clip(0.5 - 0.5 * at.below, 0, 1)
    interfaces = wall.take(bins) * muscle.take(at.toward)
    interfaces += edge.take(bins) * shine.take(at.toward)
    interfaces *= above
    flesh = 1 - above * (1 - outside.take(bins))

    bright = float(_power(setting["specular_db"]))
    rest = np.clip((through - 1.1) * 6, 0, 1)
    if heart.view is not View.PSAX:
        inside = _inside_atrium(heart, i, at)
        below = 1 - above
        flesh *= 1 - np.clip(inside * 0.4 + 0.5, 0, 1) * below
        # The back wall lies across the beam and shines, the side walls lie along it.
        deep = np.clip(at.below * (1 / float(heart.atrium_length[i])), 0, 1.1)
        interfaces += (0.2 * bright) * _ridge(0.6 * inside + 0.9) * (below * (0.2 + deep * deep * deep))
        interfaces += bright * _valve(heart, i, at.across, at.below)
        rest = np.maximum(below, rest) * np.clip(-inside * 0.5 - 1.0, 0, 1)
    for u, v, a, b in heart.pools[i].tolist():
        deep = (at.along - u) * (1 / a)
        q = 1 - np.square(deep) - np.square((at.across - v) * (1 / b))
        flesh *= 1 - np.clip(q * 4 + 0.5, 0, 1) * rest
        interfaces += (0.15 * bright) * _ridge(q * 7 + 0.5) * (rest * np.clip(0.3 + deep, 0.15, 1.2))

    power = flesh * around.tissue
    power *= _power(setting["tissue_db"])
    power += interfaces * around.layered
    power += around.veil
    power *= around.heard
    power += around.noise
    return np.sqrt(power, out=power)  # type: ignore[no-any-return]


def _power(decibel: float | Floats) -> Floats:
    out: Floats = np.exp(np.asarray(decibel, np.float32) * np.float32(np.log(10) / 10))
    return out


@lru_cache(maxsize=32)
def _spline(points: int, knots: int) -> Floats:
    """Return weights `(points, knots)` that interpolate `knots` values smoothly (raised cosine) at equal variance."""
    at = np.linspace(0, knots - 1, points)
    weights = 0.5 + 0.5 * np.cos(np.pi * np.clip(np.abs(at[:, None] - np.arange(knots)), 0, 1))
    out: Floats = (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)
    return out


def _profiles(fabric: Texture) -> tuple[Floats, Floats, Floats]:
    """Muscle, its bright layers, and the tissue outside, by depth through the wall (0 inner, 1 outer surface).

    Where in the wall the fibres shine, and how thin that layer is, differs from window to window.
    """
    layer, fine = 0.55 + 0.2 * np.tanh(fabric.wall[1]), 0.17 + 0.08 * np.tanh(fabric.wall[2])
    wall = np.clip((_T + 0.08) / 0.2, 0, 1) * np.clip((1.12 - _T) / 0.2, 0, 1)
    edge = 0.2 * np.exp(-(((_T - 0.1) / 0.14) ** 2)) + 0.35 * np.exp(-(((_T - 1.05) / 0.16) ** 2))
    edge += 0.7 * np.exp(-(((_T - layer) / fine) ** 2))
    outside = np.clip((_T - 0.9) / 0.25, 0, 1)
    return wall.astype(np.float32), edge.astype(np.float32), outside.astype(np.float32)


def _brightness(heart: Heart, i: int, setting: Mapping[str, float], fabric: Texture) -> tuple[Floats, Floats]:
    """Muscle and interfaces by direction: strong where the beam meets a wall head on, faint along it."""
    du, dv = np.abs(_ANGLE) - 1, np.sign(_ANGLE) * (1 - np.abs(np.abs(_ANGLE) - 1))
    norm = np.sqrt(du * du + dv * dv)
    u, v = heart.centre[i, 0] + heart.inner[i] * du / norm, heart.centre[i, 1] + heart.inner[i] * dv / norm
    tu, tv = np.gradient(u), np.gradient(v)
    sine, cosine = heart.axis[i]
    x, z = heart.origin[i, 0] + sine * u + cosine * v, heart.origin[i, 1] + cosine * u - sine * v
    bx, bz = sine * tu + cosine * tv, cosine * tu - sine * tv
    head_on = np.abs(x * bz - z * bx) / (np.sqrt((x * x + z * z) * (bx * bx + bz * bz)) + 1e-6)
    mottle = _spline(DIRECTIONS, RAYS) @ fabric.wall
    septal = 0 if heart.view is View.PSAX else np.clip(-2.5 * _ANGLE, -1, 1) * (np.abs(_ANGLE) < 1.6)
    fade = setting["dropout"] * (1 - head_on) * (1 - 0.6 * np.clip(septal, 0, 1))
    muscle = _power(-7 * fade + 2.5 * mottle * (0.4 + setting["dropout"]) + 1.5 * septal)
    apical = 0 if heart.view is View.PSAX else np.clip(1 - np.abs(_ANGLE) / 0.8, 0, 1)
    shine_db = setting["specular_db"] - 5 * (1 - head_on) - 12 * fade + 3 * mottle + 3 * septal - 9 * apical - 3
    shine = _power(shine_db)
    return muscle, shine


def _inside_atrium(heart: Heart, i: int, at: Local) -> Floats:
    length = float(heart.atrium_length[i])
    step = at.below * ((STEPS - 1) / length)
    index = np.clip(step, 0, STEPS - 1).astype(np.int32)
    inside = heart.atrium_half[i].take(index) - np.abs(at.across - heart.atrium_middle[i].take(index))
    out: Floats = np.minimum(inside, (STEPS - 1 - step) * (length / STEPS))
    return out


def _valve(heart: Heart, i: int, across: Floats, below: Floats) -> Floats:
    """Return the share of the brightest echo that the leaflets and the fibrous ring send back."""
    left, right = (float(a) for a in heart.annulus[i])
    closed, dip = (float(a) for a in heart.leaflet[i])
    half = (right - left) / 2
    aside = np.abs(across - (left + right) / 2) * (1 / half)
    along = (1 - aside) * (1 / closed)
    sheet = 0.5 * _ridge((below + dip * np.clip(along, 0, 1)) * (0.7 / (1 + 0.6 * dip / half)))
    sheet *= (along > -0.05) & (along < 1.0 + 1e-3)
    hinge = np.square((aside - 1.15) * (half / 3.5)) + np.square(below * (1 / 3.0))
    out: Floats = sheet + 0.6 / (1 + hinge * hinge)
    return out


def _ridge(distance: Floats) -> Floats:
    # A bell whose tails fall fast enough not to light up a cavity from its walls, and no exponential to pay for.
    out: Floats = 1 / np.square(1 + np.square(distance))
    return out
