"""The training loop of the coordinator: one exchange after the other, each ending in a checkpoint."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from learning import arrays, durable
from learning.messages import Train
from learning.schema import canonical
from server.rounds import Weights, ask, fits, mean

CHECKPOINT = "round.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStep:
    """How the coordinator moves: along the mean change of the sites (FedAvg, McMahan et al. 2017, arXiv 1602.05629).

    Attributes:
        learning_rate: length of the step in units of the mean change.
        average: weight in [0, 1) of the past in the exponential mean of weights that is kept; 0 keeps the last weights.
    """

    learning_rate: float = 1.0
    average: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate <= 10:
            raise ValueError(f"learning_rate={self.learning_rate} must lie in (0, 10]")
        if not 0 <= self.average < 1:
            raise ValueError(f"average={self.average} must lie in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state between two exchanges.

    Attributes:
        round: exchanges done.
        model: the weights that travel.
        kept: the weights that will be used: `model`, or its exponential mean.
        history: per exchange, who answered and who failed with which code.
    """

    round: int
    model: Weights
    kept: Weights
    history: tuple[Mapping[str, Any], ...]

    def write(self, folder: Path) -> None:
        """Write into `folder` so that `read` finds this checkpoint or, until that is durable, the one before."""
        named = {f"model/{n}": a for n, a in self.model.items()} | {f"kept/{n}": a for n, a in self.kept.items()}
        path = folder / f"round-{self.round:04d}.safetensors"
        arrays.write(path, named)
        told = {"round": self.round, "digest": arrays.digest(named), "history": list(self.history)}
        durable.write(folder / CHECKPOINT, canonical(told).encode())
        for old in folder.glob("round-*.safetensors"):
            if old != path:
                old.unlink()

    @staticmethod
    def read(folder: Path) -> "Checkpoint | None":
        """Return the last checkpoint, `None` where there is none; raises `ValueError` if its arrays were changed."""
        if not (folder / CHECKPOINT).exists():
            return None
        told = json.loads((folder / CHECKPOINT).read_text(encoding="utf-8"))
        path = folder / f"round-{told['round']:04d}.safetensors"
        named = arrays.read(path)
        if arrays.digest(named) != told["digest"]:
            raise ValueError(f"{path} is not what {CHECKPOINT} says: it was changed after it was written")
        model, kept = (
            {n.removeprefix(f"{part}/"): a.astype(np.float32) for n, a in named.items() if n.startswith(f"{part}/")}
            for part in ("model", "kept")
        )
        return Checkpoint(round=told["round"], model=model, kept=kept, history=tuple(told["history"]))


def federate(
    grid: Grid,
    sites: Mapping[str, int],
    start: Weights,
    request: Callable[[int, Weights], Train],
    *,
    rounds: int,
    quorum: int,
    seconds: float,
    step: ServerStep,
    folder: Path,
    progress: Callable[[float, str], None],
) -> Checkpoint:
    """Train in common for `rounds` exchanges, from the last checkpoint in `folder` or from `start`.

    Args:
        grid: of Flower.
        sites: name → node, sorted by name.
        start: the first weights.
        request: makes the message of an exchange from its number (from 1) and the weights.
        rounds: exchanges in all.
        quorum: fewest sites whose change makes a step.
        seconds: to wait for the replies of an exchange.
        step: what the coordinator does with the mean change.
        folder: of the checkpoints.
        progress: told the exchanges done (a fraction while sites are being served) and a few words.

    Raises:
        QuorumLost: if too few sites answer; the checkpoint before stays.
    """
    now = Checkpoint.read(folder) or Checkpoint(round=0, model=start, kept=start, history=())
    while now.round < rounds:
        number, model = now.round + 1, now.model
        asked = request(number, model)
        answers = ask(
            grid,
            sites,
            lambda _, asked=asked: asked,  # type: ignore[misc]
            quorum=quorum,
            seconds=seconds,
            check=fits(model),
            heard=lambda k, n, done=now.round: progress(done + k / (n + 1), f"{k} of {n} sites"),  # type: ignore[misc]
            group=f"{asked.stage}-{number}",
        )
        change = mean(reply.arrays for reply in answers.replies.values())
        moved = {n: np.asarray(model[n] + np.float32(step.learning_rate) * change[n], np.float32) for n in model}
        _require_finite(moved)
        kept = {n: _blend(now.kept[n], moved[n], step.average) for n in moved}
        told = {"round": number, "sites": list(answers.replies), "failed": dict(answers.failed)}
        now = Checkpoint(round=number, model=moved, kept=kept, history=(*now.history, told))
        now.write(folder)
        progress(number, f"{len(answers.replies)} of {len(sites)} sites")
    return now


def _blend(before: NDArray[np.float32], after: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    if weight == 0:
        return after
    return np.asarray(np.float32(weight) * before + np.float32(1 - weight) * after, np.float32)


def _require_finite(weights: Weights) -> None:
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ValueError(f"array {name!r} overflowed in the step of the coordinator; lower its learning rate")
