"""A part by its kind, name and settings: what a message or a campaign can say becomes a learner, of frames or clips."""

from collections.abc import Mapping
from typing import Any

import torch

from learning import arrays
from learning.learner import Learner
from learning.learners import CLIP_LEARNERS, LEARNERS
from synthesis import priors
from synthesis.generators import CLIP_GENERATORS, GENERATORS

REGISTRIES = {
    "learner": LEARNERS,
    "generator": GENERATORS,
    "clip_learner": CLIP_LEARNERS,
    "clip_generator": CLIP_GENERATORS,
}


def of_clips(kind: str) -> bool:
    """Say whether parts of this kind eat clips, not frames."""
    return kind.startswith("clip_")


def build(kind: str, name: str, config: Mapping[str, Any], *, seed: int, prior: str = "") -> Learner:
    """Build the learner or generator `name`, with initial weights drawn from `seed` and no other randomness.

    Args:
        kind: one of `REGISTRIES`; what it begins with says what the part eats, frames or clips.
        name: under which the part is registered.
        config: its settings.
        seed: of the initial weights.
        prior: a public prior of the same shape to start from; "" for none.

    Raises:
        ValueError: if there is no such part or prior, or a setting it does not know.
    """
    if kind not in REGISTRIES:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(REGISTRIES)}")
    try:
        part = REGISTRIES[kind][name](**config)
    except TypeError as error:
        raise ValueError(f"{kind} {name!r}: {error}") from error
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        built: Learner = part.build()
    if prior:
        arrays.load_state(built.module, priors.load(prior))
    return built
