"""Per-subject gradients agree with gradients taken one by one, or are refused by name; clip and noise at their edges.

The laws of the step as a whole, with the mutants that break them, are in `test_private_step.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from privacy.gradients import SubjectGradients, clip, noisy_mean
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

PLAN = DpPlan(purpose="test", sampling_rate=0.2, noise_multiplier=1.5, clip_norm=0.7, steps=1, draws=4)
SUBJECTS, PIXELS, CLASSES = 6, 12, 3


@pytest.fixture(autouse=True)
def fixed_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy.randomness.os.urandom", np.random.default_rng(7).bytes)


def perturbed(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter with noise: a layer that starts at zero hides wrong gradients of everything before it."""
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=dice))
    return module


def classifier() -> nn.Module:
    return perturbed(
        nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1),
            nn.GroupNorm(3, 6),
            nn.SiLU(),
            nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, groups=2),
            nn.Flatten(),
            nn.Linear(4 * (PIXELS - 2) ** 2, CLASSES),
        )
    )


class AttentionBlock(nn.Module):
    """Tokens of a picture and of a class, one head, layer norms; the output projection is used twice."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.token, self.kind = nn.Linear(PIXELS, width), nn.Embedding(4, width)
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        h = torch.cat([self.kind(kind)[:, None], self.token(x[:, 0])], 1)
        for _ in range(2):
            q, k, v = self.qkv(self.norm(h)).chunk(3, -1)
            h = h + self.out((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v)
        return self.head(h.mean(1))


def attention() -> nn.Module:
    return perturbed(AttentionBlock())


def rows(n: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, 1, PIXELS, PIXELS, generator=dice),
        torch.randint(4, (n,), generator=dice),
        torch.randint(CLASSES, (n,), generator=dice),
    )


def losses(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    x, kind, label = batch
    logits = module(x, kind) if isinstance(module, AttentionBlock) else module(x)
    return nn.functional.cross_entropy(logits, label, reduction="none")


def one_by_one(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor], n_subjects: int) -> Tensor:
    """Return the gradient of each subject's mean loss, each computed with nobody else in the batch."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    flat = []
    for mine in zip(*(part.chunk(n_subjects) for part in batch), strict=True):
        gradient = torch.autograd.grad(losses(module, mine).mean(), parameters)
        flat.append(torch.cat([g.flatten() for g in gradient]))
    return torch.stack(flat)


def per_subject(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor], n_subjects: int) -> Tensor:
    with SubjectGradients(module) as gradients:
        return gradients.flat(losses(module, batch), n_subjects)


# ---- the gradients themselves


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("build", [classifier, attention])
def test_each_subject_has_the_gradient_it_would_have_alone(build: Callable[[], nn.Module], draws: int) -> None:
    module, batch = build(), rows(SUBJECTS * draws)
    alone = one_by_one(module, batch, SUBJECTS)
    together = per_subject(module, batch, SUBJECTS)
    assert together.shape == alone.shape
    assert torch.linalg.vector_norm(together - alone) <= 1e-5 * torch.linalg.vector_norm(alone)
    assert torch.linalg.vector_norm(alone, dim=1).min() > 0


def test_frozen_parameters_take_no_part() -> None:
    module, batch = classifier(), rows(SUBJECTS)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    with SubjectGradients(module) as gradients:
        assert [name for name, _ in gradients.parameters] == [n for n, _ in module.named_parameters() if "bias" in n]
        together = gradients.flat(losses(module, batch), SUBJECTS)
        assert gradients.size == together.shape[1]
    alone = one_by_one(module, batch, SUBJECTS)
    assert torch.linalg.vector_norm(together - alone) <= 1e-5 * torch.linalg.vector_norm(alone)


def test_several_batches_follow_each_other() -> None:
    module, batches = attention(), [rows(n, seed=n) for n in (4, 1, 7)]
    alone = [one_by_one(module, batch, len(batch[0])) for batch in batches]
    with SubjectGradients(module) as gradients:
        together = [gradients.flat(losses(module, batch), len(batch[0])) for batch in batches]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_what_somebody_else_differentiated_is_not_mixed_in() -> None:
    module, batch = attention(), rows(SUBJECTS)
    alone = one_by_one(module, batch, SUBJECTS)
    with SubjectGradients(module) as gradients:
        losses(module, rows(3, seed=5)).sum().backward()
        torch.testing.assert_close(gradients.flat(losses(module, batch), SUBJECTS), alone)


def test_the_wrapper_gives_the_same_gradients_as_the_module() -> None:
    module, batch = classifier(), rows(SUBJECTS)
    with SubjectGradients(module) as gradients:
        loss = nn.functional.cross_entropy(gradients.wrapped(batch[0]), batch[2], reduction="none")
        through_wrapper = gradients.flat(loss, SUBJECTS)
        assert torch.equal(through_wrapper, gradients.flat(losses(module, batch), SUBJECTS))


def test_a_subject_that_is_not_finite_spoils_nobody_else() -> None:
    module, batch = attention(), rows(SUBJECTS)
    batch[0][2, 0, 3, 4] = torch.nan
    batch[0][4] = torch.inf
    together = per_subject(module, batch, SUBJECTS)
    others = [0, 1, 3, 5]
    torch.testing.assert_close(together[others], one_by_one(module, rows(SUBJECTS), SUBJECTS)[others])
    assert not together[2].isfinite().all()
    assert torch.all(clip(together, PLAN.clip_norm)[[2, 4]] == 0)


def test_the_module_comes_back_without_a_trace() -> None:
    module = classifier()
    before = {name: set(vars(layer)) for name, layer in module.named_modules()}
    with SubjectGradients(module) as gradients:
        gradients.flat(losses(module, rows(2)), 2)
        losses(module, rows(2))  # a forward pass that nobody differentiates
    for name, layer in module.named_modules():
        assert set(vars(layer)) == before[name]
        assert not layer._forward_hooks
        assert not layer._backward_hooks
    for parameter in module.parameters():
        assert not vars(parameter)
        assert parameter.grad is None
    gradients.close()


def test_the_module_comes_back_after_an_error() -> None:
    module = classifier()
    with pytest.raises(ValueError, match="n_subjects"), SubjectGradients(module) as gradients:
        gradients.flat(losses(module, rows(2)), 3)
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in module.modules())
    per_subject(module, rows(2), 2)


@pytest.mark.parametrize(("n_losses", "n_subjects"), [(6, 4), (6, 0), (0, 1)])
def test_losses_must_be_subjects_times_draws(n_losses: int, n_subjects: int) -> None:
    with SubjectGradients(classifier()) as gradients, pytest.raises(ValueError, match="n_subjects"):
        gradients.flat(torch.zeros(n_losses), n_subjects)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(PIXELS, CLASSES), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x[:, 0, 0])


class Borrowed(nn.Module):
    """Uses a weight outside its own layer, where no hook sees it: Opacus alone would return half a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(PIXELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x[:, 0, 0]) + nn.functional.linear(x[:, 0, 1], self.used.weight)


class Doubled(nn.Module):
    """Doubles the batch on the way, as guidance without a classifier does."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(PIXELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.used(torch.cat([x[:, 0, 0], x[:, 0, 1]])).chunk(2)
        return one * other


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Unused(), "'spare.weight' received no gradient"),
        (Borrowed(), "'used.weight' do not add up"),
        (Doubled(), "'used.weight' saw another batch"),
        (classifier().eval(), "layer '0' is in eval mode"),
    ],
)
def test_a_gradient_that_would_be_wrong_is_refused_by_name(module: nn.Module, message: str) -> None:
    with SubjectGradients(module) as gradients, pytest.raises(ValueError, match=message):
        gradients.flat(losses(module, rows(4)), 4)


def test_a_first_batch_that_shows_nothing_does_not_pass_for_a_check() -> None:
    module, batch = Borrowed(), rows(4)
    with SubjectGradients(module) as gradients:
        gradients.flat(losses(module, batch) * torch.nan, 4)
        gradients.flat(losses(module, batch) * 0.0, 4)
        with pytest.raises(ValueError, match="do not add up"):
            gradients.flat(losses(module, batch), 4)


def test_a_step_changes_the_parameters_in_order() -> None:
    module = classifier()
    before = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    with SubjectGradients(module) as gradients:
        change = torch.arange(gradients.size) / gradients.size
        gradients.step(change)
        with pytest.raises(ValueError, match="change of shape"):
            gradients.step(change[1:])
    torch.testing.assert_close(nn.utils.parameters_to_vector(module.parameters()), before + change)


@pytest.mark.parametrize("draws", range(1, 9))
def test_a_subject_moves_the_sum_by_at_most_the_clip_however_many_draws_it_has(draws: int) -> None:
    module, batch = classifier(), rows(SUBJECTS * draws)
    batch[0][draws] *= 1e30  # a draw of the second subject explodes
    clipped = clip(per_subject(module, batch, SUBJECTS), PLAN.clip_norm).double()
    assert torch.all(torch.linalg.vector_norm(clipped, dim=1) <= PLAN.clip_norm * (1 + 1e-6))
    assert torch.linalg.vector_norm(clipped.sum(0)) > PLAN.clip_norm


# ---- edges of the two functions


def test_rows_within_the_clip_keep_their_value() -> None:
    gradients = torch.tensor([[0.3, 0.4], [0.0, 0.0], [30.0, 40.0]])
    torch.testing.assert_close(clip(gradients, 1.0), torch.tensor([[0.3, 0.4], [0.0, 0.0], [0.6, 0.8]]))
    assert torch.equal(clip(gradients, 1.0)[:2], gradients[:2])


def test_an_empty_chunk_is_an_empty_chunk() -> None:
    assert clip(torch.zeros(0, 7), 1.0).shape == (0, 7)


def test_a_noisy_sum_lies_on_a_grid_that_does_not_depend_on_it() -> None:
    """The low bits of a plain floating-point sum would tell a sum near 0 from a sum near 1 (Mironov 2012)."""
    step = 2.0**-20  # σC is 1.05, its power of two below is 1
    for value in (0.0, 1.0, 1e-9, 0.3):
        total = torch.full((2000,), value, dtype=torch.float64)
        published = noisy_mean(total, replace(PLAN, sampling_rate=1.0), public_subjects=1, random=SecureRandom())
        assert torch.all(published / step == torch.round(published / step))


def test_without_noise_the_mean_is_exact() -> None:
    total = torch.tensor([1.0, -2.0, 1e-9])
    silent = replace(PLAN, noise_multiplier=0.0, sampling_rate=0.25)
    assert torch.equal(noisy_mean(total, silent, public_subjects=8, random=SecureRandom()), total / 2)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_clip_norm_is_positive(bad: float) -> None:
    with pytest.raises(ValueError, match="clip_norm="):
        clip(torch.zeros(1, 1), bad)


def test_a_sum_that_went_past_the_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="did not go through clip"):
        noisy_mean(torch.tensor([torch.nan]), PLAN, public_subjects=1, random=SecureRandom())


def test_the_public_cohort_has_somebody() -> None:
    with pytest.raises(ValueError, match="public_subjects=0"):
        noisy_mean(torch.zeros(1), PLAN, public_subjects=0, random=SecureRandom())


@pytest.fixture
def untouched_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("untouched_threads")
def test_a_private_step_leaves_the_threads_alone() -> None:
    module = classifier()
    noisy_mean(clip(per_subject(module, rows(2), 2), 1.0).sum(0), PLAN, public_subjects=10, random=SecureRandom())
