"""Cine magnetic resonance of the short axis, as volumes: every slice becomes a clip.

Grey values are stretched over the whole examination, so that its slices and frames stay comparable. The slices of one
examination come out of the same files: what was unpacked for the first is kept until the last, and no longer.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.decode import BYTES_MAX, reasons
from cohorts.grey import PERCENTILES, window
from cohorts.index import Source
from cohorts.nifti import grid_of, read_values, whole
from cohorts.study import UNLABELLED, Clip, UnreadableStudy, View

VOXELS_MAX = BYTES_MAX // 2  # of one examination: 16 bits each, and as much again while they become 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Labels of one frame: the file, the frame of the examination, and the volume in it if the file holds several."""

    path: Path
    frame: int
    volume: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The files of one examination.

    Attributes:
        images: one volume over time `(x, y, z, t)`, or the volumes `(x, y, z)` of the frames, in order.
        outlines: frames that somebody outlined; a volume without any label counts as not outlined.
        ours: our label by theirs.
        ed: the frame of end diastole.
        es: the frame of end systole.
    """

    images: tuple[Path, ...]
    outlines: tuple[Outline, ...]
    ours: tuple[int, ...]
    ed: int | None
    es: int | None

    def sources(
        self, subject: str, *, labels: Mapping[str, float | str], columns: Mapping[str, str]
    ) -> Iterator[Source]:
        """Yield a source a slice.

        Raises:
            UnreadableStudy: headers do not fit each other, or promise more than is read.
        """
        *size, frames = _shape(self.images)
        for name, at in (("ED", self.ed), ("ES", self.es)):
            if at is not None and at >= frames:
                raise UnreadableStudy(str(self.images[0]), f"{name} is its frame {at + 1}, but it has {frames}")
        for outline in self.outlines:
            shape = grid_of(outline.path).shape
            fits = (*size, frames) if outline.volume is not None else tuple(size)
            if shape != fits:
                raise UnreadableStudy(str(outline.path), f"is {shape}, must be {fits} to fit {self.images[0].name}")
        for k in range(size[2]):
            yield Source(
                where=f"{self.images[0]} slice {k}",
                subject=subject,
                study=subject,
                load=partial(_clip, self, k),
                labels=labels,
                columns=columns,
            )


def _shape(images: tuple[Path, ...]) -> tuple[int, ...]:
    """Return width, height, slices and frames of an examination."""
    shapes = [grid_of(path).shape for path in images]
    axes = 4 if len(images) == 1 and len(shapes[0]) == 4 else 3
    for path, shape in zip(images, shapes, strict=True):
        if len(shape) != axes:
            raise UnreadableStudy(str(path), f"has shape {shape}; must be (x, y, z, t), or (x, y, z) of each frame")
        if shape != shapes[0]:
            raise UnreadableStudy(str(path), f"is {shape}, must be {shapes[0]} to fit {images[0].name}")
    shape = shapes[0] if axes == 4 else (*shapes[0], len(images))
    if math.prod(shape) > VOXELS_MAX:
        raise UnreadableStudy(str(images[0]), f"has {math.prod(shape)} voxels; at most {VOXELS_MAX} are read")
    return shape


def _clip(exam: Examination, k: int) -> Clip:
    stamps = []
    for path in (*exam.images, *(outline.path for outline in exam.outlines)):
        with reasons(path):
            stamps.append((path.stat().st_size, path.stat().st_mtime_ns))
    pixels, masks = _unpacked(exam, tuple(stamps))
    grid = grid_of(exam.images[0])
    if k == pixels.shape[2] - 1:
        _unpacked.cache_clear()
    return Clip(
        pixels=_upright(pixels[:, :, k]),
        view=View.SAX,
        masks=None if masks is None else _upright(masks[:, :, k]),
        ed_frame=exam.ed,
        es_frame=exam.es,
        frame_seconds=grid.frame_seconds,
        pixel_mm=(grid.mm[1], grid.mm[0]) if grid.mm else None,
    )


def _upright(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make `(x, y, frames)` a new array `(frames, height, width)`."""
    return np.array(plane.transpose(2, 1, 0), order="C")


@lru_cache(maxsize=1)
def _unpacked(
    exam: Examination, stamps: tuple[tuple[int, int], ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return grey values and labels `(x, y, z, t)`; `stamps` are sizes and times of the files, for the cache alone."""
    del stamps
    volumes = [read_values(path) for path in exam.images]
    values = volumes[0] if volumes[0].ndim == 4 else np.stack(volumes, axis=3)
    volumes.clear()
    pixels = np.empty(values.shape, np.uint8)
    with reasons(exam.images[0]):
        low, high = np.percentile(values, PERCENTILES)
        if not low < high:  # a few bright voxels on an empty ground
            low, high = values.min(), values.max()
        for at in range(values.shape[3]):
            pixels[..., at] = window(values[..., at], float(low), float(high))
    return pixels, _masks(exam, values.shape)


def _masks(exam: Examination, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    ours = np.array(exam.ours, np.uint8)
    masks: NDArray[np.uint8] | None = None
    labels: dict[Path, NDArray[Any]] = {}
    for outline in exam.outlines:
        if outline.path not in labels:
            labels = {outline.path: read_values(outline.path)}
        drawn = labels[outline.path]
        volume = drawn if outline.volume is None else drawn[..., outline.volume]
        with reasons(outline.path):
            theirs = whole(volume, 0, len(ours) - 1, "mask label")
        if theirs.any():
            masks = np.full(shape, UNLABELLED, np.uint8) if masks is None else masks
            masks[..., outline.frame] = ours[theirs]
    return masks
