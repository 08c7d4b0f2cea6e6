"""The ultrasound sector of a picture, found without labels: what lies in it is echo, what lies outside was written.

A fan is fitted to what is lit and thick, by hill climbing: a lit pixel speaks for a fan that holds it and a dark one
against it, in the odds of two coins; dark within the convex hull of the echoes says nothing, for blood is dark. A line
of text, an ECG trace or a logo is too thin, low or small to count. On phantoms no pixel of text was taken in, but a
fifth of the ECG that touches the arc was; letters twice as high are taken for echo (`learning.finder` is not misled);
and where the far field is black, the fan ends where the echoes do.
A picture is judged by itself alone, so that the sector of one subject tells nothing of another.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating[Any]]
Finder = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]  # of the sector (h, w) of one picture

LIT = 6  # grey values up to here are black, or what a lossy film makes of black
_ODDS_LIT, _ODDS_DARK = np.log(0.85 / 0.06), np.log(0.15 / 0.94)  # of a pixel inside against one outside
_PART = 0.1  # of the largest part's area: what is smaller may be a logo
_STEPS = (0.12, 0.06, 0.03, 0.015, 0.0075)  # of the search, in sides of the picture
_STARTS = (  # x of the left and right edge at the top, then at the bottom of the box, and the sagitta of the arc
    (0.5, 0.5, 0.0, 1.0, 0.35),
    (0.5, 0.5, 0.0, 1.0, 0.15),
    (0.35, 0.65, 0.0, 1.0, 0.2),
    (0.0, 1.0, 0.0, 1.0, 0.0),
)
_MOVES = (  # left edge at y=0 and 1, right edge at y=0 and 1, top, bottom, sagitta
    *np.eye(7).tolist(),
    (1, 1, 0, 0, 0, 0, 0),
    (0, 0, 1, 1, 0, 0, 0),
    (1, 1, 1, 1, 0, 0, 0),
    (0, -1, 0, 1, 0, 0, 0),
    (0, -1, 0, 1, 0, 0, 1),
    (1, -1, -1, 1, 0, 0, 0),
    (0, 0, 0, 0, 0, 1, 1),
)
_SWEEPS = 12


def sector(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the sector of a picture `(h, w)` or of a film `(frames, h, w)`: `(h, w)`, true inside.

    The shape is what lies between two straight edges, below a flat top and above an arc: a phased array's fan, a
    convex array's cut fan and a linear array's box. A picture without light has no sector: all false.

    Raises:
        ValueError: if `pixels` has neither two nor three axes.
    """
    if pixels.ndim not in (2, 3):
        raise ValueError(f"pixels must be (h, w) or (frames, h, w), not {pixels.shape}")
    ever = pixels if pixels.ndim == 2 else pixels.max(axis=0)
    lit = ever > LIT
    body = _body(lit)
    if not body.any():
        return np.zeros(lit.shape, np.bool_)
    hull = _hull(body)
    near = ndimage.binary_dilation(hull, np.ones((3, 3)), iterations=2)  # a corner of the sector, or grain at its edge
    worth = np.where(lit & near, _ODDS_LIT, _ODDS_DARK * ~hull).astype(np.float32)
    found, _ = max((_climb(start, worth) for start in _starts(body)), key=lambda pair: pair[1])
    return np.asarray(_fans(found[None], *lit.shape)[0])


def sectors(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the sector of each of `(n, h, w)` pictures by itself: `(n, h, w)`."""
    return np.stack([sector(p) for p in pixels]) if len(pixels) else np.zeros(pixels.shape, np.bool_)


def overlap(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return intersection over union of sectors `(n, h, w)`: `(n,)` in [0, 1], 1 where both are empty."""
    both = (found & true).sum(axis=(1, 2))
    either = (found | true).sum(axis=(1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def _body(lit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what is lit and neither thin as a trace nor low as a line of text; all of it if nothing else is lit."""
    solid = ndimage.binary_closing(np.pad(lit, 2), np.ones((3, 3)))[2:-2, 2:-2] | lit
    parts, n = ndimage.label(ndimage.binary_opening(solid, np.ones((3, 3))), np.ones((3, 3)))
    least = [max(3, 0.1 * side) for side in lit.shape]
    high = [k + 1 for k, box in enumerate(ndimage.find_objects(parts)) if _reach(box[0]) > least[0]]
    areas = np.bincount(parts.ravel(), minlength=n + 1)
    kept = [k for k in high if areas[k] >= _PART * max(areas[j] for j in high)]
    return np.isin(parts, kept) if kept else lit


def _reach(along: slice) -> int:
    return int(along.stop - along.start)


def _hull(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the convex hull of `body`, which in a fan is dark only where nothing echoes."""
    outline = body & ~ndimage.binary_erosion(body)
    points = np.argwhere(outline).astype(np.float64)
    if len(points) < 3 or (np.ptp(points, axis=0) == 0).any():
        return body
    from scipy.spatial import ConvexHull, QhullError

    try:
        edges = ConvexHull(points).equations.astype(np.float32)
    except QhullError:  # all on one slanted line
        return body
    y, x = (np.arange(n, dtype=np.float32) for n in body.shape)
    beyond = edges[:, :1, None] * y[:, None] + edges[:, 1:2, None] * x + edges[:, 2:, None]
    return np.asarray((beyond <= 1e-3).all(axis=0))


def _starts(body: NDArray[np.bool_]) -> list[Floats]:
    """Return fans in the box of `body`: left and right edge at y=0 and 1, top, bottom and sagitta, in sides."""
    (top, bottom), (left, right) = ((int(k) for k in np.flatnonzero(body.any(axis=a))[[0, -1]]) for a in (1, 0))
    h, w = body.shape
    y0, y1, x0, x1 = top / h, (bottom + 1) / h, left / w, (right + 1) / w
    out = []
    for a, b, c, d, sagitta in _STARTS:
        # Edges are kept where they cross the picture's own top and bottom: one frame of reference for every fan.
        reach = max(y1 - y0 - sagitta * (y1 - y0), 1 / h)
        ends = []
        for upper, lower in ((a, c), (b, d)):
            slope = (lower - upper) * (x1 - x0) / reach
            start = x0 + upper * (x1 - x0) - slope * y0
            ends += [start, start + slope]
        out.append(np.array([*ends, y0, y1, sagitta * (y1 - y0)], np.float32))
    return out


def _climb(at: Floats, worth: Floats) -> tuple[Floats, float]:
    """Walk from fan `at` along single parameters while the light inside is worth more; return fan and worth."""
    best = float(_worth(at[None], worth)[0])
    moves = np.array(_MOVES)
    moves = np.concatenate([moves, -moves]).astype(np.float32)
    for step in _STEPS:
        for _ in range(_SWEEPS):
            tried = at + step * moves
            tried[:, 6] = np.maximum(tried[:, 6], 0)
            values = _worth(tried, worth)
            if values.max() <= best:
                break
            at, best = tried[values.argmax()], float(values.max())
    return at, best


def _worth(fans: Floats, worth: Floats) -> Floats:
    out: Floats = (_fans(fans, *worth.shape) * worth).sum(axis=(1, 2))
    return out


def _fans(fans: Floats, height: int, width: int) -> NDArray[np.bool_]:
    """Draw fans `(n, 7)` as `(n, height, width)`."""
    left0, left1, right0, right1, top, bottom, sagitta = fans.T[:, :, None, None]
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[None, :, None]
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None, None, :]
    left, right = left0 + (left1 - left0) * y, right0 + (right1 - right0) * y
    # The arc sinks from its middle to both ends, which are where the edges would reach the bottom.
    middle = (left0 + right0) / 2 + (left1 + right1 - left0 - right0) / 2 * bottom
    half = np.maximum((right0 - left0 + (right1 - right0 - left1 + left0) * (bottom - sagitta)) / 2, 1 / width)
    arc = bottom - sagitta * ((x - middle) / half) ** 2
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= arc)
    return np.asarray(inside)
