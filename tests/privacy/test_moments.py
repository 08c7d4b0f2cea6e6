"""Released moments: what one subject can do to them, how loud the noise is, and what they say."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy import moments
from privacy.mechanism import DpPlan, calibrate, epsilon
from privacy.randomness import SecureRandom

RADIUS, K = 3.0, 4
ALONE = np.arange


def plan(noise_multiplier=0.0, *, radius=RADIUS, sampling_rate=1.0, steps=1):
    return DpPlan(purpose="shapes", sampling_rate=sampling_rate, noise_multiplier=noise_multiplier,
                  clip_norm=moments.clip_norm(radius), steps=steps, draws=1)  # fmt: skip


def released(vectors, subject=None, *, of=None):
    vectors = np.asarray(vectors, np.float64)
    subject = ALONE(len(vectors)) if subject is None else np.asarray(subject)
    return moments.release(vectors, subject, of or plan(), random=SecureRandom())


def coordinates(found):
    """The released sum as one vector, in the units of the clip."""
    one, other = np.triu_indices(len(found.total))
    scale = np.where(one == other, 1, math.sqrt(2)) / found.radius
    return np.concatenate([[found.count * found.radius / 2], found.total, found.second[one, other] * scale])


def far_out(rng):
    """People nobody has seen the like of, with several studies each, and one who is not even finite."""
    vectors = rng.standard_normal((12, K)) * 10.0 ** rng.integers(-3, 6, (12, 1))
    vectors[3] = 1e200
    return vectors, np.array([0, 1, 1, 2, 3, 3, 3, 3, 4, 4, 5, 5])


def check_one_subject_moves_the_sum_by_at_most_the_clip() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        vectors, subject = far_out(rng)
        whole = coordinates(released(vectors, subject))
        for gone in np.unique(subject):
            kept = subject != gone
            moved = np.linalg.norm(whole - coordinates(released(vectors[kept], subject[kept])))
            assert moved <= plan().clip_norm * (1 + 1e-9)


def check_the_noise_is_sigma_times_the_clip_on_every_coordinate() -> None:
    with_noise = plan(2.0)
    found = np.stack([coordinates(released(np.zeros((0, K)), of=with_noise)) for _ in range(400)])
    drawn = found / (2.0 * with_noise.clip_norm)
    assert drawn.std() == pytest.approx(1, abs=0.06)
    assert drawn.std(axis=0) == pytest.approx(np.ones(drawn.shape[1]), abs=0.2)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(drawn.shape[1])).max() < 0.3
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-6


def test_one_subject_moves_the_sum_by_at_most_the_clip():
    check_one_subject_moves_the_sum_by_at_most_the_clip()


def test_the_noise_is_sigma_times_the_clip_on_every_coordinate():
    check_the_noise_is_sigma_times_the_clip_on_every_coordinate()


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=2), min_size=1, max_size=4)
)
def test_nothing_that_a_subject_may_hold_escapes_the_clip(studies):
    found = released(studies, np.zeros(len(studies), np.int64), of=plan())
    assert np.linalg.norm(coordinates(found)) <= plan().clip_norm * (1 + 1e-9)


def _no_clip(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(moments, "clip", lambda rows, _: rows)


def _twice_the_clip(patch: pytest.MonkeyPatch) -> None:
    original = moments.clip
    patch.setattr(moments, "clip", lambda rows, norm: original(rows, 2 * norm))


def _clip_per_study(patch: pytest.MonkeyPatch) -> None:
    original = moments._clipped_sum
    patch.setattr(moments, "_clipped_sum", lambda rows, subject, norm: original(rows, ALONE(len(subject)), norm))


def _clip_mean_and_second_moment_apart(patch: pytest.MonkeyPatch) -> None:
    original = moments.clip
    patch.setattr(moments, "clip", lambda rows, norm: torch.cat([original(rows[:, :5], norm), original(rows[:, 5:], norm)], 1))  # fmt: skip  # noqa: E501


def _half_the_noise(patch: pytest.MonkeyPatch) -> None:
    original = SecureRandom.normal
    patch.setattr(SecureRandom, "normal", lambda self, shape, **how: original(self, shape, **how) / 2)


def _noise_on_the_mean_alone(patch: pytest.MonkeyPatch) -> None:
    original = SecureRandom.normal

    def some(self, shape, **how):
        noise = original(self, shape, **how)
        noise[1 + K :] = 0
        return noise

    patch.setattr(SecureRandom, "normal", some)


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (_no_clip, check_one_subject_moves_the_sum_by_at_most_the_clip),
        (_twice_the_clip, check_one_subject_moves_the_sum_by_at_most_the_clip),
        (_clip_per_study, check_one_subject_moves_the_sum_by_at_most_the_clip),
        (_clip_mean_and_second_moment_apart, check_one_subject_moves_the_sum_by_at_most_the_clip),
        (_half_the_noise, check_the_noise_is_sigma_times_the_clip_on_every_coordinate),
        (_noise_on_the_mean_alone, check_the_noise_is_sigma_times_the_clip_on_every_coordinate),
    ],
)
def test_a_mechanism_that_is_wrong_in_one_place_turns_its_check_red(
    mutant: Callable[[pytest.MonkeyPatch], None], check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        check()


def test_without_clip_or_noise_the_moments_are_those_of_the_vectors():
    vectors = np.random.default_rng(1).standard_normal((50, K))
    found = released(vectors, of=plan(radius=1e4))
    assert found.count == pytest.approx(50, rel=1e-3)
    np.testing.assert_allclose(found.total, vectors.sum(0), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(found.second, vectors.T @ vectors, rtol=1e-3, atol=1e-2)
    mean, covariance = moments.mean_and_covariance(found)
    np.testing.assert_allclose(mean, vectors.mean(0), atol=1e-3)
    np.testing.assert_allclose(covariance, np.cov(vectors.T, bias=True), atol=1e-2)


def test_the_studies_of_a_subject_are_averaged_before_the_clip():
    one, three = released([[1, 2, 0, 0]]), released([[1, 2, 0, 0]] * 3, [7, 7, 7])
    np.testing.assert_allclose(coordinates(one), coordinates(three), rtol=1e-6)


def test_who_lies_far_out_counts_less_but_in_the_same_direction():
    near, far = released([[0.6, 0.8, 0, 0]]), released([[60, 80, 0, 0]])
    assert near.count == pytest.approx(1, rel=1e-4)
    assert far.count < 0.01
    np.testing.assert_allclose(far.total / np.linalg.norm(far.total), [0.6, 0.8, 0, 0], atol=1e-6)


@pytest.mark.parametrize("radius", [1.0, 2.4, 20.0])
def test_a_cohort_like_the_public_one_comes_out_as_the_public_one(radius):
    vectors = np.random.default_rng(2).standard_normal((40_000, 3))
    mean, covariance = moments.mean_and_covariance(released(vectors, of=plan(radius=radius)))
    assert np.abs(mean).max() < 0.03
    assert np.abs(covariance - np.eye(3)).max() < 0.05


SHIFTED = np.random.default_rng(3).standard_normal((3000, K)) * [1.5, 1, 0.5, 1] + [1, 0, 0, -1]


def test_endless_noise_leaves_the_public_prior():
    """Noise alone passes three deviations 1 time in 741: 7 times or more in 500 happen 1 time in 147,000."""
    endless = [moments.mean_and_covariance(released(SHIFTED[:9], of=plan(1e6))) for _ in range(500)]
    moved = [mean for mean, covariance in endless if mean.any() or (covariance != np.eye(K)).any()]
    assert len(moved) < 7
    assert all(np.abs(mean).max() < 2 for mean in moved)


def test_a_large_shifted_cohort_keeps_its_own():
    fitted = released(SHIFTED, of=calibrate(plan(), epsilon=4, delta=1e-5))
    mean, covariance = moments.mean_and_covariance(fitted)
    np.testing.assert_allclose(mean, [1, 0, 0, -1], atol=0.2)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [1.5, 1, 0.5, 1], atol=0.25)


def test_nobody_at_all_is_the_public_prior():
    mean, covariance = moments.mean_and_covariance(released(np.zeros((0, K))))
    np.testing.assert_allclose(mean, 0)
    np.testing.assert_allclose(covariance, np.eye(K))


@given(st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_a_covariance_stays_one_whatever_the_noise(n):
    vectors = np.random.default_rng(n).standard_normal((n, K))
    _, covariance = moments.mean_and_covariance(released(vectors, of=plan(3.0)))
    assert np.linalg.eigvalsh(covariance).min() > 0
    np.testing.assert_allclose(covariance, covariance.T)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 4.0])
def test_the_charge_is_that_of_one_gaussian_mechanism(sigma):
    """Balle and Wang 2018 (arXiv:1805.06083), theorem 8, at sensitivity 1."""
    spent = epsilon([plan(sigma)], 1e-5)
    exact = stats.norm.cdf(0.5 / sigma - spent * sigma) - math.exp(spent) * stats.norm.cdf(-0.5 / sigma - spent * sigma)
    assert exact == pytest.approx(1e-5, rel=0.02)


def test_another_plan_is_refused():
    for wrong in (plan(1.0, sampling_rate=0.5), plan(1.0, steps=2)):
        with pytest.raises(ValueError, match="released once"):
            released([[1.0, 2.0]], of=wrong)
    with pytest.raises(ValueError, match="must be"):
        released([[1.0, 2.0]], [0, 1])
