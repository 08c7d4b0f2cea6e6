"""How near two people lie: the nearest pair of their pictures. What an attack on subjects asks of two galleries."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from privacy.gallery import Gallery
from privacy.neighbours import Features, least

_PICTURES = 1024


def apart(queries: Gallery, bank: Gallery) -> Iterator[tuple[slice, Features]]:
    """Yield, block by block, the distances of some subjects of `queries` to every subject of `bank`.

    Yields:
        The subjects of the block; Euclidean distances of their nearest pictures, float32 `(block, bank subjects)`,
        infinite for subjects without a picture.
    """
    owners, order, starts = _by_subject(bank)
    features = bank.features[order]
    squares = np.einsum("nd,nd->n", features, features)
    people, rows, begins = _by_subject(queries)
    block = max(1, _PICTURES * max(1, len(people)) // max(1, len(rows)))
    for first in range(0, len(queries.subjects), block):
        some = slice(first, min(first + block, len(queries.subjects)))
        low, high = np.searchsorted(people, (some.start, some.stop))
        nearest = np.empty((high - low, len(owners)), np.float32)
        if nearest.size:
            last = begins[high] if high < len(begins) else len(rows)
            pictures = queries.features[rows[begins[low] : last]]
            nearest = pictures @ features.T
            nearest *= -2
            nearest += squares
            nearest += np.einsum("nd,nd->n", pictures, pictures)[:, None]
            if len(owners) < len(order):
                nearest = np.minimum.reduceat(nearest, starts, axis=1)
            if high - low < len(pictures):
                nearest = np.minimum.reduceat(nearest, begins[low:high] - begins[low], axis=0)
            np.sqrt(np.maximum(nearest, 0, out=nearest), out=nearest)
        if nearest.shape == (some.stop - first, len(bank.subjects)):  # everybody has a picture
            yield some, nearest
            continue
        found = np.full((some.stop - first, len(bank.subjects)), np.inf, np.float32)
        found[np.ix_(people[low:high] - first, owners)] = nearest
        yield some, found


def nearest_people(
    queries: Gallery, bank: Gallery, k: int, *, among: NDArray[np.bool_] | None = None
) -> tuple[Features, NDArray[np.int64]]:
    """Return the `k` nearest subjects of `bank` for each subject of `queries`, nearest first.

    Args:
        queries: whose neighbours.
        bank: who may be one.
        k: how many, at least 1.
        among: which subjects of `bank` count, `(bank subjects,)`; all unless said.

    Returns:
        Distances, float32 `(subjects, k)`, infinite where fewer are left; who they are, int64 `(subjects, k)`, -1
        there.
    """
    if k < 1:
        raise ValueError(f"k={k} must be at least 1")
    distances = np.full((len(queries.subjects), k), np.inf, np.float32)
    who = np.full(distances.shape, -1, np.int64)
    some = min(k, len(bank.subjects))
    for block, away in apart(queries, bank) if some else ():
        if among is not None:
            away[:, ~among] = np.inf
        far, near = least(away, some)
        order = np.argsort(far, axis=1, kind="stable")
        distances[block, :some] = np.take_along_axis(far, order, 1)
        who[block, :some] = np.take_along_axis(near, order, 1)
    return distances, np.where(np.isinf(distances), -1, who)


def singly(gallery: Gallery, rows: NDArray[np.int64]) -> Gallery:
    """Return some pictures, each as if it were a subject of its own, of whom nothing else is known."""
    return replace(
        gallery,
        features=gallery.features[rows],
        subject=np.arange(len(rows)),
        subjects=tuple(gallery.subjects[s] for s in gallery.subject[rows]),
        view=gallery.view[rows],
        phase=gallery.phase[rows],
        attributes={},
        pixels=None,
    )


def _by_subject(gallery: Gallery) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the subjects that have pictures, the pictures sorted by subject, and where each subject begins."""
    order = np.argsort(gallery.subject, kind="stable")
    owners, starts = np.unique(gallery.subject[order], return_index=True)
    return owners, order, starts
