"""Five phases of a heart cycle from one curve of motion, by rules that know no label.

ED end diastole, MS strongest contraction, ES end systole, PF peak of early filling, MD before the atrium contracts. The
curve is negative while the heart contracts and positive while it fills (Koehler et al. 2025, arXiv:2510.05819). All
indices are modulo the length of the cycle: where it is cut open does not matter.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PHASES = ("ED", "MS", "ES", "PF", "MD")
Curve = NDArray[np.float64]


def key_frames(motion: Curve) -> tuple[int, int, int, int, int]:
    """Return the frames of `PHASES`, each in 0..T-1, of a curve of motion `(T,)` over one cycle.

    Raises:
        ValueError: fewer than four frames, a value that is not finite, or motion in one direction only.
    """
    alpha = np.asarray(motion, np.float64)
    n = len(alpha)
    if alpha.ndim != 1 or n < 4 or not np.isfinite(alpha).all():
        raise ValueError(f"motion of shape {alpha.shape} must be at least four finite values of one cycle")
    if not alpha.min() < 0 < alpha.max():
        raise ValueError(f"motion lies in {alpha.min():g}..{alpha.max():g}; a cycle contracts below 0 and fills above")
    ms, fill = int(alpha.argmin()), int(alpha.argmax())
    crossings = _filling_begins(alpha, _window(ms, fill, n))
    first_es = crossings[0] if crossings else (ms + 1) % n
    pf = _early_filling(alpha, _window(first_es, ms, n))
    md = _between(pf, _contraction_begins(alpha, _window(pf, ms, n)), n)
    ed = _contraction_begins(alpha, _window(md, ms, n))
    crossings = _filling_begins(alpha, _window(ms, pf, n))
    es = crossings[-1] if crossings else (ms + 1) % n
    late = _peaks(alpha, _window(pf, ed, n))
    return ed, ms, es, pf, late[-1] if late else _between(pf, ed, n)


def cyclic_difference(found: Sequence[int], wanted: Sequence[int], length: int) -> NDArray[np.int64]:
    """Return how many frames lie between each pair of frames of a cycle of `length`, the shorter way round."""
    apart = np.abs(np.asarray(found, np.int64) - np.asarray(wanted, np.int64)) % length
    shorter: NDArray[np.int64] = np.minimum(apart, length - apart)
    return shorter


def _window(start: int, stop: int, n: int) -> list[int]:
    """Return the indices from `start` up to, but without, `stop`, round the cycle."""
    return [(start + k) % n for k in range((stop - start) % n)]


def _between(start: int, stop: int, n: int) -> int:
    return (start + ((stop - start) % n) // 2) % n


def _filling_begins(alpha: Curve, window: list[int]) -> list[int]:
    """Return where motion becomes positive after it has been negative."""
    found, negative = [], False
    for at in window:
        if alpha[at] < 0:
            negative = True
        elif alpha[at] > 0 and negative:
            found.append(at)
            negative = False
    return found


def _contraction_begins(alpha: Curve, window: list[int]) -> int:
    """Return the last frame at which motion turns negative, else that of least motion; before the window it filled."""
    found, filling = None, True
    for at in window:
        if filling and alpha[at] < 0:
            found = at
        filling = bool(alpha[at] >= 0)
    return found if found is not None else min(window, key=lambda at: abs(float(alpha[at])))


def _early_filling(alpha: Curve, window: list[int]) -> int:
    """Return the peak of early filling: of many the earlier of the two highest, of few the frame after the first."""
    peaks = _peaks(alpha, window)
    if not peaks:
        return int(alpha.argmax())
    if len(peaks) <= 2:
        return (peaks[0] + 1) % len(alpha)
    highest = sorted(peaks, key=lambda at: -float(alpha[at]))[:2]
    return min(highest, key=window.index)


def _peaks(alpha: Curve, window: list[int]) -> list[int]:
    from scipy.signal import find_peaks  # loads for a second: not in every message that a site answers

    return [window[k] for k in find_peaks(alpha[window])[0]]
