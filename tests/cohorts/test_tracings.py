import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohorts.study import UnreadableStudy
from cohorts.tracings import area, enclosed, read_tracings

SQUARE = np.array([[2.5, 1.5], [6.5, 1.5], [6.5, 4.5], [2.5, 4.5]])


def table(folder, text):
    path = folder / "VolumeTracings.csv"
    path.write_text(text)
    return path


def test_a_square_encloses_the_pixels_whose_centres_lie_in_it():
    inside = enclosed(SQUARE, 8, 9)
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 4, 3, 6)
    assert inside.sum() == area(SQUARE) == 12


@given(st.floats(3, 20), st.floats(3, 20), st.floats(25, 40), st.floats(25, 40))
def test_as_many_pixels_are_enclosed_as_the_area_says(a, b, x, y):
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    points = np.stack([x + a * np.cos(turn), y + b * np.sin(turn)], axis=1)
    assert enclosed(points, 64, 64).sum() == pytest.approx(area(points), abs=3 * (a + b))


def test_the_order_of_points_does_not_matter_and_what_leaves_the_frame_is_cut():
    assert np.array_equal(enclosed(SQUARE[::-1], 8, 9), enclosed(SQUARE, 8, 9))
    assert np.array_equal(enclosed(SQUARE, 8, 5), enclosed(SQUARE, 8, 9)[:, :5])
    assert not enclosed(SQUARE + 100, 8, 9).any()
    assert enclosed(SQUARE * [100, 100] - 300, 8, 9).all()


def test_chords_become_an_outline_without_the_long_axis(tmp_path):
    path = table(tmp_path, "FileName,X1,Y1,X2,Y2,Frame\nA.avi,4,0,4,9,7\nA.avi,2,1,6,1,7\nA.avi,2,5,6,5,7\n")
    assert read_tracings(path)["a"][7].tolist() == [[2, 1], [2, 5], [6, 5], [6, 1]]


def test_contours_are_taken_as_they_are_and_a_phase_that_nobody_traced_is_absent(tmp_path):
    rows = "FileName,X,Y,Frame\nA.avi,1,1,3\nA.avi,5,1,3\nA.avi,5,5,3\nA.avi,,,No Systolic\n"
    assert {at: points.shape for at, points in read_tracings(table(tmp_path, rows))["a"].items()} == {3: (3, 2)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has the header"),
        ("FileName,X,Y,Z,Frame\n", "has the header"),
        ("FileName,X,Y,Frame\nA,1,1\n", "line 2: has 3 cells"),
        ("FileName,X,Y,Frame\nA,1,nan,0\n", "line 2: coordinate 'nan'"),
        ("FileName,X,Y,Frame\nA,1,1e9,0\n", "coordinate '1e9'"),
        ("FileName,X,Y,Frame\nA,1,1,-1\n", "Frame='-1'"),
        ("FileName,X,Y,Frame\nA,1,1,0\nA,2,2,0\n", "outlines frame 0 of 'a' with 2 points"),
        ("FileName,X1,Y1,X2,Y2,Frame\nA,1,1,2,2,0\n", "with 0 points"),
    ],
)
def test_a_table_that_will_not_do_is_refused_with_its_line(tmp_path, text, words):
    with pytest.raises(UnreadableStudy) as caught:
        read_tracings(table(tmp_path, text))
    assert words in str(caught.value)


def test_a_table_is_not_read_where_it_is_larger_than_any_that_was_published(tmp_path, monkeypatch):
    monkeypatch.setattr("cohorts.tracings.TABLE_BYTES_MAX", 10)
    with pytest.raises(UnreadableStudy, match="at most 10 are read"):
        read_tracings(table(tmp_path, "FileName,X,Y,Frame\n"))
