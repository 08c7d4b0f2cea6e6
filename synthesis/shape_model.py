"""A statistical shape model of the left heart, public or fitted to hospitals' masks under differential privacy.

Mean and modes come from the phantom (principal components: Cootes et al. 1995, doi:10.1006/cviu.1995.1004), so they are
public. What hospitals add is where *their* hearts lie along the first modes: mean and covariance of the coefficients,
released once by `privacy.moments`. Along all other modes hearts stay as the public has them. Sampling is free.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from privacy import moments
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom
from synthesis import contours, shape
from synthesis.contours import PLANE, SIZE, VIEWS

Floats = NDArray[np.floating[Any]]

# How many modes are fitted, and up to what length their coefficients count in full: less than half of all hearts. Both
# were chosen on phantoms of two sites at ε = 1 and 4; a wider clip lets in more noise than knowledge.
MODES, FITTED = 40, 8
RADIUS = 2.4
_CAVITY = 3.0  # weight of the cavity's millimetres against the others': volumes are what readers look at
_EDGE = 3.0  # standard deviations to which a drawn coefficient is held
_NAME = crc32(b"statistical shape model")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeModel:
    """A Gaussian over coefficients of public modes.

    Attributes:
        mean: public mean heart, `(SIZE,)` of `synthesis.contours`.
        modes: what one public standard deviation along each mode does, in mm, `(MODES, SIZE)`.
        inverse: from millimetres to coefficients, `(SIZE, MODES)`.
        centre: mean of the coefficients, `(MODES,)`; 0 for the public model.
        covariance: of the coefficients, `(MODES, MODES)`; the identity for the public model.
    """

    mean: NDArray[np.float64]
    modes: NDArray[np.float64]
    inverse: NDArray[np.float64]
    centre: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def coefficients(self, hearts: Floats) -> NDArray[np.float64]:
        """Return how far hearts `(n, SIZE)` lie along each mode, in public standard deviations, `(n, MODES)`."""
        out: NDArray[np.float64] = (hearts - self.mean) @ self.inverse
        return out

    def hearts(self, coefficients: Floats) -> NDArray[np.float64]:
        """Return the hearts with these coefficients, `(n, SIZE)`."""
        out: NDArray[np.float64] = self.mean + coefficients @ self.modes
        return out


@lru_cache(maxsize=4)
def public(*, hearts: int = 400, seed: int = 0) -> ShapeModel:
    """Return the public model: mean and modes of so many phantoms."""
    drawn = shape.draw(shape.spread(hearts, seed=seed), seed=seed, size=96, views=VIEWS)
    known = vectors(drawn.masks, drawn.pixel_mm)[0]
    mean = known.mean(axis=0)
    plane = np.ones(PLANE)
    plane[contours.LENGTH] = plane[contours.WIDTHS] = _CAVITY
    weight = np.tile(plane, SIZE // PLANE)
    _, values, directions = np.linalg.svd((known - mean) * weight, full_matrices=False)
    directions, spread = directions[:MODES], values[:MODES] / np.sqrt(len(known))
    directions = directions * np.sign(directions.sum(axis=1))[:, None]  # a mode has no sign of its own
    return ShapeModel(
        mean=mean,
        modes=directions * spread[:, None] / weight,
        inverse=weight[:, None] * directions.T / spread,
        centre=np.zeros(MODES),
        covariance=np.eye(MODES),
    )


def vectors(masks: NDArray[np.uint8], pixel_mm: Floats) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the hearts in masks as vectors, `(m, SIZE)`, and their rows, `(m,)`; what is incomplete is left out.

    Whether a heart is complete depends on its own masks alone.

    Args:
        masks: `(n, views, 2, height, width)`: `VIEWS`, at end diastole and end systole.
        pixel_mm: height and width of a pixel, `(n, views, 2)`.
    """
    found = [contours.heart(m, mm) for m, mm in zip(masks, pixel_mm, strict=True)]
    rows = np.array([k for k, heart in enumerate(found) if heart is not None], np.int64)
    return np.array([heart for heart in found if heart is not None]).reshape(-1, SIZE), rows


def fit(
    model: ShapeModel, hearts: Floats, subject: NDArray[np.int64], plan: DpPlan, *, random: SecureRandom
) -> ShapeModel:
    """Return `model` moved to where a site's hearts lie, at the cost of `plan`, which the ledger has reserved.

    Args:
        model: the public model; only its public parts are used.
        hearts: one vector per study, `(n, SIZE)`.
        subject: whose study it is, `(n,)`.
        plan: one step that every subject enters, with `clip_norm=moments.clip_norm(RADIUS)`.
        random: source of the noise.
    """
    released = moments.release(model.coefficients(hearts)[:, :FITTED], subject, plan, random=random)
    centre, covariance = np.zeros(MODES), np.eye(MODES)
    centre[:FITTED], covariance[:FITTED, :FITTED] = moments.mean_and_covariance(released)
    return replace(model, centre=centre, covariance=covariance)


def draw(
    model: ShapeModel, n: int, *, seed: int, lvef_percent: Floats | None = None, edv_ml: Floats | None = None
) -> NDArray[np.float64]:
    """Draw `n` hearts, `(n, SIZE)`; heart `k` depends on the seed, `k` and what is asked of it alone.

    Args:
        model: public or fitted.
        n: how many.
        seed: names them.
        lvef_percent: asked, `(n,)`; `None` leaves it to the model. A heart moves to it along the line on which the
            model expects the fraction to change, and the last point or two are made up by the cavity at end systole.
        edv_ml: end-diastolic volumes asked, `(n,)`; `None` leaves them to the model.
    """
    root = np.linalg.cholesky(model.covariance)
    free = np.stack([_stream(seed, k).standard_normal(MODES) for k in range(n)])
    drawn = model.centre + np.clip(free, -_EDGE, _EDGE) @ root.T
    if lvef_percent is not None:
        slope = _slope(model)
        line = model.covariance @ slope / (slope @ model.covariance @ slope)
        for _ in range(3):
            drawn = drawn + np.clip(lvef_percent - contours.lvef_percent(model.hearts(drawn)), -40, 40)[:, None] * line
    hearts = model.hearts(drawn)
    if lvef_percent is not None:
        hearts = contours.ejecting(hearts, lvef_percent)
    return hearts if edv_ml is None else contours.holding(hearts, edv_ml)


def _slope(model: ShapeModel) -> NDArray[np.float64]:
    """Return by how many points the fraction of the mean heart changes along each mode, `(MODES,)`."""
    step = 0.25 * np.eye(MODES)
    return (
        contours.lvef_percent(model.hearts(model.centre + step))
        - contours.lvef_percent(model.hearts(model.centre - step))
    ) / 0.5


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((seed, _NAME), spawn_key=key))
