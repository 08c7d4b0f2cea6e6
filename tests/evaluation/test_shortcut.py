"""A classifier that reads the margin is told from one that looks at the echo."""

import numpy as np
import pytest
import torch
from torch import nn

from cohorts.frames import VIEWS
from cohorts.phantom.simulate import stills
from evaluation.shortcut import focus, grad_cam, input_gradients, reliance
from learning.backmix import PhantomDonors
from learning.sector import sectors

SIZE = 64
INSIDE = np.zeros((1, SIZE, SIZE), np.bool_)
INSIDE[:, 16:48, 16:48] = True


class _Corner(nn.Module):
    """Knows nothing but the mean grey of a window: two logits, the second is the window's."""

    def __init__(self, rows: slice) -> None:
        super().__init__()
        self.window = nn.Parameter(torch.zeros(1, SIZE, SIZE))
        self.window.data[:, rows, rows] = 1.0
        self.keep = nn.Identity()

    def forward(self, x):
        seen = self.keep(x * self.window).mean((1, 2, 3))
        return torch.stack([torch.zeros_like(seen) - 10, seen], 1)


def _pictures(n=6):
    return np.random.default_rng(0).integers(100, 256, (n, SIZE, SIZE)).astype(np.uint8)


@pytest.mark.parametrize(("rows", "share"), [(slice(16, 48), 1.0), (slice(0, 16), 0.0)])
def test_gradients_show_where_the_network_looks(rows, share):
    found = focus(input_gradients(_Corner(rows), _pictures()), np.repeat(INSIDE, 6, 0))
    assert (found.mean, found.median, found.at_tau, found.n_frames) == (share, share, share, 6)
    assert found.area == 0.25


@pytest.mark.parametrize(("rows", "share"), [(slice(16, 48), 1.0), (slice(0, 16), 0.0)])
def test_grad_cam_shows_it_too(rows, share):
    network = _Corner(rows)
    bright = np.full((3, SIZE, SIZE), 250, np.uint8)
    assert focus(grad_cam(network, network.keep, bright), np.repeat(INSIDE, 3, 0)).mean == share


def test_grad_cam_of_one_convolution_is_its_own_formula():
    generator = torch.Generator().manual_seed(0)
    conv, head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3, 2)
    for parameter in (*conv.parameters(), *head.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=generator)
    network = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    x = _pictures(2)
    signal = torch.from_numpy(x).float().unsqueeze(1) / 127.5 - 1
    maps, top = conv(signal), network(signal).argmax(1)
    # The mean of channel c enters logit k with weight head[k, c]: so does the mean gradient, over the picture's area.
    wanted = torch.relu((maps * head.weight[top][:, :, None, None]).sum(1)) / SIZE**2
    np.testing.assert_allclose(grad_cam(network, conv, x), wanted.detach(), rtol=1e-4, atol=1e-9)


def test_half_inside_is_half():
    maps = np.zeros((2, SIZE, SIZE))
    maps[0, 20, 20], maps[0, 0, 0] = 3.0, 3.0
    found = focus(maps, np.repeat(INSIDE, 2, 0), tau=0.5)
    assert (found.mean, found.at_tau, found.n_frames) == (0.5, 1.0, 1)


def test_maps_that_say_nothing_or_make_no_sense_are_refused():
    blank = np.zeros((1, SIZE, SIZE))
    for maps, tau, why in (
        (blank, 0.9, "no frame has any"),
        (blank - 1, 0.9, "not negative"),
        (blank + np.nan, 0.9, "finite"),
        (blank + 1, 0.0, "tau"),
        (blank[:, :5], 0.9, "one shape"),
    ):
        with pytest.raises(ValueError, match=why):
            focus(maps, INSIDE, tau=tau)
    with pytest.raises(ValueError, match="layer must run once"):
        grad_cam(_Corner(slice(0, 4)), nn.Identity(), _pictures(1))


def test_looking_leaves_the_network_as_it_was():
    network = _Corner(slice(0, 8)).train()
    before = network.window.detach().clone()
    input_gradients(network, _pictures(1))
    assert network.training
    assert network.window.grad is None
    assert torch.equal(network.window, before)
    assert input_gradients(network, np.zeros((0, SIZE, SIZE), np.uint8)).shape == (0, SIZE, SIZE)


def test_who_reads_the_margin_falls_and_who_reads_the_echo_does_not():
    frames = stills(6, seed=2, style="site-b", views=VIEWS)
    inside = sectors(frames.pixels)
    classes = frames.phase
    pixels = np.where(inside, frames.pixels, np.uint8(0))
    pixels[:, 0, 0] = 255 * classes  # a mark that says it all, outside every sector
    pixels[:, 32, 32] = 100 + 100 * classes

    def by(row):
        return lambda p: np.eye(2)[(p[:, row, row] > 150).astype(int)]

    donors = PhantomDonors(n=32)
    margin = reliance(by(0), pixels, classes, inside, donors, seed=0)
    echo = reliance(by(32), pixels, classes, inside, donors, seed=0)
    assert (margin.as_is, margin.clean, margin.n_frames) == (1.0, 0.5, len(frames))
    assert margin.fall >= 0.5
    assert (echo.as_is, echo.clean, echo.swapped, echo.fall) == (1.0, 1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="known class"):
        reliance(by(0), pixels, np.full(len(frames), -1), inside, donors, seed=0)
