"""Everything that would mix subjects or escape the hooks is listed before training, all at once."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from privacy.dp_safety import unsafe_for_dp
from privacy.gradients import SubjectGradients


class CodeBook(nn.Module):
    """Learns its buffer in the forward pass, as vector quantisation with moving averages does."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 4)
        self.register_buffer("codes", torch.zeros(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.codes.lerp_(x.mean(0), 0.1)
        return self.project(x) - self.codes


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.read = nn.Embedding(4, 8), nn.Linear(8, 4, bias=False)
        self.read.weight = self.embed.weight


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain, self.layer = nn.Parameter(torch.ones(4)), nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: nn.BatchNorm2d(4), "batch statistics mix"),
        (lambda: nn.BatchNorm1d(4, track_running_stats=False), "mix the subjects of a batch"),
        (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), "running statistics"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), "1: works in place"),
        (lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), "padding_mode='circular'"),
        (lambda: nn.Embedding(4, 8, padding_idx=0), "padding_idx=0"),
        (lambda: nn.Embedding(4, 8, max_norm=1.0), r"max_norm=1\.0"),
        (lambda: nn.LayerNorm(4, bias=False), "LayerNorm without a bias"),
        (lambda: nn.MultiheadAttention(8, 2), "MultiheadAttention"),
        (lambda: nn.GRU(4, 4), "GRU"),
        (lambda: parametrizations.spectral_norm(nn.Linear(4, 4)), "parametrisation"),
        (Tied, "read.weight: tied to embed.weight"),
        (Gain, "beside those of its children"),
        (lambda: nn.Linear(4, 4).bfloat16(), "bfloat16"),
        (lambda: nn.Linear(4, 4).requires_grad_(False), "no parameter is trainable"),
    ],
)
def test_what_is_unfit_is_named(build: Callable[[], nn.Module], problem: str) -> None:
    module = build()
    with pytest.raises(ValueError, match=problem):
        SubjectGradients(module)


def test_all_problems_come_at_once() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Embedding(4, 8, max_norm=1.0)
    )
    assert [problem.split(":")[0] for problem in unsafe_for_dp(module)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.ConvTranspose2d(4, 1, 4)),
        nn.Sequential(nn.Embedding(4, 8), nn.LayerNorm(8), nn.Dropout(0.1), nn.Linear(8, 2)),
        nn.Sequential(nn.Conv1d(1, 4, 3), nn.InstanceNorm1d(4, affine=True), nn.Conv3d(1, 1, 3)),
    ],
)
def test_what_is_fit_has_no_problem(module: nn.Module) -> None:
    assert unsafe_for_dp(module) == []


# ---- traps that show on the module as it stands


def test_a_spectral_norm_of_the_old_kind_is_seen_through() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = nn.utils.spectral_norm(nn.Linear(4, 4))
    assert any("weight is computed from others before each call" in problem for problem in unsafe_for_dp(layer))
    layer.requires_grad_(False)
    module = nn.Sequential(nn.Linear(4, 4), layer)
    assert [problem.split(":")[0] for problem in unsafe_for_dp(module)] == ["1"]


def test_a_pruned_weight_is_seen_through() -> None:
    layer = nn.Linear(4, 4)
    prune.random_unstructured(layer, "weight", amount=0.5)
    assert any("weight is computed from others before each call" in problem for problem in unsafe_for_dp(layer))


def test_parameters_in_a_list_are_no_layer() -> None:
    class Gains(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gains, self.layer = nn.ParameterList([torch.ones(4)]), nn.Linear(4, 4)

    assert unsafe_for_dp(Gains()) == [
        "gains: trainable parameters in a list, whose use no hook sees; put them in a layer"
    ]


def test_a_layer_without_a_shape_is_refused_instead_of_breaking() -> None:
    problems = unsafe_for_dp(nn.Sequential(nn.LazyLinear(4), nn.BatchNorm1d(4)))
    assert sum("has no shape yet" in problem for problem in problems) == 2
    assert any("batch statistics" in problem for problem in problems)


def test_buffers_in_a_trainable_layer_are_named() -> None:
    class Masked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.register_buffer("mask", torch.ones(4))

    assert unsafe_for_dp(Masked()) == ["module: a trainable layer with buffers, which Opacus does not support"]


def test_frozen_parameters_may_be_tied() -> None:
    module = Tied().requires_grad_(False)
    assert unsafe_for_dp(nn.Sequential(module, nn.Linear(4, 4))) == []


# ---- traps that show when it runs


class Net(nn.Module):
    """Two layers with something between them, and a loss per row."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.enter, self.leave, self.between = nn.Linear(4, 4), nn.Linear(4, 2), between

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.between(self, self.enter(x))).square().sum(1)


def found(module: nn.Module) -> list[str]:
    return unsafe_for_dp(module, lambda: module(torch.linspace(-1, 1, 12).view(3, 4)))


def test_an_honest_network_runs_without_a_problem_and_without_a_trace() -> None:
    module = Net(lambda _, h: h.tanh()).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert found(module) == []
    assert not module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not any(layer._forward_hooks for layer in module.modules())
    assert all(p.grad is None for p in module.parameters())


def test_a_code_book_kept_as_a_plain_attribute_is_found_and_put_back() -> None:
    def quantise(self: nn.Module, h: Tensor) -> Tensor:
        self.codes = 0.9 * self.codes + 0.1 * h.detach().mean(0)
        return h - self.codes

    module = Net(quantise)
    module.codes = torch.zeros(4)
    assert found(module) == ["codes: changes in the forward pass, unclipped and without noise"]
    assert torch.all(module.codes == 0)


def test_a_running_number_is_found_and_put_back() -> None:
    def scale(self: nn.Module, h: Tensor) -> Tensor:
        self.scale = 0.9 * self.scale + 0.1 * float(h.detach().abs().mean())
        return h / self.scale

    module = Net(scale)
    module.scale = 1.0
    assert found(module) == ["scale: changes in the forward pass, unclipped and without noise"]
    assert module.scale == 1.0


def test_batch_statistics_without_a_layer_are_found() -> None:
    assert found(Net(lambda _, h: h - h.mean(0))) == [
        "enter: after it, one row of the batch enters the loss of another"
    ]
    functional = Net(lambda _, h: nn.functional.batch_norm(h, None, None, training=True))
    assert found(functional) == ["enter: after it, one row of the batch enters the loss of another"]


def test_attention_across_the_batch_is_found() -> None:
    module = Net(lambda _, h: (h @ h.mT).softmax(-1) @ h)
    assert found(module) == ["enter: after it, one row of the batch enters the loss of another"]


def test_an_activation_overwritten_in_place_is_found() -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = x.clone()
            y = self.layer(h)
            h.zero_()
            return y.sum(1)

    problems = found(Overwrites())
    assert "layer: its input is overwritten in place after the call, which the hooks have saved" in problems


def test_a_parameter_that_no_loss_reaches_is_found() -> None:
    module = Net(lambda _, h: h.detach())
    assert found(module) == [
        f"enter.{name}: no gradient reaches it; freeze it or use it" for name in ("weight", "bias")
    ]
    module.enter.requires_grad_(False)
    assert found(module) == []


def test_an_example_that_breaks_is_a_problem_among_the_others() -> None:
    module = Net(lambda _, h: h.view(7, 7))
    module.extra = nn.BatchNorm1d(4)
    problems = found(module)
    assert [problem.split(":")[0] for problem in problems] == ["extra", "module"]
    assert "the example does not run" in problems[1]


def test_problems_of_all_kinds_come_at_once() -> None:
    def everything(self: nn.Module, h: Tensor) -> Tensor:
        self.codes = self.codes + 1
        return h - h.mean(0)

    module = Net(everything)
    module.codes = torch.zeros(4)
    module.spare, module.norm = nn.Linear(2, 2), nn.BatchNorm1d(4)
    names = [problem.split(":")[0] for problem in found(module)]
    assert names == ["norm", "codes", "spare.weight", "spare.bias", "norm.weight", "norm.bias", "enter"]


def test_state_that_learns_in_the_forward_pass_shows_when_it_runs() -> None:
    module = CodeBook().eval()
    assert unsafe_for_dp(module) == []
    found = unsafe_for_dp(module, lambda: module(torch.ones(3, 4)))
    assert found == ["codes: changes in the forward pass, unclipped and without noise"]
    assert torch.all(module.codes == 0)
    assert not module.training


def test_state_that_stays_is_no_problem() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    assert unsafe_for_dp(module, lambda: module(torch.ones(3, 4))) == []


def test_looking_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unsafe_for_dp(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
