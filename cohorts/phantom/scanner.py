"""The machine: how a site's scanner looks, its fan, and the way from beams to a picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

# Every knob of a scanner runs over [-1, 1]; here is what its ends mean. One table, so that a generator can be
# conditioned on exactly what was rendered.
KNOBS: dict[str, tuple[float, float]] = {
    "gain": (0.22, 0.56),  # where muscle falls in the window, black 0 to white 1
    "dynamic_range_db": (38.0, 66.0),
    "gamma": (0.8, 1.3),
    "lateral_grain": (0.2, 1.0),
    "smoothing": (0.05, 0.9),
    "attenuation_db": (-20.0, 12.0),
    "clutter_db": (-8.0, 14.0),  # of the near field, over muscle, as all levels below
    "haze_db": (-19.0, 0.0),
    "dropout": (0.0, 1.0),
    "specular_db": (10.0, 34.0),
    "texture_db": (1.0, 4.5),
    "half_angle_deg": (32.0, 50.0),
    "noise_db": (-40.0, -13.0),
    "tissue_db": (-8.0, 5.0),
    "far_db": (-12.0, 20.0),
    "depth": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What distinguishes one hospital's studies from another's.

    Attributes:
        knobs: centre of each knob it turns, -1 to 1; the others are at 0.
        spread: half-width of every knob about its centre; `None` draws each over its whole range.
        overlays: share of the studies with text and an ECG trace burned in outside the fan.
        text: what is written in the upper corner.
        frames_per_second: frame rate.
        view_labels: the site's own words for A2C, A4C, PLAX, PSAX.
        female: share of women.
        age_years: lowest and highest age.
        lvef_percent: lowest and highest LVEF.
    """

    knobs: dict[str, float]
    spread: float | None
    overlays: float
    text: str
    frames_per_second: float
    view_labels: tuple[str, str, str, str]
    female: float
    age_years: tuple[int, int]
    lvef_percent: tuple[float, float]


SITES: dict[str, Site] = {
    "wide": Site(
        knobs={},
        spread=None,
        overlays=0.2,
        text="TIS0.8 MI 1.1",
        frames_per_second=40,
        view_labels=("A2C", "A4C", "PLAX", "PSAX"),
        female=0.5,
        age_years=(18, 92),
        lvef_percent=(12, 78),
    ),
    "site-a": Site(
        knobs={
            "gain": 0.2,
            "haze_db": -0.8,
            "specular_db": 0.6,
            "half_angle_deg": -0.3,
            "noise_db": -0.7,
            "dynamic_range_db": -0.4,
            "clutter_db": -0.5,
            "dropout": -0.4,
        },
        spread=0.25,
        overlays=1.0,
        text="MI 1.3",
        frames_per_second=50,
        view_labels=("apical 2-chamber", "apical 4-chamber", "parasternal long axis", "parasternal short axis"),
        female=0.48,
        age_years=(25, 80),
        lvef_percent=(30, 75),
    ),
    "site-b": Site(
        knobs={
            "gain": 0.7,
            "haze_db": 0.6,
            "dynamic_range_db": 0.6,
            "half_angle_deg": 0.6,
            "clutter_db": 0.6,
            "lateral_grain": 0.6,
            "dropout": 0.4,
            "gamma": -0.5,
        },
        spread=0.25,
        overlays=1.0,
        text="2D 62% C50",
        frames_per_second=30,
        view_labels=("2CH", "4CH", "LAX PS", "SAX PM"),
        female=0.36,
        age_years=(50, 92),
        lvef_percent=(15, 65),
    ),
    "site-c": Site(
        knobs={
            "gain": -0.3,
            "attenuation_db": -0.3,
            "gamma": 0.6,
            "texture_db": 0.7,
            "half_angle_deg": 0.1,
            "haze_db": -0.3,
            "lateral_grain": -0.7,
            "depth": 0.5,
        },
        spread=0.25,
        overlays=1.0,
        text="FR 64HZ 15CM",
        frames_per_second=64,
        view_labels=("AP2", "AP4", "PSL", "PSS"),
        female=0.58,
        age_years=(18, 70),
        lvef_percent=(35, 78),
    ),
}


def site(style: str) -> Site:
    """Return the site called `style`; raises `ValueError` naming the known ones."""
    if style not in SITES:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(SITES)}")
    return SITES[style]


def style_of(uniforms: Floats, style: str) -> Floats:
    """Turn uniforms `(n, len(KNOBS))` into knob positions in [-1, 1] as the scanners of `style` have them."""
    here, turned = site(style), 2 * uniforms - 1
    if here.spread is None:
        return turned.astype(np.float32)
    centre = np.array([here.knobs.get(name, 0.0) for name in KNOBS], np.float32)
    return np.clip(centre + here.spread * turned, -1, 1).astype(np.float32)


def knob(styles: Floats, name: str) -> Floats:
    """Return the physical value of one knob of `(n, len(KNOBS))` styles, `(n,)`."""
    low, high = KNOBS[name]
    at = styles[:, list(KNOBS).index(name)]
    return (low + (high - low) * (at + 1) / 2).astype(np.float32)


def settings(styles: Floats) -> list[dict[str, float]]:
    """Return the physical value of every knob, one mapping per row of `styles`."""
    values = np.stack([knob(styles, name) for name in KNOBS], axis=1).tolist()
    return [dict(zip(KNOBS, row, strict=True)) for row in values]


def sin_half_angle(styles: Floats) -> Floats:
    """Return the sine of each fan's half-angle, `(n,)`."""
    return np.sin(np.deg2rad(knob(styles, "half_angle_deg")))


def beams(styles: Floats, depths: int, lines: int) -> tuple[Floats, Floats]:
    """Return where the echoes come from, x and z over the depth, each `(n, depths, lines)`.

    Lines are equally spaced in the sine of their angle, as a phased array steers them.
    """
    r = ((np.arange(depths, dtype=np.float32) + 0.5) / depths)[None, :, None]
    sine = np.linspace(-1, 1, lines, dtype=np.float32) * sin_half_angle(styles)[:, None]
    return r * sine[:, None, :], r * np.sqrt(1 - sine**2)[:, None, :]


def pixels(styles: Floats, size: int) -> tuple[Floats, Floats]:
    """Return where pixel centres lie, x `(n, 1, size)` and z `(1, size, 1)` over the depth.

    The fan fills the square, so a pixel is `2 sin(half-angle)` times as wide as it is high.
    """
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    return (2 * at - 1) * sin_half_angle(styles)[:, None, None], at[None, :, None]


def fan(styles: Floats, size: int) -> NDArray[np.bool_]:
    """Return which pixels a fan touches, `(n, size, size)`: all others are black unless something is burned in."""
    x, z = pixels(styles, 2 * size)
    r = np.sqrt(x * x + z * z)
    inside = (r < 1) & (np.abs(x) <= r * sin_half_angle(styles)[:, None, None])
    return inside[:, ::2, ::2] | inside[:, 1::2, ::2] | inside[:, ::2, 1::2] | inside[:, 1::2, 1::2]


def scan_convert(echo: NDArray[np.uint8], styles: Floats, size: int) -> NDArray[np.uint8]:
    """Draw echoes `(n, depths, lines)` as pictures `(n, size, size)`, black outside the fan.

    Every pixel is the mean of four echoes, which is how a downsampled clinical picture gets its grain.
    """
    n, depths, lines = echo.shape
    x, z = pixels(styles, 2 * size)
    r = np.sqrt(x * x + z * z)
    half = sin_half_angle(styles)[:, None, None]
    outside = (r >= 1) | (np.abs(x) > r * half)
    sine = x / (r * half)
    r *= depths
    sine += 1
    sine *= (lines - 1) / 2
    index = np.minimum(r, depths - 1).astype(np.int32)
    index *= lines
    index += np.clip(sine + 0.5, 0, lines - 1).astype(np.int32)
    out = np.empty((n, size, size), np.uint8)
    for i in range(n):
        grey = echo[i].ravel().take(index[i])
        grey[outside[i]] = 0
        four = grey.reshape(size, 2, size, 2).astype(np.uint16)
        out[i] = (four[:, 0, :, 0] + four[:, 0, :, 1] + four[:, 1, :, 0] + four[:, 1, :, 1] + 2) >> 2
    return out
