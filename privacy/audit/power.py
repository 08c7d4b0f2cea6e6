"""Could the audit have noticed? Its positive control: the same training with half the noise it claims."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from privacy.audit.bounds import gaussian_bound, guess, refutes
from privacy.audit.layer import CANARIES
from privacy.mechanism import DpPlan

TRIALS = 20
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)  # of the canaries, to be guessed


def share_caught(
    plan: DpPlan,
    epsilon: float,
    delta: float,
    *,
    significance: float,
    rng: np.random.Generator,
    canaries: int = CANARIES,
    guessed: int | None = None,
    noise: float = 0.5,
    trials: int = TRIALS,
) -> float:
    """Return the share of simulated audits of `plan`, run with `noise` times its σ, that refute `epsilon`."""
    r = guesses_for(plan, delta, canaries=canaries) if guessed is None else guessed
    broken = dataclasses.replace(plan, noise_multiplier=noise * plan.noise_multiplier)
    caught = [
        refutes(
            guess(*simulated_scores(broken, canaries, rng), guessed=r),
            epsilon,
            delta,
            significance=significance,
        )
        for _ in range(trials)
    ]
    return float(np.mean(caught))


def guesses_for(plan: DpPlan, delta: float, *, canaries: int = CANARIES) -> int:
    """Return how many of the canaries to guess: what proves most in one simulated audit of `plan` with half its noise.

    Depends on public numbers alone, so it is fixed before any coin is looked at.
    """
    halved = dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 2)
    scores, coins = simulated_scores(halved, canaries, np.random.default_rng(0))
    choices = sorted({max(1, round(canaries * share)) for share in SHARES})
    proved = [gaussian_bound(guess(scores, coins, guessed=r), delta, significance=0.005) for r in choices]
    return choices[int(np.argmax(proved))]


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
