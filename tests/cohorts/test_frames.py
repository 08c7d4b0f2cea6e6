import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohorts.frames import VIEWS, gather, resize
from cohorts.study import RIGHT_VENTRICLE, UNLABELLED, Clip, Cohort, Origin, Study, StudyKey, View
from conf.schema import Classes


def clip(level, *, view=View.A2C, n_frames=2, ed=0, es=1, masked=True, size=(8, 6)):
    pixels = np.stack([np.full(size, level + at, np.uint8) for at in range(n_frames)])
    masks = np.stack([np.full(size, at % 4, np.uint8) for at in range(n_frames)]) if masked else None
    return Clip(pixels=pixels, masks=masks, view=view, ed_frame=ed, es_frame=es)


def cohort_of(clips, *, lvef=None):
    def load(subject):
        labels = {} if lvef is None else {"lvef_percent": lvef}
        return (
            Study(
                key=StudyKey(f"study {subject}"),
                subject=subject,
                clips=tuple(clips[subject]),
                origin=Origin.REAL,
                labels=labels,
            ),
        )

    return Cohort(subjects=tuple(sorted(clips)), load=load, origin=Origin.REAL)


def test_frames_come_subject_by_subject_clip_by_clip_ed_before_es():
    frames = gather(cohort_of({"a": [clip(10), clip(20, view=View.A4C)], "b": [clip(30)]}, lvef=55.0), size=4)
    assert frames.pixels[:, 0, 0].tolist() == [10, 11, 20, 21, 30, 31]
    assert frames.phase.tolist() == [0, 1, 0, 1, 0, 1]
    assert [VIEWS[v] for v in frames.view] == [View.A2C] * 2 + [View.A4C] * 2 + [View.A2C] * 2
    assert frames.subject.tolist() == [0, 0, 0, 0, 1, 1]
    assert frames.subjects == ("a", "b")
    assert np.all(frames.lvef_percent == 55)


def test_the_size_of_a_pixel_grows_as_a_picture_shrinks_and_is_not_guessed():
    known = dataclasses.replace(clip(10), pixel_mm=(0.5, 0.4))
    frames = gather(cohort_of({"a": [known], "b": [clip(20)]}), size=4)
    assert frames.pixel_mm[:2] == pytest.approx(np.array([[1.0, 0.6]] * 2))  # of 8 rows and 6 columns
    assert np.isnan(frames.pixel_mm[2:]).all()
    assert frames.select(("a",)).pixel_mm[0] == pytest.approx([1.0, 0.6])


def test_only_the_frames_of_end_diastole_and_end_systole_are_taken():
    frames = gather(cohort_of({"a": [clip(10, n_frames=9, ed=2, es=7)], "b": [clip(50, ed=None)]}), size=4)
    assert frames.pixels[:, 0, 0].tolist() == [12, 17, 51]
    assert frames.phase.tolist() == [0, 1, 1]
    assert frames.masks[:, 0, 0].tolist() == [2, 3, 1]


DIAGNOSES = Classes(of="diagnosis", names=("healthy", "ill"), released=("ill",), frames=3)


def test_a_clip_without_phases_gives_as_many_frames_as_are_asked_for_of_unknown_phase():
    frames = gather(cohort_of({"a": [clip(10, n_frames=9, ed=None, es=None)]}), size=4, classes=DIAGNOSES)
    assert frames.pixels[:, 0, 0].tolist() == [10, 14, 18]
    assert frames.phase.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(("said", "place"), [("ill", 1), ("healthy", 0), ("something else", -1), (None, -1)])
def test_frames_are_told_apart_by_what_the_classes_say(said, place):
    def load(subject):
        labels = {} if said is None else {"diagnosis": said}
        made = Study(key=StudyKey("s"), subject=subject, clips=(clip(10),), origin=Origin.REAL, labels=labels)
        return (made,)

    frames = gather(Cohort(subjects=("a",), load=load, origin=Origin.REAL), size=4, classes=DIAGNOSES)
    assert set(frames.view.tolist()) == {place}


def test_a_short_axis_of_resonance_takes_the_place_of_the_one_of_echo():
    short = Classes(names=("A2C", "A4C", "PLAX", "SAX"), released=("SAX",))
    clips = {"a": [clip(10, view=View.SAX)], "b": [clip(10, view=View.PSAX)]}
    assert gather(cohort_of(clips), size=4, classes=short).view.tolist() == [3, 3, -1, -1]


def test_structures_that_networks_do_not_know_are_background_to_them():
    shot = clip(10)
    shot.masks[0], shot.masks[1] = RIGHT_VENTRICLE, UNLABELLED
    assert gather(cohort_of({"a": [shot]}), size=4).masks[:, 0, 0].tolist() == [0, UNLABELLED]


def test_what_is_not_known_is_said_to_be_unknown():
    frames = gather(cohort_of({"a": [clip(10, view=None, masked=False)]}), size=4)
    assert frames.view.tolist() == [-1, -1]
    assert np.all(np.isnan(frames.lvef_percent))
    assert np.all(frames.masks == UNLABELLED)


def test_a_subject_without_labelled_phases_has_no_frames_but_stays_a_subject():
    frames = gather(cohort_of({"a": [clip(10, ed=None, es=None)]}), size=4)
    assert len(frames) == 0
    assert frames.pixels.shape == (0, 4, 4)
    assert frames.subjects == ("a",)


def test_selecting_re_indexes_in_the_order_given():
    frames = gather(cohort_of({"a": [clip(10)], "b": [clip(20)], "c": [clip(30)]}), size=4)
    selected = frames.select(["c", "a"])
    assert selected.subjects == ("c", "a")
    assert {selected.subjects[i]: p for i, p in zip(selected.subject, selected.pixels[:, 0, 0], strict=True)} == {
        "a": 11,
        "c": 31,
    }
    assert len(frames.select([])) == 0


def test_one_subjects_frames_do_not_depend_on_the_others():
    both = gather(cohort_of({"a": [clip(10)], "b": [clip(200)]}), size=4)
    alone = gather(cohort_of({"a": [clip(10)]}), size=4)
    assert np.array_equal(both.select(["a"]).pixels, alone.pixels)


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 12))
def test_resizing_labels_invents_none_and_resizing_grey_keeps_its_range(seed, size):
    image = np.random.default_rng(seed).integers(0, 4, (12, 9), dtype=np.uint8)
    assert set(np.unique(resize(image, size, nearest=True))) <= set(np.unique(image))
    grey = resize(image * 80, size, nearest=False)
    assert (image * 80).min() <= grey.min() <= grey.max() <= (image * 80).max()
    assert grey.shape == (size, size)


def test_shrinking_averages_areas():
    image = np.array([[0, 0, 100, 100], [0, 0, 100, 100], [200, 200, 40, 40], [200, 200, 40, 40]], np.uint8)
    assert resize(image, 2, nearest=False).tolist() == [[0, 100], [200, 40]]
    assert resize(np.array([[0, 100], [200, 40]], np.uint8), 1, nearest=False).tolist() == [[85]]


@pytest.mark.parametrize("nearest", [True, False])
def test_an_image_of_the_right_size_is_left_alone(nearest):
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert np.array_equal(resize(image, 4, nearest=nearest), image)
