import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from privacy.zero_learning import Noise, ZeroLearning

FAIR = ZeroLearning()
BLURRED = ZeroLearning(members_noise=Noise((0.8,) * 3), controls_noise=Noise((1.0,) * 3))


@pytest.mark.parametrize(
    ("disclosed", "members", "bound"),
    [(5, 5, 0.20), (10, 10, 1.05), (20, 20, 1.82), (20, 18, 0.93), (59, 59, 2.95), (100, 100, 3.49), (100, 60, 0.05)],
)
def test_bounds_are_those_of_the_design(disclosed: int, members: int, bound: float) -> None:
    assert FAIR.epsilon_bound(members, disclosed - members) == pytest.approx(bound, abs=0.006)


def test_nine_members_in_ten_prove_nothing() -> None:
    assert ZeroLearning(inclusion=0.9).p_value(20, 0) == pytest.approx(0.12, abs=0.005)


@settings(deadline=None)
@given(members=st.integers(0, 60), controls=st.integers(0, 60), epsilon=st.floats(0, 4))
def test_without_noise_it_is_the_binomial_test(members: int, controls: int, epsilon: float) -> None:
    q = np.exp(epsilon) / (1 + np.exp(epsilon))
    exact = binom.sf(members - 1, members + controls, q)
    assert FAIR.p_value(members, controls, epsilon=epsilon) == pytest.approx(exact, abs=1e-9)
    if members + controls and epsilon == 0:
        assert exact == pytest.approx(binomtest(members, members + controls, 0.5, alternative="greater").pvalue)


POWER = [  # subjects of either kind, share copied, phantom rate, power
    (200, 0.05, 0, 0.97),
    (200, 0.02, 0, 0.36),
    (500, 0.01, 0, 0.57),
    (1000, 0.01, 0, 0.97),
    (1000, 0.01, 0.01, 0.50),
    (1000, 0.02, 0.01, 0.94),
]


@pytest.mark.parametrize(("subjects", "share", "phantoms", "power"), POWER)
def test_power_is_that_of_the_design(subjects: int, share: float, phantoms: float, power: float) -> None:
    ours = FAIR.power(share, members=subjects, controls=subjects, phantom_rate=phantoms)
    assert ours == pytest.approx(power, abs=0.02)


def _laplace(rng: np.random.Generator, epsilons: tuple[float, ...], size: int) -> np.ndarray:
    p = [1 - np.exp(-e) for e in epsilons]
    return sum((rng.geometric(q, size) - rng.geometric(q, size) for q in p), np.zeros(size, np.int64))


@pytest.mark.parametrize("disclosed", [0, 3, 30, 150])
@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_under_noise_a_true_hypothesis_is_rejected_at_most_one_time_in_twenty(disclosed: int, epsilon: float) -> None:
    rng = np.random.default_rng(disclosed)
    members = rng.binomial(disclosed, np.exp(epsilon) / (1 + np.exp(epsilon)), 3000)
    x = members + _laplace(rng, BLURRED.members_noise.epsilons, 3000)
    y = disclosed - members + _laplace(rng, BLURRED.controls_noise.epsilons, 3000)
    pairs, times = np.unique(np.stack([x, y]), axis=1, return_counts=True)
    rejected = np.array([BLURRED.p_value(a, b, epsilon=epsilon) < 0.05 for a, b in pairs.T.tolist()])
    assert times[rejected].sum() / 3000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)


def test_power_is_what_simulation_says() -> None:
    rng = np.random.default_rng(0)
    n = 1500
    members = rng.binomial(600, 0.01 + 0.99 * 0.03, n) + _laplace(rng, BLURRED.members_noise.epsilons, n)
    controls = rng.binomial(600, 0.01, n) + _laplace(rng, BLURRED.controls_noise.epsilons, n)
    rejected = np.mean([BLURRED.p_value(a, b) < 0.05 for a, b in zip(members.tolist(), controls.tolist(), strict=True)])
    power = BLURRED.power(0.03, members=600, controls=600, phantom_rate=0.01)
    assert rejected == pytest.approx(power, abs=4 * np.sqrt(power * (1 - power) / n))


def test_six_hundred_members_suffice_for_one_copy_in_twenty_and_a_hundred_and_seventy_five_do_not() -> None:
    assert BLURRED.power(0.05, members=600, controls=600, phantom_rate=0.03) > 0.9
    assert BLURRED.power(0.05, members=175, controls=175, phantom_rate=0.02) < 0.5


def test_noise_only_ever_weakens_the_evidence() -> None:
    for members, controls in ((5, 0), (20, 2), (60, 20)):
        assert BLURRED.p_value(members, controls) > FAIR.p_value(members, controls)
        assert BLURRED.epsilon_bound(members, controls) <= FAIR.epsilon_bound(members, controls)


def test_counts_may_fall_below_zero_under_noise() -> None:
    assert BLURRED.p_value(-4, -2) > 0.5
    assert BLURRED.epsilon_bound(-4, -2) == 0.0


def test_the_noise_is_the_convolution_of_its_parts() -> None:
    noise = Noise((0.5, 2.0))
    rng = np.random.default_rng(1)
    drawn = _laplace(rng, noise.epsilons, 200_000)
    assert noise.pmf.sum() == pytest.approx(1.0)
    assert np.mean(drawn == 0) == pytest.approx(noise.pmf[noise.reach], abs=0.005)
    assert np.mean(drawn <= noise.quantile(0.9)) == pytest.approx(0.9, abs=0.06)
    assert np.mean(drawn <= noise.quantile(0.9)) >= 0.895


@pytest.mark.parametrize("inclusion", [0.0, 1.0])
def test_without_a_coin_there_is_no_test(inclusion: float) -> None:
    with pytest.raises(ValueError, match="inclusion"):
        ZeroLearning(inclusion=inclusion)
