"""Sectors found by a small network that was taught by few masks: of frames of one site, or of public phantoms.

The fan fitted without labels (`learning.sector`) takes large writing for echo. One mask in twenty is enough to learn
better, because sectors are much alike.

A network that patients' masks taught carries these patients into the losses of all others: right for an arm without
privacy, wrong under differential privacy, whose clip would bound nothing. What phantoms taught tells of nobody.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cohorts.frames import Frames
from cohorts.study import SubjectKey
from learning.backmix import PhantomDonors, phantoms
from learning.learner import fit
from learning.learners.segmenter import Segmenter
from learning.sector import Finder

STEPS = 400


def taught(pixels: NDArray[np.uint8], inside: NDArray[np.bool_], *, seed: int, steps: int = STEPS) -> Finder:
    """Teach a network by sectors and return what finds the sector `(h, w)` of one picture with it.

    What it finds is one piece without holes, because a stray pixel of writing kept would be writing kept.

    Args:
        pixels: uint8 `(n, size, size)`; the sides are multiples of 16.
        inside: the sectors, `(n, size, size)`.
        seed: of first weights and batches; the same seed teaches the same.
        steps: of training, 16 frames each.

    Raises:
        ValueError: if there is no frame, or the shapes differ.
    """
    if not len(pixels) or pixels.shape != inside.shape:
        raise ValueError(f"pixels {pixels.shape} and sectors {inside.shape} must have one shape and a frame")
    unknown = np.full(len(pixels), -1)
    frames = Frames(
        pixels=pixels,
        masks=inside.astype(np.uint8),
        view=unknown,
        phase=unknown,
        lvef_percent=np.full(len(pixels), np.nan, np.float32),
        subject=np.zeros(len(pixels), np.int64),
        subjects=(SubjectKey("sectors"),),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = Segmenter(width=8).build()
    fit(network, frames, steps=steps, batch_size=16, learning_rate=3e-3, seed=seed)
    return lambda picture: _solid(network.predict(picture[None])[0] == 1)


@lru_cache(maxsize=4)
def taught_by_phantoms(donors: PhantomDonors, *, steps: int = STEPS) -> Finder:
    """Teach a network by public phantoms, once per recipe: no mask of a patient is needed, none is used."""
    return taught(*phantoms(donors), seed=donors.seed, steps=steps)


def _solid(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest piece, its holes filled."""
    parts, n = ndimage.label(found)
    if not n:
        return found
    largest = 1 + int(np.bincount(parts.ravel())[1:].argmax())
    return np.asarray(ndimage.binary_fill_holes(parts == largest))
