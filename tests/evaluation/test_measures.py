"""Known answers of what is measured on predictions, and independent formulas for the same numbers."""

import numpy as np
import pytest

from evaluation import measures
from evaluation.overall import Overall, of_classes, of_fractions


def disc(radius, *, size=40, at=(20, 20)):
    row, column = np.mgrid[:size, :size]
    return ((row - at[0]) ** 2 + (column - at[1]) ** 2 <= radius**2)[None]


ONE = np.ones((1, 2))


def test_rims_of_two_discs_lie_apart_by_the_difference_of_their_radii():
    assert measures.hd95(disc(15), disc(9), ONE)[0] == pytest.approx(6, abs=0.6)
    assert measures.hd95(disc(9), disc(9), ONE)[0] == 0


def test_a_shift_along_one_axis_is_measured_in_that_axis_unit():
    square, moved = np.zeros((1, 30, 30), bool), np.zeros((1, 30, 30), bool)
    square[0, 5:15, 5:15] = moved[0, 9:19, 5:15] = True
    assert measures.hd95(square, moved, ONE)[0] == pytest.approx(4)
    assert measures.hd95(square, moved, np.array([[0.5, 9.0]]))[0] == pytest.approx(2)


def test_empty_masks_are_as_the_design_says():
    """Both empty Dice 1 and distance 0, one empty Dice 0 and the diagonal (privacy.md 4.1)."""
    nothing = np.zeros((1, 40, 30), bool)
    something = nothing.copy()
    something[0, 3, 4] = True
    assert (measures.dice(nothing, nothing)[0], measures.hd95(nothing, nothing, ONE)[0]) == (1, 0)
    for pair in ((nothing, something), (something, nothing)):
        assert measures.dice(*pair)[0] == 0
        assert measures.hd95(*pair, np.array([[1.0, 1.0]]))[0] == pytest.approx(50)
        assert measures.hd95(*pair, np.array([[0.5, 0.5]]))[0] == pytest.approx(25)


def test_a_single_pixel_far_away_does_not_rule_the_distance_as_it_rules_the_largest():
    stray = disc(12)
    stray[0, 0, 0] = True
    assert measures.hd95(stray, disc(12), ONE)[0] < 1


def test_the_distance_of_rims_is_that_of_distance_transforms():
    from scipy.ndimage import binary_erosion, distance_transform_edt

    rng = np.random.default_rng(1)
    pixel = np.array([0.7, 1.3])
    for _ in range(5):
        a, b = (disc(rng.integers(4, 12), at=rng.integers(10, 30, 2)) for _ in range(2))
        rims = [m[0] & ~binary_erosion(m[0]) for m in (a, b)]
        apart = [
            distance_transform_edt(~rim, sampling=pixel)[other] for rim, other in zip(rims, reversed(rims), strict=True)
        ]
        expected = np.percentile(np.concatenate(apart), 95)
        assert measures.hd95(a, b, pixel[None])[0] == pytest.approx(expected)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = np.tile([0.9, 0.1], (100, 1))
    truth = np.r_[np.zeros(60, int), np.ones(40, int)]
    assert measures.calibration_error(sure, truth) == pytest.approx(0.3)
    assert measures.calibration_error(sure, np.r_[np.zeros(90, int), np.ones(10, int)]) == pytest.approx(0)
    assert measures.calibration_error(np.eye(2)[truth], truth) == 0


def test_calibration_error_is_that_of_a_loop_over_bins():
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(4), 500)
    truth = rng.integers(0, 4, 500)
    sure, right, total = p.max(1), p.argmax(1) == truth, 0.0
    for k in range(15):
        inside = (sure > k / 15) & (sure <= (k + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert measures.calibration_error(p, truth) == pytest.approx(total)


def test_brier_runs_from_knowing_to_being_sure_of_the_wrong():
    truth = np.array([0, 1, 2])
    assert measures.brier(np.eye(3), truth) == 0
    assert measures.brier(np.eye(3)[[1, 2, 0]], truth) == 2
    assert measures.brier(np.full((3, 3), 1 / 3), truth) == pytest.approx(2 / 3)


def test_balanced_accuracy_and_macro_f1_are_those_of_the_textbook():
    truth, named = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert measures.balanced_accuracy(named, truth) == pytest.approx((2 / 3 + 1) / 2)
    assert measures.macro_f1(named, truth) == pytest.approx((0.8 + 2 / 3) / 2)
    assert measures.balanced_accuracy(np.zeros(4, int), truth) == 0.5


def test_whoever_says_the_mean_explains_nothing_and_a_bias_is_a_bias():
    known = np.array([30.0, 50.0, 70.0])
    assert measures.r_squared(np.full(3, 50.0), known) == 0
    assert measures.r_squared(known, known) == 1
    assert measures.rmse(known + 3, known) == pytest.approx(3)
    assert measures.agreement(known + 3, known) == pytest.approx((3, 3, 3))
    low_to_high = measures.agreement(known + np.array([-2, 0, 2]), known)
    assert low_to_high == pytest.approx((0, -1.96 * 2, 1.96 * 2))


def test_intraclass_correlation_is_that_of_the_mean_squares_and_falls_with_a_bias():
    """Two of the four judges of Shrout & Fleiss 1979, table 2."""
    one, other = np.array([9.0, 6, 8, 7, 10, 6]), np.array([2.0, 1, 4, 1, 5, 2])
    both = np.stack([one, other], 1)
    rows, columns = both.mean(1, keepdims=True), both.mean(0, keepdims=True)
    bms = 2 * ((rows - both.mean()) ** 2).sum() / 5
    jms = 6 * ((columns - both.mean()) ** 2).sum() / 1
    ems = ((both - rows - columns + both.mean()) ** 2).sum() / 5
    assert measures.icc(one, other) == pytest.approx((bms - ems) / (bms + ems + 2 * (jms - ems) / 6))
    assert measures.icc(one, one) == pytest.approx(1)
    assert measures.icc(one, one + 5) < 0.5 < np.corrcoef(one, one + 5)[0, 1]


def test_the_area_under_the_curve_counts_pairs():
    assert measures.auroc(np.array([3.0, 2.0, 1.0]), np.array([True, True, False])) == 1
    assert measures.auroc(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    assert np.isnan(measures.auroc(np.array([1.0, 2.0]), np.array([True, True])))
    rng = np.random.default_rng(3)
    score, positive = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert measures.auroc(score, positive) == pytest.approx(np.mean(pairs))


def test_all_rows_of_a_subject_are_drawn_together():
    subject = np.repeat(np.arange(4), [1, 5, 2, 3])
    seen = []

    def statistic(rows):
        seen.append(np.bincount(subject[rows], minlength=4) / np.array([1, 5, 2, 3]))
        return 1.0

    Overall(subject=subject, statistics={"balanced_accuracy": statistic}).sampled(seed=1, resamples=20)
    assert (seen[0] == 1).all()
    assert all((times == times.round()).all() and times.sum() == 4 for times in seen)


def test_two_arms_are_resampled_as_pairs():
    known = np.random.default_rng(0).uniform(20, 70, 30)
    one, other = (of_fractions(known + shift, known).sampled(seed=5)["bias_points"] for shift in (2.0, 5.0))
    assert (other - one) == pytest.approx(np.full(201, 3.0))


def test_unknown_classes_and_fractions_count_for_nothing():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    found = of_classes(p, np.array([0, 1, -1]), np.array([0, 1, 2])).sampled(seed=0, resamples=3)
    assert found["balanced_accuracy"][0] == 1
    fractions = of_fractions(np.array([50.0, 60.0, np.nan]), np.array([50.0, np.nan, 40.0]))
    assert fractions.subject.tolist() == [0]
    assert np.isnan(fractions.sampled(seed=0, resamples=3)["r_squared"]).all()
