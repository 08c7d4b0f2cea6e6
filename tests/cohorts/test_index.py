import numpy as np
import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.grey import stretched, window
from cohorts.index import Index, Source
from cohorts.study import Clip, UnreadableStudy

NAMES = Pseudonyms(b"the key of site a stays there")
CLIP = Clip(pixels=np.ones((1, 2, 2), np.uint8))


def source(where, subject="p", study="s", **known):
    return Source(where=where, subject=subject, study=study, load=lambda: CLIP, **known)


def cohort(*sources, **fields):
    return Index(sources=sources, **fields).cohort(pseudonyms=NAMES)


def test_clips_of_one_study_come_together_with_all_that_is_known_of_it():
    two = cohort(source("a", labels={"lvef_percent": 50.0}), source("b", labels={"sex": "female"}))
    (study,) = two.of(NAMES.subject("p"))
    assert len(study.clips) == 2
    assert study.labels == {"lvef_percent": 50.0, "sex": "female"}


def test_two_values_of_one_label_are_refused_with_both_places():
    with pytest.raises(UnreadableStudy, match=r"b: lvef_percent=60.0 contradicts 50.0 in a"):
        cohort(source("a", labels={"lvef_percent": 50.0}), source("b", labels={"lvef_percent": 60.0}))


def test_two_values_of_one_column_are_refused_with_both_places():
    with pytest.raises(UnreadableStudy, match=r"b: sex='M' contradicts 'F' in a"):
        cohort(source("a", columns={"sex": "F"}), source("b", study="t", columns={"sex": "M"}))


def test_one_study_of_two_subjects_is_refused():
    with pytest.raises(UnreadableStudy, match="b: the study of a belongs to another subject"):
        cohort(source("a"), source("b", subject="q"))


def test_what_is_left_out_is_told_and_the_rest_is_used():
    blocked = UnreadableStudy("c", "burned-in text")
    assert cohort(source("a"), left_out=(blocked,)).left_out == (blocked,)
    with pytest.raises(UnreadableStudy, match="holds no usable clip; left out: c: burned-in text"):
        cohort(left_out=(blocked,))


def test_a_problem_refuses_everything_and_counts_the_others():
    with pytest.raises(UnreadableStudy, match=r"x: broken \(and 1 more\)"):
        cohort(source("a"), problems=(UnreadableStudy("x", "broken"), UnreadableStudy("y", "broken too")))


def test_a_window_maps_its_ends_to_black_and_white_and_clips_the_rest():
    assert window(np.array([-5, 0, 50, 100, 900]), 0, 100).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("values", [[np.nan, 1.0], [np.inf, 0.0]])
def test_grey_values_that_are_not_finite_are_refused(values):
    with pytest.raises(ValueError, match="not finite"):
        stretched(np.array(values))
    with pytest.raises(ValueError, match="not finite"):
        window(np.array(values), 0, 1)


def test_a_picture_of_one_value_has_no_window():
    with pytest.raises(ValueError, match="empty"):
        stretched(np.full((4, 4), 7))


def test_stretching_forgives_a_few_extreme_values():
    values = np.concatenate([np.linspace(0, 1000, 1000), [1e6]])
    assert stretched(values)[500] == pytest.approx(128, abs=2)
