"""Contract of everything trained under privacy: the gradient of a subject is its own, and right.

Whoever registers a learner or a generator is tested here without a word. The part is built (from random weights, where
it has a public `prior`) and every weight perturbed: a layer that starts at zero hides wrong gradients of what is below.
Per-subject gradients are compared with those autograd takes one subject at a time, of the parameters that the config
tunes and of every parameter that the loss touches. `losses` must treat each row alone.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cohorts.frames import VIEWS, Frames
from cohorts.study import SubjectKey
from learning.learner import Learner
from learning.learners import LEARNERS
from privacy.dp_safety import unsafe_for_dp
from privacy.gradients import SubjectGradients
from synthesis.generators import GENERATORS

PARTS = [
    pytest.param(registry[name], id=name)
    for registry in (LEARNERS, GENERATORS)
    for name in registry
    if registry[name].__module__.startswith(("learning.", "synthesis."))
]
SIZE, SUBJECTS, DRAWS = 64, 3, 2
ROWS = np.arange(SUBJECTS * DRAWS)  # subject-major, as `SubjectGradients.flat` wants them


@pytest.fixture
def frames() -> Frames:
    dice, n = np.random.default_rng(11), SUBJECTS * DRAWS
    return Frames(
        pixels=dice.integers(0, 256, (n, SIZE, SIZE), dtype=np.uint8),
        masks=dice.integers(0, 4, (n, SIZE, SIZE), dtype=np.uint8),
        view=dice.integers(0, len(VIEWS), n),
        phase=dice.integers(0, 2, n),
        lvef_percent=dice.uniform(20, 70, n).astype(np.float32),
        subject=np.repeat(np.arange(SUBJECTS), DRAWS),
        subjects=tuple(SubjectKey(f"subject-{i}") for i in range(SUBJECTS)),
    )


def build(part: type[Any]) -> Learner:
    fields = {field.name for field in dataclasses.fields(part)}
    learner: Learner = part(**({"prior": False} if "prior" in fields else {})).build()
    dice = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in learner.module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=dice))
    learner.module.train()
    return learner


def losses(learner: Learner, frames: Frames) -> Tensor:
    return learner.losses(frames, ROWS, generator=torch.Generator().manual_seed(3))


def tune_all_the_loss_touches(learner: Learner, frames: Frames) -> None:
    learner.module.requires_grad_(True)
    losses(learner, frames).sum().backward()
    for parameter in learner.module.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


@pytest.mark.parametrize("everything", [False, True], ids=["as configured", "everything"])
@pytest.mark.parametrize("part", PARTS)
def test_each_subject_has_the_gradient_autograd_gives_it_alone(
    part: type[Any], frames: Frames, everything: bool
) -> None:
    learner = build(part)
    if everything:
        tune_all_the_loss_touches(learner, frames)
    with SubjectGradients(learner.module) as gradients:
        together = gradients.flat(losses(learner, frames), SUBJECTS)
        names, parameters = zip(*gradients.parameters, strict=True)
    means = losses(learner, frames).view(SUBJECTS, DRAWS).mean(1)
    alone = [torch.autograd.grad(mean, parameters, retain_graph=True) for mean in means]
    size = torch.stack([torch.cat([g.flatten() for g in mine]) for mine in alone]).norm(dim=1)
    assert torch.all(size > 0), "a subject without gradient tests nothing"
    pieces = together.split([p.numel() for p in parameters], dim=1)
    for name, piece, *mine in zip(names, pieces, *alone, strict=True):
        for i, gradient in enumerate(mine):
            error = torch.linalg.vector_norm(piece[i] - gradient.flatten())
            assert error <= 1e-5 * gradient.norm() + 1e-6 * size[i], f"{name} of subject {i} is off by {error:.3g}"


@pytest.mark.parametrize("part", PARTS)
def test_the_loss_of_a_row_depends_on_that_row_only(part: type[Any], frames: Frames) -> None:
    learner = build(part)
    other = dataclasses.replace(
        frames,
        **{name: getattr(frames, name).copy() for name in ("pixels", "masks", "view", "phase", "lvef_percent")},
    )
    other.pixels[DRAWS:] = 255 - other.pixels[DRAWS:]
    other.masks[DRAWS:] = 0
    other.view[DRAWS:] = (other.view[DRAWS:] + 1) % len(VIEWS)
    other.phase[DRAWS:] = 1 - other.phase[DRAWS:]
    other.lvef_percent[DRAWS:] = np.nan
    with torch.no_grad():
        before, after = losses(learner, frames), losses(learner, other)
    assert before.shape == (SUBJECTS * DRAWS,)
    torch.testing.assert_close(after[:DRAWS], before[:DRAWS], rtol=1e-6, atol=0)
    assert torch.any(after[DRAWS:] != before[DRAWS:]), "the loss ignores its rows"


@pytest.mark.parametrize("part", PARTS)
def test_nothing_learns_but_by_its_gradient(part: type[Any], frames: Frames) -> None:
    learner = build(part)
    assert unsafe_for_dp(learner.module, lambda: losses(learner, frames)) == []
