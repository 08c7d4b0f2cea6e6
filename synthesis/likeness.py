"""Public hearts drawn again so that they lie and measure as those of hospitals do, under differential privacy.

Where hearts lie in the picture and how large their parts are there is what a scanner and its sonographer make of them,
and where the public simulator differs most from any one hospital. Each site says once, in noised moments of its
members' masks (`privacy.moments`), where theirs lie along public modes. Of each ejection fraction that is asked for,
some public hearts are then drawn and one is chosen by the ratio of two normal densities, that of the sites over the
public one (sampling, importance resampling: Rubin 1988). Whatever the sites say, every mask is the simulator's, has the
fraction that was asked for, and both planes and both moments are of one heart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS, Frames
from cohorts.phantom.simulate import APICAL
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM
from privacy import moments
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom
from synthesis import shape

Floats = NDArray[np.floating[Any]]

PURPOSE = "shapes"  # in the ledger
# How many modes are fitted, and up to what length their coefficients count in full: √8, that of a public heart.
MODES, RADIUS = 8, 2.8
CANDIDATES = 32  # public hearts for each one that is drawn
_PUBLIC, _SIDE = 800, 32  # public hearts that the modes are made of, and the side of masks that are only measured
_EVEN = 0.1  # share of the choice that is even: however far out the sites lie, no heart is certain
_NAME = crc32(b"likeness")


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """A Gaussian over the coefficients of public modes: where the hearts of some hospitals lie.

    Attributes:
        centre: `(MODES,)`, 0 for the public hearts.
        covariance: `(MODES, MODES)`, the identity for the public hearts.
    """

    centre: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.centre.shape != (MODES,) or self.covariance.shape != (MODES, MODES):
            raise ValueError(f"centre {self.centre.shape}, covariance {self.covariance.shape} must be of {MODES} modes")


def plan(noise_multiplier: float) -> DpPlan:
    """Return the plan under which a site says its moments: once, with every member."""
    return DpPlan(
        purpose=PURPOSE, sampling_rate=1.0, noise_multiplier=noise_multiplier,
        clip_norm=moments.clip_norm(RADIUS), steps=1, draws=1,
    )  # fmt: skip


def told(members: Frames, plan: DpPlan, *, random: SecureRandom) -> NDArray[np.float64]:
    """Return what a site says of its members' hearts at the cost of `plan`, `(moments.numbers(MODES),)`.

    Members without all four masks (A2C and A4C at ED and ES) say nothing; whether so hangs on their own record alone.
    """
    masks, subject = _whole(members)
    return moments.noised_sum(coefficients(masks), subject, plan, random=random)


def fitted(said: Sequence[Floats], plan: DpPlan) -> Likeness:
    """Return what sites say together, drawn towards the public hearts by the share that noise alone explains.

    Raises:
        ValueError: nobody says anything, or something that is no such sum.
    """
    if not said or any(sum_.shape != (moments.numbers(MODES),) for sum_ in said):
        raise ValueError(f"said has shapes {[sum_.shape for sum_ in said]}, must be ({moments.numbers(MODES)},) each")
    together = np.sum([np.asarray(sum_, np.float64) for sum_ in said], axis=0)
    centre, covariance = moments.mean_and_covariance(moments.read(together, plan, sums=len(said)))
    return Likeness(centre=centre, covariance=covariance)


def chosen(like: Likeness, lvef_percent: Floats, *, seed: int, first: int = 0) -> list[int]:
    """Return the number of the public heart, for `shape.draw`, that is drawn for each ejection fraction asked, `(n,)`.

    The choice for fraction `first + k` depends on the seed, that number, what is asked of it and `like` alone.
    """
    numbers, each = [], np.arange(CANDIDATES)
    towards, away = np.linalg.inv(like.covariance), np.eye(MODES)
    for k, asked in enumerate(np.asarray(lvef_percent, np.float32)):
        people = (first + k) * CANDIDATES + each
        drawn = shape.draw(np.full(CANDIDATES, asked), seed=seed, size=_SIDE, views=APICAL, people=people.tolist())
        x = coefficients(drawn.masks.reshape(CANDIDATES, -1, _SIDE, _SIDE))
        off = x - like.centre
        ratio = (np.einsum("ni,ij,nj->n", x, away, x) - np.einsum("ni,ij,nj->n", off, towards, off)) / 2
        weight = np.exp(ratio - ratio.max())
        weight = (1 - _EVEN) * weight / weight.sum() + _EVEN / CANDIDATES
        dice = np.random.default_rng(np.random.SeedSequence((seed, _NAME), spawn_key=(first + k,)))
        numbers.append(int(people[dice.choice(CANDIDATES, p=weight)]))
    return numbers


def coefficients(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return where hearts `(n, 4, side, side)` lie along the public modes, `(n, MODES)`, in public deviations."""
    mean, inverse = _modes()
    out: NDArray[np.float64] = (_measured(masks) - mean) @ inverse
    return out


@lru_cache(maxsize=1)
def _modes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean `(28,)` and inverse `(28, MODES)` of the first principal components of public hearts."""
    masks = shape.draw(shape.spread(_PUBLIC, seed=_NAME), seed=_NAME, size=_SIDE, views=APICAL).masks
    public = _measured(masks.reshape(_PUBLIC, -1, _SIDE, _SIDE))
    mean, spread = public.mean(axis=0), public.std(axis=0)
    _, lengths, directions = np.linalg.svd((public - mean) / spread, full_matrices=False)
    inverse = directions[:MODES].T * (math.sqrt(_PUBLIC) / lengths[:MODES]) / spread[:, None]
    return mean, inverse * np.sign(inverse.sum(axis=0))  # a mode has no sign of its own


def _measured(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return, of masks `(n, 4, side, side)`, the roots of three areas, where the cavity lies, and the atrium from it.

    All in sides of the picture, so that its resolution hardly matters: `(n, 28)`.
    """
    side = masks.shape[2]
    at = np.stack(np.meshgrid(*2 * [(np.arange(side) + 0.5) / side], indexing="ij"), axis=-1).reshape(-1, 2)
    sides, places = [], []
    for structure in (CAVITY, MYOCARDIUM, ATRIUM):
        shown = (masks == structure).reshape(*masks.shape[:2], len(at)).astype(np.float64)
        area = shown.sum(axis=2)
        sides.append(np.sqrt(area)[..., None] / side)
        places.append((shown @ at) / np.maximum(area, 1)[..., None])
    found = np.concatenate([*sides, places[0], places[2] - places[0]], axis=2)
    return found.reshape(len(masks), masks.shape[1] * found.shape[2])


def _whole(members: Frames) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the masks of those who have all structures in all four, `(n, 4, side, side)`, and whose they are."""
    at = np.full((len(members.subjects), len(APICAL), 2), -1, np.int64)
    shown = np.logical_and.reduce([(members.masks == k).any(axis=(1, 2)) for k in (CAVITY, MYOCARDIUM, ATRIUM)])
    places = [VIEWS.index(view) for view in APICAL]
    for row in np.flatnonzero(shown)[::-1]:
        if members.view[row] in places and members.phase[row] in (0, 1):
            at[members.subject[row], places.index(int(members.view[row])), members.phase[row]] = row
    whole = np.flatnonzero((at >= 0).all(axis=(1, 2)))
    return members.masks[at[whole].reshape(len(whole), 2 * len(APICAL))], whole
