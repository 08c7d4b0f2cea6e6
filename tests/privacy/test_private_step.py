"""Laws that an honest private step keeps, and every known way of cheating breaks.

Each law takes an engine. It must pass on the honest one and raise `AssertionError` on each mutant it is paired with:
a law that no mutant breaks would guard nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from privacy.gradients import clip, noisy_mean
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

PLAN = DpPlan(purpose="test", sampling_rate=0.2, noise_multiplier=1.5, clip_norm=0.7, steps=1, draws=4)
SURE = 1e-6  # smallest p-value an honest engine may show; entropy is fixed, so no test fails by chance


@pytest.fixture(autouse=True)
def fixed_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy.randomness.os.urandom", np.random.default_rng(7).bytes)


@dataclass(frozen=True)
class Engine:
    """What runs in a private step, piece by piece, so that one piece can be replaced by a wrong one.

    Attributes:
        draw: subjects of a step as indices, a subject once for each of its clips that takes part.
        contribution: clipped rows, `(contributions, d)`, from per-draw gradients `(subjects, draws, d)`.
        publish: the noisy update from the sum of contributions and their number.
    """

    draw: Callable[[DpPlan, int, SecureRandom], NDArray[np.int64]]
    contribution: Callable[[DpPlan, Tensor], Tensor]
    publish: Callable[[DpPlan, Tensor, int, SecureRandom], Tensor]


PUBLIC_SUBJECTS = 40

HONEST = Engine(
    draw=lambda plan, n, random: plan.draw(n, random),
    contribution=lambda plan, gradients: clip(gradients.mean(1), plan.clip_norm),
    publish=lambda plan, total, _, random: noisy_mean(total, plan, public_subjects=PUBLIC_SUBJECTS, random=random),
)


def law_of_sensitivity(engine: Engine, gradients: NDArray[np.float32]) -> None:
    """Adding or removing any one subject moves the sum before noise by at most C, whatever its gradients are."""
    everybody = engine.contribution(PLAN, torch.from_numpy(gradients)).double().sum(0)
    for i in range(len(gradients)):
        others = torch.from_numpy(np.delete(gradients, i, axis=0))
        moved = torch.linalg.vector_norm(everybody - engine.contribution(PLAN, others).double().sum(0))
        assert moved <= PLAN.clip_norm * (1 + 1e-6), f"subject {i} moves the sum by {moved:.6g}, C is {PLAN.clip_norm}"


def law_of_noise(engine: Engine) -> None:
    """The noise of a step is normal with variance σ²C², over the declared q·N, also when nobody was drawn."""
    total = torch.linspace(-3, 3, 4000, dtype=torch.float64)
    for drawn in (0, 7):
        update = engine.publish(PLAN, total, drawn, SecureRandom())
        noise = (update * PLAN.sampling_rate * PUBLIC_SUBJECTS - total) / (PLAN.noise_multiplier * PLAN.clip_norm)
        energy = float(noise.square().sum())
        low, high = stats.chi2.interval(1 - SURE, noise.numel())
        assert low < energy < high, f"variance of the noise is {energy / noise.numel():.3g} of what it should be"
        assert stats.kstest(noise.numpy(), "norm").pvalue > SURE


def law_of_fresh_noise(engine: Engine) -> None:
    """The noise of one step says nothing about that of the next, nor of another site."""
    total, mine, theirs = torch.zeros(4000), SecureRandom(), SecureRandom()
    steps = [engine.publish(PLAN, total, 5, random).double() for random in (mine, mine, theirs)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        correlation = float(torch.corrcoef(torch.stack([steps[i], steps[j]]))[0, 1])
        assert abs(correlation) * total.numel() ** 0.5 < 5, f"noise {i} and {j} correlate by {correlation:.3g}"


def law_of_sampling(engine: Engine) -> None:
    """Each subject enters each step with probability q, alone: counts are Binomial(T, q), over subjects and over steps.

    The subjects have 1 to 5 clips; how many must not matter.
    """
    n, steps, random = 30, 2000, SecureRandom()
    taken = np.zeros((steps, n))
    for row in taken:
        np.add.at(row, engine.draw(PLAN, n, random), 1)
    assert taken.max() <= 1, "a subject takes part twice in one step"
    for margin, trials in ((taken.sum(0), steps), (taken.sum(1), n)):
        spread = float(((margin - trials * PLAN.sampling_rate) ** 2).sum())
        scale = trials * PLAN.sampling_rate * (1 - PLAN.sampling_rate)
        low, high = stats.chi2.interval(1 - SURE, margin.size)
        assert low < spread / scale < high, (
            f"counts spread {spread / scale / margin.size:.3g} times as wide as they should"
        )
    together = float((taken[:, 0] * taken[:, 1]).sum())
    assert stats.binomtest(int(together), steps, PLAN.sampling_rate**2).pvalue > SURE


def ordinary_gradients(scale: float = 3.0, draws: int = 4) -> NDArray[np.float32]:
    dice = np.random.default_rng(3)
    return (scale * dice.standard_normal((5, draws, 30))).astype(np.float32)


def broken_gradients(value: float) -> NDArray[np.float32]:
    gradients = ordinary_gradients()
    gradients[2, 1, 7] = value
    return gradients


HOSTILE = {
    "ordinary": ordinary_gradients(),
    "tiny": ordinary_gradients(1e-30),
    "huge": ordinary_gradients(1e37),
    "nan": broken_gradients(np.nan),
    "infinite": broken_gradients(np.inf),
    "minus infinite": broken_gradients(-np.inf),
    "largest float": broken_gradients(np.finfo(np.float32).max),
}


@pytest.mark.parametrize("gradients", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_honest_engine_bounds_every_subject(gradients: NDArray[np.float32]) -> None:
    law_of_sensitivity(HONEST, gradients)


@settings(deadline=None)
@given(
    gradients=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 8), st.integers(1, 20)),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    )
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_no_gradient_whatever_escapes_the_clip(gradients: NDArray[np.float32]) -> None:
    law_of_sensitivity(HONEST, gradients)


def test_the_honest_engine_adds_the_noise_it_claims() -> None:
    law_of_noise(HONEST)


def test_the_honest_engine_never_repeats_its_noise() -> None:
    law_of_fresh_noise(HONEST)


def test_the_honest_engine_samples_subjects() -> None:
    law_of_sampling(HONEST)


# ---- mutants: each must turn the law beside it red


def unclipped(_: DpPlan, gradients: Tensor) -> Tensor:
    return gradients.mean(1).nan_to_num(0.0, 0.0, 0.0)


def clipped_per_layer(plan: DpPlan, gradients: Tensor) -> Tensor:
    return torch.cat([clip(layer, plan.clip_norm) for layer in gradients.mean(1).split(10, dim=1)], 1)


def clipped_per_draw(plan: DpPlan, gradients: Tensor) -> Tensor:
    return clip(gradients.flatten(0, 1), plan.clip_norm)


def clipped_without_looking(plan: DpPlan, gradients: Tensor) -> Tensor:
    mean = gradients.mean(1)
    return mean * (plan.clip_norm / torch.linalg.vector_norm(mean, dim=1, keepdim=True)).clamp(max=1.0)


def clipped_after_the_sum(plan: DpPlan, gradients: Tensor) -> Tensor:
    return gradients.mean(1) * min(1.0, plan.clip_norm / float(gradients.mean(1).norm())) * len(gradients)


def less_noise(factor: float) -> Callable[[DpPlan, Tensor, int, SecureRandom], Tensor]:
    def publish(plan: DpPlan, total: Tensor, drawn: int, random: SecureRandom) -> Tensor:
        return HONEST.publish(replace(plan, noise_multiplier=factor * plan.noise_multiplier), total, drawn, random)

    return publish


def noise_of_unit_clip(plan: DpPlan, total: Tensor, drawn: int, random: SecureRandom) -> Tensor:
    return HONEST.publish(replace(plan, clip_norm=1.0), total, drawn, random)


def noise_only_for_somebody(plan: DpPlan, total: Tensor, drawn: int, random: SecureRandom) -> Tensor:
    return (HONEST if drawn else replace(HONEST, publish=less_noise(0.0))).publish(plan, total, drawn, random)


def mean_of_the_realised_batch(plan: DpPlan, total: Tensor, drawn: int, random: SecureRandom) -> Tensor:
    return HONEST.publish(plan, total, drawn, random) * (plan.sampling_rate * PUBLIC_SUBJECTS / max(drawn, 1))


def reused_noise() -> Callable[[DpPlan, Tensor, int, SecureRandom], Tensor]:
    kept: list[Tensor] = []

    def publish(plan: DpPlan, total: Tensor, drawn: int, random: SecureRandom) -> Tensor:
        if not kept:
            kept.append(HONEST.publish(plan, torch.zeros_like(total), drawn, random))
        return total / (plan.sampling_rate * PUBLIC_SUBJECTS) + kept[0]

    return publish


def noise_from_a_seed(plan: DpPlan, total: Tensor, _: int, __: SecureRandom) -> Tensor:
    noise = np.random.default_rng(0).normal(0.0, plan.noise_multiplier * plan.clip_norm, total.shape)
    return (total + torch.from_numpy(noise)) / (plan.sampling_rate * PUBLIC_SUBJECTS)


def fixed_batch(plan: DpPlan, n: int, random: SecureRandom) -> NDArray[np.int64]:
    size = round(plan.sampling_rate * n)
    return np.argsort(random.normal(n))[:size].astype(np.int64)


def shuffled_epochs() -> Callable[[DpPlan, int, SecureRandom], NDArray[np.int64]]:
    waiting: list[int] = []

    def draw(plan: DpPlan, n: int, random: SecureRandom) -> NDArray[np.int64]:
        if not waiting:
            waiting.extend(np.argsort(random.normal(n)).tolist())
        return np.array([waiting.pop() for _ in range(round(plan.sampling_rate * n))], np.int64)

    return draw


def clips_of_a_subject(plan: DpPlan, n: int, random: SecureRandom) -> NDArray[np.int64]:
    owner = np.repeat(np.arange(n), 1 + np.arange(n) % 5)
    return owner[plan.draw(len(owner), random)]


def subjects_of_drawn_clips(plan: DpPlan, n: int, random: SecureRandom) -> NDArray[np.int64]:
    return np.unique(clips_of_a_subject(plan, n, random))


def twice_as_often(plan: DpPlan, n: int, random: SecureRandom) -> NDArray[np.int64]:
    return replace(plan, sampling_rate=2 * plan.sampling_rate).draw(n, random)


Law = Callable[[Engine], None]


def sensitivity_to(kind: str) -> Law:
    return lambda engine: law_of_sensitivity(engine, HOSTILE[kind])


MUTANTS: dict[str, tuple[Law, Engine]] = {
    "no clip": (sensitivity_to("ordinary"), replace(HONEST, contribution=unclipped)),
    "clip per layer claimed as joint": (sensitivity_to("ordinary"), replace(HONEST, contribution=clipped_per_layer)),
    "clip per draw": (sensitivity_to("ordinary"), replace(HONEST, contribution=clipped_per_draw)),
    "clip after the sum": (sensitivity_to("ordinary"), replace(HONEST, contribution=clipped_after_the_sum)),
    "NaN let through": (sensitivity_to("nan"), replace(HONEST, contribution=clipped_without_looking)),
    "infinity let through": (sensitivity_to("infinite"), replace(HONEST, contribution=clipped_without_looking)),
    "no noise": (law_of_noise, replace(HONEST, publish=less_noise(0.0))),
    "half the noise": (law_of_noise, replace(HONEST, publish=less_noise(0.5))),
    "nine tenths of the noise": (law_of_noise, replace(HONEST, publish=less_noise(0.9))),
    "noise of another clip": (law_of_noise, replace(HONEST, publish=noise_of_unit_clip)),
    "no noise for an empty batch": (law_of_noise, replace(HONEST, publish=noise_only_for_somebody)),
    "mean over the realised batch": (law_of_noise, replace(HONEST, publish=mean_of_the_realised_batch)),
    "reused noise": (law_of_fresh_noise, replace(HONEST, publish=reused_noise())),
    "noise from a seed": (law_of_fresh_noise, replace(HONEST, publish=noise_from_a_seed)),
    "batch of fixed size": (law_of_sampling, replace(HONEST, draw=fixed_batch)),
    "shuffled epochs": (law_of_sampling, replace(HONEST, draw=shuffled_epochs())),
    "clips drawn one by one": (law_of_sampling, replace(HONEST, draw=clips_of_a_subject)),
    "subjects of drawn clips": (law_of_sampling, replace(HONEST, draw=subjects_of_drawn_clips)),
    "twice the sampling rate": (law_of_sampling, replace(HONEST, draw=twice_as_often)),
}


@pytest.mark.parametrize(("law", "mutant"), MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_is_caught(law: Law, mutant: Engine) -> None:
    law(HONEST)
    with pytest.raises(AssertionError):
        law(mutant)
