"""Public hearts drawn again so that they lie and measure as those of hospitals do, under differential privacy.

Which hearts the public simulator draws is public. Where *hospitals'* hearts lie in the picture and how large they are,
every site says once, in moments of its members' masks (`privacy.moments`); public hearts are then drawn again, each by
the ratio of two normal densities, that of the sites over that of the public. The masks that come out are those of the
simulator, so none is anybody's.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import heart, motion, simulate
from cohorts.study import SubjectKey
from privacy import moments
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom
from synthesis import shape

POOL = 3000  # public hearts to draw from
MODES, RADIUS = 8, 2.8  # principal components of pose and size; from which length on a heart counts less


@lru_cache
def pool() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return masks of public hearts, `(POOL, 4, 64, 64)`, and their LVEF."""
    exam = simulate.examinations(range(POOL), seed=31, style="wide")
    phase = np.stack([np.zeros(POOL), motion.systole(exam.who.heart_rate_bpm)], axis=1)
    dice = np.random.default_rng(31)
    held = [dice.random((POOL, heart.POSE_DRAWS), np.float32) for _ in simulate.APICAL]
    drawn = [shape.outlines(exam, p, v, phase, size=64)[0] for v, p in zip(simulate.APICAL, held, strict=True)]
    return np.concatenate(drawn, axis=1), exam.who.lvef_percent


def pose_and_size(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return, of masks `(n, 4, h, w)`, the sides of the three structures and where cavity and atrium lie, `(n, 28)`."""
    at = np.stack(np.meshgrid(*(np.arange(side) for side in masks.shape[2:]), indexing="ij"), -1).reshape(-1, 2)
    found = []
    for k in (1, 2, 3):
        shown = (masks == k).reshape(*masks.shape[:2], -1)
        area = shown.sum(2)
        found += [np.sqrt(area)[..., None], (shown @ at) / np.maximum(area, 1)[..., None]]
    side1, cavity, side2, _, side3, atrium = found
    out: NDArray[np.float64] = np.concatenate([side1, side2, side3, cavity, atrium - cavity], 2).reshape(len(masks), -1)
    return out


def weighed(sites: Sequence[Frames], plan: DpPlan, n: int, *, seed: int) -> Frames:
    """Draw `n` public hearts by what the sites release of their members, each once, at the cost of `plan`."""
    masks, lvef = pool()
    public = pose_and_size(masks)
    mean, std = public.mean(0), public.std(0)
    _, lengths, directions = np.linalg.svd((public - mean) / std, full_matrices=False)
    inverse = directions[:MODES].T / (lengths[:MODES] / len(public) ** 0.5)
    told = []
    for members in sites:
        own = whole(members)
        where = (pose_and_size(own) - mean) / std @ inverse
        told.append(moments.release(where, np.arange(len(own)), plan, random=SecureRandom()))
    centre, covariance = moments.mean_and_covariance(
        moments.Moments(
            count=sum(t.count for t in told),
            total=np.sum([t.total for t in told], 0),
            second=np.sum([t.second for t in told], 0),
            radius=RADIUS,
            noise=told[0].noise * len(told) ** 0.5,
        )
    )
    x = (public - mean) / std @ inverse
    off = x - centre
    log = 0.5 * (x**2).sum(1) - 0.5 * np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off)
    weight = np.exp(np.minimum(log, np.quantile(log, 0.98)) - log.max())
    picked = np.random.default_rng(seed).choice(POOL, n, p=weight / weight.sum())
    drawn = masks[picked].reshape(-1, *masks.shape[2:])
    return Frames(
        pixels=np.zeros_like(drawn),
        masks=drawn,
        view=np.tile(np.repeat([VIEWS.index(v) for v in simulate.APICAL], 2), n).astype(np.int64),
        phase=np.tile([0, 1], 2 * n).astype(np.int64),
        lvef_percent=np.repeat(lvef[picked], 4).astype(np.float32),
        subject=np.repeat(np.arange(n), 4),
        subjects=tuple(SubjectKey(f"weighed-{seed}-{k:05d}") for k in range(n)),
    )


def whole(members: Frames) -> NDArray[np.uint8]:
    """Return the masks of those who have both views at both moments, `(n, 4, 64, 64)`: whether so is theirs alone."""
    wanted = [(VIEWS.index(v), phase) for v in simulate.APICAL for phase in (0, 1)]
    found = []
    for k in range(len(members.subjects)):
        rows = {(int(members.view[r]), int(members.phase[r])): r for r in np.flatnonzero(members.subject == k)}
        if all(w in rows for w in wanted):
            found.append(members.masks[[rows[w] for w in wanted]])
    return np.stack(found)
