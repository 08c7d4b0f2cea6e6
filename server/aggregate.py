"""Aggregation: from the changes of the sites to one step of the coordinator, and which sites stand apart.

Every site counts the same, whatever it says of itself. The robust rules bear `tolerated` sites that send anything at
all; a rule that would not be robust with as few sites as are there is refused, not weakened. All arithmetic is in
float64 and in the order of the sites' names, so that equal changes give equal bits. Under DP these rules see only what
the sites have already noised, hence cost nothing.

- `fedavg`: the mean (McMahan et al. 2017, arXiv:1602.05629).
- `median`, `trimmed_mean`: of each number on its own (Yin et al. 2018, arXiv:1803.01498).
- `krum`: the one change that has the nearest neighbours (Blanchard et al. 2017, arXiv:1703.02757); `multi_krum`: the
  mean of all but the `tolerated` that have the farthest.
- `fedadam`, `fedyogi`: the mean, scaled number by number by its past (Reddi et al. 2021, arXiv:2003.00295).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from conf.aggregation import ADAPTIVE, Aggregation, fewest_sites
from learning.messages import Trained
from server.failure import CampaignFailed
from server.rounds import Weights, fits, mean

Arrays = dict[str, NDArray[np.float32]]
BETA_1, BETA_2 = 0.9, 0.99  # how much of the past momentum and scale keep
TAU = 1e-3  # added to the scale: below it a change counts by its size, above it by its sign
APART = 3.0  # a site stands apart from this many times the usual distance on
_LARGEST = float(np.finfo(np.float32).max)


def moved(
    model: Weights, changes: Sequence[Weights], step: Aggregation, *, past: Weights, number: int
) -> tuple[Arrays, Arrays]:
    """Return the weights after the step, and the past that the next step needs (empty unless adaptive).

    Args:
        model: the weights that travelled.
        changes: of each site, in the order of names; names and shapes as of `model`, all finite.
        step: what to do with them.
        past: what the step before returned; empty before the first.
        number: of the exchange, from 1.

    Raises:
        CampaignFailed: if there are fewer changes than the strategy needs to bear `tolerated` hostile ones.
    """
    least = fewest_sites(step.strategy, step.tolerated)
    if len(changes) < least:
        raise CampaignFailed(
            f"{step.strategy} bears {step.tolerated} of at least {least} sites, {len(changes)} answered"
        )
    if step.strategy in ADAPTIVE:
        return _adaptive(model, mean(changes), step, past=past, number=number)
    change = COMBINE[step.strategy](changes, step.tolerated)
    with np.errstate(over="ignore"):  # whoever calls refuses what is not finite, and says so in words
        after = {n: np.asarray(model[n] + np.float32(step.learning_rate) * change[n], np.float32) for n in model}
    return after, {}


def median(changes: Sequence[Weights]) -> Arrays:
    """Return the median of each number over the sites."""
    return _each(changes, lambda stack: np.median(stack, axis=0))


def trimmed_mean(changes: Sequence[Weights], tolerated: int) -> Arrays:
    """Return the mean of each number over the sites but the `tolerated` largest and as many smallest."""
    return _each(changes, lambda stack: np.sort(stack, axis=0)[tolerated : len(stack) - tolerated].mean(axis=0))


def krum(changes: Sequence[Weights], tolerated: int) -> Arrays:
    """Return the change whose n − `tolerated` − 2 nearest others are nearest, in squared distance; ties: the first."""
    best = int(np.argmin(_remoteness(changes, tolerated)))
    return {n: np.asarray(a, np.float32) for n, a in changes[best].items()}


def multi_krum(changes: Sequence[Weights], tolerated: int) -> Arrays:
    """Return the mean of the n − `tolerated` changes that `krum` likes best; among equals the first of them."""
    order = np.argsort(_remoteness(changes, tolerated), kind="stable")
    return mean([changes[i] for i in sorted(order[: len(changes) - tolerated])])


COMBINE: Mapping[str, Callable[[Sequence[Weights], int], Arrays]] = {
    "fedavg": lambda changes, tolerated: mean(changes),
    "median": lambda changes, tolerated: median(changes),
    "trimmed_mean": trimmed_mean,
    "krum": krum,
    "multi_krum": multi_krum,
}


def apart(changes: Mapping[str, Weights]) -> list[str]:
    """Return the sites whose change lies more than `APART` times as far from the median as that of the usual site.

    The usual distance is the median of the distances; with fewer than three sites nobody can be told apart. This only
    names: an honest site with other patients may stand apart too, so the strategy alone decides what counts.
    """
    if len(changes) < 3:
        return []
    flat = _flat(list(changes.values()))
    middle = np.median(flat, axis=0)
    distances = np.linalg.norm(flat - middle, axis=1)
    usual = max(float(np.median(distances)), 1e-6 * float(np.linalg.norm(middle)))  # rounding sets nobody apart
    return [site for site, distance in zip(changes, distances, strict=True) if distance > APART * usual]


def bearable(model: Weights) -> Callable[[Trained], None]:
    """Return the check of a training reply: names and shapes of `model`, finite, and a step that float32 can hold."""
    shaped = fits(model)

    def check(reply: Trained) -> None:
        shaped(reply)
        for name, change in reply.arrays.items():
            if not np.isfinite(change).all():
                raise ValueError(f"array {name!r} holds a value that is not finite")
            if np.any(np.abs(model[name].astype(np.float64) + change) > _LARGEST):
                raise ValueError(f"array {name!r} changes so far that the weights would not be finite")

    return check


def _adaptive(
    model: Weights, change: Weights, step: Aggregation, *, past: Weights, number: int
) -> tuple[Arrays, Arrays]:
    """Step as FedAdam or FedYogi do in Flower: FedAdam corrects for the past that early exchanges lack."""
    after: Arrays = {}
    kept: Arrays = {}
    rate = step.adaptive_rate
    if step.strategy == "fedadam":
        rate *= np.sqrt(1 - BETA_2 ** (number + 1)) / (1 - BETA_1 ** (number + 1))
    for name, weights in model.items():
        g = change[name].astype(np.float64)
        before = [past.get(f"{part}/{name}", np.zeros_like(weights)).astype(np.float64) for part in ("mean", "scale")]
        gap = g**2 - before[1]
        # What is kept is what is used: a campaign that goes on from its checkpoint ends with the same bits.
        m = np.asarray(BETA_1 * before[0] + (1 - BETA_1) * g, np.float32)
        grown = gap if step.strategy == "fedadam" else g**2 * np.sign(gap)
        with np.errstate(over="ignore"):
            v = np.asarray(before[1] + (1 - BETA_2) * grown, np.float32)
        kept |= {f"mean/{name}": m, f"scale/{name}": v}
        after[name] = np.asarray(weights + rate * m / (np.sqrt(v.astype(np.float64)) + TAU), np.float32)
    return after, kept


def _each(changes: Sequence[Weights], combine: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Arrays:
    names = changes[0]
    return {n: np.asarray(combine(np.stack([c[n].astype(np.float64) for c in changes])), np.float32) for n in names}


def _remoteness(changes: Sequence[Weights], tolerated: int) -> NDArray[np.float64]:
    """Return how far the n − `tolerated` − 2 nearest others of each change are: the sum of squared distances."""
    flat = _flat(changes)
    squared = np.array([[np.sum((a - b) ** 2) for b in flat] for a in flat])
    np.fill_diagonal(squared, np.inf)
    total: NDArray[np.float64] = np.sort(squared, axis=1)[:, : len(flat) - tolerated - 2].sum(axis=1)
    return total


def _flat(changes: Sequence[Weights]) -> NDArray[np.float64]:
    return np.stack([np.concatenate([c[n].astype(np.float64).ravel() for n in changes[0]]) for c in changes])
