"""From moments of one beat to any frames: which moments to draw, latents between them, speckle that moves along."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cohorts.phantom import motion
from cohorts.study import CAVITY

PERSISTENCE = 0.7  # share of the speckle that moves with the tissue from frame to frame, as in the phantom


def clock(n_frames: int, *, heart_rate_bpm: float, frame_rate_hz: float, start: float = 0.0) -> NDArray[np.float32]:
    """Return the phases of a recording, `(n_frames,)` in [0, 1): as many beats as pass while it runs."""
    if not (heart_rate_bpm > 0 and frame_rate_hz > 0):
        raise ValueError(f"heart_rate_bpm={heart_rate_bpm} and frame_rate_hz={frame_rate_hz} must be positive")
    out: NDArray[np.float32] = ((start + np.arange(n_frames) * heart_rate_bpm / 60 / frame_rate_hz) % 1).astype(
        np.float32
    )
    return np.where(out >= 1, np.float32(0), out)


def keys(phase: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Return the frames whose latents are drawn: at most `most`, spread over the circle, in the order of their phase.

    For every one of `most` equal parts of the circle it is the frame that lies nearest to its middle, so of several
    beats the frames of one part are drawn once.
    """
    if len(phase) <= most and len(np.unique(phase)) == len(phase):
        return np.argsort(phase)
    middles = (np.arange(most) + 0.5) / most
    apart = np.abs((phase - middles[:, None] + 0.5) % 1 - 0.5)
    nearest = np.unique(apart.argmin(1))
    _, once = np.unique(phase[nearest], return_index=True)
    chosen: NDArray[np.int64] = nearest[once]
    return chosen


def between(latents: Tensor, at: NDArray[np.float32], phase: NDArray[np.float32]) -> Tensor:
    """Return latents at `phase`, `(frames, ...)`, from those `at` ascending phases, `(k, ...)`, round the circle.

    Law: at a phase of `at` it is the latent drawn there; phase 1 is phase 0.
    """
    k = len(at)
    right = np.searchsorted(at, phase, side="right")
    before, after = (right - 1) % k, right % k
    width = (at[after] - at[before]) % 1
    share = np.where(width > 0, ((phase - at[before]) % 1) / np.where(width > 0, width, 1), 0).astype(np.float32)
    weight = torch.from_numpy(share).view(-1, *[1] * (latents.ndim - 1))
    out: Tensor = latents[before] * (1 - weight) + latents[after] * weight
    return out


def steady(latents: Tensor, at: NDArray[np.float32], *, harmonics: int) -> Tensor:
    """Return the smooth cycle nearest to latents drawn `at` phases, `(k, channels, h, w)`: what flickers goes.

    Every number follows a Fourier series of the phase up to `harmonics`, by least squares (as 4D F-MeshLDM describes
    motion); their mean over the picture, which is how bright it is, up to the first. With `harmonics` 0, or where fewer
    than 2 `harmonics` + 2 phases leave nothing to smooth, latents stay as they are. Law: what is smooth stays.
    """
    if not harmonics:
        return latents
    bright = latents.mean((2, 3), keepdim=True)
    out: Tensor = _series(latents - bright, at, harmonics) + _series(bright, at, 1)
    return out


def _series(values: Tensor, at: NDArray[np.float32], harmonics: int) -> Tensor:
    angle = 2 * np.pi * at.astype(np.float64)[:, None] * np.arange(1, harmonics + 1)
    basis = np.concatenate([np.ones((len(at), 1)), np.cos(angle), np.sin(angle)], 1)
    if len(at) <= basis.shape[1]:
        return values
    onto = torch.from_numpy((basis @ np.linalg.pinv(basis)).astype(np.float32))
    return torch.einsum("ij,j...->i...", onto, values)


def speckle(masks: NDArray[np.uint8], *, seed: int, row: int) -> Tensor:
    """Return the decoder's noise for the frames of one clip, standard normal `(frames, 1, size, size)`.

    A share of `PERSISTENCE` is one grain for the whole clip, carried by the ventricle's base as it comes and goes; the
    rest is new in every frame. Frame j depends on `seed`, `row`, j and the masks only.
    """
    frames, size = masks.shape[:2]
    shape = (size, masks.shape[2])
    grain = np.random.default_rng([seed, row, 0]).standard_normal(shape, np.float32)
    ends = [_ends(mask) for mask in masks]
    rest = ends[0]
    out = np.empty((frames, 1, *shape), np.float32)
    for j, here in enumerate(ends):
        new = np.random.default_rng([seed, row, 1 + j]).standard_normal(shape, np.float32)
        moved = grain
        if here is not None and rest is not None:
            apex, base = here
            moved = grain[motion.carried(size, apex / size, base / size, (rest[1] - base) / size)]
        out[j, 0] = np.sqrt(PERSISTENCE) * moved + np.sqrt(1 - PERSISTENCE) * new
    return torch.from_numpy(out)


def _ends(mask: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Return the first and the last row of the cavity, if it is outlined."""
    rows = np.flatnonzero((mask == CAVITY).any(1))
    return (int(rows[0]), int(rows[-1])) if len(rows) else None
