"""Subjects, studies and clips: the words every other room of the house speaks.

Raises: `UnreadableStudy` where a file cannot become a study. Errors name the file, the value and the bound.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NewType

import numpy as np
from numpy.typing import NDArray

SubjectKey = NewType("SubjectKey", str)
StudyKey = NewType("StudyKey", str)

BACKGROUND, CAVITY, MYOCARDIUM, ATRIUM, RIGHT_VENTRICLE = 0, 1, 2, 3, 4
STRUCTURES = {CAVITY: "left ventricular cavity", MYOCARDIUM: "myocardium", ATRIUM: "left atrium"}
SAID_MAX = 1000  # characters of an error
UNLABELLED = 255  # a mask value: nobody outlined this pixel


class View(StrEnum):
    """Standard view: of echocardiography (ASE nomenclature), and the short axis of cine magnetic resonance."""

    A2C = "A2C"
    A4C = "A4C"
    PLAX = "PLAX"
    PSAX = "PSAX"
    SAX = "SAX"


class Origin(StrEnum):
    """Where a study comes from: a patient, the public simulator, or a generator."""

    REAL = "real"
    PHANTOM = "phantom"
    SYNTHETIC = "synthetic"


class UnreadableStudy(ValueError):
    """A file that cannot become a study; says which file, which value and which bound, whatever the file holds."""

    def __init__(self, key: str, reason: str) -> None:
        key, reason = _line(key), _line(reason)
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


def _line(text: str) -> str:
    """Return one printable line of bounded length: what a hostile file says of itself must not rule a terminal."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return line if len(line) <= SAID_MAX else f"{line[:SAID_MAX]}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Frames of one view.

    Attributes:
        pixels: grey values, uint8, `(frames, height, width)`, probe at the top.
        view: the view, or `None` where it is not known.
        masks: uint8, `(frames, height, width)`: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium,
            4 right ventricle, 255 unlabelled.
        ed_frame: index of end diastole, or `None`.
        es_frame: index of end systole, or `None`.
        frame_seconds: time from one frame to the next, in seconds.
        pixel_mm: height and width of one pixel in millimetres.
        colour: the file was in colour, as colour Doppler is; `pixels` hold its luma.
    """

    pixels: NDArray[np.uint8]
    view: View | None = None
    masks: NDArray[np.uint8] | None = None
    ed_frame: int | None = None
    es_frame: int | None = None
    frame_seconds: float | None = None
    pixel_mm: tuple[float, float] | None = None
    colour: bool = False

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.dtype != np.uint8 or not self.pixels.size:
            raise ValueError(
                f"pixels must be uint8 (frames, height, width), not {self.pixels.dtype} {self.pixels.shape}"
            )
        if self.masks is not None and (self.masks.shape != self.pixels.shape or self.masks.dtype != np.uint8):
            raise ValueError(f"masks are {self.masks.dtype} {self.masks.shape}, must be uint8 {self.pixels.shape}")
        for name, frame in (("ed_frame", self.ed_frame), ("es_frame", self.es_frame)):
            if frame is not None and not 0 <= frame < len(self.pixels):
                raise ValueError(f"{name}={frame} lies outside 0..{len(self.pixels) - 1}")
        for quantity, values in (("frame_seconds", (self.frame_seconds,)), ("pixel_mm", self.pixel_mm or ())):
            for value in values:
                if value is not None and not 0 < value < np.inf:
                    raise ValueError(f"{quantity}={value} must be greater than 0 and finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One examination of one subject. Labels are never guessed: a missing one is absent."""

    key: StudyKey
    subject: SubjectKey
    clips: tuple[Clip, ...]
    origin: Origin
    labels: Mapping[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lvef = self.labels.get("lvef_percent")
        if lvef is not None and not 0 <= float(lvef) <= 100:
            raise ValueError(f"lvef_percent={lvef} lies outside 0..100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Subjects of one reader: an index first, pixels when asked.

    Attributes:
        subjects: every subject, sorted; the unit of privacy, of splitting and of every confidence interval.
        load: reads all studies of one subject from disk (or simulates them), each time anew.
        origin: what the studies are.
        columns: per subject, the index columns known without opening a pixel (used to partition into sites).
        left_out: what the reader found and does not use, each with its reason.
    """

    subjects: tuple[SubjectKey, ...]
    load: Callable[[SubjectKey], tuple[Study, ...]]
    origin: Origin
    columns: Mapping[SubjectKey, Mapping[str, str]] = field(default_factory=dict)
    left_out: tuple[UnreadableStudy, ...] = ()

    def __post_init__(self) -> None:
        for one, other in pairwise(self.subjects):
            if not one < other:
                raise ValueError(f"subjects must be sorted and unique, but {one!r} stands before {other!r}")

    def of(self, subject: SubjectKey) -> tuple[Study, ...]:
        """Return every study of `subject`; raises `KeyError` for a subject of somebody else."""
        at = bisect_left(self.subjects, subject)
        if at == len(self.subjects) or self.subjects[at] != subject:
            raise KeyError(f"subject {subject!r} is not in this cohort of {len(self.subjects)} subjects")
        return self.load(subject)

    def restrict(self, subjects: Collection[SubjectKey]) -> "Cohort":
        """Return the cohort of those `subjects` only, in the same order."""
        kept = set(subjects)
        return Cohort(
            subjects=tuple(s for s in self.subjects if s in kept),
            load=self.load,
            origin=self.origin,
            columns={s: c for s, c in self.columns.items() if s in kept},
            left_out=self.left_out,
        )
