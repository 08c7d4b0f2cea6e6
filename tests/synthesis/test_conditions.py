"""What is asked of a generator is what the label will say, whoever asks and however much at a time."""

import numpy as np

from cohorts.frames import VIEWS
from cohorts.study import UNLABELLED, View
from conf.schema import Classes
from evaluation import volumes
from synthesis import shape
from synthesis.conditions import conditions

APICAL = Classes()


def test_labels_are_the_fractions_that_were_asked_and_the_masks_have_them():
    for pictures in (False, True):
        frames = conditions(APICAL, 24, seed=3, size=64, pictures=pictures)
        asked = shape.spread(24, seed=3)
        assert (frames.lvef_percent[::4] == asked).all()
        found = volumes.biplane_lvef(frames)
        assert np.corrcoef(found, asked)[0, 1] > 0.98
        assert np.abs(found - asked).mean() < 2.5
        assert frames.pixels.any() == pictures


def test_a_subject_does_not_depend_on_how_many_are_asked_for_at_a_time():
    for pictures in (False, True):
        whole = conditions(APICAL, 5, seed=3, size=32, pictures=pictures)
        part = conditions(APICAL, 2, seed=3, size=32, first=3, pictures=pictures)
        assert part.subjects == whole.subjects[3:]
        for column in ("pixels", "masks", "view", "phase", "lvef_percent"):
            assert (getattr(part, column) == getattr(whole, column)[12:]).all()


def test_views_are_those_that_are_released():
    frames = conditions(Classes(released=("A4C",)), 3, seed=0, size=32)
    assert set(frames.view) == {VIEWS.index(View.A4C)}
    assert len(frames) == 6


def test_other_classes_have_no_shape_no_phase_and_no_fraction():
    lung = Classes(of="diagnosis", names=("ill", "well", "else"), released=("well", "ill"))
    frames = conditions(lung, 4, seed=0, size=32, first=1)
    assert (frames.masks == UNLABELLED).all()
    assert (frames.phase == -1).all()
    assert np.isnan(frames.lvef_percent).all()
    assert frames.view.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
