"""A generator that draws whatever pictures it was given, and the request to screen them: what a hostile server has."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cohorts.frames import Frames
from conf.schema import Classes
from learning.messages import Screen
from privacy import embedding
from synthesis.candidates import Recipe, commitment
from synthesis.generators import GENERATORS
from tests.hospitals import SIZE

EACH = 4  # pictures of a synthetic subject: two views at two moments
EXACT: dict[str, Any] = {"embedding": embedding.digest(), "exact": {"alpha": 0.25}}
VOTES: dict[str, Any] = {
    "embedding": embedding.digest(), "votes": {"epsilon": 2.0, "threshold": 1, "votes": 1}, "tau": 0.9, "apart": 0.99,
    "gate_epsilon": 0.5,
}  # fmt: skip


@GENERATORS("copier")
@dataclass(frozen=True, slots=True, kw_only=True)
class Copier:
    """Draws `subjects` that its weights hold to the last grey value."""

    subjects: int = 8

    def build(self) -> "CopierGenerator":
        return CopierGenerator(self.subjects)


class CopierGenerator:
    def __init__(self, subjects: int) -> None:
        self.module: nn.Module = nn.Module()
        self.module.pictures = nn.Parameter(torch.zeros(subjects * EACH, SIZE, SIZE))

    def sample(
        self, conditions: Frames, *, seed: int, offset: int = 0, of_one_heart: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:  # fmt: skip
        held = self.module.pictures.detach().numpy()
        found: NDArray[np.uint8] = held[offset : offset + len(conditions)].round().astype(np.uint8)
        return found


def strangers(n: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Return pictures of `n` people whom nobody knows, `(n, EACH, SIZE, SIZE)`."""
    return np.random.default_rng([seed, 31]).integers(0, 255, (n, EACH, SIZE, SIZE)).astype(np.uint8)


def screen_request(
    pixels: NDArray[np.uint8],
    rule: Mapping[str, Any] = EXACT,
    *,
    drawn: NDArray[np.uint8] | None = None,
    **changes: Any,
) -> Screen:
    """Ask about `pixels`, which a generator that draws `drawn` is said to have drawn; by default it has."""
    n = len(pixels)
    weights = {"pictures": (pixels if drawn is None else drawn).reshape(-1, SIZE, SIZE).astype(np.float32)}
    recipe = Recipe(
        kind="generator", name="copier", config={"subjects": n}, subjects=n, seed=5, size=SIZE,
        classes={k: list(v) if isinstance(v, tuple) else v for k, v in asdict(Classes()).items()},
    )  # fmt: skip
    settings: dict[str, Any] = {
        "run": "run-1", "stage": "screen", "rule": dict(rule), "recipe": recipe.to_json(),
        "committed": commitment(recipe, weights, rule)["committed"], "numbers": {"of": list(range(n))},
        "weights": weights, "candidates": {"pixels": pixels},
    }  # fmt: skip
    return Screen(**(settings | changes))
