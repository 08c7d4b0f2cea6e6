"""Canaries ride along at no cost: they touch no parameter, and their scores know nothing of anybody."""

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.audit_self import CanaryLearner, cohort, plan_of
from learning.learner import fit_private
from privacy.audit.layer import BLOCKS, AuditLayer
from privacy.audit.power import guesses_for, share_caught, simulated_scores
from privacy.mechanism import epsilon
from privacy.randomness import SecureRandom

PLAN = plan_of(0.5, 4.0, steps=20)


@pytest.fixture(autouse=True)
def fixed_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy.randomness.os.urandom", np.random.default_rng(3).bytes)


def train(n_subjects: int, audit: AuditLayer | None, *, steps: int = 20) -> torch.Tensor:
    learner = CanaryLearner(np.arange(n_subjects), 16)
    fit_private(
        learner, cohort(n_subjects), PLAN, steps=steps, public_subjects=8, learning_rate=1.0, random=SecureRandom(),
        audit=audit,
    )  # fmt: skip
    return torch.cat([p.detach().flatten() for p in learner.module.parameters()])


def test_scores_follow_the_law_that_the_plan_claims() -> None:
    audit = AuditLayer.throw(4000, SecureRandom())
    train(8, audit)
    scores = audit.scores("sum") * PLAN.sampling_rate * 8 / PLAN.clip_norm
    expected, _ = simulated_scores(PLAN, 4000, np.random.default_rng(0))
    assert stats.ks_2samp(scores, expected).pvalue > 1e-4
    out = scores[~audit.included] / (PLAN.noise_multiplier * np.sqrt(PLAN.steps))
    assert stats.kstest(out, "norm").pvalue > 1e-4
    assert stats.ttest_1samp(scores[audit.included], PLAN.steps * PLAN.sampling_rate).pvalue > 1e-4


def test_whoever_is_in_the_cohort_leaves_no_mark_on_the_canaries() -> None:
    scores = []
    for n in (2, 12):
        audit = AuditLayer.throw(4000, SecureRandom())
        train(n, audit)
        scores.append(audit.scores("sum")[~audit.included])
    assert stats.ks_2samp(*scores).pvalue > 1e-4


def test_no_canary_moves_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecureRandom, "normal", lambda self, shape, *, dtype=np.float32: np.zeros(shape, dtype))
    monkeypatch.setattr(SecureRandom, "bernoulli", lambda self, n, p: np.ones(n, bool))
    assert torch.equal(train(8, AuditLayer.throw(50, SecureRandom())), train(8, None))


def test_a_canary_is_clipped_jointly_to_c() -> None:
    audit = AuditLayer(included=np.ones(5, bool), total=np.zeros(5), squares=np.zeros(5))
    rows = audit.clipped_sum(np.array([1, 3]), 0.5).reshape(BLOCKS, 5)
    assert torch.linalg.vector_norm(rows, dim=0).numpy() == pytest.approx([0, 0.5, 0, 0.5, 0], rel=1e-5)


def test_coins_and_scores_survive_the_end_of_a_process() -> None:
    audit = AuditLayer.throw(100, SecureRandom())
    train(4, audit, steps=3)
    again = AuditLayer.from_bytes(audit.to_bytes())
    assert again.steps == audit.steps == 3
    assert again.guessed == audit.guessed
    for name in ("included", "total", "squares"):
        assert np.array_equal(getattr(again, name), getattr(audit, name))
    assert again.guesses() == audit.guesses()


def test_the_control_is_certain_where_nothing_is_noised_and_silent_where_all_is_well() -> None:
    plan = plan_of(1.0, 4.0)
    claimed, rng = epsilon([plan], 1e-5), np.random.default_rng(0)
    at = {"significance": 0.05, "rng": rng, "trials": 5}
    assert share_caught(plan, claimed, 1e-5, noise=0.1, **at) == 1
    assert share_caught(plan, claimed, 1e-5, noise=0.5, **at) == 1
    assert share_caught(plan, claimed, 1e-5, noise=1.0, **at) == 0


def test_how_many_are_guessed_depends_on_the_plan_alone() -> None:
    small, large = plan_of(1.0, 0.8), plan_of(1.0, 8.0)
    assert guesses_for(small, 1e-5) < guesses_for(large, 1e-5)
    assert guesses_for(small, 1e-5) == guesses_for(small, 1e-5)
    with pytest.raises(ValueError, match="guessed=11"):
        AuditLayer.throw(10, SecureRandom(), guessed=11)


def test_a_statistic_nobody_registered_is_refused() -> None:
    with pytest.raises(ValueError, match="statistic='median'"):
        AuditLayer.throw(10, SecureRandom()).scores("median")
    with pytest.raises(ValueError, match="canaries=0"):
        AuditLayer.throw(0, SecureRandom())
