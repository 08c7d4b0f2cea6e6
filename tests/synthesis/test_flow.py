"""The flow follows one time convention and its solver has the order it claims."""

import pytest
import torch

from synthesis import flow


def test_the_path_starts_at_the_data_and_ends_in_noise():
    data, noise = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    torch.testing.assert_close(flow.interpolate(data, noise, torch.zeros(5)), data)
    torch.testing.assert_close(flow.interpolate(data, noise, torch.ones(5)), noise)


def test_the_velocity_is_the_slope_of_the_path():
    data, noise, t = torch.randn(4, 3), torch.randn(4, 3), torch.full((4,), 0.3)
    slope = (flow.interpolate(data, noise, t + 1e-3) - flow.interpolate(data, noise, t - 1e-3)) / 2e-3
    torch.testing.assert_close(slope, flow.velocity(data, noise), atol=1e-3, rtol=1e-3)


def test_the_exact_field_of_a_gaussian_recovers_its_mean_and_spread():
    # Data N(3, 0.5^2), noise N(0, 1): the marginal of x_t is Gaussian and its velocity known in closed form.
    mean, spread = 3.0, 0.5
    g = torch.Generator().manual_seed(0)

    def field(x, t):
        s = t.view(-1, 1)
        variance = (1 - s) ** 2 * spread**2 + s**2
        score_scale = (s - (1 - s) * spread**2) / variance
        return score_scale * (x - (1 - s) * mean) - mean

    drawn = flow.integrate(field, torch.randn(20_000, 1, generator=g), steps=40)
    assert drawn.mean().item() == pytest.approx(mean, abs=0.02)
    assert drawn.std().item() == pytest.approx(spread, abs=0.02)


def test_twice_the_steps_give_a_quarter_of_the_error():
    x = torch.ones(1, 1, dtype=torch.float64)

    def error(steps):
        return abs(flow.integrate(lambda x, t: -2 * t.view(-1, 1) * x, x, steps=steps).item() - torch.e)

    assert error(40) / error(80) == pytest.approx(4, rel=0.25)


def test_guidance_of_one_is_the_conditional_field():
    a, b = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(flow.guide(a, b, 1.0), a)
    torch.testing.assert_close(flow.guide(a, b, 0.0), b)


def test_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps=0"):
        flow.integrate(lambda x, t: x, torch.zeros(1), steps=0)
