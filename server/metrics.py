"""What a training measures while it runs: one line of JSON per exchange, in `OUT/campaign/metrics.jsonl`.

No patient is read for it: there is what the sites sent (noised, where there is a plan), the clock, and how well the
weights do on simulated people, who are public. So it costs no privacy, and whoever runs the campaign may watch it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learning.schema import canonical
from server.rounds import Weights

if TYPE_CHECKING:
    from cohorts.clips import Clips
    from cohorts.frames import Frames
    from learning.learner import Learner

Spending = Callable[[int], float]
FILE = "metrics.jsonl"
PEOPLE = 16  # simulated, for the public loss
_AT_ONCE = 32


def append(folder: Path, row: Mapping[str, Any]) -> None:
    """Append one row."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(canonical(row) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the rows in the order of their exchanges; of an exchange that was computed again, the last.

    Raises:
        ValueError: if a line but the last is no row; names the file and the line.
    """
    path, found = folder / FILE, dict[tuple[str, int], dict[str, Any]]()
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            found[str(row["stage"]), int(row["exchange"])] = row
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # still being written
                break
            raise ValueError(f"{path}:{number} is no row of metrics") from error
    return list(found.values())


def numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield name and value of what is a number in a row, but for the number of the exchange."""
    for name, value in row.items():
        if name != "exchange" and isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)


class Watch:
    """Measures each exchange of one training, and writes it down."""

    def __init__(
        self, folder: Path, stage: str, learner: "Learner", people: "Frames | Clips | None", spent: Spending | None
    ) -> None:
        """Watch a stage.

        Args:
            folder: of the campaign.
            stage: its name.
            learner: of the kind that is trained; its weights are overwritten.
            people: simulated, on whom the loss is measured; `None` for no loss.
            spent: exchanges → ε of this training so far, or `None` where there is no plan.
        """
        self._folder, self._stage, self._learner = folder, stage, learner
        self._people, self._spent, self._then = people, spent, time.monotonic()

    def __call__(self, number: int, before: Weights, after: Weights, changes: Mapping[str, Weights]) -> str:
        """Take note of exchange `number`; return what it says of it in a few words.

        Changes that are empty were not seen, and travelled in fixed point of twice their size (`privacy.masks`).
        """
        now, seen = time.monotonic(), all(changes.values())
        row: dict[str, Any] = {
            "stage": self._stage,
            "exchange": number,
            "sites": len(changes),
            "step": _norm({n: after[n] - before[n] for n in before}),
            **({"agreement": agreement(list(changes.values()))} if seen else {}),
            "megabytes": (2e-6 if seen else 3e-6) * len(changes) * sum(a.nbytes for a in before.values()),
            "seconds": round(now - self._then, 3),
        }
        self._then = now
        if self._people is not None:
            row["public_loss"] = public_loss(self._learner, after, self._people)
        if self._spent is not None:
            row["epsilon"] = self._spent(number)
        append(self._folder, row)
        said = {"public loss": row.get("public_loss"), "ε": row.get("epsilon")}
        return ", ".join(f"{name} {value:.3g}" for name, value in said.items() if value is not None)


def public_loss(learner: "Learner", weights: Weights, people: "Frames | Clips") -> float:
    """Return the mean loss on simulated people; the same noise is drawn every time, so that exchanges compare."""
    import torch

    from learning import arrays

    arrays.load(learner.module, {**arrays.trainable(learner.module), **weights})
    learner.module.eval()
    generator, rows = torch.Generator().manual_seed(0), np.arange(len(people))
    with torch.no_grad():
        parts = [
            learner.losses(people, rows[k : k + _AT_ONCE], generator=generator) for k in range(0, len(rows), _AT_ONCE)
        ]
    return float(torch.cat(parts).mean())


def agreement(changes: list[Weights]) -> float:
    """Return the mean cosine between the changes of every two sites, in [-1, 1]; 1 where there is one site only."""
    flat = [np.concatenate([c[n].astype(np.float64).ravel() for n in sorted(c)]) for c in changes]
    units = [f / max(float(np.linalg.norm(f)), 1e-300) for f in flat]
    pairs = [float(a @ b) for i, a in enumerate(units) for b in units[:i]]
    return float(np.mean(pairs)) if pairs else 1.0


def spending(plan: Mapping[str, Any] | None, steps: int, delta: float) -> Spending | None:
    """Return exchanges → ε of a training by `plan` of so many steps an exchange; `None` without a plan."""
    from privacy.mechanism import DpPlan, epsilon, plan_from_json

    if plan is None:
        return None
    whole = plan_from_json(plan)
    if not isinstance(whole, DpPlan):
        raise TypeError("a training is charged by a plan of steps")
    return lambda number: epsilon([replace(whole, steps=number * steps)], delta)


def _norm(weights: Weights) -> float:
    return float(np.sqrt(sum(float(np.sum(a.astype(np.float64) ** 2)) for a in weights.values())))
