"""Who is nearest to whom, patients held in all poses, in memory that does not grow with their number.

Held in `privacy.embedding.WIDE` a picture takes 640 kB, so patients are embedded a few at a time, compared with all
candidates, and forgotten. On CAMUS the wide poses find copies of the third level of every standard family that moves
the picture, which `POSES` miss, and lift the likeness of strangers by less than 0.01
(`python -m benchmarks.camus_audit`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from privacy.embedding import WIDE, Embedding, Pose, embed_poses
from privacy.votes import nearest_of

_AT_ONCE = 16
hold_widely: Callable[[NDArray[np.uint8]], Embedding] = partial(embed_poses, poses=WIDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """Both sides of one comparison.

    Attributes:
        candidate: per picture of a candidate its largest similarity to any picture of a patient, `(m,)`.
        patient_of: the picture of a patient that is, `(m,)`.
        patient: per picture of a patient its largest similarity to any picture of a candidate, `(n,)`.
        candidate_of: the picture of a candidate that is, `(n,)`.
    """

    candidate: NDArray[np.float32]
    patient_of: NDArray[np.int64]
    patient: NDArray[np.float32]
    candidate_of: NDArray[np.int64]


def search(patients: NDArray[np.uint8], candidates: Embedding, *, poses: Sequence[Pose] = WIDE) -> Nearness:
    """Compare pictures of patients, in every pose, with pictures of candidates, as they are.

    Args:
        patients: uint8, `(n, height, width)`.
        candidates: `privacy.embedding.embed` of candidates, `(m, d)`, at least one.
        poses: in which patients are held.
    """
    if not len(candidates):
        raise ValueError("candidates is empty: there is nobody to compare with")
    best, owner = np.full(len(candidates), -1.0, np.float32), np.zeros(len(candidates), np.int64)
    own, at = np.full(len(patients), -1.0, np.float32), np.zeros(len(patients), np.int64)
    for rows in _blocks(len(patients)):
        held = embed_poses(patients[rows], poses)
        flat = held.reshape(-1, held.shape[-1])
        likeness, pose = nearest_of(candidates, flat)
        nearer = likeness > best
        best = np.where(nearer, likeness, best)
        owner = np.where(nearer, rows.start + pose // len(poses), owner)
        likeness, candidate = nearest_of(flat, candidates)
        first = likeness.reshape(len(held), -1).argmax(axis=1) + len(poses) * np.arange(len(held))
        own[rows], at[rows] = likeness[first], candidate[first]
    return Nearness(candidate=best, patient_of=owner, patient=own, candidate_of=at)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _AT_ONCE, n)) for start in range(0, n, _AT_ONCE))
