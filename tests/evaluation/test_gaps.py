"""How much wider the gap between groups became: known answers, and its interval over patients."""

import numpy as np
import pytest

from evaluation.gaps import change


def cells(means, error):
    return {
        w: {"value": float(m), "low": m - 1.96 * error, "high": m + 1.96 * error}
        for w, m in zip("abc", means, strict=False)
    }


def test_a_gap_that_widens_from_one_tenth_to_three_widened_by_two():
    found, (low, high) = change(cells((0.6, 0.9), 0.01), cells((0.8, 0.9), 0.01), cells((-0.2, 0.0), 0.01))
    assert found == pytest.approx(0.2)
    assert 0.15 < low < 0.2 < high < 0.25


def test_scores_that_go_together_say_more_than_strangers():
    new, old = cells((0.2, 0.9), 0.05), cells((0.4, 0.9), 0.05)
    _, close = change(new, old, cells((-0.2, 0.0), 0.01))
    _, strange = change(new, old, cells((-0.2, 0.0), 0.05 * 2**0.5))
    assert close[1] - close[0] < 0.5 * (strange[1] - strange[0])
    assert close[1] - close[0] == pytest.approx(2 * 1.96 * 0.01 * 2**0.5, rel=0.1)


def test_other_groups_may_be_worst_under_either_arm():
    found, _ = change(cells((0.5, 0.9, 0.8), 1e-6), cells((0.9, 0.8, 0.85), 1e-6), cells((-0.4, 0.1, -0.05), 1e-6))
    assert found == pytest.approx(0.4 - 0.1)


def test_of_one_group_there_is_no_gap():
    assert change(cells((0.5,), 0.1), cells((0.5,), 0.1), cells((0.0,), 0.1)) is None


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng, held, error, runs = np.random.default_rng(0), 0, 0.03, 400
    truth = np.array([[0.7, 0.9], [0.8, 0.9]])
    for _ in range(runs):
        shared = rng.normal(0, error, 2)
        new, old = truth + np.stack([shared, shared]) + rng.normal(0, 0.01, (2, 2))
        spread = np.hypot(error, 0.01)
        _, (low, high) = change(cells(new, spread), cells(old, spread), cells(new - old, 0.01 * 2**0.5))
        held += low <= 0.1 <= high
    assert 0.9 <= held / runs <= 0.99
