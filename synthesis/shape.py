"""The public shape prior: hearts with the ejection fraction and volume that were asked for, as masks.

Shapes come from the phantom's anatomy, which no patient has entered, so that asking costs no privacy. One synthetic
heart has one volume curve: its A2C and A4C are planes of the same ventricle at the same moments, and the biplane method
of disks (Lang et al. 2015, doi:10.1016/j.echo.2014.10.003) finds that curve in the masks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import anatomy, heart, motion, scanner, simulate
from cohorts.phantom.masks import labels as outline
from cohorts.phantom.simulate import APICAL, Examinations
from cohorts.study import SubjectKey, View

Floats = NDArray[np.floating[Any]]

LVEF_PERCENT = (15.0, 75.0)  # where `spread` asks: from severe failure to the upper end of normal
POSSIBLE_LVEF = (5.0, 85.0)
POSSIBLE_EDV_ML = (30.0, 400.0)
STYLE = "wide"
_CHUNK = 16  # people filmed at a time
_GOLDEN = (5**0.5 - 1) / 2
_NAME = crc32(b"public shape prior")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Synthetic hearts: what they look like, and what is true of them.

    Attributes:
        masks: uint8, `(n, views, frames, size, size)`, labels of `Clip.masks`.
        pixel_mm: height and width of a pixel, `(n, views, 2)`.
        phase: of the cycle, 0 at end diastole, `(n, frames)`.
        volume_ml: of the ventricle, biplane, `(n, frames)`: one curve for all views.
        lvef_percent: as asked, `(n,)`.
        edv_ml: end-diastolic volume, as asked if it was, `(n,)`.
        heart_rate_bpm: `(n,)`.
        views: of the second axis.
    """

    masks: NDArray[np.uint8]
    pixel_mm: NDArray[np.float32]
    phase: NDArray[np.float32]
    volume_ml: NDArray[np.float32]
    lvef_percent: NDArray[np.float32]
    edv_ml: NDArray[np.float32]
    heart_rate_bpm: NDArray[np.float32]
    views: tuple[View, ...]


def spread(n: int, *, seed: int, lvef: tuple[float, float] = LVEF_PERCENT) -> NDArray[np.float32]:
    """Return `n` ejection fractions that fill the range `lvef` evenly, in percent; value `k` does not depend on `n`.

    Multiples of the golden ratio modulo 1: any stretch of them is nearly as even as a grid.
    """
    if not POSSIBLE_LVEF[0] <= lvef[0] <= lvef[1] <= POSSIBLE_LVEF[1]:
        raise ValueError(f"lvef={lvef} must be an ascending range within {POSSIBLE_LVEF}")
    start = np.random.default_rng(np.random.SeedSequence((seed, _NAME))).random()
    return (lvef[0] + (lvef[1] - lvef[0]) * ((start + _GOLDEN * np.arange(n)) % 1)).astype(np.float32)


def examinations(
    lvef_percent: Floats,
    *,
    seed: int,
    edv_ml: Floats | None = None,
    first: int = 0,
    people: Sequence[int] | None = None,
) -> Examinations:
    """Call in synthetic people with these ejection fractions; `simulate.film` takes their pictures.

    Args:
        lvef_percent: asked, `(n,)`.
        seed: names the people.
        edv_ml: end-diastolic volumes asked, `(n,)`; `None` leaves them to the anatomy.
        first: number of the first; person `k` depends on the seed, `k` and what is asked of it alone.
        people: their numbers, instead of `first` and those that follow it.

    Raises:
        ValueError: nothing or something impossible is asked.
    """
    _require("lvef_percent", lvef_percent, POSSIBLE_LVEF)
    rngs = [_stream(seed, 0, k) for k in _numbers(lvef_percent, first, people)]
    body = np.stack([rng.random(anatomy.DRAWS, dtype=np.float32) for rng in rngs])
    life = np.stack([rng.random(3 + len(scanner.KNOBS), dtype=np.float32) for rng in rngs])
    # The first two draws make the ejection fraction: 0.7 of one and 0.3 of the other, over the range given.
    body[:, :2] = (np.asarray(lvef_percent, np.float32) / 100)[:, None]
    site = scanner.site(STYLE)
    female = life[:, 0] < site.female
    who = anatomy.draw(body, lvef=(0.0, 100.0), small=female)
    who = replace(who, lvef_percent=np.asarray(lvef_percent, np.float32))  # which was right to its last bits but one
    if edv_ml is not None:
        _require("edv_ml", edv_ml, POSSIBLE_EDV_ML)
        if len(edv_ml) != len(lvef_percent):
            raise ValueError(f"edv_ml has {len(edv_ml)} values for {len(lvef_percent)} hearts")
        larger = np.cbrt(np.asarray(edv_ml) / end_diastolic_ml(who))
        who = replace(who, long_axis=(who.long_axis * larger).astype(np.float32))
    return Examinations(
        style=STYLE,
        who=who,
        machine=scanner.style_of(life[:, 3:], STYLE),
        overlay=life[:, 1] < site.overlays,
        female=female,
        age_years=np.floor(site.age_years[0] + (site.age_years[1] - site.age_years[0]) * life[:, 2]),
    )


def end_diastolic_ml(who: anatomy.Anatomy) -> NDArray[np.float64]:
    """Return the volume of each ventricle at end diastole by biplane disks of its own contours, in ml, `(n,)`."""
    tau = ((np.arange(anatomy.DISCS) + 0.5) / anatomy.DISCS).astype(np.float32)
    areas = np.ones((len(who.long_axis), anatomy.DISCS))
    for view in (View.A4C, View.A2C):
        areas *= sum(anatomy.half_widths(who, view, tau, side * np.ones_like(tau)) for side in (-1, 1))
    out: NDArray[np.float64] = np.pi / 4 * areas.mean(axis=1) * who.long_axis.astype(np.float64) ** 3 / 1000
    return out


def draw(
    lvef_percent: Floats,
    *,
    seed: int,
    size: int = 64,
    views: Sequence[View] = APICAL,
    edv_ml: Floats | None = None,
    phase: Floats | None = None,
    first: int = 0,
    people: Sequence[int] | None = None,
) -> Shapes:
    """Draw hearts with these ejection fractions: of the people, in the poses, that `stills` has pictures of.

    Args:
        lvef_percent: asked, `(n,)`.
        seed: names the people.
        size: side of the masks in pixels.
        views: planes of each heart.
        edv_ml: end-diastolic volumes asked, `(n,)`; `None` leaves them to the anatomy.
        phase: moments of the cycle, `(frames,)`, the same for all; `None` takes end diastole and end systole of each.
        first: number of the first heart; heart `k` depends on the seed, `k` and what is asked of it alone.
        people: their numbers, instead of `first` and those that follow it.
    """
    numbers = _numbers(lvef_percent, first, people)
    exam = examinations(lvef_percent, seed=seed, edv_ml=edv_ml, people=numbers)
    n, end_systole = len(lvef_percent), motion.systole(exam.who.heart_rate_bpm)
    when = np.stack([np.zeros(n, np.float32), end_systole], 1) if phase is None else np.tile(phase, (n, 1)) % 1
    masks, pixel_mm = [], []
    for view in views:
        pose = simulate.poses(exam.style, numbers, view, seed=seed)
        drawn, millimetres = outlines(exam, pose, view, when, size=size)
        masks.append(drawn)
        pixel_mm.append(millimetres)
    edv = end_diastolic_ml(exam.who)
    emptied = motion.contraction(when, end_systole[:, None])
    return Shapes(
        masks=np.stack(masks, axis=1),
        pixel_mm=np.stack(pixel_mm, axis=1),
        phase=when.astype(np.float32),
        volume_ml=(edv[:, None] * (1 - emptied * exam.who.lvef_percent[:, None] / 100)).astype(np.float32),
        lvef_percent=exam.who.lvef_percent,
        edv_ml=edv.astype(np.float32),
        heart_rate_bpm=exam.who.heart_rate_bpm,
        views=tuple(views),
    )


def outlines(
    exam: Examinations, pose: Floats, view: View, phase: Floats, *, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return masks of people in one view, `(n, frames, size, size)`, and their pixels in mm, `(n, 2)`; no picture.

    Args:
        exam: the people and their scanners.
        pose: how the probe is held, `(n, POSE_DRAWS)`, uniform.
        view: the plane.
        phase: of the cycle, `(n, frames)`.
        size: side in pixels.
    """
    n, frames = phase.shape
    which, end_systole = np.repeat(np.arange(n), frames), motion.systole(exam.who.heart_rate_bpm)[:, None]
    emptied, opened = (of(phase, end_systole).ravel() for of in (motion.contraction, motion.opening))
    hearts = heart.place(exam.who.rows(which), view, pose[which], exam.machine[which], emptied, opened)
    x, z = scanner.pixels(exam.machine, size)
    masks = np.stack([outline(hearts, row, x[row // frames], z[0]) for row in range(n * frames)])
    high = hearts.depth[::frames] / size
    wide = high * 2 * scanner.sin_half_angle(exam.machine)
    return masks.reshape(n, frames, size, size), np.stack([high, wide], axis=1).astype(np.float32)


def as_frames(shapes: Shapes, *, seed: int, first: int = 0) -> Frames:
    """Return ED and ES of `shapes` with black pixels, subject by subject, view by view: what a generator is asked for.

    Raises:
        ValueError: the shapes hold other moments than end diastole and end systole.
    """
    if shapes.phase.shape[1] != 2 or not np.allclose(shapes.phase[:, 1], motion.systole(shapes.heart_rate_bpm)):
        raise ValueError("shapes hold other moments than end diastole and end systole; draw them without phase")
    black = np.zeros_like(shapes.masks)
    return _frames(black, shapes.masks, shapes.lvef_percent, views=shapes.views, seed=seed, first=first)


def stills(
    lvef_percent: Floats,
    *,
    seed: int,
    size: int = 64,
    views: Sequence[View] = APICAL,
    first: int = 0,
    people: Sequence[int] | None = None,
) -> Frames:
    """Return ED and ES of people with these ejection fractions, with the phantom's pictures, as `simulate.stills`.

    Their masks are those of `draw`, whose arguments these are; names count from `first`, as in `as_frames`.
    """
    _require("lvef_percent", lvef_percent, POSSIBLE_LVEF)
    n = len(lvef_percent)
    pixels, masks = (np.zeros((n, len(views), 2, size, size), np.uint8) for _ in range(2))
    for start in range(0, n, _CHUNK):
        some = np.arange(start, min(start + _CHUNK, n))
        numbers = list(_numbers(lvef_percent, first, people))[start : start + _CHUNK]
        exam = examinations(lvef_percent[some], seed=seed, people=numbers)
        phase = np.stack([np.zeros(len(some)), motion.systole(exam.who.heart_rate_bpm)], axis=1)
        for j, view in enumerate(views):
            pixels[some, j], masks[some, j], _ = simulate.film(exam, numbers, view, phase, seed=seed, size=size)
    return _frames(pixels, masks, lvef_percent, views=views, seed=seed, first=first)


def _frames(
    pixels: NDArray[np.uint8], masks: NDArray[np.uint8], lvef: Floats, *, views: Sequence[View], seed: int, first: int
) -> Frames:
    n, n_views, _, size, _ = masks.shape
    return Frames(
        pixels=pixels.reshape(-1, size, size),
        masks=masks.reshape(-1, size, size),
        view=np.tile(np.repeat([VIEWS.index(v) for v in views], 2), n).astype(np.int64),
        phase=np.tile([0, 1], n * n_views).astype(np.int64),
        lvef_percent=np.repeat(lvef, 2 * n_views).astype(np.float32),
        subject=np.repeat(np.arange(n), 2 * n_views).astype(np.int64),
        subjects=tuple(SubjectKey(simulate.subject_name("shape", seed, first + k)) for k in range(n)),
    )


def _numbers(lvef_percent: Floats, first: int, people: Sequence[int] | None) -> Sequence[int]:
    numbers = range(first, first + len(lvef_percent)) if people is None else people
    if len(numbers) != len(lvef_percent):
        raise ValueError(f"people has {len(numbers)} numbers for {len(lvef_percent)} hearts")
    return numbers


def _require(name: str, values: Floats, bounds: tuple[float, float]) -> None:
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} has shape {values.shape}, must be (n,) with n at least 1")
    if not (np.isfinite(values).all() and bounds[0] <= values.min() and values.max() <= bounds[1]):
        raise ValueError(f"{name} from {values.min():g} to {values.max():g} must lie in {bounds[0]:g}..{bounds[1]:g}")


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((seed, _NAME), spawn_key=key))
