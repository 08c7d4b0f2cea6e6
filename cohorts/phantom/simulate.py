"""The simulator's front: pictures with masks, masks alone, and the knobs of the scanner that drew them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import anatomy, echo, heart, scanner, speckle
from cohorts.study import SubjectKey, View

Floats = NDArray[np.floating[Any]]

_CHUNK = 64


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
        twice = np.repeat(np.arange(len(chunk)), 2)
        phase = np.tile(np.array([0, 1], np.float32), len(chunk))
        lvef[chunk.start : chunk.stop] = who.lvef_percent
        for j, view in enumerate(views):
            probes = [
                np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k, VIEWS.index(view)))) for k in chunk
            ]
            pose = _uniforms(probes, heart.POSE_DRAWS)
            hearts = heart.place(who.rows(twice), view, pose[twice], machine[twice], phase, 0 * phase)
            for c, k in enumerate(chunk):
                fabric = echo.texture(probes[c])
                for p in (0, 1):
                    row = 2 * c + p
                    pixels[k, j, p] = _picture(hearts, row, machine[twice], fabric, probes[c], size)
                    x, z = scanner.pixels(machine[c : c + 1], size)
                    masks[k, j, p] = heart.labels(hearts, row, x[0], z[0])
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


def _picture(
    hearts: heart.Heart, i: int, styles: Floats, fabric: echo.Texture, rng: np.random.Generator, size: int
) -> NDArray[np.uint8]:
    depths, lines = (160, 96) if size <= 96 else (320, 128)
    own = styles[i : i + 1]
    x, z = scanner.beams(own, depths, lines)
    loud = echo.amplitude(hearts, i, styles, fabric, x[0], z[0])
    setting = {name: float(scanner.knob(own, name)[0]) for name in scanner.KNOBS}
    noise = rng.standard_normal((2, depths, lines), dtype=np.float32)
    lateral, axial = setting["lateral_grain"], 0.3
    power = speckle.envelope_power(loud, noise, lateral=lateral, axial=axial)
    power *= 1 / (2 * speckle.energy(lateral, axial))
    grey = speckle.compress(
        power,
        gain=setting["gain"],
        dynamic_range_db=setting["dynamic_range_db"],
        gamma=setting["gamma"],
        smoothing=setting["smoothing"],
    )
    out: NDArray[np.uint8] = scanner.scan_convert(grey[None], own, size)[0]
    return out
