"""What a plan costs, against published numbers, closed forms and other accountants."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.mechanism import DpPlan, LaplacePlan, Plan, calibrate, epsilon, plan_from_json
from privacy.randomness import SecureRandom


def plan(q: float, sigma: float, steps: int, purpose: str = "generator") -> DpPlan:
    return DpPlan(purpose=purpose, sampling_rate=q, noise_multiplier=sigma, clip_norm=1.0, steps=steps, draws=4)


# q, σ, T, δ: PLD, RDP, a subject at two sites (two independent libraries agreed when the table was made).
VECTORS = [
    (0.05, 1.5, 2000, 1e-5, 8.231, 8.899, 12.469),
    (0.1, 4.0, 2000, 1e-5, 5.117, 5.530, 7.693),
    (0.05, 1.0, 1000, 1e-5, 10.987, 11.980, 16.489),
    (0.0512, 2.0, 3000, 1e-6, 7.904, 8.446, 11.874),
]


@pytest.mark.parametrize(("q", "sigma", "steps", "delta", "pld", "rdp", "two_sites"), VECTORS)
def test_known_costs_come_out(
    q: float, sigma: float, steps: int, delta: float, pld: float, rdp: float, two_sites: float
) -> None:
    one = plan(q, sigma, steps)
    assert epsilon([one], delta) == pytest.approx(pld, abs=0.005)
    assert epsilon([one], delta, accountant="rdp") == pytest.approx(rdp, abs=0.05)
    assert epsilon([one, one], delta) == pytest.approx(two_sites, abs=0.005)


@pytest.mark.parametrize(
    ("subjects", "batch", "steps", "sigma", "pld", "rdp"),
    [
        (1000, 128, 391, 1.0, 19.13, 20.87),
        (2000, 256, 782, 1.5, 14.63, 15.93),
        (10000, 512, 1954, 1.0, 16.73, 18.18),
        (500, 250, 80, 2.0, 12.48, 13.60),
        (500, 500, 20, 4.0, 4.98, 5.38),
    ],
)
def test_the_cost_of_epochs_comes_out(
    subjects: int, batch: int, steps: int, sigma: float, pld: float, rdp: float
) -> None:
    one = plan(batch / subjects, sigma, steps)
    assert epsilon([one], 1e-5) == pytest.approx(pld, abs=0.02)
    assert epsilon([one], 1e-5, accountant="rdp") == pytest.approx(rdp, abs=0.03)


def test_a_subject_of_more_sites_costs_more() -> None:
    one = plan(0.1, 4.0, 2000)
    costs = [epsilon([one] * sites, 1e-5) for sites in (1, 2, 3, 5)]
    assert costs == pytest.approx([5.12, 7.69, 9.83, 13.5], abs=0.01)


@pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha")  # PRV sizes its domain by a rough RDP
@pytest.mark.parametrize(("q", "sigma", "steps", "delta"), [VECTORS[1][:4]])
def test_a_third_accountant_agrees(q: float, sigma: float, steps: int, delta: float) -> None:
    """PRV of Opacus (Gopi, Lee and Wutschitz 2021, arXiv:2106.02848) shares no code with ours."""
    from opacus.accountants import PRVAccountant

    account = PRVAccountant()
    account.history = [(sigma, q, steps)]
    assert epsilon([plan(q, sigma, steps)], delta) == pytest.approx(account.get_epsilon(delta), abs=0.02)


@pytest.mark.parametrize(("sigma", "steps"), [(4.0, 20), (1.0, 1), (30.0, 1000)])
def test_the_full_batch_has_a_closed_form(sigma: float, steps: int) -> None:
    """δ(ε) of the Gaussian mechanism, Balle and Wang 2018 (arXiv:1805.06530), theorem 8."""
    cost, mu = epsilon([plan(1.0, sigma, steps)], 1e-5), math.sqrt(steps) / sigma
    delta = stats.norm.cdf(mu / 2 - cost / mu) - math.exp(cost) * stats.norm.cdf(-mu / 2 - cost / mu)
    assert delta == pytest.approx(1e-5, rel=0.01)


@pytest.mark.parametrize(("q", "sigma"), [(0.1, 1.0), (0.5, 0.7), (0.01, 2.0)])
def test_one_subsampled_step_has_a_closed_form(q: float, sigma: float) -> None:
    """δ(ε) of removing a subject from q·N(1, σ²) + (1-q)·N(0, σ²), the worse direction of the two."""
    cost = epsilon([plan(q, sigma, 1)], 1e-5)
    edge = sigma**2 * math.log((math.exp(cost) - 1 + q) / q) + 0.5
    outside = 1 - q - math.exp(cost)
    delta = outside * stats.norm.sf(edge, scale=sigma) + q * stats.norm.sf(edge, loc=1.0, scale=sigma)
    assert delta == pytest.approx(1e-5, rel=0.02)


@pytest.mark.parametrize("times", [1, 5, 40])
def test_noisy_counts_compose_like_randomised_response(times: int) -> None:
    """The worst ε-private releases have the losses ±ε: δ is a binomial sum (Kairouz et al. 2015, arXiv:1311.0776)."""
    each = 0.25
    cost = epsilon([LaplacePlan(purpose="count", epsilon=each)] * times, 1e-5)
    heads = np.arange(times + 1)
    mass = stats.binom.pmf(heads, times, 1 / (1 + math.exp(-each)))
    loss = (2 * heads - times) * each
    delta = float(np.sum(mass * np.clip(1 - np.exp(cost - loss), 0, None)))
    assert delta <= 1e-5 * (1 + 1e-6)
    assert cost <= times * each
    assert delta == pytest.approx(1e-5, rel=0.05)


def test_counts_cost_more_than_continuous_noise_would() -> None:
    """Charging discrete noise by the law of continuous noise would understate it."""
    from dp_accounting.pld import privacy_loss_distribution

    continuous = privacy_loss_distribution.from_laplace_mechanism(4.0).self_compose(20).get_epsilon_for_delta(1e-5)
    assert epsilon([LaplacePlan(purpose="count", epsilon=0.25)] * 20, 1e-5) > continuous + 0.1


plans = st.builds(
    plan, st.floats(0.01, 1.0), st.floats(0.8, 20.0), st.integers(1, 100), st.sampled_from(["views", "generator"])
)
counts = st.builds(LaplacePlan, purpose=st.just("count"), epsilon=st.floats(0.01, 1.0))


@settings(max_examples=4, deadline=None)
@given(one=plans, other=plans, count=counts)
def test_joint_cost_lies_between_the_largest_part_and_the_sum(one: DpPlan, other: DpPlan, count: LaplacePlan) -> None:
    parts: list[Plan] = [one, other, count]
    alone = [epsilon([p], 1e-5) for p in parts]
    joint = epsilon(parts, 1e-5)
    assert joint == epsilon(parts[::-1], 1e-5)
    assert max(alone) - 1e-3 <= joint <= sum(alone) + 1e-3


@settings(max_examples=4, deadline=None)
@given(one=plans)
def test_less_noise_more_steps_and_more_sampling_all_cost_more(one: DpPlan) -> None:
    cost = epsilon([one], 1e-5)
    assert epsilon([dataclasses.replace(one, noise_multiplier=one.noise_multiplier * 0.8)], 1e-5) > cost
    assert epsilon([dataclasses.replace(one, steps=one.steps * 2)], 1e-5) > cost
    assert epsilon([dataclasses.replace(one, sampling_rate=one.sampling_rate * 0.8)], 1e-5) <= cost
    assert epsilon([one], 1e-6) > cost


@settings(max_examples=4, deadline=None)
@given(one=plans, count=counts)
def test_the_cross_check_never_undercuts(one: DpPlan, count: LaplacePlan) -> None:
    assert epsilon([one, count], 1e-5, accountant="rdp") >= epsilon([one, count], 1e-5) * 0.999


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_no_noise_costs_everything(accountant: Any) -> None:
    assert epsilon([plan(0.1, 2.0, 10), plan(0.01, 0.0, 1)], 1e-5, accountant=accountant) == math.inf
    assert epsilon([plan(0.1, 0.001, 10_000)], 1e-5) == math.inf


def test_nothing_done_costs_nothing() -> None:
    assert epsilon([], 1e-5) == 0.0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_is_a_probability_between(delta: float) -> None:
    with pytest.raises(ValueError, match="delta="):
        epsilon([plan(0.1, 2.0, 10)], delta)


def test_an_unknown_accountant_is_refused() -> None:
    with pytest.raises(ValueError, match="accountant='moments'"):
        epsilon([plan(0.1, 2.0, 10)], 1e-5, accountant="moments")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subjects", "batch", "steps", "sigmas"),
    [(500, 64, 1000, (15.2, 5.7, 2.55)), (3000, 256, 1500, (12.4, 4.7, 2.1)), (10000, 512, 2000, (8.6, 3.3, 1.6))],
)
def test_the_noise_for_a_target_is_the_known_one(
    subjects: int, batch: int, steps: int, sigmas: tuple[float, ...]
) -> None:
    for target, sigma in zip((1.0, 3.0, 8.0), sigmas, strict=True):
        found = calibrate(plan(batch / subjects, 0.0, steps), epsilon=target, delta=1e-5)
        assert found.noise_multiplier == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize(("target", "q"), [(0.05, 0.1), (1.0, 0.5), (8.0, 0.1), (30.0, 1.0)])
def test_calibration_finds_the_smallest_noise_that_is_enough(target: float, q: float) -> None:
    beside: list[Plan] = [plan(0.2, 200.0, 30, "views"), LaplacePlan(purpose="gate", epsilon=0.01)]
    found = calibrate(plan(q, 0.0, 60), epsilon=target, delta=1e-5, beside=beside)
    less = dataclasses.replace(found, noise_multiplier=found.noise_multiplier - 0.001)
    assert epsilon([*beside, found], 1e-5) <= target < epsilon([*beside, less], 1e-5)
    assert dataclasses.replace(found, noise_multiplier=0.0) == plan(q, 0.0, 60)


def test_noise_never_falls_below_a_tenth() -> None:
    assert calibrate(plan(0.01, 0.0, 1), epsilon=1e4, delta=1e-5).noise_multiplier == 0.1


@pytest.mark.parametrize(
    ("beside", "target", "message"),
    [
        ([LaplacePlan(purpose="gate", epsilon=0.5)], 0.4, "leaves nothing for 'generator': 'gate' cost 0.5 "),
        ([plan(0.1, 0.0, 10, "views")], 8.0, "'views' cost inf"),
        ([], 1e-7, "needs a noise multiplier above 1000"),
        ([], 0.0, "epsilon=0.0 must be finite and positive"),
        ([], math.inf, "epsilon=inf must be finite and positive"),
    ],
)
def test_an_impossible_budget_is_refused(beside: list[Plan], target: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(plan(0.1, 0.0, 300), epsilon=target, delta=1e-5, beside=beside)


@given(one=plans | counts)
def test_a_plan_survives_json(one: Plan) -> None:
    import json

    assert plan_from_json(json.loads(json.dumps(one.to_json()))) == one


def _without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda document: {k: v for k, v in document.items() if k != key}


def _with(**more: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda document: {**document, **more}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("steps"), "should be"),
        (_without("unit"), "unit=None"),
        (_with(note="trust me"), "note"),
        (_with(kind="shuffled"), "kind='shuffled'"),
        (_with(unit="image"), "unit='image'"),
        (_with(relation="replace_one"), "relation='replace_one'"),
        (_with(steps=3.5), "steps=3.5"),
        (_with(steps=True), "steps=True"),
        (_with(clip_norm="1"), "clip_norm='1'"),
        (_with(noise_multiplier=math.nan), "noise_multiplier=nan"),
    ],
)
def test_a_foreign_plan_is_refused(change: Callable[[dict[str, Any]], dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_from_json(change(plan(0.1, 1.0, 10).to_json()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"purpose": ""},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.01},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.inf},
        {"clip_norm": 0.0},
        {"clip_norm": math.inf},
        {"steps": 0},
        {"draws": 0},
    ],
)
def test_a_plan_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(plan(0.1, 1.0, 10), **wrong)


def test_a_count_needs_a_positive_epsilon_and_a_purpose() -> None:
    with pytest.raises(ValueError, match=r"epsilon=0\.0"):
        LaplacePlan(purpose="gate", epsilon=0.0)
    with pytest.raises(ValueError, match="purpose"):
        LaplacePlan(purpose="", epsilon=1.0)


def test_a_draw_holds_each_subject_at_most_once() -> None:
    drawn = plan(0.5, 1.0, 1).draw(1000, SecureRandom())
    assert drawn.dtype == np.int64
    assert np.all(np.diff(drawn) > 0)
    assert len(plan(1.0, 1.0, 1).draw(50, SecureRandom())) == 50
    assert len(plan(0.5, 1.0, 1).draw(0, SecureRandom())) == 0
