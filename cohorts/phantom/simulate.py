"""The simulator's front: pictures with masks, masks alone, films, and the knobs of the scanner that drew them.

Every subject, study and clip has a random stream of its own, named by the seed and its number: subject `k` is the same
however many subjects are simulated, and in whatever order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import anatomy, echo, heart, motion, overlays, scanner, speckle
from cohorts.phantom.masks import labels as outline
from cohorts.study import SubjectKey, View

Floats = NDArray[np.floating[Any]]

APICAL = (View.A2C, View.A4C)
_CHUNK = 16  # subjects placed at a time: enough to vectorise, few enough to stay in the cache
_AXIAL = 0.3  # taps of the pulse along the beam
_PERSISTENCE = 0.7  # share of the speckle that moves with the tissue from frame to frame
_WHO, _PROBE, _SHAPE = range(3)  # kinds of random streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Examinations:
    """One study of each of some subjects.

    Attributes:
        style: the site.
        who: the subjects as they are on that day.
        machine: the scanner's knobs, `(n, len(KNOBS))`, in [-1, 1].
        overlay: whether text and ECG are burned in, `(n,)`.
        female: `(n,)`.
        age_years: `(n,)`.
    """

    style: str
    who: anatomy.Anatomy
    machine: Floats
    overlay: NDArray[np.bool_]
    female: NDArray[np.bool_]
    age_years: Floats


def examinations(subjects: Sequence[int], *, seed: int, style: str, study: int = 0) -> Examinations:
    """Call in subjects by number for their `study`-th study at the site `style`, whose people are its own."""
    here = scanner.site(style)
    lives = [_stream(seed, style, _WHO, k) for k in subjects]
    body, life = _uniforms(lives, anatomy.DRAWS), _uniforms(lives, 2)
    female = life[:, 0] < here.female
    visits = _uniforms([_stream(seed, style, _WHO, k, study) for k in subjects], len(scanner.KNOBS) + 3)
    who = anatomy.draw(body, lvef=here.lvef_percent, small=female)
    if study > 0:
        who = anatomy.later(who, visits[:, -2:])
    return Examinations(
        style=style,
        who=who,
        machine=scanner.style_of(visits[:, :-3], style),
        overlay=visits[:, -3] < here.overlays,
        female=female,
        age_years=np.floor(here.age_years[0] + (here.age_years[1] - here.age_years[0]) * life[:, 1]),
    )


def stills(
    n_subjects: int, *, seed: int, size: int = 64, style: str = "wide", views: Sequence[View] = APICAL
) -> Frames:
    """Simulate the end-diastolic and end-systolic frames of some subjects.

    Args:
        n_subjects: how many; subject `k` does not depend on it.
        seed: names the population.
        size: side of the pictures in pixels.
        style: a site of `scanner.SITES`; "wide" draws each subject a scanner of its own.
        views: one clip of each.

    Returns:
        Frames, subject by subject, view by view, ED before ES.
    """
    return stills_with_style(n_subjects, seed=seed, size=size, style=style, views=views)[0]


def stills_with_style(
    n_subjects: int, *, seed: int, size: int = 64, style: str = "wide", views: Sequence[View] = APICAL
) -> tuple[Frames, NDArray[np.float32]]:
    """Simulate as `stills` does and say how each frame's scanner was set: `(n, len(KNOBS))`, in [-1, 1]."""
    _positive("n_subjects", n_subjects)
    shape = (n_subjects, len(views), 2)
    pixels, masks = (np.zeros((*shape, size, size), np.uint8) for _ in range(2))
    styles = np.zeros((*shape, len(scanner.KNOBS)), np.float32)
    lvef = np.zeros(n_subjects, np.float32)
    for first in range(0, n_subjects, _CHUNK):
        some = np.arange(first, min(first + _CHUNK, n_subjects))
        exam = examinations(some.tolist(), seed=seed, style=style)
        phase = np.stack([np.zeros(len(some)), motion.systole(exam.who.heart_rate_bpm)], axis=1)
        lvef[some], styles[some] = exam.who.lvef_percent, exam.machine[:, None, None]
        for j, view in enumerate(views):
            pixels[some, j], masks[some, j], _ = film(exam, some.tolist(), view, phase, seed=seed, size=size)
    n = n_subjects * len(views) * 2
    frames = Frames(
        pixels=pixels.reshape(n, size, size),
        masks=masks.reshape(n, size, size),
        view=np.tile(np.repeat([VIEWS.index(v) for v in views], 2), n_subjects).astype(np.int64),
        phase=np.tile([0, 1], n_subjects * len(views)).astype(np.int64),
        lvef_percent=np.repeat(lvef, 2 * len(views)),
        subject=np.repeat(np.arange(n_subjects), 2 * len(views)).astype(np.int64),
        subjects=tuple(SubjectKey(subject_name(style, seed, k)) for k in range(n_subjects)),
    )
    return frames, styles.reshape(n, -1)


def conditions(n: int, *, seed: int, size: int = 64, views: Sequence[View] = APICAL) -> Frames:
    """Draw from the public shape model: masks, views, phases and LVEF of the "wide" style, with black pixels.

    Every frame belongs to a subject of its own and has a random view and phase; frame `k` does not depend on `n`.
    """
    return conditions_with_style(n, seed=seed, size=size, views=views)[0]


def conditions_with_style(
    n: int, *, seed: int, size: int = 64, views: Sequence[View] = APICAL
) -> tuple[Frames, NDArray[np.float32]]:
    """Draw as `conditions` does, with the knobs of the scanner each mask was drawn for: `(n, len(KNOBS))`."""
    _positive("n", n)
    exam = examinations(range(n), seed=seed, style="wide")
    rngs = [_stream(seed, "wide", _SHAPE, k) for k in range(n)]
    choice, pose = _uniforms(rngs, 2), _uniforms(rngs, heart.POSE_DRAWS)
    which = (choice[:, 0] * len(views)).astype(np.int64)
    contracted = (choice[:, 1] < 0.5).astype(np.float32)
    masks = np.zeros((n, size, size), np.uint8)
    for j, view in enumerate(views):
        rows = np.flatnonzero(which == j)
        machine, shut = exam.machine[rows], np.zeros(len(rows), np.float32)
        hearts = heart.place(exam.who.rows(rows), view, pose[rows], machine, contracted[rows], shut)
        x, z = scanner.pixels(machine, size)
        for i, row in enumerate(rows):
            masks[row] = outline(hearts, i, x[i], z[0])
    frames = Frames(
        pixels=np.zeros((n, size, size), np.uint8),
        masks=masks,
        view=np.array([VIEWS.index(v) for v in views], np.int64)[which],
        phase=contracted.astype(np.int64),
        lvef_percent=exam.who.lvef_percent.astype(np.float32),
        subject=np.arange(n, dtype=np.int64),
        subjects=tuple(SubjectKey(subject_name("shape", seed, k)) for k in range(n)),
    )
    return frames, exam.machine.astype(np.float32)


def film(
    exam: Examinations,
    subjects: Sequence[int],
    view: View,
    phase: Floats,
    *,
    seed: int,
    size: int,
    study: int = 0,
    clip: int = 0,
    pictures: bool = True,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
    """Film one clip of every examination at the given phases of the cycle.

    Args:
        exam: `n` examinations.
        subjects: their numbers.
        view: the plane.
        phase: of the cycle, 0 at end diastole, `(n, frames)`.
        seed: names the population.
        size: side of the pictures in pixels.
        study: which study of the subject this is.
        clip: which clip of the view.
        pictures: else masks alone, which are soon made, and black pixels.

    Returns:
        Pixels and masks, `(n, frames, size, size)`, and the height and width of a pixel in mm, `(n, 2)`.
    """
    n, frames = phase.shape
    probes = _probes(exam.style, subjects, view, seed=seed, study=study, clip=clip)
    pose = _uniforms(probes, heart.POSE_DRAWS)
    which = np.repeat(np.arange(n), frames)
    end_systole = motion.systole(exam.who.heart_rate_bpm)[:, None]
    emptied = motion.contraction(phase, end_systole)
    hearts = heart.place(
        exam.who.rows(which),
        view,
        pose[which],
        exam.machine[which],
        emptied.ravel(),
        motion.opening(phase, end_systole).ravel(),
    )
    settings = scanner.settings(exam.machine)
    polar = _resolution(size)
    x, z = scanner.pixels(exam.machine, size)
    pixels = np.zeros((n, frames, size, size), np.uint8)
    masks = np.stack([outline(hearts, row, x[row // frames], z[0]) for row in range(n * frames)]).reshape(pixels.shape)
    for i, probe in enumerate(probes if pictures else ()):
        style = exam.machine[i : i + 1]
        fabric = echo.texture(probe)
        beams_x, beams_z = scanner.beams(style, *polar)
        around = echo.surroundings(view, settings[i], fabric, beams_x[0], beams_z[0])
        grain = speckle.scatterers(probe, *polar) if frames > 2 else None
        grey = np.empty((frames, *polar), np.uint8)
        for t in range(frames):
            row = i * frames + t
            noise = speckle.scatterers(probe, *polar)
            if grain is not None:
                noise *= np.sqrt(1 - _PERSISTENCE)
                noise += np.sqrt(_PERSISTENCE) * grain[:, motion.carried(polar[0], *_descent(hearts, row, i * frames))]
            loud = echo.amplitude(hearts, row, settings[i], fabric, around)
            grey[t] = _grey(loud, noise, settings[i])
        pixels[i] = scanner.scan_convert(grey, np.repeat(style, frames, axis=0), size)
        if exam.overlay[i]:
            inside = scanner.fan(style, size)[0]
            for t in range(frames):
                text = scanner.site(exam.style).text
                overlays.burn_in(pixels[i, t], inside, text=text, beat=float(phase[i, t]) % 1)
    first = hearts.depth[::frames] / size
    return pixels, masks, np.stack([first, first * 2 * scanner.sin_half_angle(exam.machine)], axis=1)


def poses(style: str, subjects: Sequence[int], view: View, *, seed: int) -> Floats:
    """Return how the probe is held where `film` films the first clip of these subjects, `(n, POSE_DRAWS)`, uniform."""
    return _uniforms(_probes(style, subjects, view, seed=seed, study=0, clip=0), heart.POSE_DRAWS)


def subject_name(style: str, seed: int, k: int) -> str:
    """Return what subject `k` is called before it gets a pseudonym."""
    return f"{style}-{seed}-{k:06d}"


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")


def _probes(
    style: str, subjects: Sequence[int], view: View, *, seed: int, study: int, clip: int
) -> list[np.random.Generator]:
    return [_stream(seed, style, _PROBE, k, study, VIEWS.index(view), clip) for k in subjects]


def _stream(seed: int, style: str, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((seed, crc32(style.encode())), spawn_key=key))


def _uniforms(rngs: Sequence[np.random.Generator], count: int) -> Floats:
    return np.stack([rng.random(count, dtype=np.float32) for rng in rngs])


def _resolution(size: int) -> tuple[int, int]:
    return (176, 104) if size <= 96 else (320, 144)


def _descent(hearts: heart.Heart, row: int, rest: int) -> tuple[float, float, float]:
    """Return apex, mitral plane and its rise since frame `rest`, over the picture's depth."""
    if hearts.view in (View.PLAX, View.PSAX):
        return 0.0, 1.0, 0.0  # there the wall moves across the beams
    apex, length = float(hearts.origin[row, 1]), float(hearts.length[row])
    depth, upright = float(hearts.depth[row]), float(hearts.axis[row, 1])
    return apex / depth, (apex + length * upright) / depth, float(hearts.length[rest] - length) * upright / depth


def _grey(loud: Floats, noise: Floats, setting: Mapping[str, float]) -> NDArray[np.uint8]:
    lateral = setting["lateral_grain"]
    power = speckle.envelope_power(loud, noise, lateral=lateral, axial=_AXIAL)
    power *= 0.5 / speckle.energy(lateral, _AXIAL)
    return speckle.compress(
        power,
        gain=setting["gain"],
        dynamic_range_db=setting["dynamic_range_db"],
        gamma=setting["gamma"],
        smoothing=setting["smoothing"],
    )
