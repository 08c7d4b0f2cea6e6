"""Five phantom sites that name different classes, and the contrast echo that some of them do; for benchmarks alone.

A contrast agent makes blood brighter than muscle, and the scanner is turned down for it, so that tissue darkens. Only
the left heart is filled, for nothing else is outlined; how densely, how evenly and how far down differs from clip to
clip.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cohorts.frames import COLUMNS, PHASES, VIEWS, Frames, concatenate
from cohorts.phantom import scanner
from cohorts.phantom.simulate import stills_with_style
from cohorts.study import ATRIUM
from learning.ontology import Ontology, SiteLabelMap

SIZE = 48  # pixels
CAVITY = 1
LEVEL = (130.0, 225.0)  # grey value of blood
TISSUE = (0.4, 0.9)  # share of its grey value that tissue keeps
SPECKLE = (0.1, 0.3)  # standard deviation, of the level
SWIRL = (0.0, 0.25)  # the same of slow unevenness
SHADOW = (0.0, 0.6)  # share of the level that is lost from the top of the cavity to the bottom of the picture
EDGE = (0.012, 0.03)  # standard deviation of the edge, of the height of the picture


def opacify(frames: Frames, fans: NDArray[np.bool_], *, seed: int) -> Frames:
    """Return `frames` as contrast studies show them; ED and ES of a clip, side by side, share their settings.

    Args:
        frames: of outlined pictures, a pair of every clip.
        fans: where each has echoes, `(n, size, size)`; text and black around it betray nothing of the agent.
        seed: names the draws; clip `k` is the same however many there are.
    """
    pixels = np.empty_like(frames.pixels)
    for row, (image, mask) in enumerate(zip(frames.pixels, frames.masks, strict=True)):
        settings = np.random.default_rng((seed, row // 2, 2)).random(6)
        filled = _fill(image, mask, settings, np.random.default_rng((seed, row // 2, row % 2)))
        pixels[row] = np.where(fans[row], filled, image)
    return dataclasses.replace(frames, pixels=pixels)


def _fill(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], settings: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    ends = np.array((LEVEL, TISSUE, SPECKLE, SWIRL, SHADOW, EDGE))
    level, tissue, grain, swirl, shadow, edge = ends[:, 0] + settings * (ends[:, 1] - ends[:, 0])
    size = len(image)
    cavity = (mask == CAVITY) | (mask == ATRIUM)
    lit = gaussian_filter(cavity.astype(np.float64), edge * size)
    top = np.flatnonzero(cavity.any(1))[0] if cavity.any() else 0
    below = np.clip((np.arange(size) - top) / size, 0, 1)[:, None]
    uneven = 1 + grain * _noise(rng, size, 0.01) + swirl * _noise(rng, size, 0.1)
    blood = level * (1 - shadow * below) * uneven
    grey = (1 - lit) * tissue * image + lit * blood
    return np.asarray(np.clip(grey, 0, 255).round(), np.uint8)


def _noise(rng: np.random.Generator, size: int, length: float) -> NDArray[np.float64]:
    """Return noise of mean 0 and standard deviation 1, correlated over `length` of the height of the picture."""
    noise = gaussian_filter(rng.standard_normal((size, size)), length * size)
    return np.asarray(noise / noise.std())


ONTOLOGIES = {
    by: Ontology(names=tuple(f"{view} {second}" for view in VIEWS for second in seconds))
    for by, seconds in {"contrast": ("plain", "contrast"), "phase": PHASES}.items()
}
WORD = {"contrast": "whether a contrast agent was given", "phase": "phase"}
STYLES = {"site-a": "site-a", "site-b": "site-b", "site-c": "site-c", "wide-1": "wide", "wide-2": "wide"}
VOCABULARIES = {
    "contrast": ((0, 2, 3, 4, 5, 6), (0, 2, 3), (1, 3, 5, 7), (0, 1, 6, 7), (2, 3, 4, 5, 6, 7)),
    "phase": ((0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7), (0, 1, 6, 7), (2, 3, 4, 5, 6, 7)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSite:
    """A site of the benchmark: its style of scanner, the seed of its people and the classes that it names.

    Class `2 v + s` is view `v` and, as `by` says, the phase `s` or whether a contrast agent was given.
    """

    name: str
    style: str
    seed: int
    classes: tuple[int, ...]
    by: str

    def frames(self, n_subjects: int, *, seed: int) -> Frames:
        """Simulate `n_subjects` patients whose `view` counts the classes of the ontology."""
        views = [VIEWS[i] for i in sorted({c // 2 for c in self.classes})]
        whole = 1000 * seed + self.seed
        frames, knobs = stills_with_style(n_subjects, seed=whole, size=SIZE, style=self.style, views=views)
        if self.by == "phase":
            every = dataclasses.replace(frames, view=2 * frames.view + frames.phase)
            return _rows(every, np.isin(every.view, self.classes))
        plain = dataclasses.replace(frames, view=2 * frames.view)
        filled = opacify(frames, scanner.fan(knobs, SIZE), seed=whole)
        given = dataclasses.replace(filled, view=2 * frames.view + 1)
        both = [_rows(part, np.isin(part.view, self.classes)) for part in (plain, given)]
        joined = concatenate(both)  # the people of both parts are the same
        return dataclasses.replace(joined, subject=joined.subject % n_subjects, subjects=frames.subjects)

    @property
    def label_map(self) -> SiteLabelMap:
        """Return what the site's words mean."""
        names = ONTOLOGIES[self.by]
        return SiteLabelMap(
            site=self.name,
            labels=tuple(f"{self.name} {c}" for c in self.classes),
            means=tuple(names.names[c] for c in self.classes),
            ontology=names,
        )


def _rows(frames: Frames, keep: NDArray[np.bool_]) -> Frames:
    columns = {c: getattr(frames, c)[keep] for c in COLUMNS}
    return dataclasses.replace(frames, **columns)


def sites(by: str) -> tuple[PhantomSite, ...]:
    """Return the sites in the order in which they arrive."""
    each = enumerate(zip(STYLES.items(), VOCABULARIES[by], strict=True), 1)
    return tuple(PhantomSite(name=n, style=s, seed=k, classes=c, by=by) for k, ((n, s), c) in each)
