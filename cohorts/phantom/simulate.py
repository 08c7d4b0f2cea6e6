"""The simulator's front: pictures with masks, masks alone, and the knobs of the scanner that drew them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import anatomy, echo, heart, scanner, speckle
from cohorts.study import SubjectKey, View

Floats = NDArray[np.floating[Any]]

_CHUNK = 16
_AXIAL = 0.3  # taps of the pulse along the beam


def stills(
    n_subjects: int, *, seed: int, size: int = 64, style: str = "wide", views: Sequence[View] = (View.A2C, View.A4C)
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
    n_subjects: int, *, seed: int, size: int = 64, style: str = "wide", views: Sequence[View] = (View.A2C, View.A4C)
) -> tuple[Frames, Floats]:
    """Simulate as `stills` does and say how each frame's scanner was set: `(n, len(KNOBS))`, in [-1, 1]."""
    if n_subjects < 1:
        raise ValueError(f"n_subjects={n_subjects} must be at least 1")
    here = scanner.site(style)
    shape = (n_subjects, len(views), 2)
    pixels = np.zeros((*shape, size, size), np.uint8)
    masks = np.zeros((*shape, size, size), np.uint8)
    styles = np.zeros((*shape, len(scanner.KNOBS)), np.float32)
    lvef = np.zeros(n_subjects, np.float32)
    for first in range(0, n_subjects, _CHUNK):
        chunk = range(first, min(first + _CHUNK, n_subjects))
        people = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,))) for k in chunk]
        who = anatomy.draw(_uniforms(people, anatomy.DRAWS), lvef=here.lvef_percent)
        machine = scanner.style_of(_uniforms(people, len(scanner.KNOBS)), style)
        settings = scanner.settings(machine)
        grey = np.empty((len(chunk), 2, *_resolution(size)), np.uint8)
        twice = np.repeat(np.arange(len(chunk)), 2)
        phase = np.tile(np.array([0, 1], np.float32), len(chunk))
        lvef[chunk.start : chunk.stop] = who.lvef_percent
        for j, view in enumerate(views):
            probes = [
                np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k, VIEWS.index(view)))) for k in chunk
            ]
            pose = _uniforms(probes, heart.POSE_DRAWS)
            hearts = heart.place(who.rows(twice), view, pose[twice], machine[twice], phase, 0 * phase)
            columns, rows = scanner.pixels(machine, size)
            for c, k in enumerate(chunk):
                fabric = echo.texture(probes[c])
                around = echo.surroundings(view, settings[c], fabric, *_beams(machine[c : c + 1], size))
                for p in (0, 1):
                    masks[k, j, p] = heart.labels(hearts, 2 * c + p, columns[c], rows[0])
                    noise = probes[c].standard_normal((2, *around.x.shape), dtype=np.float32)
                    loud = echo.amplitude(hearts, 2 * c + p, settings[c], fabric, around)
                    grey[c, p] = _grey(loud, noise, settings[c])
            pictures = scanner.scan_convert(grey.reshape(-1, *grey.shape[2:]), machine[twice], size)
            pixels[chunk.start : chunk.stop, j] = pictures.reshape(-1, 2, size, size)
            styles[chunk.start : chunk.stop, j] = machine[:, None]
    n = n_subjects * len(views) * 2
    frames = Frames(
        pixels=pixels.reshape(n, size, size),
        masks=masks.reshape(n, size, size),
        view=np.tile(np.repeat([VIEWS.index(v) for v in views], 2), n_subjects).astype(np.int64),
        phase=np.tile([0, 1], n_subjects * len(views)).astype(np.int64),
        lvef_percent=np.repeat(lvef, 2 * len(views)),
        subject=np.repeat(np.arange(n_subjects), 2 * len(views)).astype(np.int64),
        subjects=tuple(SubjectKey(f"{style}-{seed}-{k:06d}") for k in range(n_subjects)),
    )
    return frames, styles.reshape(n, -1)


def conditions(n: int, *, seed: int, size: int = 64, views: Sequence[View] = (View.A2C, View.A4C)) -> Frames:
    """Draw from the public shape model: masks, views, phases and LVEF of the "wide" style, with black pixels.

    Every frame belongs to a subject of its own and has a random view and phase; frame `k` does not depend on `n`.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    rngs = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,))) for k in range(n)]
    who = anatomy.draw(_uniforms(rngs, anatomy.DRAWS), lvef=scanner.site("wide").lvef_percent)
    machine = scanner.style_of(_uniforms(rngs, len(scanner.KNOBS)), "wide")
    pose, choice = _uniforms(rngs, heart.POSE_DRAWS), _uniforms(rngs, 2)
    which = (choice[:, 0] * len(views)).astype(np.int64)
    phase = (choice[:, 1] < 0.5).astype(np.float32)
    masks = np.zeros((n, size, size), np.uint8)
    for j, view in enumerate(views):
        rows = np.flatnonzero(which == j)
        hearts = heart.place(who.rows(rows), view, pose[rows], machine[rows], phase[rows], 0 * phase[rows])
        x, z = scanner.pixels(machine[rows], size)
        for i, row in enumerate(rows):
            masks[row] = heart.labels(hearts, i, x[i], z[0])
    return Frames(
        pixels=np.zeros((n, size, size), np.uint8),
        masks=masks,
        view=np.array([VIEWS.index(v) for v in views], np.int64)[which],
        phase=phase.astype(np.int64),
        lvef_percent=who.lvef_percent,
        subject=np.arange(n, dtype=np.int64),
        subjects=tuple(SubjectKey(f"shape-{seed}-{k:06d}") for k in range(n)),
    )


def _uniforms(rngs: Sequence[np.random.Generator], count: int) -> Floats:
    return np.stack([rng.random(count, dtype=np.float32) for rng in rngs])


def _resolution(size: int) -> tuple[int, int]:
    return (192, 112) if size <= 96 else (320, 144)


def _beams(style: Floats, size: int) -> tuple[Floats, Floats]:
    x, z = scanner.beams(style, *_resolution(size))
    return x[0], z[0]


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
