import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.fairness import GroupDro, balanced_rows, gaps, reweighed


def test_the_weights_after_a_step_are_those_of_the_closed_form():
    after = GroupDro.of(3, rate=0.5).after(np.array([1.0, 2.0, 0.0]))
    raw = np.exp(0.5 * np.array([1.0, 2.0, 0.0]))
    assert np.allclose(after.weights, raw / raw.sum())


def test_the_harder_group_gains_weight_at_every_step():
    dro, found = GroupDro.of(2, rate=0.1), []
    for _ in range(20):
        dro = dro.after(np.array([0.2, 0.9]))
        found.append(dro.weights[1])
    assert np.all(np.diff([0.5, *found]) > 0)


def test_a_rate_of_zero_is_the_plain_mean_over_groups():
    dro = GroupDro.of(2, rate=0.0).after(np.array([9.0, 0.0]))
    groups, losses = np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 3.0, 10.0])
    assert (dro.row_weights(groups) * losses).sum() == pytest.approx((2 + 10) / 2)


def test_a_group_nobody_was_drawn_of_keeps_its_weight_up_to_the_sum():
    dro = GroupDro(weights=(0.5, 0.3, 0.2), rate=1.0).after(np.array([0.7, np.nan, 0.7]))
    assert dro.weights[0] / dro.weights[2] == pytest.approx(2.5)
    assert dro.weights[1] < 0.3


@given(st.lists(st.floats(0, 50), min_size=2, max_size=6))
def test_weights_stay_a_distribution(losses):
    dro = GroupDro.of(len(losses), rate=0.3).after(np.array(losses))
    assert sum(dro.weights) == pytest.approx(1)
    assert min(dro.weights) >= 0


def test_reweighing_takes_its_frequencies_from_everybody_and_keeps_its_bounds():
    groups = np.array([0] * 75 + [1] * 25)
    assert reweighed(groups, n_groups=2).tolist() == pytest.approx([100 / 150, 2.0])
    assert reweighed(np.array([0] * 999 + [1]), n_groups=2).tolist() == pytest.approx([1000 / 1998, 5.0])


def test_balanced_draws_take_each_group_alike():
    groups = np.array([0] * 95 + [1] * 5)
    rows = balanced_rows(groups, 4000, np.random.default_rng(0))
    assert abs(float((groups[rows] == 1).mean()) - 0.5) < 0.03


def test_gaps_leave_out_groups_too_small_to_tell():
    scores = {"f": np.full(30, 0.9), "m": np.full(30, 0.8), "few": np.zeros(3)}
    found = gaps(scores)
    assert found is not None
    assert (found.gap, found.error_ratio, found.worst) == (pytest.approx(0.1), pytest.approx(2.0), "m")
    assert gaps({"f": np.full(30, 0.9), "few": np.zeros(3)}) is None


def test_what_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        GroupDro(weights=(0.5, 0.6))
    with pytest.raises(ValueError, match="losses of shape"):
        GroupDro.of(2).after(np.zeros(3))
