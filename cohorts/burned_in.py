"""What looks like writing or like an ECG in the pixels: found, never cleared.

No character is read. Writing is looked for as rows of small marks with sharp edges, of like height and like brightness,
on a ground that is even between them; an ECG as a thin unbroken curve that wanders up and down. Depth scales, logos and
settings may be taken for writing, and are meant to be: who finds nothing here may not say that nothing is there. Writing
fainter than `CONTRAST_MIN` grey values, lower than `HEIGHT_MIN` pixels, alone by itself or handwritten is not found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

VERSION = 1  # of everything here: a verdict of another version is no verdict
POLICIES = ("block", "mask")
CONTRAST_MIN = 40
HEIGHT_MIN, HEIGHT_SHARE_MAX = 5, 0.12
MARKS_MIN = 3
LEVELS = (20, 28, 40, 56, 80, 112)  # each peak of 40 to 255 has one between a quarter and a half of it
CURVE_SHARE_MIN, CURVE_HEIGHT_MIN = 0.15, 5  # of an ECG
SOLID_MIN = 0.30
EVEN_MAX = 0.14

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are one past the end
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One connected blot that might be a character."""

    box: Box
    peak: float
    area: int
    solid: float


def verdict(frames: NDArray[np.uint8], region: Box | None, *, claimed: bool | None, text: str) -> str:
    """Say why a clip must not be used, "" where nothing was found, which is not to say that nothing is there.

    Args:
        frames: a few whole frames, uint8 `(frames, height, width)`.
        region: the box that would be kept of them, or `None` where none is known.
        claimed: what the header says of burned-in annotation.
        text: "block", where anything found anywhere forbids the clip, or "mask", where what lies wholly outside the
            region is cropped away with it. Without a region there is nothing to crop to.
    """
    if text not in POLICIES:
        raise ValueError(f"text={text!r} is unknown; known: {', '.join(POLICIES)}")
    if claimed and (text == "block" or region is None):
        return "the header says that annotation is burned in"
    for what, boxes in (("writing", written(frames)), ("an ECG", traced(frames))):
        inside = [box for box in boxes if region is None or _overlap(box, region)]
        if region is None and boxes:
            return f"looks as if {what} was burned in, and no region is known"
        if inside:
            return f"looks as if {what} was burned in inside the region"
        if boxes and text == "block":
            return f"looks as if {what} was burned in outside the region"
    return ""


def written(frames: NDArray[np.uint8]) -> tuple[Box, ...]:
    """Return boxes of what looks like a line of writing that stands still in all `frames` (frames, height, width)."""
    steady = (frames.min(axis=0), 255 - frames.max(axis=0))  # bright writing, and dark writing on a bright ground
    found: list[Box] = []
    for image in steady:
        relief = image.astype(np.float32) - _ground(image)
        for level in LEVELS:
            found += _rows(relief, level)
    return tuple(_joined(found))


def traced(frames: NDArray[np.uint8]) -> tuple[Box, ...]:
    """Return boxes of what looks like an ECG in any of `frames` (frames, height, width)."""
    found = [box for image in frames for box in _curves(image)]
    return tuple(_joined(found))


def _curves(image: NDArray[np.uint8]) -> Iterator[Box]:
    height, width = image.shape
    relief = image.astype(np.float32) - _ground(image)
    thick = max(2.5, 0.012 * height)
    for level in LEVELS[2:]:
        labels, _ = ndimage.label(relief >= level, np.ones((3, 3), bool))
        for i, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            high, wide = rows.stop - rows.start, columns.stop - columns.start
            if wide < CURVE_SHARE_MIN * width or not CURVE_HEIGHT_MIN <= high <= 0.3 * height:
                continue
            ink = labels[rows, columns] == i
            counts = ink.sum(axis=0)
            middle = (ink * np.arange(high)[:, None]).sum(axis=0) / np.maximum(counts, 1)
            if np.median(counts) <= thick and (counts > 0).mean() > 0.97 and _wanders(middle, high):
                yield rows.start, columns.start, rows.stop, columns.stop


def _wanders(middle: Floats, high: int) -> bool:
    """Say whether a curve leaves its own level for a short while, as a QRS complex does and an arc does not."""
    away = np.abs(middle - np.median(middle)) > 0.35 * high
    return bool(0 < away.mean() < 0.35) and bool(np.abs(np.diff(middle)).max() > 0.1 * high)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ground(image: NDArray[np.uint8]) -> Floats:
    """Return the local ground: a low percentile of a window some characters wide, found on every fourth pixel."""
    step = 4 if min(image.shape) >= 256 else 2
    coarse = ndimage.percentile_filter(image[::step, ::step], 30, size=7, mode="nearest").astype(np.float32)
    fine = np.repeat(np.repeat(coarse, step, axis=0), step, axis=1)
    return fine[: image.shape[0], : image.shape[1]]


def marks_of(relief: Floats, level: float) -> tuple[list[Mark], NDArray[np.int32]]:
    labels, n = ndimage.label(relief >= level, np.ones((3, 3), bool))
    if not n:
        return [], labels
    flat, values = labels.ravel(), relief.ravel()
    keep = flat > 0
    flat, values = flat[keep], values[keep]
    area = np.bincount(flat, minlength=n + 1)
    peak = ndimage.maximum(relief, labels, np.arange(n + 1))
    solid = np.bincount(flat, values >= 0.75 * peak[flat], minlength=n + 1) / np.maximum(area, 1)
    tallest = max(2 * HEIGHT_MIN, HEIGHT_SHARE_MAX * relief.shape[0])
    marks = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if not (HEIGHT_MIN <= high <= tallest and wide <= 3 * high and area[i] >= high):
            continue
        if not (peak[i] >= CONTRAST_MIN and level >= 0.25 * peak[i] - 1 and level <= 0.52 * peak[i]):
            continue
        box = (rows.start, columns.start, rows.stop, columns.stop)
        marks.append(Mark(box=box, peak=float(peak[i]), area=int(area[i]), solid=float(solid[i])))
    return marks, labels


def groups_of(marks: list[Mark]) -> Iterator[list[Mark]]:
    """Yield runs of marks that stand side by side like the characters of a line."""
    marks = sorted(marks, key=lambda m: m.box[1])
    used: set[int] = set()
    for start in range(len(marks)):
        if start in used:
            continue
        run, last = [marks[start]], start
        used.add(start)
        grown = True
        while grown:
            grown = False
            for other in range(last + 1, len(marks)):
                if marks[other].box[1] > marks[last].box[3] + 1.2 * _high(marks[last]):
                    break
                if other not in used and _beside(marks[last], marks[other]):
                    run.append(marks[other])
                    used.add(other)
                    last, grown = other, True
                    break
        yield run


def _high(mark: Mark) -> int:
    return mark.box[2] - mark.box[0]


def _beside(one: Mark, other: Mark) -> bool:
    low, high = sorted((_high(one), _high(other)))
    overlap = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    dim, bright = sorted((one.peak, other.peak))
    return low >= 0.55 * high and overlap >= 0.7 * low and dim >= 0.7 * bright


def measures(
    run: list[Mark], relief: Floats, labels: NDArray[np.int32], level: float
) -> tuple[float, float, float, float]:
    top, left = min(m.box[0] for m in run), min(m.box[1] for m in run)
    bottom, right = max(m.box[2] for m in run), max(m.box[3] for m in run)
    inside = relief[top:bottom, left:right]
    ink = ndimage.binary_dilation(inside >= level, np.ones((3, 3), bool))
    peak = float(np.median([m.peak for m in run]))
    rest = inside[~ink]
    even = float(rest.std()) / peak if rest.size else 1.0
    solid = sum(m.solid * m.area for m in run) / sum(m.area for m in run)
    fill = sum(m.area for m in run) / inside.size
    base = np.array([m.box[2] for m in run])
    high = float(np.median([_high(m) for m in run]))
    base_off = float(np.median(np.abs(base - np.median(base)))) / high
    return solid, even, fill, base_off


def _rows(relief: Floats, level: float) -> Iterator[Box]:
    marks, labels = marks_of(relief, level)
    for run in groups_of(marks):
        if len(run) < MARKS_MIN:
            continue
        solid, even, _, base_off = measures(run, relief, labels, level)
        if solid >= SOLID_MIN and even <= EVEN_MAX and base_off <= 0.2:
            yield (
                min(m.box[0] for m in run),
                min(m.box[1] for m in run),
                max(m.box[2] for m in run),
                max(m.box[3] for m in run),
            )


def _joined(boxes: list[Box]) -> Iterator[Box]:
    """Yield boxes none of which overlaps another."""
    left = list(boxes)
    while left:
        box = left.pop()
        touching = [b for b in left if _overlap(b, box)]
        if not touching:
            yield box
            continue
        left = [b for b in left if b not in touching]
        every = [box, *touching]
        left.append(
            (min(b[0] for b in every), min(b[1] for b in every), max(b[2] for b in every), max(b[3] for b in every))
        )
