"""Contract of everything trained under privacy: the gradient of a subject is its own, and right, in every mode.

Whoever registers a learner or a generator is tested here without a word; so is the house's autoencoder. The part is
built (from random weights, where it has a public `prior`) and every weight perturbed: a layer that starts at zero hides
wrong gradients of what is below. Per-subject gradients are compared with those autograd takes one subject at a time, of
the parameters that the config tunes and of every parameter that the loss touches. `losses` must treat each row alone.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import VIEWS, Frames
from cohorts.study import SubjectKey
from learning.blocks import to_signal
from learning.learner import Learner
from learning.learners import LEARNERS
from privacy.bookkeeping import without_rule
from privacy.dp_safety import unsafe_for_dp
from privacy.gradients import SubjectGradients, clip
from synthesis.autoencoder import Autoencoder
from synthesis.gamma import GammaAutoencoder, GammaLearner
from synthesis.generators import GENERATORS
from synthesis.generators.latent_flow import LatentFlow

SIZE, SUBJECTS = 64, 3
MODES = ("bookkeeping", "hooks")


class AutoencoderLearner:
    """The public autoencoder as if it were trained at a site: reconstruction and Kullback-Leibler term of each row."""

    def __init__(self) -> None:
        self.module: nn.Module = Autoencoder(width=8)

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        x, masks = to_signal(torch.from_numpy(frames.pixels[rows])), torch.from_numpy(frames.masks[rows])
        mean, log_variance = self.module.encoder(x)
        z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator)
        drawn = self.module.decode(z, masks, torch.randn(x.shape, generator=generator))
        divergence = mean.square() + log_variance.exp() - log_variance - 1
        return (drawn - x).square().flatten(1).mean(1) + 1e-2 * divergence.flatten(1).mean(1)


def built_by(part: type[Any]) -> Callable[[], Learner]:
    fields = {field.name for field in dataclasses.fields(part)}
    return lambda: part(**({"prior": False} if "prior" in fields else {})).build()


PARTS = [
    *(
        pytest.param(built_by(registry[name]), id=name)
        for registry in (LEARNERS, GENERATORS)
        for name in registry
        if registry[name].__module__.startswith(("learning.", "synthesis."))
    ),
    pytest.param(lambda: LatentFlow(prior=False, backbone="unet", width=32, depth=1, heads=2).build(), id="U-Net"),
    pytest.param(AutoencoderLearner, id="autoencoder"),
    pytest.param(lambda: GammaLearner(GammaAutoencoder(width=8)), id="gamma"),
]
TUNED = pytest.mark.parametrize("everything", [False, True], ids=["as configured", "everything"])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def frames(draws: int) -> Frames:
    """Return as many clips of each subject as draws, of two frames each; `losses` asks for the first of each."""
    dice, clips = np.random.default_rng(11), SUBJECTS * draws
    n = 2 * clips
    return Frames(
        pixels=dice.integers(0, 256, (n, SIZE, SIZE), dtype=np.uint8),
        masks=dice.integers(0, 4, (n, SIZE, SIZE), dtype=np.uint8),
        view=np.repeat(dice.integers(0, len(VIEWS), clips), 2),
        phase=np.arange(n) % 2,
        lvef_percent=np.repeat(dice.uniform(20, 70, clips), 2).astype(np.float32),
        subject=np.repeat(np.arange(SUBJECTS), 2 * draws),
        subjects=tuple(SubjectKey(f"subject-{i}") for i in range(SUBJECTS)),
    )


def build(part: Callable[[], Learner], *, everything: bool = False) -> Learner:
    learner = part()
    dice = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in learner.module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=dice))
    learner.module.train()
    if everything:
        learner.module.requires_grad_(True)
        losses(learner, frames(1)).sum().backward()
        for parameter in learner.module.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
    return learner


def losses(learner: Learner, of: Frames) -> Tensor:
    """Return the losses of all clips, subject-major, with the same noise each time."""
    return learner.losses(of, np.arange(0, len(of), 2), generator=torch.Generator().manual_seed(3))


def one_at_a_time(learner: Learner, of: Frames) -> list[tuple[Tensor, ...]]:
    parameters = [p for p in learner.module.parameters() if p.requires_grad]
    means = losses(learner, of).view(SUBJECTS, -1).mean(1)
    return [torch.autograd.grad(mean, parameters, retain_graph=True) for mean in means]


def flattened(gradients: list[tuple[Tensor, ...]]) -> Tensor:
    return torch.stack([torch.cat([g.flatten() for g in mine]) for mine in gradients])


def off(one: Tensor, other: Tensor) -> float:
    return float(torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other))


@TUNED
@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", PARTS)
def test_each_subject_has_the_gradient_autograd_gives_it_alone(
    part: Callable[[], Learner], mode: str, draws: int, everything: bool
) -> None:
    learner = build(part, everything=everything)
    alone = one_at_a_time(learner, frames(draws))
    with SubjectGradients(learner.module, mode) as gradients:
        together = gradients.flat(losses(learner, frames(draws)), SUBJECTS)
        names, parameters = zip(*gradients.parameters, strict=True)
    size = flattened(alone).norm(dim=1)
    assert torch.all(size > 0), "a subject without gradient tests nothing"
    pieces = together.split([p.numel() for p in parameters], dim=1)
    for name, piece, *mine in zip(names, pieces, *alone, strict=True):
        for i, gradient in enumerate(mine):
            error = torch.linalg.vector_norm(piece[i] - gradient.flatten())
            assert error <= 1e-5 * gradient.norm() + 1e-6 * size[i], f"{name} of subject {i} is off by {error:.3g}"


@TUNED
@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("part", PARTS)
def test_every_mode_clips_and_sums_alike(part: Callable[[], Learner], draws: int, everything: bool) -> None:
    learner = build(part, everything=everything)
    rows = flattened(one_at_a_time(learner, frames(draws)))
    for clip_norm in (0.1 * float(rows.norm(dim=1).min()), float(rows.norm(dim=1).median()), 1e6):
        wanted = clip(rows, clip_norm).double().sum(0)
        for mode in MODES:
            with SubjectGradients(learner.module, mode) as gradients:
                for _ in range(2):  # before and after the gradients have been compared with autograd's
                    total = gradients.clipped_sum(losses(learner, frames(draws)), SUBJECTS, clip_norm)
                    assert total.dtype == torch.float64
                    assert off(total, wanted) <= 1e-5, f"{mode} at C = {clip_norm:.3g}"


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", PARTS)
def test_a_subject_whose_loss_is_not_finite_counts_zero_and_moves_nobody_else(
    part: Callable[[], Learner], mode: str, broken: float
) -> None:
    learner = build(part, everything=True)
    rows = flattened(one_at_a_time(learner, frames(3)))
    clip_norm = float(rows.norm(dim=1).median())
    wanted = clip(rows[[0, 2]], clip_norm).double().sum(0)
    spoilt = torch.ones(SUBJECTS * 3)
    spoilt[4] = broken  # a draw of the second subject
    with SubjectGradients(learner.module, mode) as gradients:
        for _ in range(2):
            total = gradients.clipped_sum(losses(learner, frames(3)) * spoilt, SUBJECTS, clip_norm)
            assert off(total, wanted) <= 1e-5
            gradients.clipped_sum(losses(learner, frames(3)), SUBJECTS, clip_norm)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", PARTS)
def test_changing_one_subject_moves_only_its_own(part: Callable[[], Learner], mode: str) -> None:
    learner, before = build(part, everything=True), frames(3)
    after = dataclasses.replace(before, pixels=before.pixels.copy(), masks=before.masks.copy())
    after.pixels[6:12], after.masks[6:12] = 255 - after.pixels[6:12], 0
    with SubjectGradients(learner.module, mode) as gradients:
        one, other = (gradients.flat(losses(learner, of), SUBJECTS) for of in (before, after))
        assert torch.equal(one[[0, 2]], other[[0, 2]])
        assert off(other[1], one[1]) > 1e-3
        clip_norm = 0.5 * float(one.norm(dim=1).min())
        sums = [gradients.clipped_sum(losses(learner, of), SUBJECTS, clip_norm) for of in (before, after)]
        without = gradients.clipped_sum(
            losses(learner, before) * torch.tensor([1.0, torch.nan, 1.0]).repeat_interleave(3), SUBJECTS, clip_norm
        )
    for total in sums:
        assert torch.linalg.vector_norm(total - without) <= clip_norm * (1 + 1e-6)


@pytest.mark.parametrize("part", PARTS)
def test_the_fastest_mode_runs_every_network_of_the_house(part: Callable[[], Learner]) -> None:
    learner = build(part)
    assert without_rule(learner.module) == []
    with SubjectGradients(learner.module) as gradients:
        assert gradients.mode == "bookkeeping"


@pytest.mark.parametrize("part", PARTS)
def test_the_loss_of_a_clip_depends_on_that_clip_only(part: Callable[[], Learner]) -> None:
    learner, draws = build(part), 2
    mine = frames(draws)
    other = dataclasses.replace(
        mine,
        **{name: getattr(mine, name).copy() for name in ("pixels", "masks", "view", "phase", "lvef_percent")},
    )
    other.pixels[2 * draws :] = 255 - other.pixels[2 * draws :]
    other.masks[2 * draws :] = 0
    other.view[2 * draws :] = (other.view[2 * draws :] + 1) % len(VIEWS)
    other.phase[2 * draws :] = 1 - other.phase[2 * draws :]
    other.lvef_percent[2 * draws :] = np.nan
    with torch.no_grad():
        before, after = losses(learner, mine), losses(learner, other)
    assert before.shape == (SUBJECTS * draws,)
    torch.testing.assert_close(after[:draws], before[:draws], rtol=1e-6, atol=0)
    assert torch.any(after[draws:] != before[draws:]), "the loss ignores its rows"


@pytest.mark.parametrize("part", PARTS)
def test_nothing_learns_but_by_its_gradient(part: Callable[[], Learner]) -> None:
    learner = build(part, everything=part is AutoencoderLearner)
    assert unsafe_for_dp(learner.module, lambda: losses(learner, frames(2))) == []
