"""How the heart beats: contraction and mitral opening over one cycle, and what moves the speckle with it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def systole(heart_rate_bpm: Floats) -> Floats:
    """Return the share of the cycle from end diastole to end systole, `(n,)`: longer in a fast heart.

    Weissler et al. 1968 (doi:10.1161/01.CIR.37.2.149): systole lasts 0.55 s less 2 ms for each beat per minute.
    """
    out: Floats = np.clip((0.55 - 0.002 * heart_rate_bpm) * heart_rate_bpm / 60, 0.25, 0.6).astype(np.float32)
    return out


def contraction(phase: Floats, end_systole: Floats) -> Floats:
    """Return how far the ventricle has emptied, 0 end diastole to 1 end systole.

    Args:
        phase: of the cycle, 0 and 1 at end diastole.
        end_systole: phase of the smallest volume, broadcast against `phase`.

    Ejection, early filling, diastasis and the atrial kick; the curve closes and has one minimum and one maximum.
    """
    ejecting = np.clip(phase / end_systole, 0, 1)
    emptied = 1 - (1 - ejecting) ** 1.6 * (1 + 1.6 * ejecting) ** 0.5
    filling = np.clip((phase - end_systole) / (1 - end_systole), 0, 1)
    early, kick = np.clip(filling / 0.5, 0, 1), np.clip((filling - 0.72) / 0.28, 0, 1)
    filled = 0.68 * (1 - (1 - early) ** 2) + 0.08 * filling + 0.24 * kick**2 * (3 - 2 * kick)
    out: Floats = np.where(phase <= end_systole, emptied, 1 - filled).astype(np.float32)
    return out


def opening(phase: Floats, end_systole: Floats) -> Floats:
    """Return how far the mitral leaflets stand open, 0 to 1: early wave, drift, atrial wave; shut all systole long."""
    filling = (phase - end_systole) / (1 - end_systole)
    early = np.exp(-(((filling - 0.25) / 0.13) ** 2))
    late = 0.8 * np.exp(-(((filling - 0.84) / 0.07) ** 2))
    drift = 0.35 * np.clip((filling - 0.08) / 0.2, 0, 1) * np.clip((1 - filling) / 0.06, 0, 1)
    out: Floats = np.where(phase <= end_systole, 0, np.clip(np.maximum(early + late, drift), 0, 1)).astype(np.float32)
    return out * (filling > 0.04) * (filling < 0.99)


def carried(depths: int, apex: float, base: float, descent: float) -> NDArray[np.int64]:
    """Return from which depth each row of speckle came, `(depths,)`.

    Args:
        depths: rows of the polar picture.
        apex: depth of the apex over that of the picture: nothing above it moves.
        base: depth of the mitral plane over that of the picture: below it all moves alike.
        descent: by how much the mitral plane has risen towards the apex, over the depth of the picture.
    """
    r = (np.arange(depths) + 0.5) / depths
    share = np.clip((r - apex) / max(base - apex, 1e-3), 0, 1)
    out: NDArray[np.int64] = np.clip(np.rint((r + share * descent) * depths - 0.5), 0, depths - 1).astype(np.int64)
    return out
