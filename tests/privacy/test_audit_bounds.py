"""What guesses prove, to the digits that others have printed."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.audit.bounds import (
    Errors,
    Guesses,
    gaussian_bound,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    guess,
    pure_bound,
    pure_p_value,
    refutes,
    to_guess,
)

DELTA = 1e-5


def of(m: int, r: int, v: int) -> Guesses:
    return Guesses(canaries=m, guessed=r, right=v)


@pytest.mark.parametrize(
    ("m", "r", "v", "pure", "gaussian"),
    [
        (1000, 100, 90, 1.626, 2.456),
        (1000, 200, 150, 0.820, 1.297),
        (100, 20, 20, 1.820, 3.239),
        (5000, 250, 200, 1.112, 1.484),
        (300, 300, 300, 4.594, 10.245),
    ],
)
def test_known_guesses_prove_what_they_are_known_to_prove(m: int, r: int, v: int, pure: float, gaussian: float) -> None:
    assert pure_bound(of(m, r, v), DELTA) == pytest.approx(pure, abs=6e-4)
    assert gaussian_bound(of(m, r, v), DELTA) == pytest.approx(gaussian, abs=6e-4)


@pytest.mark.parametrize(
    ("m", "pure", "gaussian"),
    [(100, 3.5, 8.2), (300, 4.6, 10.2), (1000, 5.8, 12.3), (3000, 6.8, 14.2), (10_000, 7.8, 16.1)],
)
def test_perfect_guesses_reach_the_known_ceilings(m: int, pure: float, gaussian: float) -> None:
    perfect = of(m, 1, 0).perfect
    assert pure_bound(perfect, DELTA) == pytest.approx(pure, abs=0.051)
    assert gaussian_bound(perfect, DELTA) == pytest.approx(gaussian, abs=0.051)


@pytest.mark.parametrize(("epsilon", "mu"), [(1, 0.27), (2, 0.50), (4, 0.92), (8, 1.67)])
def test_epsilon_and_mu_of_a_gaussian_are_one_another(epsilon: float, mu: float) -> None:
    assert gaussian_mu(epsilon, DELTA) == pytest.approx(mu, abs=0.006)
    assert gaussian_epsilon(gaussian_mu(epsilon, DELTA), DELTA) == pytest.approx(epsilon, abs=1e-6)
    assert gaussian_delta(gaussian_mu(epsilon, DELTA), epsilon) == pytest.approx(DELTA, rel=1e-6)


def test_audits_of_a_gaussian_mechanism_prove_what_they_should_and_never_more() -> None:
    """One step at ε = 4, a thousand canaries, a hundred guesses, twenty seeds."""
    mu = gaussian_mu(4.0, DELTA)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        coins = rng.random(1000) < 0.5
        found = guess(mu * coins + rng.standard_normal(1000), coins, guessed=100)
        assert 1.2 <= gaussian_bound(found, DELTA) <= 4.0
        assert 0.8 <= pure_bound(found, DELTA) <= 3.0


@given(m=st.integers(1, 400), data=st.data())
def test_more_right_guesses_never_prove_less(m: int, data: st.DataObject) -> None:
    r = data.draw(st.integers(1, m))
    v = data.draw(st.integers(0, r - 1))
    for bound in (pure_bound, gaussian_bound):
        assert bound(of(m, r, v), DELTA) <= bound(of(m, r, v + 1), DELTA) + 1e-3


@given(m=st.integers(1, 300), epsilon=st.floats(0, 10), data=st.data())
def test_a_p_value_is_one_and_falls_with_the_guesses(m: int, epsilon: float, data: st.DataObject) -> None:
    r = data.draw(st.integers(1, m))
    p = [pure_p_value(of(m, r, v), epsilon, DELTA) for v in range(r + 1)]
    assert all(0 <= one <= 1 for one in p)
    assert all(a >= b - 1e-12 for a, b in pairwise(p))


def test_a_coin_nobody_could_see_proves_nothing() -> None:
    rng = np.random.default_rng(0)
    proved = []
    for _ in range(100):
        coins = rng.random(500) < 0.5
        proved.append(gaussian_bound(guess(rng.standard_normal(500), coins, guessed=100), DELTA))
    assert np.mean(np.asarray(proved) > 0) <= 0.1


def test_refuting_one_claim_agrees_with_the_bound() -> None:
    found = of(1000, 100, 90)
    assert refutes(found, 2.45, DELTA)
    assert not refutes(found, 2.46, DELTA)


def test_guesses_are_the_far_ends_of_the_scores() -> None:
    coins = np.array([True, True, True, False, False, False])
    assert guess([9, 8, -9, 9.5, -8, 0], coins, guessed=3) == of(6, 3, 1)  # 9.5 and 9 in, -9 out
    assert guess([5, 4, 3, 0, -1, -2], coins, guessed=6) == of(6, 6, 6)
    assert to_guess(1000) == 200
    assert to_guess(100) == 40


@pytest.mark.parametrize(("r", "v"), [(5, 6), (0, 0), (7, 2)])
def test_impossible_guesses_are_refused(r: int, v: int) -> None:
    with pytest.raises(ValueError, match=f"right={v} of guessed={r}"):
        of(6, r, v)


def test_many_trainings_without_an_error_prove_the_logarithm_of_their_number() -> None:
    errors = Errors(missed=0, with_it=500, alarmed=0, without=500)
    assert errors.epsilon_bound(DELTA) == pytest.approx(np.log(500 / 3.7), abs=0.03)
    assert errors.gaussian_bound(DELTA) > errors.epsilon_bound(DELTA)


def test_errors_at_chance_prove_nothing() -> None:
    errors = Errors(missed=250, with_it=500, alarmed=250, without=500)
    assert errors.epsilon_bound(DELTA) == 0
    assert errors.gaussian_bound(DELTA) == 0
