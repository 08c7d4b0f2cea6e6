"""How much wider the gap between groups is under one arm than under another."""

from collections.abc import Mapping
from typing import Any

import numpy as np

DRAWS = 4000

Cell = Mapping[str, Any]


def change(
    new: Mapping[str, Cell], old: Mapping[str, Cell], gained: Mapping[str, Cell], *, seed: int = 0
) -> tuple[float, tuple[float, float]] | None:
    """Return best minus worst group under `new` less that under `old`, and its 95 % interval; `None` of fewer than two.

    Best and worst are chosen anew in every draw of a parametric bootstrap, as they were from the estimates (Efron &
    Tibshirani 1993, §6.5). A group's two scores are of the same patients: the three intervals tell how they go
    together, Cov = (Var new + Var old - Var gained) / 2. Draws are centred on the estimate.

    Args:
        new: word → `value`, `low` and `high` (95 %) of one arm.
        old: of the other.
        gained: of the first minus the second, by patient.
        seed: of the draws.
    """
    words = sorted(new.keys() & old.keys() & gained.keys())
    if len(words) < 2:
        return None
    at = np.array([[float(arm[w]["value"]) for w in words] for arm in (new, old)])
    variance = [np.array([((c[w]["high"] - c[w]["low"]) / 3.92) ** 2 for w in words]) for c in (new, old, gained)]
    together = (variance[0] + variance[1] - variance[2]) / 2
    most = np.sqrt(variance[0] * variance[1])
    slope = np.divide(np.clip(together, -most, most), variance[1], out=np.zeros_like(most), where=variance[1] > 0)
    left = np.sqrt(np.maximum(variance[0] - slope**2 * variance[1], 0))
    rng = np.random.default_rng(seed)
    off = rng.normal(size=(2, DRAWS, len(words)))
    drawn_old = np.sqrt(variance[1]) * off[1]
    drawn = np.stack([at[0] + slope * drawn_old + left * off[0], at[1] + drawn_old])
    found = float(np.ptp(at[0]) - np.ptp(at[1]))
    draws = np.ptp(drawn[0], axis=1) - np.ptp(drawn[1], axis=1)
    low, high = np.quantile(draws - draws.mean(), (0.025, 0.975)) + found
    return found, (float(low), float(high))
