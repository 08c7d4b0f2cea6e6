import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohorts.study import Clip, Cohort, Origin, Study, StudyKey, SubjectKey

PIXELS = np.zeros((3, 4, 5), np.uint8)
NAMES = st.sets(st.text(min_size=1, max_size=6), max_size=30)


def cohort_of(*subjects):
    return Cohort(
        subjects=tuple(SubjectKey(s) for s in subjects),
        load=lambda subject: (
            Study(key=StudyKey(f"study of {subject}"), subject=subject, clips=(), origin=Origin.REAL),
        ),
        origin=Origin.REAL,
        columns={SubjectKey(s): {"quality": "Good"} for s in subjects},
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"pixels": PIXELS[0]}, r"pixels must be uint8 \(frames, height, width\), not uint8 \(4, 5\)"),
        ({"pixels": PIXELS.astype(float)}, "not float64"),
        ({"pixels": PIXELS[:0]}, r"not uint8 \(0, 4, 5\)"),
        ({"masks": PIXELS[:1]}, r"masks are uint8 \(1, 4, 5\), must be uint8 \(3, 4, 5\)"),
        ({"masks": PIXELS.astype(np.int64)}, "masks are int64"),
        ({"ed_frame": 3}, r"ed_frame=3 lies outside 0\.\.2"),
        ({"es_frame": -1}, r"es_frame=-1 lies outside 0\.\.2"),
        ({"frame_seconds": 0.0}, "frame_seconds=0.0 must be greater than 0"),
        ({"frame_seconds": float("nan")}, "frame_seconds=nan must be greater than 0"),
        ({"pixel_mm": (0.3, -0.3)}, "pixel_mm=-0.3 must be greater than 0"),
    ],
)
def test_a_clip_out_of_bounds_is_refused_with_value_and_bound(fields, reason):
    with pytest.raises(ValueError, match=reason):
        Clip(**{"pixels": PIXELS} | fields)


@pytest.mark.parametrize("lvef", [-1.0, 100.5, float("nan")])
def test_an_ejection_fraction_is_in_percent(lvef):
    with pytest.raises(ValueError, match=r"lvef_percent=.* lies outside 0\.\.100"):
        Study(key=StudyKey("k"), subject=SubjectKey("s"), clips=(), origin=Origin.REAL, labels={"lvef_percent": lvef})


@pytest.mark.parametrize("subjects", [("b", "a"), ("a", "a")])
def test_a_cohort_is_sorted_and_names_nobody_twice(subjects):
    with pytest.raises(ValueError, match="subjects must be sorted and unique"):
        cohort_of(*subjects)


@given(names=NAMES, asked=st.text(max_size=6))
def test_a_cohort_knows_its_own_subjects_and_no_others(names, asked):
    cohort = cohort_of(*sorted(names))
    for name in names:
        assert cohort.of(SubjectKey(name))[0].subject == name
    if asked not in names:
        with pytest.raises(KeyError, match="is not in this cohort"):
            cohort.of(SubjectKey(asked))


@given(names=NAMES, kept=NAMES)
def test_restricting_keeps_order_and_columns_and_adds_nobody(names, kept):
    restricted = cohort_of(*sorted(names)).restrict([SubjectKey(s) for s in kept])
    assert restricted.subjects == tuple(sorted(names & kept))
    assert set(restricted.columns) == names & kept
