"""Outlines of the left ventricle as echonet tables write them, and the pixels that they enclose.

EchoNet-Dynamic (Ouyang et al. 2020, doi:10.1038/s41586-020-2145-8) writes an outline as lines across the cavity,
`FileName,X1,Y1,X2,Y2,Frame`: the long axis first, then chords from one end of it to the other. EchoNet-Pediatric
(Reddy et al. 2023, doi:10.1016/j.echo.2023.01.015) writes the points of a contour, `FileName,X,Y,Frame`. Coordinates
are pixels of the video, frames count from 0.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cohorts.study import UnreadableStudy

LINES = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
POINTS = ("FileName", "X", "Y", "Frame")
NO_FRAME = frozenset({"No Systolic", "No Diastolic"})  # how EchoNet-Pediatric says that nobody traced this phase
TABLE_BYTES_MAX = 2**27  # the published table has 2**24
ROWS_MAX = 10_000  # of one outline; the published ones have 21 lines, or some tens of points

Outlines = Mapping[str, Mapping[int, NDArray[np.float64]]]


def read_tracings(path: Path) -> Outlines:
    """Return the outlines by `bare` file name and by frame: points `(n, 2)`, x and y.

    Raises:
        UnreadableStudy: no such table, another header, a cell that is no number, too few lines for an outline.
    """
    rows: dict[str, dict[int, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    try:
        if path.stat().st_size > TABLE_BYTES_MAX:
            raise UnreadableStudy(str(path), f"has {path.stat().st_size} bytes; at most {TABLE_BYTES_MAX} are read")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = tuple(name.strip() for name in next(reader, []))
            if header not in (LINES, POINTS):
                raise UnreadableStudy(str(path), f"has the header {','.join(header)}; known: {','.join(LINES)}")
            for cells in reader:
                where = f"{path} line {reader.line_num}"
                if len(cells) != len(header):
                    raise UnreadableStudy(where, f"has {len(cells)} cells, the header has {len(header)}")
                if cells[-1].strip() not in NO_FRAME:
                    outline = rows[bare(cells[0])][_frame(where, cells[-1])]
                    outline.append([_number(where, cell) for cell in cells[1:-1]])
                    if len(outline) > ROWS_MAX:
                        raise UnreadableStudy(
                            where, f"is row {len(outline)} of one outline; at most {ROWS_MAX} are read"
                        )
    except FileNotFoundError:
        raise UnreadableStudy(str(path), "no such table") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableStudy(str(path), f"is not a CSV in UTF-8: {error}") from error
    make = _from_lines if header == LINES else np.asarray
    outlines = {name: {at: make(drawn) for at, drawn in sorted(frames.items())} for name, frames in rows.items()}
    for name, at, points in _each(outlines):
        if len(points) < 3:
            raise UnreadableStudy(str(path), f"outlines frame {at} of {name!r} with {len(points)} points; 3 are needed")
    return outlines


def bare(name: str) -> str:
    """Return a file's name as these tables may mean it: in small letters, without the suffix of a video."""
    return name.strip().casefold().removesuffix(".avi")


def area(points: NDArray[np.float64]) -> float:
    """Return the area of a polygon `(n, 2)` in square pixels."""
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def enclosed(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixel centres of a frame `(height, width)` lie inside the polygon `(n, 2)`, by the even-odd rule."""
    start, end = points, np.roll(points, -1, axis=0)
    rows = np.arange(height, dtype=np.float64)
    crossings = np.zeros((height, width + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(start.tolist(), end.tolist(), strict=True):
        crossed = np.flatnonzero((y0 <= rows) != (y1 <= rows))
        if crossed.size:
            at = x0 + (rows[crossed] - y0) * ((x1 - x0) / (y1 - y0))
            np.add.at(crossings, (crossed, np.clip(np.ceil(at), 0, width).astype(np.int64)), 1)
    inside: NDArray[np.bool_] = np.cumsum(crossings[:, :width], axis=1) % 2 == 1
    return inside


def _from_lines(lines: list[list[float]]) -> NDArray[np.float64]:
    """Return the outline of chords: down one side of the long axis, which is the first line, and up the other."""
    chords = np.asarray(lines[1:], np.float64).reshape(-1, 4)
    return np.concatenate([chords[:, :2], chords[::-1, 2:]])


def _each(outlines: Outlines) -> Iterator[tuple[str, int, NDArray[np.float64]]]:
    for name, frames in outlines.items():
        for at, points in frames.items():
            yield name, at, points


def _frame(where: str, cell: str) -> int:
    text = cell.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise UnreadableStudy(where, f"Frame={text!r} is not a whole number from 0")
    return int(text)


def _number(where: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) <= 1e5:
        raise UnreadableStudy(where, f"coordinate {cell.strip()!r} is not a number of pixels up to 1e5")
    return value
