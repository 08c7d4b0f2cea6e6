"""The labelled frames of a cohort as arrays: what networks eat."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cohorts.study import ATRIUM, BACKGROUND, UNLABELLED, Clip, Cohort, SubjectKey, View
from conf.schema import Classes

VIEWS: tuple[View, ...] = (View.A2C, View.A4C, View.PLAX, View.PSAX)
PHASES = ("ED", "ES")
BY_VIEW = Classes()
COLUMNS = ("pixels", "masks", "view", "phase", "lvef_percent", "subject", "pixel_mm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Labelled frames of some subjects, end-diastolic and end-systolic unless their clips know of no such thing.

    Attributes:
        pixels: uint8, `(n, size, size)`.
        masks: uint8, `(n, size, size)`: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium, 255 unlabelled; what
            else `Clip.masks` may name is background to networks of these three structures.
        view: index into the names of the classes, `(n,)`, -1 where unknown; the classes are `VIEWS` unless said.
        phase: 0 for ED, 1 for ES, `(n,)`, -1 where unknown.
        lvef_percent: `(n,)`, NaN where unknown.
        subject: index into `subjects`, `(n,)`.
        subjects: the subjects, in the order of the cohort.
        pixel_mm: height and width of one pixel, `(n, 2)`, NaN where unknown; unknown for all where not said.
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    view: NDArray[np.int64]
    phase: NDArray[np.int64]
    lvef_percent: NDArray[np.float32]
    subject: NDArray[np.int64]
    subjects: tuple[SubjectKey, ...]
    pixel_mm: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))

    def __post_init__(self) -> None:
        if len(self.pixel_mm) != len(self.pixels):  # not said, or of the rows that these were made from
            object.__setattr__(self, "pixel_mm", np.full((len(self.pixels), 2), np.nan, np.float32))

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, subjects: Sequence[SubjectKey]) -> "Frames":
        """Return the frames of `subjects` only, re-indexed in the order given."""
        position = {s: i for i, s in enumerate(subjects)}
        new = np.array([position.get(s, -1) for s in self.subjects], dtype=np.int64)[self.subject]
        keep = new >= 0
        return Frames(
            pixels=self.pixels[keep],
            masks=self.masks[keep],
            view=self.view[keep],
            phase=self.phase[keep],
            lvef_percent=self.lvef_percent[keep],
            subject=new[keep],
            subjects=tuple(subjects),
            pixel_mm=self.pixel_mm[keep],
        )


def resize(image: NDArray[np.uint8], size: int, *, nearest: bool) -> NDArray[np.uint8]:
    """Resize `(height, width)` to `(size, size)`: area average for grey values, nearest neighbour for labels."""
    if image.shape == (size, size):
        return image
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize((size, size), how), dtype=np.uint8)


def gather(cohort: Cohort, *, size: int, classes: Classes = BY_VIEW) -> Frames:
    """Read the ED and ES frames of every clip of `cohort`, each resized alone to `(size, size)`.

    No statistic of one subject touches another: normalisation is per image or constant.

    Args:
        cohort: whose frames.
        size: height and width of every frame.
        classes: what tells frames apart, and how many to take of a clip that names no phase.
    """
    rows: list[tuple[NDArray[np.uint8], NDArray[np.uint8], int, int, float, int]] = []
    pixel_mm: list[tuple[float, float]] = []
    for i, subject in enumerate(cohort.subjects):
        for study in cohort.of(subject):
            lvef = float(study.labels.get("lvef_percent", np.nan))
            for clip in study.clips:
                name = study.labels.get(classes.of) if classes.of != "view" else clip.view
                height, width = clip.pixels.shape[1:]
                mm = clip.pixel_mm or (np.nan, np.nan)
                kind = classes.names.index(str(name)) if name in classes.names else -1
                taken = moments(clip, classes.frames)
                rows += [(*still(clip, at, size), kind, phase, lvef, i) for phase, at in taken]
                pixel_mm += [(mm[0] * height / size, mm[1] * width / size)] * len(taken)
    shape = (0, size, size)
    return Frames(
        pixels=np.stack([r[0] for r in rows]) if rows else np.zeros(shape, np.uint8),
        masks=np.stack([r[1] for r in rows]) if rows else np.zeros(shape, np.uint8),
        view=np.array([r[2] for r in rows], np.int64),
        phase=np.array([r[3] for r in rows], np.int64),
        lvef_percent=np.array([r[4] for r in rows], np.float32),
        subject=np.array([r[5] for r in rows], np.int64),
        subjects=cohort.subjects,
        pixel_mm=np.array(pixel_mm, np.float32).reshape(-1, 2),
    )


def moments(clip: Clip, otherwise: int, *, always: bool = False) -> list[tuple[int, int]]:
    """Return phase and index of the frames to use: ED and ES, or where neither is named, some of unknown phase.

    Args:
        clip: of which.
        otherwise: how many of unknown phase, evenly spread.
        always: take these, too, where ED or ES is named.
    """
    named = [(phase, at) for phase, at in enumerate((clip.ed_frame, clip.es_frame)) if at is not None]
    if not otherwise or (named and not always):
        return named
    spread = np.linspace(0, len(clip.pixels) - 1, min(otherwise, len(clip.pixels)))
    known = {at for _, at in named}
    return named + [(-1, int(at)) for at in np.unique(spread.astype(int)) if at not in known]


def still(clip: Clip, at: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return frame `at` of `clip` and its mask, resized alone to `(size, size)`."""
    pixels = resize(clip.pixels[at], size, nearest=False)
    if clip.masks is None:
        return pixels, np.full((size, size), UNLABELLED, np.uint8)
    mask = resize(clip.masks[at], size, nearest=True)
    return pixels, np.where((mask > ATRIUM) & (mask != UNLABELLED), np.uint8(BACKGROUND), mask)


def partners(frames: Frames) -> NDArray[np.int64]:
    """Return, for each row, the row of the other phase of its clip, `(n,)`, -1 where there is none.

    ED and ES of a clip stand side by side (`gather`), ED first; that is how a clip is known again.
    """
    n = len(frames)
    found = np.full(n, -1, np.int64)
    if n < 2:
        return found
    same = (frames.subject[:-1] == frames.subject[1:]) & (frames.view[:-1] == frames.view[1:])
    first = np.flatnonzero(same & (frames.phase[:-1] == 0) & (frames.phase[1:] == 1))
    found[first], found[first + 1] = first + 1, first
    return found


def concatenate(parts: Sequence[Frames]) -> Frames:
    """Join frames of different subjects; subjects keep the order of `parts`."""
    offsets = np.cumsum([0, *[len(p.subjects) for p in parts]])
    return Frames(
        pixels=np.concatenate([p.pixels for p in parts]),
        masks=np.concatenate([p.masks for p in parts]),
        view=np.concatenate([p.view for p in parts]),
        phase=np.concatenate([p.phase for p in parts]),
        lvef_percent=np.concatenate([p.lvef_percent for p in parts]),
        subject=np.concatenate([p.subject + o for p, o in zip(parts, offsets[:-1], strict=True)]),
        subjects=tuple(s for p in parts for s in p.subjects),
        pixel_mm=np.concatenate([p.pixel_mm for p in parts]),
    )


def as_images(frames: Frames) -> dict[str, NDArray[np.uint8]]:
    """Return what a message may say of frames: pixels, masks, and view and phase as bytes, 255 where unknown."""
    return {
        "pixels": frames.pixels,
        "masks": frames.masks,
        "view": np.where(frames.view < 0, 255, frames.view).astype(np.uint8),
        "phase": np.where(frames.phase < 0, 255, frames.phase).astype(np.uint8),
    }


def write(path: Path, frames: Frames) -> None:
    """Write `frames` as one safetensors file, the names of subjects in its header; `read(write(f)) == f`."""
    columns = {name: np.ascontiguousarray(getattr(frames, name)) for name in COLUMNS}
    part = path.with_name(path.name + ".part")
    save_file(columns, part, metadata={"subjects": json.dumps(list(frames.subjects))})
    part.replace(path)


def read(path: Path) -> Frames:
    """Read what `write` wrote; raises `ValueError` naming the file where it is nothing of the kind."""
    try:
        with safe_open(path, framework="numpy") as file:
            columns = {name: file.get_tensor(name) for name in COLUMNS}
            subjects = json.loads(file.metadata()["subjects"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no frames: {error}") from error
    return Frames(**columns, subjects=tuple(SubjectKey(s) for s in subjects))
