"""What looks like writing or like an ECG in the pixels: found, never cleared.

No character is read. Writing is looked for as rows of small marks with sharp edges, of like height and brightness, on a
ground that is even between them; an ECG as a thin unbroken curve that keeps to its level and leaves it for a short
while. Depth scales, logos and settings may be taken for writing, and are meant to be: who finds nothing here may not
say that nothing is there. What is fainter than `CONTRAST_MIN` grey values, lower than `HEIGHT_MIN` pixels, one or two
characters long, slanted or handwritten is not found, and much of what lies on bright speckle is not either.
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
MARKS_MIN, MARKS_MAX = 3, 2000
PIXELS_MAX = 2**22  # of a frame
LEVELS = (20, 28, 40, 56, 80, 112)  # each peak of 40 to 255 has one between a quarter and a half of it
CURVE_SHARE_MIN, CURVE_WIDTH_MIN, CURVE_SHARE_MAX, CURVE_HEIGHT_MIN, CURVE_EVEN_MAX = 0.15, 28, 0.25, 4, 0.12
SOLID_MIN, SOLID_MIN_BARE, BARE_MAX = 0.30, 0.18, 0.06  # share of ink near its peak; less will do on a bare ground
EVEN_MAX = {2: 0.045, 3: 0.09, 4: 0.14}  # by marks: unevenness of the ground between them, in parts of the peak
FEET_MAX = 0.2  # of marks beside the line, in parts of their height
FEW, LARGE, SOLID_MIN_LARGE = 4, 10, 0.42  # in a textured picture few marks of so many pixels must be solid,
PEAKS_MAX, GAPS = 0.10, (-0.1, 0.9)  # alike in brightness, and neither overlap nor stand far apart

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are one past the end
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """One connected blot that might be a character."""

    box: Box
    peak: float
    area: int
    solid: float


def verdict(
    frames: NDArray[np.uint8], region: Box | None, *, claimed: bool | None, text: str, textured: bool = False
) -> str:
    """Say why a clip must not be used, "" where nothing was found, which is not to say that nothing is there.

    Args:
        frames: a few whole frames, uint8 `(frames, height, width)`.
        region: the box that would be kept of them, or `None` where none is known.
        claimed: what the header says of burned-in annotation.
        text: "block", where anything found anywhere forbids the clip, or "mask", where what lies wholly outside the
            region is cropped away with it. Without a region there is nothing to crop to.
        textured: the pictures have sharp small structures of their own, as magnetic resonance has: short lines must be
            more alike there, and no ECG is looked for, which such scanners do not draw.
    """
    if text not in POLICIES:
        raise ValueError(f"text={text!r} is unknown; known: {', '.join(POLICIES)}")
    if frames[0].size > PIXELS_MAX:
        return f"has frames of {frames[0].size} pixels, of which at most {PIXELS_MAX} are looked through"
    if claimed and (text == "block" or region is None):
        return "the header says that annotation is burned in"
    curves = () if textured else traced(frames)
    for what, boxes in (("writing", written(frames, textured=textured)), ("an ECG", curves)):
        inside = [box for box in boxes if region is None or _overlap(box, region)]
        if region is None and boxes:
            return f"looks as if {what} was burned in, and no region is known"
        if inside:
            return f"looks as if {what} was burned in inside the region"
        if boxes and text == "block":
            return f"looks as if {what} was burned in outside the region"
    return ""


def written(frames: NDArray[np.uint8], *, textured: bool = False) -> tuple[Box, ...]:
    """Return boxes of what looks like a line of writing that stands still in all `frames` (frames, height, width)."""
    steady = (frames.min(axis=0), 255 - frames.max(axis=0))  # bright writing, and dark writing on a bright ground
    found: list[Box] = []
    for image in steady:
        relief = image.astype(np.float32) - _ground(image)
        for level in LEVELS:
            found += _rows(relief, level, FEW if textured else 0)
    return tuple(_joined(found))


def traced(frames: NDArray[np.uint8]) -> tuple[Box, ...]:
    """Return boxes of what looks like an ECG in any of `frames` (frames, height, width)."""
    found = [box for image in frames for box in _curves(image)]
    return tuple(_joined(found))


def _curves(image: NDArray[np.uint8]) -> Iterator[Box]:
    height, width = image.shape
    relief = image.astype(np.float32) - _ground(image)
    thick = max(3.0, 0.012 * height)
    for level in LEVELS[2:]:
        labels, _ = ndimage.label(relief >= level, np.ones((3, 3), bool))
        for i, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            high, wide = rows.stop - rows.start, columns.stop - columns.start
            if (
                wide < max(CURVE_SHARE_MIN * width, CURVE_WIDTH_MIN)
                or not CURVE_HEIGHT_MIN <= high <= CURVE_SHARE_MAX * height
            ):
                continue
            ink = labels[rows, columns] == i
            if _is_curve(np.where(ink, relief[rows, columns], 0), ink, thick) and _is_bare(relief[rows, columns], ink):
                yield rows.start, columns.start, rows.stop, columns.stop


def _is_curve(values: Floats, ink: NDArray[np.bool_], thick: float) -> bool:
    """Say whether ink is one thin line of even brightness that keeps to its level and leaves it for a short while."""
    counts, bright = ink.sum(axis=0), values.max(axis=0)
    peak = float(values.max())
    if np.median(counts) > thick or (counts > 0).mean() < 0.95 or float((values[ink] >= 0.6 * peak).mean()) < 0.4:
        return False
    if np.percentile(bright, 10) < 0.6 * np.percentile(bright, 90):
        return False
    middle = (ink * np.arange(len(ink))[:, None]).sum(axis=0) / np.maximum(counts, 1)
    away = np.abs(middle - np.median(middle))
    return bool((away <= max(1.5, 0.15 * len(ink))).mean() >= 0.5 and (away > 0.3 * len(ink)).any())


def _is_bare(relief: Floats, ink: NDArray[np.bool_]) -> bool:
    """Say whether the ground around a line is even."""
    rest = relief[~ndimage.binary_dilation(ink, np.ones((3, 3), bool))]
    return bool(rest.size) and float(rest.std()) <= CURVE_EVEN_MAX * float(np.median(relief[ink]))


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ground(image: NDArray[np.uint8]) -> Floats:
    """Return the local ground: a low percentile of a window some characters wide, found on every fourth pixel."""
    step = 4 if min(image.shape) >= 256 else 2
    coarse = ndimage.percentile_filter(image[::step, ::step], 30, size=7, mode="nearest").astype(np.float32)
    fine = np.repeat(np.repeat(coarse, step, axis=0), step, axis=1)
    return fine[: image.shape[0], : image.shape[1]]


def _marks(relief: Floats, level: float) -> list[_Mark]:
    """Return the connected blots above `level` that might be characters, `level` lying well below their peak."""
    labels, n = ndimage.label(relief >= level, np.ones((3, 3), bool))
    flat = labels.ravel()
    ink = np.flatnonzero(flat)
    flat, values = flat[ink], relief.ravel()[ink]
    area = np.bincount(flat, minlength=n + 1)
    peak = np.zeros(n + 1, np.float32)
    np.maximum.at(peak, flat, values)
    solid = np.bincount(flat, values >= 0.75 * peak[flat], minlength=n + 1) / np.maximum(area, 1)
    likely = (area >= HEIGHT_MIN) & (peak >= CONTRAST_MIN) & (level >= 0.25 * peak - 1) & (level <= 0.52 * peak)
    tallest = max(2 * HEIGHT_MIN, HEIGHT_SHARE_MAX * relief.shape[0])
    places = ndimage.find_objects(labels)
    marks = []
    for i in np.flatnonzero(likely):
        rows, columns = places[i - 1]
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if HEIGHT_MIN <= high <= tallest and wide <= 8 * high and area[i] >= high:
            box = (rows.start, columns.start, rows.stop, columns.stop)
            marks.append(_Mark(box=box, peak=float(peak[i]), area=int(area[i]), solid=float(solid[i])))
    return marks


def _runs(marks: list[_Mark]) -> Iterator[list[_Mark]]:
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


def _high(mark: _Mark) -> int:
    return mark.box[2] - mark.box[0]


def _beside(one: _Mark, other: _Mark) -> bool:
    low, high = sorted((_high(one), _high(other)))
    overlap = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    dim, bright = sorted((one.peak, other.peak))
    return low >= 0.55 * high and overlap >= 0.7 * low and dim >= 0.7 * bright


def _is_line(run: list[_Mark], relief: Floats, level: float, few: int) -> bool:
    """Say whether marks side by side are characters; no more than `few` must be more alike than others."""
    tops, lefts, bottoms, rights = (np.array(edge) for edge in zip(*(m.box for m in run), strict=True))
    high = float(np.median(bottoms - tops))
    characters = np.maximum(1, np.round((rights - lefts) / (bottoms - tops))).sum()  # small ones grow together
    if len(run) < 2 or characters < MARKS_MIN or np.median(np.abs(bottoms - np.median(bottoms))) > FEET_MAX * high:
        return False
    peaks = np.array([m.peak for m in run])
    if len(run) <= few:
        gap = float((lefts[1:] - rights[:-1]).mean()) / high
        if peaks.std() > PEAKS_MAX * peaks.mean() or not GAPS[0] <= gap <= GAPS[1]:
            return False
    inside = relief[tops.min() : bottoms.max(), lefts.min() : rights.max()]
    rest = inside[~ndimage.binary_dilation(inside >= level, np.ones((3, 3), bool))]
    uneven = float(rest.std()) / float(np.median(peaks)) if rest.size else 1.0
    solid = sum(m.solid * m.area for m in run) / sum(m.area for m in run)
    least = SOLID_MIN_LARGE if len(run) <= few and high >= LARGE else SOLID_MIN if uneven > BARE_MAX else SOLID_MIN_BARE
    return bool(solid >= least and uneven <= EVEN_MAX[min(len(run), max(EVEN_MAX))])


def _rows(relief: Floats, level: float, few: int) -> Iterator[Box]:
    marks = _marks(relief, level)
    if len(marks) > MARKS_MAX:  # no picture of a heart: whatever it is, it is not looked through mark by mark
        yield 0, 0, *relief.shape
        return
    for run in _runs(marks):
        if _is_line(run, relief, level, few):
            tops, lefts, bottoms, rights = zip(*(m.box for m in run), strict=True)
            yield min(tops), min(lefts), max(bottoms), max(rights)


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
