"""A release of noise, as `pericard simulate` writes it."""

import numpy as np

from cohorts.frames import Frames
from cohorts.readers import READERS
from cohorts.study import UNLABELLED, Origin, SubjectKey
from synthesis import release

SIZE = 16


def frames(subjects=3, seed=0):
    """Two views and two phases per subject; of the last nothing is known but that."""
    rng = np.random.default_rng(seed)
    n = subjects * 4
    masks = rng.integers(0, 4, (n, SIZE, SIZE), dtype=np.uint8)
    lvef = np.repeat(np.round(rng.uniform(20, 70, subjects), 1), 4).astype(np.float32)
    masks[-4:], lvef[-4:] = UNLABELLED, np.nan
    return Frames(
        pixels=rng.integers(0, 256, (n, SIZE, SIZE), dtype=np.uint8),
        masks=masks,
        view=np.tile(np.array([0, 0, 1, 1]), subjects),
        phase=np.tile(np.array([0, 1, 0, 1]), subjects),
        lvef_percent=lvef,
        subject=np.repeat(np.arange(subjects), 4),
        subjects=tuple(SubjectKey(f"made-up-{i}") for i in range(subjects)),
    )


def build(folder):
    release.write(folder / "release", frames(), origin=Origin.SYNTHETIC)
    return READERS["release"](root=str(folder))
