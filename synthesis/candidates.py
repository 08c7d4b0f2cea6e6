"""Candidates for a release: drawn by the coordinator, and drawn again by sites, who judge no picture of other origin.

A recipe and the weights of the generator decide every picture, subject by subject: number k comes out the same whether
it is drawn alone, among others, here or at a site. So before it draws, the coordinator commits itself to all that the
pictures and the verdicts about them will depend on, and a server that would slip a patient's picture among the
candidates, to learn from the verdict whether that patient is there, is caught by whoever draws it again.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts import clips as moving
from cohorts import frames as table
from cohorts.clips import Clips
from cohorts.frames import PHASES, Frames
from conf.schema import Classes
from learning import arrays
from learning.schema import canonical
from synthesis import conditions
from synthesis.likeness import Likeness
from synthesis.parts import build

MOMENTS = 6  # of each clip, looked at beside end diastole and end systole
TOLERANCE = 2.0  # grey values of 255, mean over a picture: other kernels round otherwise, another picture is far off

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Synthetic subjects: stills at end diastole and end systole, and where they move, the clips these are taken from.

    Attributes:
        stills: subject by subject, of each equally many.
        clips, systole: of what moves, and the frame of end systole in each clip; else `None`.
    """

    stills: Frames
    clips: Clips | None = None
    systole: NDArray[np.int64] | None = None

    def looked_at(self) -> Frames:
        """Return all pictures that a filter looks at: of what moves, also moments all over each beat."""
        return self.stills if self.clips is None else with_moments(self.stills, self.clips)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that candidates depend on beside the weights of their generator; public.

    Attributes:
        kind, name, config: of the generator (`synthesis.parts`).
        subjects: how many are drawn.
        seed, size: of the pictures.
        classes: what is drawn, the fields of `conf.schema.Classes`.
        frames, lvef_percent: of clips: frames of one beat, lowest and highest ejection fraction asked for.
        like: centre and covariance of where hearts lie (`synthesis.likeness`); empty where shapes are public.
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    subjects: int
    seed: int
    size: int
    classes: Mapping[str, Any]
    frames: int = 0
    lvef_percent: tuple[float, ...] = ()
    like: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as a JSON object; `Recipe.from_json` returns it."""
        return {**dataclasses.asdict(self), "lvef_percent": list(self.lvef_percent)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Recipe":
        """Read what `to_json` wrote; raises `ValueError` for other keys or an impossible number of subjects."""
        if document.keys() != {f.name for f in dataclasses.fields(cls)}:
            raise ValueError(f"keys {sorted(document)} are not those of a recipe")
        found = cls(**{**document, "lvef_percent": tuple(document["lvef_percent"])})
        if not isinstance(found.subjects, int) or found.subjects < 1:
            raise ValueError(f"subjects={found.subjects!r} must be at least 1")
        return found

    @property
    def _classes(self) -> Classes:
        told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.classes.items()}
        return Classes(**told)

    def generator(self, weights: Mapping[str, NDArray[np.float32]]) -> Any:
        """Return the generator with these trained weights; what is not trained comes from the public prior or seed."""
        built = build(self.kind, self.name, self.config, seed=self.seed)
        arrays.load(built.module, weights)
        return built

    def conditions(self, first: int = 0, n: int | None = None, *, pictures: bool = False) -> Candidates:
        """Return what is asked for of `n` subjects from `first` on: black, or with the phantom's own pictures."""
        classes = self._classes
        n = self.subjects - first if n is None else n
        if not 0 <= first <= first + n <= self.subjects:
            raise ValueError(f"first={first}, n={n} lie outside the {self.subjects} subjects")
        told: dict[str, Any] = {"seed": self.seed, "size": self.size, "first": first, "pictures": pictures}
        if not self.frames:
            like = None if pictures or not self.like else Likeness(**{k: np.array(v) for k, v in self.like.items()})
            return Candidates(stills=conditions.conditions(classes, n, **told, like=like))
        low, high = self.lvef_percent
        clips, systole = conditions.beats(classes, n, **told, frames=self.frames, lvef_percent=(low, high))
        return Candidates(stills=conditions.ends(clips, systole), clips=clips, systole=systole)

    def draw(
        self, generator: Any, asked: Candidates, *, first: int = 0, progress: Progress | None = None
    ) -> Candidates:
        """Return the pictures of what `conditions` asked for, subjects from `first` on."""
        told: dict[str, Any] = {"seed": self.seed, "progress": progress}
        people = max(1, len(asked.stills.subjects))
        if asked.clips is None or asked.systole is None:
            black = dataclasses.replace(asked.stills, pixels=np.zeros_like(asked.stills.pixels))
            offset, together = first * (len(black) // people), conditions.pictures_of_one_heart(self._classes)
            pixels = generator.sample(black, offset=offset, of_one_heart=together, **told)
            return Candidates(stills=dataclasses.replace(black, pixels=pixels))
        still = dataclasses.replace(asked.clips, pixels=np.zeros_like(asked.clips.pixels))
        pixels = generator.sample(still, offset=first * (len(still) // people), **told)
        clips = dataclasses.replace(still, pixels=pixels)
        return Candidates(stills=conditions.ends(clips, asked.systole), clips=clips, systole=asked.systole)


def with_moments(stills: Frames, clips: Clips) -> Frames:
    """Return the stills and, of each clip, `MOMENTS` frames all over its beat, each a phase of its own."""
    at = np.linspace(0, clips.length - 1, MOMENTS, axis=1).round().astype(np.int64)
    more = moving.stills(clips, at, len(PHASES) + np.arange(MOMENTS))
    columns = {name: np.concatenate([getattr(f, name) for f in (stills, more)]) for name in table.COLUMNS}
    return Frames(**columns, subjects=stills.subjects)


def by_subject(frames: Frames) -> NDArray[np.uint8]:
    """Return pictures as `(subjects, pictures of each, size, size)`; `ValueError` where some have more than others."""
    n = len(frames.subjects)
    counts = np.bincount(frames.subject, minlength=n)
    if not n or counts.min() != counts.max():
        raise ValueError(f"{n} subjects with {sorted(set(counts.tolist()))} pictures each cannot be laid side by side")
    order = np.argsort(frames.subject, kind="stable")
    return frames.pixels[order].reshape(n, -1, *frames.pixels.shape[1:])


def same(shown: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say of each subject, pictures `(n, each, size, size)`, whether all it is shown with is what was drawn."""
    if shown.shape != drawn.shape:
        return np.zeros(len(shown), bool)
    apart = np.abs(shown.astype(np.int16) - drawn.astype(np.int16)).mean((2, 3))
    found: NDArray[np.bool_] = (apart <= TOLERANCE).all(1)
    return found


def commitment(recipe: Recipe, weights: Mapping[str, NDArray[np.float32]], rule: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of the generator, of the recipe with seed and number, and of the rule; `committed` is of them all.

    `rule` is what decides about a candidate: lane, embedding, similarity, noise.
    """
    parts = {
        "generator": arrays.digest(weights),
        "recipe": _sha256(recipe.to_json()),
        "rule": _sha256(dict(rule)),
    }
    return {**parts, "committed": _sha256(parts)}


def _sha256(value: object) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()
