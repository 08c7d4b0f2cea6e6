"""Who moves alike: a clip's motion without its picture, because video models memorise the two apart.

A clip is the logarithm of its grey values on a coarse grid. There, whatever stands still, be it texture, gain or a
burned-in line, is a constant, and the grey map a factor. So what is left of each cell's curve over a beat after its
mean is motion; its first harmonics are kept, over the cell's own loudness. Copied motion under a new texture is found
(after Chen et al. 2024, "Extracting training data from video diffusion models"), a copied still is not: that is what
`privacy.embedding` and `privacy.identity` are for.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cohorts.clips import Clips
from cohorts.frames import resize
from privacy.identity import Recognition

GRID, HARMONICS, PHASES = 16, 4, 24
STILLS = 4  # of a clip that are compared as pictures
SHIFTS = 24  # of a cycle, in which a copy is looked for: it may begin anywhere
_DARK = 8.0  # grey values: below it the logarithm is nearly linear
_LEAST = 0.02  # natural logarithms: a cell that moves less is all but still

Signature = NDArray[np.complex64]


def motion_signature(clips: Clips) -> Signature:
    """Return the motion of clips, each seen alone: `(n, HARMONICS, GRID²)`, norm one; zero where nothing moves.

    A clip of known phase is laid over its cycle, one of unknown phase counts as one cycle from its first to its last
    frame; one of fewer than three frames does not move.
    """
    found = np.zeros((len(clips), HARMONICS, GRID * GRID), np.complex64)
    for row, pixels, phase, length in zip(found, clips.pixels, clips.phase, clips.length, strict=True):
        if length < 3:
            continue
        grid = np.stack([resize(p, GRID, nearest=False) for p in pixels[:length]]).reshape(length, -1)
        moving = _over_a_cycle(np.log(grid + _DARK), phase[:length])
        moving -= moving.mean(axis=0)
        moving -= moving.mean(axis=1, keepdims=True)  # gain that flickers
        waves = np.fft.rfft(moving, axis=0)[1 : HARMONICS + 1] / PHASES
        loud = np.sqrt((np.abs(waves) ** 2).sum(axis=0))
        waves /= np.sqrt(loud + _LEAST)  # half way to every cell counting the same
        norm = float(np.sqrt((np.abs(waves) ** 2).sum()))
        if loud.max() > _LEAST:
            row[:] = waves / norm
    return found


def motion_similarity(one: Signature, other: Signature) -> NDArray[np.float32]:
    """Return how alike motions are, `(n, m)` in [-1, 1], wherever in the cycle a clip begins, forwards or backwards."""
    best = np.full((len(one), len(other)), -1, np.float32)
    size = HARMONICS * GRID * GRID
    for turned in _turned(other):
        np.maximum(best, (one.reshape(-1, size) @ turned.reshape(-1, size).conj().T).real, out=best)
    return best


def clip_rarity(recognition: Recognition, one: Clips, other: Clips) -> NDArray[np.float32]:
    """Return how rarely a stranger's clip is so alike, `(n, m)`: the most of any two of its pictures and its motion.

    Pictures are `STILLS` of each clip, evenly spread: one frame alone says nothing about what comes after it. The
    scale is that of `Recognition.rarity`.
    """
    looks = [recognition.look(_stills(clips)) for clips in (one, other)]
    pictures = recognition.rarity(*looks).reshape(len(one), STILLS, len(other), STILLS).max(axis=(1, 3))
    moved = motion_similarity(motion_signature(one), motion_signature(other))
    return np.asarray(np.maximum(pictures, recognition.rarity_by("motion", moved)))


def _stills(clips: Clips) -> NDArray[np.uint8]:
    at = (np.arange(STILLS) * clips.length[:, None]) // STILLS
    return np.asarray(clips.pixels[np.arange(len(clips))[:, None], at].reshape(-1, *clips.pixels.shape[2:]))


def _over_a_cycle(grey: NDArray[np.float64], phase: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the frames `(length, cells)` at `PHASES` equal phases, interpolated on the circle."""
    n = len(grey)
    at = phase.astype(np.float64) if np.isfinite(phase).all() else np.arange(n) / n
    order = np.argsort(at, kind="stable")
    at, grey = at[order], grey[order]
    wanted = np.arange(PHASES) / PHASES
    right = np.searchsorted(at, wanted, side="right") % n
    left = right - 1
    gap = (at[right] - at[left]) % 1
    share = np.divide((wanted - at[left]) % 1, gap, out=np.zeros(PHASES), where=gap > 0)[:, None]
    mixed: NDArray[np.float64] = (1 - share) * grey[left] + share * grey[right]
    return mixed


def _turned(signature: Signature) -> Iterator[Signature]:
    order = np.arange(1, HARMONICS + 1)[:, None]
    for shift in range(SHIFTS):
        turn = np.exp(2j * np.pi * order * shift / SHIFTS).astype(np.complex64)
        yield signature * turn
        yield signature.conj() * turn
