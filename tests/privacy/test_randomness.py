"""The source of noise: right in law, never the same twice, and nobody can ask for it again."""

import copy
import inspect
import math

import numpy as np
import pytest
from scipy import stats

from privacy.randomness import SecureRandom

SURE = 1e-6  # smallest p-value a right generator may show; entropy is fixed below, so no test fails by chance


@pytest.fixture
def random(monkeypatch: pytest.MonkeyPatch) -> SecureRandom:
    entropy = np.random.default_rng(20_250_101)
    monkeypatch.setattr("privacy.randomness.os.urandom", entropy.bytes)
    return SecureRandom()


def test_the_stream_is_aes_256_in_counter_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """AES-256 of a zero block under a zero key is a published vector (NIST CAVP, ECBVarTxt/KeySbox 256)."""
    monkeypatch.setattr("privacy.randomness.os.urandom", bytes)
    assert SecureRandom().bytes(16).hex() == "dc95c078a2408989ad48a21492842087"


def test_normal_variates_are_standard_normal(random: SecureRandom) -> None:
    x = random.normal(200_001)
    assert x.dtype == np.float32
    assert x.shape == (200_001,)
    assert stats.kstest(x, "norm").pvalue > SURE
    spread = float((x.astype(np.float64) ** 2).sum())
    assert 2 * min(stats.chi2.cdf(spread, x.size), stats.chi2.sf(spread, x.size)) > SURE


def test_the_tails_are_as_heavy_as_they_should_be(random: SecureRandom) -> None:
    x = np.abs(random.normal((1000, 1000), dtype="float64"))
    for bound in (2.0, 3.0, 4.0):
        beyond = int((x > bound).sum())
        assert stats.binomtest(beyond, x.size, 2 * stats.norm.sf(bound)).pvalue > SURE


def test_normal_variates_do_not_remember_each_other(random: SecureRandom) -> None:
    x = random.normal(100_000, dtype="float64")
    for lag in (1, 2, 3, 50_000):  # 50,000: the partner of the same Box-Muller pair
        correlation = float(np.mean(x[lag:] * x[:-lag])) * math.sqrt(x.size - lag)
        energy = float(np.mean((x[lag:] ** 2 - 1) * (x[:-lag] ** 2 - 1))) * math.sqrt(x.size - lag) / 2
        assert abs(correlation) < 5
        assert abs(energy) < 5


def test_two_draws_and_two_instances_never_give_the_same_noise() -> None:
    one, other = SecureRandom(), SecureRandom()
    draws = [one.normal(64), one.normal(64), other.normal(64)]
    assert len({d.tobytes() for d in draws}) == 3


def test_a_forked_process_takes_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = iter([b"\x01" * 32, b"\x01" * 16, b"\x01" * 32, b"\x01" * 16, b"\x02" * 32, b"\x02" * 16])
    monkeypatch.setattr("privacy.randomness.os.urandom", lambda _: next(keys))
    parent, child = SecureRandom(), SecureRandom()
    assert parent.bytes(8) == child.bytes(8), "the fixture should have made two equal streams"
    monkeypatch.setattr("privacy.randomness.os.getpid", lambda: -1)
    after_fork = child.bytes(8)
    monkeypatch.undo()
    assert parent.bytes(8) != after_fork


def test_nobody_can_seed_it() -> None:
    assert not inspect.signature(SecureRandom).parameters


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_it_refuses_to_be_copied(duplicate: "object") -> None:
    with pytest.raises(TypeError, match="must not be copied"):
        duplicate(SecureRandom())  # type: ignore[operator]


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_sure_coin_is_sure(p: float) -> None:
    assert np.all(SecureRandom().bernoulli(1000, p) == bool(p))


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.93])
def test_coins_fall_as_often_as_they_should(random: SecureRandom, p: float) -> None:
    coins = random.bernoulli(100_000, p)
    assert stats.binomtest(int(coins.sum()), coins.size, p).pvalue > SURE


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_a_coin_needs_a_probability(p: float) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        SecureRandom().bernoulli(10, p)


@pytest.mark.parametrize(("epsilon", "sensitivity"), [(0.5, 1), (1.0, 2), (0.1, 1), (3.0, 1)])
def test_discrete_laplace_noise_has_its_law(random: SecureRandom, epsilon: float, sensitivity: int) -> None:
    draws = np.array([random.discrete_laplace(epsilon, sensitivity=sensitivity) for _ in range(4000)])
    rate = epsilon / sensitivity
    edge = math.ceil(3 / rate)
    inside = np.arange(-edge, edge + 1)
    expected = np.tanh(rate / 2) * np.exp(-rate * np.abs(inside))
    tail = (1 - expected.sum()) / 2
    counts = [np.sum(draws < -edge), *(np.sum(draws == k) for k in inside), np.sum(draws > edge)]
    assert stats.chisquare(counts, 4000 * np.array([tail, *expected, tail])).pvalue > SURE


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
def test_discrete_laplace_needs_a_positive_epsilon(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon="):
        SecureRandom().discrete_laplace(epsilon)


def test_discrete_laplace_needs_a_whole_sensitivity() -> None:
    with pytest.raises(ValueError, match="sensitivity=0"):
        SecureRandom().discrete_laplace(1.0, sensitivity=0)
