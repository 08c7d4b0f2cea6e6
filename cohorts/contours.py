"""Outlines drawn by experts, as polygons in pixel coordinates: text files of one point a line."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cohorts.study import UnreadableStudy

BYTES_MAX = 2**20
POINTS_MIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contour:
    """A closed polygon.

    Attributes:
        path: its file.
        points: float64 `(points, 2)`, x to the right and y downwards; whole numbers are the centres of pixels.
        content: the bytes of the file, by which copies are found.
    """

    path: Path
    points: NDArray[np.float64]
    content: bytes = field(repr=False)

    def area(self) -> float:
        """Return the enclosed area in pixels (Gauss' formula)."""
        x, y = self.points.T
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def read_contour(path: Path) -> Contour:
    """Read a polygon.

    Raises:
        UnreadableStudy: the file is missing, too long, not of two finite numbers a line, or encloses nothing.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        lines = content.decode("ascii").split("\n") if len(content) <= BYTES_MAX else []
        rows = [tuple(map(float, line.split())) for line in lines if line.strip()]
    except FileNotFoundError:
        raise UnreadableStudy(str(path), "no such file") from None
    except OSError as error:
        raise UnreadableStudy(str(path), error.strerror or "cannot be read") from None
    except ValueError:
        raise UnreadableStudy(str(path), "holds a line that is not two numbers") from None
    if len(content) > BYTES_MAX:
        raise UnreadableStudy(str(path), f"has more than {BYTES_MAX} bytes")
    if any(len(row) != 2 or not all(map(math.isfinite, row)) or max(map(abs, row)) > 2**16 for row in rows):
        raise UnreadableStudy(str(path), "holds a line that is not two finite numbers")
    if len(rows) < POINTS_MIN:
        raise UnreadableStudy(str(path), f"has {len(rows)} points, needs at least {POINTS_MIN}")
    contour = Contour(path=path, points=np.array(rows, np.float64), content=content)
    if not contour.area() > 0:
        raise UnreadableStudy(str(path), "encloses nothing")
    return contour


def filled(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels `(height, width)` whose centres lie inside the polygon, by the even-odd rule."""
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    inside = np.zeros((height, width), bool)
    columns = np.arange(width)
    for row in range(max(0, math.ceil(y.min())), min(height, math.floor(y.max()) + 1)):
        crosses = (y <= row) != (next_y <= row)
        at = x[crosses] + (row - y[crosses]) / (next_y[crosses] - y[crosses]) * (next_x[crosses] - x[crosses])
        inside[row] = (np.searchsorted(np.sort(at), columns) % 2).astype(bool)
    return inside
