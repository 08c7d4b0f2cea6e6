import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.phases import cyclic_difference, key_frames


def bump(at, width, n=30):
    t = np.arange(n)
    apart = (t - at + n / 2) % n - n / 2
    return np.exp(-0.5 * (apart / width) ** 2)


CYCLE = -1.0 * bump(5, 2.5) + 1.0 * bump(14, 2.0) + 0.5 * bump(24, 1.8) - 0.05


def test_a_cycle_of_known_motion_has_the_known_phases():
    assert key_frames(CYCLE) == (28, 5, 11, 15, 24)


@pytest.mark.parametrize("k", range(30))
def test_where_the_cycle_is_cut_open_does_not_matter(k):
    assert key_frames(np.roll(CYCLE, k)) == tuple((at + k) % 30 for at in (28, 5, 11, 15, 24))


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=40).filter(lambda c: min(c) < 0 < max(c)))
def test_every_cycle_that_contracts_and_fills_has_five_phases(curve):
    found = key_frames(np.array(curve))
    assert len(found) == 5
    assert all(0 <= at < len(curve) for at in found)
    assert found[1] == int(np.argmin(curve))


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        ([0.1] * 9, "contracts below 0"),
        ([1, -1], "at least four"),
        ([np.nan] * 9, "finite"),
        (np.ones((3, 3)), "shape"),
    ],
)
def test_what_is_no_cycle_is_refused(curve, words):
    with pytest.raises(ValueError, match=words):
        key_frames(np.array(curve))


def test_frames_are_compared_the_shorter_way_round():
    assert cyclic_difference([29, 15], [1, 15], 30).tolist() == [2, 0]
