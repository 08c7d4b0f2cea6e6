"""One backward pass without weight gradients gives every subject its own, layer by layer, or says why it cannot."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from privacy import layer_gradients
from privacy.bookkeeping import without_rule
from privacy.contributions import Products, Rows
from privacy.gradients import SubjectGradients, clip

SUBJECTS = 5


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perturbed(module: nn.Module) -> nn.Module:
    roll = dice(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=roll).to(parameter))
    return module


def inputs(rows: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, *shape, generator=dice(seed))


def losses(module: nn.Module, x: Tensor) -> Tensor:
    """Return a loss per row that no layer can answer with a constant gradient."""
    y = module(x).flatten(1)
    return (y * torch.linspace(-1, 2, y.shape[1], dtype=y.dtype)).mean(1).sin() + y.square().mean(1)


def alone(module: nn.Module, x: Tensor) -> Tensor:
    """Return each subject's gradient from a batch of its own."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    mine = [torch.autograd.grad(losses(module, part).mean(), parameters) for part in x.chunk(SUBJECTS)]
    return torch.stack([torch.cat([g.flatten() for g in gradients]) for gradients in mine])


def close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> bool:
    return bool(torch.linalg.vector_norm(one - other) <= tolerance * torch.linalg.vector_norm(other))


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear without a bias": (lambda: nn.Linear(7, 5, bias=False), (7,)),
    "linear at few positions, too large for rows": (lambda: nn.Linear(90, 80), (90,)),
    "linear at more positions, too large for rows": (lambda: nn.Linear(90, 80), (6, 90)),
    "linear at many positions": (lambda: nn.Linear(9, 8), (3, 50, 9)),
    "convolution": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 9, 7)),
    "convolution with a stride": (lambda: nn.Conv2d(3, 4, (4, 2), stride=(3, 2), padding=(1, 0)), (3, 12, 9)),
    "convolution of one pixel": (lambda: nn.Conv2d(3, 4, 1), (3, 6, 5)),
    "convolution in groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 6, 5)),
    "convolution with holes": (lambda: nn.Conv2d(2, 3, 3, dilation=2), (2, 8, 7)),
    "convolution of the same size": (lambda: nn.Conv2d(2, 3, 3, padding="same"), (2, 6, 7)),
    "convolution of blocked channels": (lambda: nn.Conv2d(16, 32, 3, padding=1), (16, 16, 17)),
    "convolution too large for rows": (lambda: nn.Conv2d(32, 40, 3), (32, 4, 4)),
    "convolution in one dimension": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 11)),
    "convolution in three": (lambda: nn.Conv3d(2, 3, 2), (2, 4, 3, 5)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1, output_padding=1), (3, 5, 6)),
    "transposed convolution in groups": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), (4, 7)),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.GroupNorm(3, 6)), (3, 5, 4)),
    "group norm at the bottom": (lambda: nn.GroupNorm(2, 4), (4, 5, 6)),
    "layer norm": (lambda: nn.LayerNorm((3, 6)), (4, 3, 6)),
    "layer norm above a layer": (lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), (4, 6)),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 5, 4)),
    "used twice": (lambda: Twice(nn.Linear(90, 90)), (90,)),
    "convolution used twice": (lambda: Twice(nn.Conv2d(3, 3, 3, padding=1)), (3, 6, 6)),
    "transposed on the way": (lambda: Transposed(), (6, 8)),
}


class Twice(nn.Module):
    """Norms of two uses do not add up to the norm of their sum."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).tanh())


class Transposed(nn.Module):
    """Feeds a view that is not contiguous, and takes the result apart."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 9)

    def forward(self, x: Tensor) -> Tensor:
        one, other, third = self.layer(x.transpose(1, 2)).chunk(3, -1)
        return one * other + third


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(6, 3), nn.Embedding(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        which = (x.abs() * 2).long().clamp(max=5)
        return self.word(which).mean(1) * self.place(torch.arange(4).expand(len(x), -1)).sum(1)


LAYERS["embedding"] = (Words, (4,))


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize(("build", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_a_layer_gives_each_subject_what_it_has_alone(
    build: Callable[[], nn.Module], shape: tuple[int, ...], draws: int
) -> None:
    module, x = perturbed(build()), inputs(SUBJECTS * draws, *shape)
    wanted = alone(module, x)
    clip_norm = float(wanted.norm(dim=1).median())
    with SubjectGradients(module, "bookkeeping") as gradients:
        for _ in range(2):  # with the parameters in the graph, and without
            assert close(gradients.flat(losses(module, x), SUBJECTS), wanted)
            total = gradients.clipped_sum(losses(module, x), SUBJECTS, clip_norm)
            assert close(total, clip(wanted, clip_norm).double().sum(0))


@pytest.mark.parametrize("trained", ["weight", "bias"])
@pytest.mark.parametrize("name", ["linear", "convolution", "group norm", "layer norm", "instance norm"])
def test_what_is_frozen_takes_no_part(name: str, trained: str) -> None:
    build, shape = LAYERS[name]
    module, x = perturbed(build()), inputs(SUBJECTS * 2, *shape)
    for parameter_name, parameter in module.named_parameters():
        parameter.requires_grad_(parameter_name.endswith(trained))
    wanted = alone(module, x)
    with SubjectGradients(module, "bookkeeping") as gradients:
        for _ in range(2):
            assert close(gradients.flat(losses(module, x), SUBJECTS), wanted)
    assert [p.requires_grad for n, p in module.named_parameters()] == [
        n.endswith(trained) for n, _ in module.named_parameters()
    ]


def net() -> nn.Module:
    return perturbed(nn.Sequential(nn.Linear(8, 90), nn.Tanh(), nn.Linear(90, 80), nn.Tanh(), nn.Linear(80, 2)))


def test_autograd_computes_no_weight_gradient_once_it_has_agreed() -> None:
    module, x = net(), inputs(SUBJECTS, 8)
    with SubjectGradients(module) as gradients:
        assert all(p.requires_grad for p in module.parameters())
        gradients.clipped_sum(losses(module, x), SUBJECTS, 1.0)
        assert not any(p.requires_grad for p in module.parameters())
        gradients.clipped_sum(losses(module, x), SUBJECTS, 1.0)
        assert all(p.grad is None for p in module.parameters())
    assert all(p.requires_grad for p in module.parameters())


def test_a_pass_that_nobody_differentiates_leaves_no_mark() -> None:
    module, x = net(), inputs(SUBJECTS, 8)
    wanted = alone(module, x)
    with SubjectGradients(module) as gradients:
        for _ in range(2):
            losses(module, inputs(3, 8, seed=9))
            with torch.no_grad():
                losses(module, inputs(4, 8, seed=9))
            losses(module, inputs(2, 8, seed=9)).sum().backward()
            assert close(gradients.flat(losses(module, x), SUBJECTS), wanted)


def test_activations_are_let_go_though_the_losses_stay() -> None:
    module = net()
    kept: list[weakref.ref[Tensor]] = []
    module[3].register_forward_hook(lambda _, __, output: kept.append(weakref.ref(output)))
    with SubjectGradients(module) as gradients:
        for _ in range(2):
            of_batch = losses(module, inputs(SUBJECTS, 8))
            gradients.clipped_sum(of_batch, SUBJECTS, 1.0)
            gc.collect()
            assert kept.pop()() is None
            assert of_batch.requires_grad


def test_gradients_in_float64_keep_their_digits() -> None:
    module, x = net().double(), inputs(SUBJECTS, 8).double()
    wanted = alone(module, x)
    with SubjectGradients(module) as gradients:
        total = gradients.clipped_sum(losses(module, x), SUBJECTS, 0.5)
    rows = wanted / wanted.norm(dim=1, keepdim=True)
    assert torch.all(wanted.norm(dim=1) > 0.5)
    assert close(total, 0.5 * rows.sum(0), 5e-6)


def test_autocast_around_the_step_does_not_make_it_coarse() -> None:
    module, x = net(), inputs(SUBJECTS, 8)
    wanted = alone(module, x)
    with SubjectGradients(module) as gradients:
        for _ in range(2):
            of_batch = losses(module, x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert close(gradients.clipped_sum(of_batch, SUBJECTS, 1e6), wanted.double().sum(0))


@pytest.fixture
def coarse_products() -> object:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("coarse_products")
def test_where_products_are_coarse_rows_are_clipped_by_their_own_norm() -> None:
    x, g = inputs(SUBJECTS, 2, 90), inputs(SUBJECTS, 2, 80, seed=2)
    assert isinstance(layer_gradients._outer(x, g), Rows)


# ---- products that are not formed


def products(a: Tensor, g: Tensor, factors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return norms and weighted sum as products say, and as rows say."""
    there = Rows(torch.einsum("npo,npi->noi", g.double(), a.double()).flatten(1))
    sums = torch.empty(2, a.shape[2] * g.shape[2], dtype=torch.float64)
    said = Products(a, g)
    said.weighted_sum(factors, sums[0])
    there.weighted_sum(factors, sums[1])
    assert close(said.rows()[factors > 0], there.rows()[factors > 0])
    return said.norms(), there.norms(), sums[0], sums[1]


@pytest.mark.parametrize("positions", [1, 3, 16])
def test_a_product_has_the_norm_and_the_sum_of_its_row(positions: int) -> None:
    a, g = inputs(6, positions, 40), inputs(6, positions, 70, seed=2)
    norms, true, total, wanted = products(a, g, torch.rand(6, generator=dice(), dtype=torch.float64))
    torch.testing.assert_close(norms, true, rtol=1e-6, atol=0)
    assert close(total, wanted, 1e-6)


@pytest.mark.parametrize("left", [1e-1, 1e-3, 1e-6])
def test_positions_that_cancel_are_measured_by_what_is_left(left: float) -> None:
    a, g = inputs(6, 16, 40), inputs(6, 16, 70, seed=2)
    a[2, 8:], g[2, 8:] = a[2, :8], -(1 - left) * g[2, :8]
    norms, true, total, wanted = products(a, g, torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(norms, true, rtol=max(1e-6, 1e-7 / left), atol=0)
    assert close(total, wanted, 1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e8, 1e15])
@pytest.mark.parametrize("positions", [1, 16])
def test_inputs_and_gradients_of_any_size_are_measured(scale: float, positions: int) -> None:
    a, g = inputs(6, positions, 40), inputs(6, positions, 70, seed=2)
    a[1], g[1] = a[1] * scale, g[1] / scale
    a[4], g[4] = a[4] / scale, g[4] * scale
    norms, true, total, wanted = products(a, g, torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(norms, true, rtol=1e-6, atol=0)
    assert close(total, wanted, 1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
@pytest.mark.parametrize("positions", [1, 16])
def test_what_is_not_finite_shows_in_the_norm_and_nowhere_else(value: float, positions: int) -> None:
    a, g = inputs(6, positions, 40), inputs(6, positions, 70, seed=2)
    clean = a.clone(), g.clone()
    a[1, 0, 3], g[4, 0, 5] = value, value
    g[1] *= 10
    a[4] *= 10
    said = Products(a, g)
    assert said.norms().isfinite().tolist() == [True, False, True, True, False, True]
    factors = torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.float64)
    total, wanted = torch.empty(2, 40 * 70, dtype=torch.float64)
    said.weighted_sum(factors, total)
    Products(*clean).weighted_sum(factors, wanted)
    assert close(total, wanted, 1e-6)


@pytest.mark.parametrize("size", [1, 255, 256, 1000])
def test_rows_are_measured_and_added_to_the_last_digits(size: int) -> None:
    rows = torch.randn(7, size, generator=dice()) * torch.logspace(-12, 30, 7).unsqueeze(1)
    rows[3, 0] = 3e38
    true = rows.double().norm(dim=1)
    torch.testing.assert_close(Rows(rows).norms(), true, rtol=1e-6, atol=0)
    factors, total = 1 / true, torch.empty(size, dtype=torch.float64)
    Rows(rows).weighted_sum(factors, total)
    torch.testing.assert_close(total, factors @ rows.double())


# ---- what is refused


def test_a_mode_is_one_of_those_there_are() -> None:
    with pytest.raises(ValueError, match="mode='ghost' must be one of auto, bookkeeping, hooks"):
        SubjectGradients(net(), "ghost")


class Gain(nn.Module):
    """A trainable layer that is nobody's type."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


class Sloped(nn.Linear):
    """A known layer with a forward pass of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.weight.sum()


@pytest.mark.parametrize("layer", [Gain(), Sloped(8, 8)])
def test_a_layer_without_a_rule_goes_another_way_and_is_right(layer: nn.Module) -> None:
    module, x = perturbed(nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(8, 3))), inputs(SUBJECTS, 8)
    assert without_rule(module) == [f"1 ({type(layer).__name__})"]
    with pytest.raises(ValueError, match=rf"has no rule for 1 \({type(layer).__name__}\)"):
        SubjectGradients(module, "bookkeeping")
    wanted = alone(module, x)
    with SubjectGradients(module) as gradients:
        assert gradients.mode == "hooks"
        assert close(gradients.flat(losses(module, x), SUBJECTS), wanted)


def test_losses_without_a_graph_are_refused() -> None:
    module = net()
    with SubjectGradients(module) as gradients, pytest.raises(ValueError, match="depend on no trainable parameter"):
        gradients.flat(torch.ones(4), 2)


class Mixed(nn.Module):
    """Each row sees the others: the sum of gradients is right, and no single one is."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        return self.leave(h - h.mean(0))


class Shuffled(Mixed):
    """A layer that gets the rows in another order."""

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x.flip(0)).flip(0).tanh())


@pytest.mark.parametrize("mode", ["bookkeeping", "hooks"])
@pytest.mark.parametrize("build", [Mixed, Shuffled])
def test_rows_that_see_each_other_or_change_places_are_refused(build: type[nn.Module], mode: str) -> None:
    module = perturbed(build())
    with SubjectGradients(module, mode) as gradients, pytest.raises(ValueError, match="do not add up"):
        gradients.clipped_sum(losses(module, inputs(SUBJECTS, 8)), SUBJECTS, 1.0)


def test_one_subject_shows_nothing_of_the_kind_and_proves_nothing() -> None:
    module = perturbed(Mixed())
    with SubjectGradients(module) as gradients:
        gradients.clipped_sum(losses(module, inputs(1, 8)), 1, 1.0)
        with pytest.raises(ValueError, match="do not add up"):
            gradients.clipped_sum(losses(module, inputs(SUBJECTS, 8)), SUBJECTS, 1.0)


class Overwrites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x).detach()
        y = self.leave(h)
        h.zero_()
        return y + 0 * self.enter(x).sum(1, keepdim=True)


def test_an_input_overwritten_after_its_layer_is_refused() -> None:
    module = perturbed(Overwrites())
    module.leave.weight.requires_grad_(False)  # else autograd itself would complain
    with SubjectGradients(module) as gradients, pytest.raises(ValueError, match=r"'leave\.bias'.*overwritten in place"):
        gradients.flat(losses(module, inputs(SUBJECTS, 8)), SUBJECTS)


def half(layer: nn.Linear, seen: layer_gradients.Seen, g: Tensor, n: int, wanted: object) -> dict[str, Rows]:
    found = layer_gradients._linear(layer, seen, g, n, ("weight", "bias"))
    return {name: Rows(0.5 * part.rows()) for name, part in found.items()}


def first_draw_only(layer: nn.Linear, seen: layer_gradients.Seen, g: Tensor, n: int, wanted: object) -> dict[str, Rows]:
    later = torch.zeros_like(g).view(n, -1, *g.shape[1:])
    later[:, 0] = g.view_as(later)[:, 0]
    return layer_gradients._linear(layer, seen, later.view_as(g), n, ("weight", "bias"))


@pytest.mark.parametrize("wrong", [half, first_draw_only])
def test_a_wrong_rule_is_caught_by_the_first_batch(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layer_gradients._RULES, nn.Linear, wrong)
    module = net()
    with SubjectGradients(module) as gradients, pytest.raises(ValueError, match="do not add up"):
        gradients.clipped_sum(losses(module, inputs(SUBJECTS * 3, 8)), SUBJECTS, 1.0)
