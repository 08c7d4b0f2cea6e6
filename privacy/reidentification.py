"""Screening of candidates before release: against each other, which is free, and against patients, which is not.

`self_similar` looks at candidates only, so it is post-processing: a differentially private release stays one.

`ReidentificationFilter` opens real studies again. Its verdicts have no finite ε and are a membership oracle to whoever
may ask often (Debenedetti et al. 2023, arXiv:2309.05610): EMPIRICAL lane only, one answer, no scores, no names.
The threshold is conformal: the calibration subjects, whom the generator never saw, are scored exactly as candidates
will be, by their largest similarity to the members, one score per subject; a fresh stranger is then rejected with
probability about α (Vovk et al. 2005, doi:10.1007/b106715).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.embedding import Embedding, nearest

_BLOCK = 512


def self_similar(embeddings: Embedding, *, threshold: float) -> NDArray[np.bool_]:
    """Say which candidates to keep: the first of every group of near twins, in the order given.

    A candidate goes when an earlier kept one reaches `threshold` in similarity. A generator that repeats itself
    betrays what it memorised (Carlini et al. 2023, arXiv:2301.13188).

    Args:
        embeddings: candidates as `privacy.embedding.embed` returns them, `(n, d)`.
        threshold: public similarity in (-1, 1], fixed without looking at patients.

    Returns:
        `(n,)`, true where kept; the result for a candidate depends on it and on earlier ones only.
    """
    _check("threshold", threshold)
    keep = np.ones(len(embeddings), bool)
    for start in range(0, len(embeddings), _BLOCK):
        block = embeddings[start : start + _BLOCK]
        earlier = embeddings[:start][keep[:start]]
        fresh = nearest(block, earlier) < threshold
        twins = block @ block.T >= threshold
        for i in range(len(block)):
            fresh[i] = fresh[i] and not (twins[i, :i] & fresh[:i]).any()
        keep[start : start + len(block)] = fresh
    return keep


@dataclass(frozen=True, slots=True, kw_only=True)
class ReidentificationFilter:
    """Drops candidates that come closer to a member than strangers do.

    Attributes:
        alpha: share of fresh, unrelated people's images that it may drop, in (0, 1).
        copy: similarity that is a copy whatever the calibration says, in (0, 1): a calibration subject who is a member
            under another name would otherwise lift τ to 1.
    """

    alpha: float = 0.05
    copy: float = 0.98

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("copy", self.copy)):
            if not 0 < value < 1:
                raise ValueError(f"{name}={value} must lie in (0, 1)")

    def calibrate(
        self,
        members: Embedding,
        member_subject: NDArray[np.int64],
        calibration: Embedding,
        calibration_subject: NDArray[np.int64],
    ) -> float:
        """Return τ, the ⌈(n+1)(1-α)⌉-th smallest of n calibration subjects' largest similarity to any member.

        A subject's score is that of its likest frame, so a single candidate frame is dropped less often than α. Give
        members in all poses (`embed_poses`, as rows) to find moved copies too; `screen` must see the same members.

        Args:
            members: `(rows, d)`.
            member_subject: subject of each member row, `(rows,)`.
            calibration: `(frames, d)` of subjects that nothing was trained on, each image as a candidate would be.
            calibration_subject: subject of each calibration row, `(frames,)`.

        Raises:
            ValueError: if there are fewer than 1/α - 1 calibration subjects, or no members.
        """
        for name, rows, owner in (
            ("members", members, member_subject),
            ("calibration", calibration, calibration_subject),
        ):
            if len(rows) != len(owner):
                raise ValueError(f"{name} has {len(rows)} rows, its subjects {len(owner)}")
            if not np.isfinite(rows).all():
                raise ValueError(f"{name} holds values that are not finite")
        if not len(members):
            raise ValueError("members is empty: there is nobody to protect")
        subjects, at = np.unique(calibration_subject, return_inverse=True)
        rank = math.ceil((len(subjects) + 1) * (1 - self.alpha))
        if rank > len(subjects):
            needed = math.ceil(1 / self.alpha - 1)
            raise ValueError(f"{len(subjects)} calibration subjects: alpha={self.alpha} needs at least {needed}")
        score = np.full(len(subjects), -np.inf, np.float32)
        np.maximum.at(score, at, nearest(calibration, members))
        return min(float(np.sort(score)[rank - 1]), self.copy)

    def screen(self, candidates: Embedding, members: Embedding, tau: float) -> NDArray[np.bool_]:
        """Say which candidates to keep: those less similar to every member than `tau`; each by itself, `(n,)`."""
        _check("tau", tau)
        kept: NDArray[np.bool_] = nearest(candidates, members) < tau
        return kept


def _check(name: str, similarity: float) -> None:
    if not -1 < similarity <= 1:
        raise ValueError(f"{name}={similarity} must lie in (-1, 1]")
