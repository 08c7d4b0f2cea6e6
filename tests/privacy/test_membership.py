"""Areas, hit rates and p-values against textbooks, and laws that hold whatever the scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from privacy.estimate import clopper_pearson
from privacy.membership import Exchange, auc, by_subject, separation, tpr_at


def _drawn(seed: int, n: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(n) + shift, rng.standard_normal(n)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=20), st.lists(st.integers(0, 5), min_size=2, max_size=20))
def test_the_area_is_that_of_mann_and_whitney(members: list[int], controls: list[int]) -> None:
    a, b = np.array(members, float), np.array(controls, float)
    found = auc(a, b)
    assert found.value == pytest.approx(mannwhitneyu(a, b).statistic / (len(a) * len(b)))
    assert found.low <= found.value <= found.high
    assert auc(b, a).value == pytest.approx(1 - found.value)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_nineteen_intervals_in_twenty_hold_the_area(shift: float) -> None:
    from scipy.special import ndtr

    truth = float(ndtr(shift / 2**0.5))
    found = [auc(*_drawn(seed, 150, shift)) for seed in range(400)]
    assert np.mean([e.low <= truth <= e.high for e in found]) == pytest.approx(0.95, abs=0.03)


def test_at_chance_the_interval_is_as_wide_as_the_theory_of_ranks_says() -> None:
    found = auc(*_drawn(0, 500))
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(0.018, abs=0.001)


def test_perfect_ranking_keeps_an_interval() -> None:
    found = auc(np.arange(10.0) + 100, np.arange(10.0))
    assert found.value == 1
    assert found.low == pytest.approx(0.05 ** (1 / 10))


def test_hits_are_counted_above_the_score_that_so_many_controls_exceed() -> None:
    controls = np.arange(200.0)  # two of them may be accused: those at 198 and 199
    members = np.concatenate([np.full(30, 197.0), np.full(20, 197.5)])
    assert tpr_at(members, controls, 0.01) == clopper_pearson(20, 50)


@pytest.mark.parametrize(("fpr", "fewest"), [(0.1, 10), (0.01, 100), (0.001, 1000)])
def test_a_rate_that_too_few_controls_resolve_is_not_stated(fpr: float, fewest: int) -> None:
    assert tpr_at(np.zeros(5), np.zeros(fewest - 1), fpr) is None
    assert tpr_at(np.zeros(5), np.zeros(fewest), fpr) is not None


def test_subjects_are_brought_together() -> None:
    scores, subject = np.array([1.0, 3.0, -2.0]), np.array([0, 0, 1])
    assert by_subject(scores, subject, 2).tolist() == [2, -2]
    assert by_subject(scores, subject, 2, "max").tolist() == [3, -2]
    with pytest.raises(ValueError, match="1 of 3 subjects"):
        by_subject(scores, subject, 3)
    with pytest.raises(ValueError, match="not finite"):
        by_subject(np.array([np.nan, 0, 0]), subject, 2)


def test_where_nothing_leaks_one_run_in_twenty_rejects() -> None:
    null = Exchange(60, 80, seed=0)
    rng = np.random.default_rng(1)
    p = np.array([null.p_value(rng.standard_normal(60), rng.standard_normal(80)) for _ in range(1000)])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(p <= 0.01) == pytest.approx(0.01, abs=0.008)


def test_ties_cannot_make_a_leak() -> None:
    null = Exchange(50, 50, seed=0)
    assert null.p_value(np.zeros(50), np.zeros(50)) == 1
    rng = np.random.default_rng(0)
    p = [null.p_value(rng.integers(0, 2, 50).astype(float), rng.integers(0, 2, 50).astype(float)) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) < 0.08


def test_ten_members_at_the_top_are_seen_where_the_area_sees_nothing() -> None:
    members, controls = _drawn(3, 200)
    members[:10] = 9 + np.arange(10)
    found = separation(members, controls, Exchange(200, 200, seed=0))
    assert found.auc.low <= 0.5
    assert found.p_value < 0.01


def test_labels_of_another_cohort_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 \+ 2 scores for 2 \+ 2"):
        Exchange(2, 2, seed=0).p_value(np.zeros(3), np.zeros(2))
