"""Everything that would mix subjects or escape the hooks is listed before training, all at once."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

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
