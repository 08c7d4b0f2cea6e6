"""The nearest released picture of every person, and whether it is that person's very picture.

The fewest words that a release can be convicted by: a released picture which agrees with a member's in every detail,
but for what resizing and compression do. Two people do not do that to each other, so no control is needed; whatever is
less alike than that is a likeness, and how alike strangers are is not known without controls.
"""

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from privacy.embedding import embed
from privacy.gallery import Gallery
from privacy.neighbours import nearest

SIMILARITY = 0.98
"""Of the embedding: `ReidentificationFilter.copy`, what is a copy whatever strangers look like."""
DIFFERENCE = 0.25
"""Root mean square of the difference of two pictures over the standard deviation of the person's own: H.264 and JPEG at
usual quality, and resizing, stay below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The likest pair of every person, in the order of `people.subjects`.

    Attributes:
        picture: of the person, index into the gallery, `(people,)`.
        released: index into the release, `(people,)`.
        similarity: of the two, float64 in [-1, 1], `(people,)`.
        verbatim: whether it is the very picture, `(people,)`.
    """

    picture: NDArray[np.int64]
    released: NDArray[np.int64]
    similarity: NDArray[np.float64]
    verbatim: NDArray[np.bool_]


def likest(people: Gallery, released: Gallery) -> Nearest:
    """Return the likest pair of every subject of `people`.

    Args:
        people: whose pictures are looked for; with pixels.
        released: where; with pixels of the same size.

    Raises:
        ValueError: a gallery has no pixels, their sizes differ, or a person has no picture.
    """
    if people.pixels is None or released.pixels is None or people.pixels.shape[1:] != released.pixels.shape[1:]:
        raise ValueError("people and released need pixels of one size")
    n = len(people.subjects)
    if len(np.unique(people.subject)) != n:
        raise ValueError(f"{n - len(np.unique(people.subject))} of {n} people have no picture")
    away, where = nearest(people.features, released.features)
    alike = 1 - away[:, 0].astype(np.float64) ** 2 / 2  # features have norm one
    order = np.lexsort((-alike, people.subject))
    first = order[np.searchsorted(people.subject[order], np.arange(n))]
    found = where[first, 0]
    own, other = (g.astype(np.float32).reshape(n, -1) for g in (people.pixels[first], released.pixels[found]))
    spread = own.std(axis=1)
    apart = np.sqrt(((own - other) ** 2).mean(axis=1)) / np.where(spread > 0, spread, np.inf)
    return Nearest(
        picture=first,
        released=found,
        similarity=alike[first],
        verbatim=(alike[first] >= SIMILARITY) & (apart <= DIFFERENCE) & (spread > 0),
    )


def compressed(people: Gallery, *, quality: int = 75, most: int = 200) -> float:
    """Return the share of people whose own picture is known for theirs after JPEG: the positive control.

    Args:
        people: with pixels.
        quality: of the JPEG.
        most: people who are tried, the first ones.
    """
    if people.pixels is None:
        raise ValueError("people need pixels")
    first = np.unique(people.subject, return_index=True)[1][:most]
    pictures = []
    for pixels in people.pixels[first]:
        raw = io.BytesIO()
        Image.fromarray(pixels).save(raw, "JPEG", quality=quality)
        pictures.append(np.asarray(Image.open(raw), np.uint8))
    subjects = tuple(people.subjects[at] for at in people.subject[first])
    own = np.arange(len(first))
    bare = Gallery(
        features=people.features[first],
        subject=own,
        subjects=subjects,
        view=people.view[first],
        phase=people.phase[first],
        pixels=people.pixels[first],
    )
    copies = np.stack(pictures)
    return float(likest(bare, replace(bare, features=embed(copies), pixels=copies)).verbatim.mean())
