import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.reidentification_threshold import (
    at_least,
    calibrate,
    drift,
    fewest,
    from_found,
    from_strangers,
    rank,
)

# Known answers


@pytest.mark.parametrize(("beta", "from_top", "n"), [(0.05, 1, 59), (0.05, 2, 93), (0.01, 1, 299), (0.01, 2, 473)])
def test_so_many_strangers_it_takes(beta: float, from_top: int, n: int) -> None:
    assert fewest(1 - beta, from_top=from_top) == n
    assert rank(n, 1 - beta) == n - from_top + 1
    assert rank(58, 0.95) is None


@pytest.mark.parametrize(("hits", "n", "bound"), [(300, 300, 0.990), (297, 300, 0.974), (190, 200, 0.917)])
def test_lower_bounds_of_a_catch_rate(hits: int, n: int, bound: float) -> None:
    assert at_least(hits, n) == pytest.approx(bound, abs=5e-4)


def test_a_threshold_against_fewer_people_rejects_five_times_as_many() -> None:
    assert drift(0.05, calibrated=1277, used=7465) == pytest.approx(0.259, abs=5e-4)
    assert drift(0.05, calibrated=226, used=904) == pytest.approx(0.185, abs=5e-4)
    assert drift(0.05, calibrated=700, used=700) == pytest.approx(0.05)


def test_unequal_sizes_reject_a_quarter_in_a_simulation_and_equal_ones_a_twentieth() -> None:
    """seeds_tasks 3.8: 128 features of intrinsic dimension 8, τ from the train people's nearest of 1,277 (the bug)."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((8, 128)) / math.sqrt(8)

    def people(n: int) -> np.ndarray:
        features = 1 / (1 + np.exp(-(rng.standard_normal((n, 8)) @ mix + 0.3 * rng.standard_normal((n, 128)))))
        features -= features.mean(axis=1, keepdims=True)
        return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)

    train, held, drawn = people(7465), people(1277), people(2000)
    wrong = np.quantile((train @ held.T).max(axis=1), 0.95)
    score = (drawn @ train.T).max(axis=1)
    assert (score >= wrong).mean() == pytest.approx(0.259, abs=0.06)
    right = from_strangers((held @ train.T).max(axis=1), beta=0.05)
    assert right is not None
    assert (score >= right).mean() == pytest.approx(0.05, abs=0.02)


# Laws


@pytest.mark.parametrize("n", [59, 93, 200])
def test_the_promise_to_strangers_is_kept_in_nineteen_of_twenty_calibrations(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = rng.random((4000, n))
    rejected = 1 - np.array([from_strangers(row, beta=0.05) for row in scores])  # scores are uniform
    assert (rejected <= 0.05).mean() >= 0.94
    assert rejected.mean() > 0.005


def test_the_promise_about_copies_is_kept_in_nineteen_of_twenty_calibrations() -> None:
    rng = np.random.default_rng(1)
    found = 1 - np.array([from_found(row, least=0.9) for row in rng.random((4000, 100))])
    assert 0.94 <= (found >= 0.9).mean() <= 0.99


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(59, 300), least=st.sampled_from([0.5, 0.9, 0.95]))
def test_the_bound_of_what_is_found_reaches_the_aim_and_no_larger_threshold_does(
    seed: int, n: int, least: float
) -> None:
    values = np.random.default_rng(seed).random(n)
    tau = from_found(values, least=least)
    assert tau is not None
    assert at_least(int((values >= tau).sum()), n) >= least
    assert at_least(int((values > tau).sum()), n) < least


def _strangers(n: int = 100) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.3, 0.7, n)


def _copies(low: float, high: float, n: int = 100) -> dict[str, np.ndarray]:
    return {"gain": np.random.default_rng(1).uniform(low, high, n), "speckle": np.full(n, 0.99)}


def test_the_stricter_side_decides() -> None:
    easy = calibrate(_strangers(), _copies(0.9, 1.0))
    assert easy.tau == easy.strangers < easy.copies
    hard = calibrate(_strangers(), _copies(0.6, 1.0))
    assert hard.tau == hard.copies < hard.strangers
    assert hard.false_rejection is not None
    assert 0.05 < hard.false_rejection.value < 0.5
    assert easy.adequate
    assert hard.adequate
    for found in (easy, hard):
        assert min(at_least(round(e.value * e.n), e.n) for e in found.copies_found.values()) >= 0.95


def test_second_studies_lower_the_threshold_where_the_filter_claims_people() -> None:
    pairs = np.random.default_rng(2).uniform(0.5, 1.0, 100)
    found = calibrate(_strangers(), _copies(0.9, 1.0), pairs)
    assert found.tau == found.pairs < 0.6
    assert found.pairs_found is not None
    assert at_least(round(found.pairs_found.value * 100), 100) >= 0.9


def test_a_filter_that_rejects_most_strangers_decides_nothing() -> None:
    found = calibrate(_strangers(), _copies(0.2, 1.0))
    assert not found.adequate
    assert any("cannot tell copies from strangers" in p for p in found.problems)
    assert found.false_rejection is not None
    assert found.false_rejection.value > 0.5


def test_too_few_of_anything_is_a_problem_and_never_a_guess() -> None:
    assert not calibrate(_strangers(58), _copies(0.9, 1.0)).adequate
    assert not calibrate(_strangers(), _copies(0.9, 1.0, n=58)).adequate
    assert not calibrate(_strangers(), {}).adequate
    assert not calibrate(_strangers(), _copies(0.9, 1.0), np.ones(28)).adequate
    nothing = calibrate(np.zeros(0), {})
    assert math.isnan(nothing.tau)
    assert not nothing.adequate
    with pytest.raises(ValueError, match="gain holds"):
        calibrate(_strangers(), {"gain": np.array([np.nan])})


def test_false_rejection_is_measured_on_people_who_calibrated_nothing() -> None:
    fresh = np.full(40, 0.9)
    found = calibrate(_strangers(), _copies(0.95, 1.0), fresh=fresh)
    assert found.false_rejection is not None
    assert (found.false_rejection.value, found.false_rejection.n) == (1.0, 40)
    assert not found.adequate


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        rank(10, 1.0)
    with pytest.raises(ValueError, match="beta"):
        drift(0.0, calibrated=1, used=1)
