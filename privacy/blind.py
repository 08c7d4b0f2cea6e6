"""The blind baseline: can members be told from controls by somebody who never saw the release?

If they can, the two groups were not drawn alike (other years, another scanner), and whatever an attack then achieves
says nothing of the release (Das, Zhang and Tramèr 2024, arXiv:2406.16201).
"""

import numpy as np
from numpy.typing import NDArray

from privacy.estimate import Estimate
from privacy.gallery import Gallery
from privacy.membership import auc

FOLDS = 5
_MOST = 4000
_PENALTY = 1.0
_CELLS, _LEVELS = 8, 32


def blind_auc(members: Gallery, controls: Gallery, *, seed: int) -> Estimate:
    """Return the area under the curve of a classifier of members that is given no release.

    A kernel ridge classifier (linear plus Gaussian) on the mean features of every subject and on the grey values that
    the features are made to ignore, cross-validated over subjects, with DeLong's 95 % interval. Of more than 4,000
    subjects as many are drawn: they show a difference of 0.03 in the area, and the kernel of all would fill memory.

    Args:
        members: at least `FOLDS` subjects.
        controls: at least `FOLDS` subjects.
        seed: draws the folds.
    """
    if min(len(members.subjects), len(controls.subjects)) < FOLDS:
        raise ValueError(f"{len(members.subjects)} members, {len(controls.subjects)} controls: needs {FOLDS} of each")
    x = np.concatenate([_described(members), _described(controls)])
    label = np.repeat([1.0, 0.0], [len(members.subjects), len(controls.subjects)])
    rng = np.random.default_rng(seed)
    if len(label) > _MOST:
        some = np.concatenate([_share(np.flatnonzero(label == kind), len(label), rng) for kind in (1.0, 0.0)])
        x, label = x[some], label[some]
    fold = np.empty(len(label), np.int64)
    for kind in (0.0, 1.0):  # every fold has its part of both
        own = np.flatnonzero(label == kind)
        fold[rng.permutation(own)] = np.arange(len(own)) % FOLDS
    scores = np.empty(len(label))
    for k in range(FOLDS):
        out = fold == k
        scores[out] = _fitted(x[~out], label[~out], x[out])
    return auc(scores[label == 1], scores[label == 0])


def _share(rows: NDArray[np.int64], of: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw from one side its part of the subjects that are looked at."""
    return rng.permutation(rows)[: max(FOLDS, _MOST * len(rows) // of)]


def _described(gallery: Gallery) -> NDArray[np.float64]:
    """Return what is to be seen of each subject, `(subjects, numbers)`."""
    shown = [gallery.features.astype(np.float64)]
    if gallery.pixels is not None:
        n, side = len(gallery), gallery.pixels.shape[1] // _CELLS * _CELLS
        grey = gallery.pixels[:, :side, :side].astype(np.float32)
        cells = grey.reshape(n, _CELLS, side // _CELLS, _CELLS, side // _CELLS).mean(axis=(2, 4)).reshape(n, -1)
        level = gallery.pixels.reshape(n, -1) // (256 // _LEVELS) + _LEVELS * np.arange(n)[:, None]
        levels = np.bincount(level.ravel(), minlength=n * _LEVELS).reshape(n, _LEVELS) / level.shape[1]
        shown += [cells.astype(np.float64), np.repeat(levels, 2, axis=1)]
    pictures = np.hstack(shown)
    total = np.zeros((len(gallery.subjects), pictures.shape[1]))
    np.add.at(total, gallery.subject, pictures)
    counted = np.bincount(gallery.subject, minlength=len(total))[:, None]
    return np.asarray(total / np.maximum(counted, 1), np.float64)


def _fitted(x: NDArray[np.float64], label: NDArray[np.float64], asked: NDArray[np.float64]) -> NDArray[np.float64]:
    mean, spread = x.mean(axis=0), x.std(axis=0)
    useful = spread > 1e-9
    x, asked = ((part[:, useful] - mean[useful]) / spread[useful] for part in (x, asked))
    if not useful.any():
        return np.zeros(len(asked))
    inner, outer = x @ x.T / x.shape[1], asked @ x.T / x.shape[1]
    apart = _apart(x, x)
    width = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
    kernel, crossed = inner + np.exp(-apart / width), outer + np.exp(-_apart(asked, x) / width)
    centre = label.mean()
    solved = np.linalg.solve(kernel + _PENALTY * np.eye(len(x)), label - centre)
    return np.asarray(crossed @ solved, np.float64)


def _apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    return np.asarray(np.maximum(squares, 0.0), np.float64)
