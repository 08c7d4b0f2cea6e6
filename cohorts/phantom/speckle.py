"""Fully developed speckle: complex Gaussian scatterers, a point spread function, an envelope and its logarithm.

Many scatterers per resolution cell make a circular Gaussian field whose envelope is Rayleigh, Wagner et al. 1983
(doi:10.1109/T-SU.1983.31404). The field is scaled by the tissue before it is blurred, so bright interfaces smear along
the beam's width as they do in a real picture.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_FLOOR = 1e-12


def scatterers(rng: np.random.Generator, depths: int, lines: int) -> Floats:
    """Return independent standard normal numbers, `(2, depths, lines)`: both parts of a complex field.

    By Box and Muller 1958 (doi:10.1214/aoms/1177706645), which with vector instructions is three times as fast as
    the ziggurat.
    """
    first, second = rng.random((2, depths, lines), dtype=np.float32)
    radius = np.sqrt(-2 * np.log(1 - first))
    second *= 2 * np.pi
    out = np.empty((2, depths, lines), np.float32)
    np.cos(second, out=out[0])
    np.sin(second, out=out[1])
    out *= radius
    return out


def envelope_power(amplitude: Floats, noise: Floats, *, lateral: float, axial: float) -> Floats:
    """Return the squared envelope of scatterers of some `amplitude`, `(depths, lines)`.

    Args:
        amplitude: standard deviation of the echo, `(depths, lines)`.
        noise: independent standard normal numbers, `(2, depths, lines)`; overwritten.
        lateral: taps beside the middle one across the beams, 0 to 1.
        axial: taps along the beams, 0 to 1.

    Where `amplitude` is flat its square root is Rayleigh distributed with second moment `2 amplitude²`.
    """
    noise *= amplitude
    for _ in range(2):
        noise = _three_taps(noise, lateral, axis=2)
    noise = _three_taps(noise, axial, axis=1)
    np.square(noise, out=noise)
    out: Floats = np.add(noise[0], noise[1], out=noise[0])
    return out


def _three_taps(field: Floats, tap: float, *, axis: int, hold: bool = False) -> Floats:
    """Return `field` plus `tap` times its neighbours along `axis`; outside it is zero, or as the border (`hold`)."""
    out = field.copy()
    before: list[slice] = [slice(None)] * field.ndim
    after = before.copy()
    before[axis], after[axis] = slice(None, -1), slice(1, None)
    side = field * np.float32(tap)
    out[tuple(before)] += side[tuple(after)]
    out[tuple(after)] += side[tuple(before)]
    if hold:
        for end in (slice(None, 1), slice(-1, None)):
            before[axis] = end
            out[tuple(before)] += side[tuple(before)]
    return out


def energy(lateral: float, axial: float) -> float:
    """Return the energy of the point spread function: by how much it scales the power of white noise."""
    once = np.array([lateral, 1.0, lateral])
    twice = np.convolve(once, once)
    return float((twice**2).sum() * (1 + 2 * axial**2))


def compress(
    power: Floats, *, gain: float, dynamic_range_db: float, gamma: float, smoothing: float
) -> NDArray[np.uint8]:
    """Return grey values of a squared envelope: logarithm, speckle reduction, window, gamma; overwrites `power`.

    Args:
        power: `(depths, lines)`.
        gain: where a power of one falls in the window, black 0 to white 1.
        dynamic_range_db: what the window shows from black to white.
        gamma: of the grey map.
        smoothing: taps of the scanner's own filter after the logarithm, 0 off to 1.
    """
    power += _FLOOR
    np.log(power, out=power)
    power *= 10 / np.log(10) / dynamic_range_db
    power += gain
    if smoothing > 0:
        for axis in (0, 1, 0, 1):
            power = _three_taps(power, smoothing, axis=axis, hold=True)
        power *= 1 / (1 + 2 * smoothing) ** 4
    np.clip(power, 0.0, 1.0, out=power)
    if gamma != 1:
        np.power(power, np.float32(gamma), out=power)
    power *= 255
    power += 0.5
    return power.astype(np.uint8)
