"""The training loop of the coordinator: one exchange after the other, each ending in a checkpoint."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from conf.aggregation import Aggregation
from learning import arrays, durable
from learning.messages import Train, Trained
from learning.schema import canonical
from server.aggregate import apart, bearable, moved
from server.failure import CampaignChanged, CampaignFailed
from server.rounds import Weights, ask
from server.secure_sum import forget, secure_mean

CHECKPOINT = "round.json"
UNSEEN = ", the sum alone is seen here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state between two exchanges.

    Attributes:
        round: exchanges done.
        model: the weights that travel.
        kept: the weights that will be used: `model`, or its exponential mean.
        history: per exchange, who answered, who failed with which code, and who stood apart from the others.
        past: what an adaptive step needs of the steps before; empty for every other.
    """

    round: int
    model: Weights
    kept: Weights
    history: tuple[Mapping[str, Any], ...]
    past: Weights = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write into `folder` so that `read` finds this checkpoint or, until that is durable, the one before."""
        parts = {"model": self.model, "kept": self.kept, "past": self.past}
        named = {f"{part}/{n}": a for part, weights in parts.items() for n, a in weights.items()}
        path = folder / f"round-{self.round:04d}.safetensors"
        arrays.write(path, named)
        told = {"round": self.round, "digest": arrays.digest(named), "history": list(self.history)}
        durable.write(folder / CHECKPOINT, canonical(told).encode())
        for old in folder.glob("round-*.safetensors"):
            if old != path:
                old.unlink()

    @staticmethod
    def read(folder: Path) -> "Checkpoint | None":
        """Return the last checkpoint, `None` where there is none; raises `CampaignChanged` if its arrays were."""
        if not (folder / CHECKPOINT).exists():
            return None
        told = json.loads((folder / CHECKPOINT).read_text(encoding="utf-8"))
        path = folder / f"round-{told['round']:04d}.safetensors"
        named = arrays.read(path)
        if arrays.digest(named) != told["digest"]:
            raise CampaignChanged(f"{path} is not what {CHECKPOINT} says: it was changed after it was written")
        model, kept, past = (
            {n.removeprefix(f"{part}/"): a.astype(np.float32) for n, a in named.items() if n.startswith(f"{part}/")}
            for part in ("model", "kept", "past")
        )
        return Checkpoint(round=told["round"], model=model, kept=kept, history=tuple(told["history"]), past=past)


def federate(
    grid: Grid,
    sites: Mapping[str, int],
    start: Weights,
    request: Callable[[int, Weights], Train],
    *,
    rounds: int,
    quorum: int,
    seconds: float,
    step: Aggregation,
    folder: Path,
    progress: Callable[[float, str], None],
    watch: Callable[[int, Weights, Weights, Mapping[str, Weights]], str] = lambda number, before, after, changes: "",
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
        step: what the coordinator does with the changes of the sites, and whether it sees them one by one.
        folder: of the checkpoints.
        progress: told the exchanges done (a fraction while sites are being served) and a few words.
        watch: told each exchange, the weights before and after it and the changes of the sites, which are empty where
            their sum alone is seen; says a few words.

    Raises:
        QuorumLost: if too few sites answer; the checkpoint before stays.
        CampaignFailed: if the step would not be finite, or a secure sum cannot be opened.
    """
    now = Checkpoint.read(folder) or Checkpoint(round=0, model=start, kept=start, history=())
    while now.round < rounds:
        number, model = now.round + 1, now.model
        asked = request(number, model)
        heard = partial(_heard, progress, now.round)
        if step.secure:
            joined = secure_mean(grid, sites, asked, quorum=quorum, seconds=seconds, folder=folder, heard=heard)
            bearable(model)(Trained(arrays=joined.change))
            changes: dict[str, Weights] = {site: {} for site in joined.sites}
            each, failed = [joined.change], joined.failed
        else:
            answers = ask(
                grid,
                sites,
                lambda _, asked=asked: asked,  # type: ignore[misc]
                quorum=quorum,
                seconds=seconds,
                check=bearable(model),
                heard=heard,
                group=f"{asked.stage}-{number}",
            )
            changes = {site: reply.arrays for site, reply in answers.replies.items()}
            each, failed = list(changes.values()), answers.failed
        after, past = moved(model, each, step, past=now.past, number=number)
        _require_finite({**after, **past})
        kept = {n: _blend(now.kept[n], after[n], step.average) for n in after}
        told = {"round": number, "sites": list(changes), "failed": dict(failed)}
        if strangers := [] if step.secure else apart(changes):
            told["apart"] = strangers
        now = Checkpoint(round=number, model=after, kept=kept, history=(*now.history, told), past=past)
        now.write(folder)
        forget(folder)
        seen = watch(number, model, after, changes)
        words = seen if seen and len(changes) == len(sites) else f"{len(changes)} of {len(sites)} sites {seen}".strip()
        progress(number, words + UNSEEN * step.secure + _named(failed, strangers))
    return now


def _heard(progress: Callable[[float, str], None], done: int, served: int, all_sites: int) -> None:
    progress(done + served / (all_sites + 1), f"{served} of {all_sites} sites")


def _named(failed: Mapping[str, str], strangers: Sequence[str]) -> str:
    """Return which sites the exchange went without, and which stood apart, for whoever reads along."""
    words = [f"without {', '.join(failed)}"] * bool(failed) + [f"apart: {', '.join(strangers)}"] * bool(strangers)
    return "".join(f"; {word}" for word in words)


def _blend(before: NDArray[np.float32], after: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    if weight == 0:
        return after
    return np.asarray(np.float32(weight) * before + np.float32(1 - weight) * after, np.float32)


def _require_finite(weights: Weights) -> None:
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CampaignFailed(f"array {name!r} overflowed in the step of the coordinator; lower its learning rate")
