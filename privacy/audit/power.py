"""Could the audit have noticed? Its positive control: the same training with half the noise it claims."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from privacy.audit.bounds import guess, refutes, to_guess
from privacy.audit.layer import CANARIES
from privacy.mechanism import DpPlan

TRIALS = 20


def share_caught(
    plan: DpPlan,
    epsilon: float,
    delta: float,
    *,
    significance: float,
    rng: np.random.Generator,
    canaries: int = CANARIES,
    noise: float = 0.5,
    trials: int = TRIALS,
) -> float:
    """Return the share of simulated audits of `plan`, run with `noise` times its σ, that refute `epsilon`."""
    broken = dataclasses.replace(plan, noise_multiplier=noise * plan.noise_multiplier)
    caught = [
        refutes(
            guess(*simulated_scores(broken, canaries, rng), guessed=to_guess(canaries)),
            epsilon,
            delta,
            significance=significance,
        )
        for _ in range(trials)
    ]
    return float(np.mean(caught))


def simulated_scores(
    plan: DpPlan, canaries: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw the scores of `canaries` canaries in units of C, and their coins, both `(m,)`, by the law of `plan`.

    Bin(T, q) for a canary that is in, plus N(0, T·σ²).
    """
    coins = rng.random(canaries) < 0.5
    drawn = rng.binomial(plan.steps, plan.sampling_rate, canaries) * coins
    noise = plan.noise_multiplier * np.sqrt(plan.steps) * rng.standard_normal(canaries)
    return drawn + noise, coins
