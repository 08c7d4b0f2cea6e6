"""One pass over every clip of a cohort: what it is, what it looks like in small, and what cannot be read."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cohorts.burned_in import verdict
from cohorts.frames import resize
from cohorts.index import Index, Source
from cohorts.likeness import descriptor
from cohorts.study import CAVITY, UNLABELLED, Clip, UnreadableStudy, View

THUMB = 96
LOOKED_AT = 3  # frames of a long clip that are compared with other people's
LEAST_OUTLINE = 50  # pixels; smaller outlines can agree by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is kept of a clip.

    Attributes:
        source: where it came from.
        view: its view, `None` where unknown.
        shape: frames, height, width.
        moves: two of its frames differ; true of a single frame.
        shows: it has more than one grey value.
        frame_seconds: as `Clip.frame_seconds`.
        pixel_mm: as `Clip.pixel_mm`.
        colour: as `Clip.colour`.
        labelled: the structures that its masks name.
        ed_area: pixels of the cavity at end diastole, `None` where it is not outlined.
        es_area: the same at end systole.
        outline: digest of what its masks outline, "" where that is next to nothing.
        writing: what looks like burned-in writing or an ECG, "" where nothing does.
        thumb: its end-diastolic or first frame, uint8 `(THUMB, THUMB)`.
        pictures: descriptors of some of its frames, `(k, …)`.
    """

    source: Source
    view: View | None
    shape: tuple[int, int, int]
    moves: bool
    shows: bool
    frame_seconds: float | None
    pixel_mm: tuple[float, float] | None
    colour: bool
    labelled: frozenset[int]
    ed_area: int | None
    es_area: int | None
    outline: str
    writing: str
    thumb: NDArray[np.uint8]
    pictures: tuple[NDArray[np.float32], ...]


def survey(
    index: Index, *, progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[Seen, ...], tuple[UnreadableStudy, ...]]:
    """Decode every clip once and return what was seen, and what could not be read; one clip is in memory at a time."""
    seen: list[Seen] = []
    unreadable: list[UnreadableStudy] = []
    for k, source in enumerate(index.sources):
        try:
            seen.append(look_at(source, source.load()))
        except UnreadableStudy as problem:
            unreadable.append(problem)
        if progress is not None:
            progress(k + 1, len(index.sources))
    return tuple(seen), tuple(unreadable)


def look_at(source: Source, clip: Clip) -> Seen:
    """Return what is kept of `clip`."""
    first = clip.ed_frame or 0
    marked = [at for at in (clip.ed_frame, clip.es_frame) if at is not None]
    spread = np.linspace(0, len(clip.pixels) - 1, min(LOOKED_AT, len(clip.pixels))).astype(int).tolist()
    found = (descriptor(clip.pixels[at]) for at in dict.fromkeys(marked or spread))
    masks = clip.masks
    return Seen(
        source=source,
        view=clip.view,
        shape=(clip.pixels.shape[0], clip.pixels.shape[1], clip.pixels.shape[2]),
        moves=len(clip.pixels) == 1 or bool((clip.pixels[1:] != clip.pixels[:1]).any()),
        shows=bool(clip.pixels.max() > clip.pixels.min()),
        frame_seconds=clip.frame_seconds,
        pixel_mm=clip.pixel_mm,
        colour=clip.colour,
        labelled=frozenset() if masks is None else frozenset(np.unique(masks).tolist()) - {0, UNLABELLED},
        ed_area=_cavity(clip, clip.ed_frame),
        es_area=_cavity(clip, clip.es_frame),
        outline=_outline(masks),
        writing=_writing(clip),
        thumb=resize(clip.pixels[first], THUMB, nearest=False),
        pictures=tuple(picture for picture in found if picture is not None),
    )


def _cavity(clip: Clip, at: int | None) -> int | None:
    if clip.masks is None or at is None or (clip.masks[at] == UNLABELLED).all():
        return None
    return int((clip.masks[at] == CAVITY).sum())


def _writing(clip: Clip) -> str:
    """Look for burned-in writing in the first, middle and last frame, all there is to go by where no header helps."""
    n = len(clip.pixels)
    frames = clip.pixels[sorted({0, n // 2, n - 1})]
    return verdict(frames, None, claimed=None, text="block", textured=clip.view is View.SAX)


def _outline(masks: NDArray[np.uint8] | None) -> str:
    if masks is None:
        return ""
    drawn = np.where(masks == UNLABELLED, 0, masks).astype(np.uint8)
    if np.count_nonzero(drawn) < LEAST_OUTLINE:
        return ""
    return hashlib.sha256(repr(drawn.shape).encode() + drawn.tobytes()).hexdigest()
