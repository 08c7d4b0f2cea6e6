"""Clips of hearts: what is asked for, and what screening looks at."""

import dataclasses

import numpy as np

from cohorts.clips import stills
from conf.schema import Classes
from evaluation.volumes import biplane_lvef
from server.stages.screen import _unlike_each_other
from synthesis.candidates import MOMENTS, with_moments
from synthesis.conditions import beats, ends
from synthesis.shape import spread

TOLD = {"frames": 12, "lvef_percent": (20.0, 70.0), "pictures": True}


def test_a_beat_begins_at_end_diastole_and_shows_end_systole_itself():
    clips, systole = beats(Classes(), 8, seed=3, size=32, **TOLD)
    assert clips.pixels.shape == (16, 12, 32, 32)
    rows = np.arange(16)
    cavity = (clips.masks == 1).sum((2, 3))
    assert (clips.phase[:, 0] == 0).all()
    assert (np.diff(clips.phase, axis=1) > 0).all()
    assert (cavity[rows, systole] <= cavity.min(1) + 1).all()
    assert ((clips.frame_rate_hz > 5) & (clips.frame_rate_hz < 60)).all()


def test_both_views_of_one_heart_have_the_fraction_that_was_asked():
    clips, systole = beats(Classes(), 8, seed=4, size=64, **{**TOLD, "frames": 8})
    asked = spread(8, seed=4, lvef=(20.0, 70.0))
    assert np.array_equal(clips.lvef_percent, np.repeat(asked, 2))
    found = biplane_lvef(ends(clips, systole))
    assert np.abs(found - asked).mean() < 4
    assert np.corrcoef(found, asked)[0, 1] > 0.97


def test_a_heart_does_not_depend_on_how_many_are_drawn():
    few, _ = beats(Classes(), 2, seed=3, size=32, **TOLD)
    many, _ = beats(Classes(), 8, seed=3, size=32, **TOLD)
    rest, systole = beats(Classes(), 6, seed=3, size=32, first=2, **TOLD)
    assert np.array_equal(few.pixels, many.pixels[:4])
    assert len(systole) == 12
    for name in ("pixels", "masks", "phase", "lvef_percent", "heart_rate_bpm", "frame_rate_hz"):
        assert np.array_equal(getattr(rest, name), getattr(many, name)[4:])
    assert rest.subjects == many.subjects[2:]


def test_without_pictures_the_same_hearts_are_asked_for():
    shown, _ = beats(Classes(), 2, seed=3, size=32, **TOLD)
    asked, _ = beats(Classes(), 2, seed=3, size=32, **{**TOLD, "pictures": False})
    assert np.array_equal(asked.masks, shown.masks)
    assert not asked.pixels.any()


def test_screening_sees_a_twin_in_the_middle_of_a_beat():
    clips, systole = beats(Classes(), 8, seed=3, size=32, **TOLD)
    copied = clips.pixels.copy()
    copied[4, 5:] = copied[0, 5:]  # the third heart's first view becomes the first's, but not where it begins
    twin = dataclasses.replace(clips, pixels=copied)
    told = {"similarity": 0.9999}
    looked = with_moments(ends(twin, np.zeros_like(systole)), twin)
    assert len(looked) == 16 * (2 + MOMENTS)
    kept = _unlike_each_other(looked, told)
    assert not kept[looked.subject == 2].all()
    assert kept[looked.subject != 2].all()
    begun = stills(twin, np.zeros((16, 1), np.int64), np.zeros(1, np.int64))
    assert _unlike_each_other(begun, told).all()
