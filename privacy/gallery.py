"""Pictures of some subjects as an attacker compares them: features, whose they are, and what is known of whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import Frames
from privacy.embedding import embed
from privacy.neighbours import Features

EF_CLASS = "ef_class"
_CLASSES = ("below 40", "40 to 49", "50 or above")  # reduced, mildly reduced, preserved (ESC 2021)
_NOTHING: Mapping[str, Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Pictures of some subjects.

    Attributes:
        features: float32, `(n, d)`, norm one, or zero for a picture without contrast.
        subject: index into `subjects`, `(n,)`.
        subjects: names.
        view: index of the view, `(n,)`, -1 where unknown.
        phase: 0 for ED, 1 for ES, `(n,)`, -1 where unknown.
        attributes: per attribute ("sex", "age_band", "ef_class", "diagnosis") one word a subject, `(subjects,)`, empty
            where unknown.
        pixels: uint8, `(n, side, side)`, for attacks that train something, or `None`.
    """

    features: Features
    subject: NDArray[np.int64]
    subjects: tuple[str, ...]
    view: NDArray[np.int64]
    phase: NDArray[np.int64]
    attributes: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    pixels: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.features.ndim != 2 or not np.isfinite(self.features).all():
            raise ValueError(f"features must be finite and (n, d), not {self.features.shape}")
        for name in ("subject", "view", "phase"):
            if getattr(self, name).shape != (n,):
                raise ValueError(f"{name} must have one entry for each of {n} pictures")
        if self.pixels is not None and len(self.pixels) != n:
            raise ValueError(f"pixels must show {n} pictures, not {len(self.pixels)}")
        if n and not (int(self.subject.min()) >= 0 and int(self.subject.max()) < len(self.subjects)):
            raise ValueError(f"subject must index {len(self.subjects)} subjects")
        for name, words in self.attributes.items():
            if words.shape != (len(self.subjects),):
                raise ValueError(f"attribute {name!r} must have one word for each of {len(self.subjects)} subjects")

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def of(cls, frames: Frames, *, attributes: Mapping[str, Mapping[str, str]] = _NOTHING) -> "Gallery":
        """Embed the pictures of `frames` by the public embedding.

        Args:
            frames: the pictures; where they tell an ejection fraction, its class is an attribute without being named.
            attributes: subject → attribute → word; subjects and attributes that are not named are unknown.
        """
        names = sorted({name for subject in frames.subjects for name in attributes.get(subject, {})})
        told = {name: [attributes.get(s, {}).get(name, "") for s in frames.subjects] for name in names}
        if EF_CLASS not in told and np.isfinite(frames.lvef_percent).any():
            told[EF_CLASS] = _ef_classes(frames)
        return cls(
            features=embed(frames.pixels),
            subject=frames.subject,
            subjects=tuple(frames.subjects),
            view=frames.view,
            phase=frames.phase,
            attributes={name: np.array(words, object) for name, words in told.items()},
            pixels=frames.pixels,
        )

    def select(self, subjects: Sequence[str]) -> "Gallery":
        """Return the pictures of `subjects` only, re-indexed in the order given; raises `ValueError` for strangers."""
        position = {s: i for i, s in enumerate(self.subjects)}
        if strangers := [s for s in subjects if s not in position]:
            raise ValueError(f"{len(strangers)} of the subjects are not in this gallery, {strangers[0]!r} among them")
        old = np.array([position[s] for s in subjects], np.int64)
        new = np.full(len(self.subjects), -1, np.int64)
        new[old] = np.arange(len(old))
        owner = new[self.subject]
        keep = owner >= 0
        return Gallery(
            features=self.features[keep],
            subject=owner[keep],
            subjects=tuple(subjects),
            view=self.view[keep],
            phase=self.phase[keep],
            attributes={name: words[old] for name, words in self.attributes.items()},
            pixels=None if self.pixels is None else self.pixels[keep],
        )


def joined(first: Gallery, second: Gallery) -> Gallery:
    """Return the pictures of both; subjects of one name stay two. Attributes that one of them lacks are unknown."""
    both = (first, second)
    names = sorted({name for gallery in both for name in gallery.attributes})
    unknown = [np.full(len(gallery.subjects), "", object) for gallery in both]
    shown = [gallery.pixels for gallery in both if gallery.pixels is not None]
    return Gallery(
        features=np.concatenate([first.features, second.features]),
        subject=np.concatenate([first.subject, second.subject + len(first.subjects)]),
        subjects=first.subjects + second.subjects,
        view=np.concatenate([first.view, second.view]),
        phase=np.concatenate([first.phase, second.phase]),
        attributes={
            n: np.concatenate([g.attributes.get(n, u) for g, u in zip(both, unknown, strict=True)]) for n in names
        },
        pixels=np.concatenate(shown) if len(shown) == 2 and shown[0].shape[1:] == shown[1].shape[1:] else None,
    )


def _ef_classes(frames: Frames) -> list[str]:
    """Return the class of each subject's mean ejection fraction, empty where none is known."""
    known = np.isfinite(frames.lvef_percent)
    counted = np.bincount(frames.subject[known], minlength=len(frames.subjects))
    total = np.bincount(frames.subject[known], frames.lvef_percent[known], len(frames.subjects))
    mean = total / np.maximum(counted, 1)
    return [_CLASSES[int(m >= 40) + int(m >= 50)] if n else "" for m, n in zip(mean, counted, strict=True)]
