"""The flow follows one time convention and its solvers have the order they claim."""

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


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_a_solver_has_the_order_it_claims_on_a_linear_equation(solver, order):
    x = torch.ones(1, 1, dtype=torch.float64)

    def error(steps):
        end = flow.integrate(lambda x, t: -2 * t.view(-1, 1) * x, x, steps=steps, solver=solver)
        return abs(end.item() - torch.e)

    assert error(40) / error(80) == pytest.approx(2**order, rel=0.25)


@pytest.mark.parametrize("solver", flow.SOLVERS)
def test_the_evaluations_of_a_solver_are_counted_right(solver):
    asked = []
    flow.integrate(lambda x, t: asked.append(t) or x, torch.zeros(2, 1), steps=5, solver=solver)
    assert len(asked) == flow.evaluations(solver, 5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_jumps_by_the_exact_mean_velocity_arrive_at_once(steps):
    # dx/dt = -2 t x is solved by x exp(t^2 changed): its mean velocity from t to r is known.
    def mean_field(x, t, until):
        return x * (1 - torch.exp(t**2 - until**2)).view(-1, 1) / (t - until).view(-1, 1)

    end = flow.jump(mean_field, torch.ones(3, 1, dtype=torch.float64), steps=steps)
    torch.testing.assert_close(end, torch.full((3, 1), torch.e, dtype=torch.float64), atol=1e-6, rtol=1e-6)


def test_an_unknown_solver_is_refused_by_name():
    with pytest.raises(ValueError, match="solver='rk45' must be one of euler, midpoint, heun"):
        flow.integrate(lambda x, t: x, torch.zeros(1), steps=1, solver="rk45")


def test_guidance_of_one_is_the_conditional_field():
    a, b = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(flow.guide(a, b, 1.0), a)
    torch.testing.assert_close(flow.guide(a, b, 0.0), b)


def test_guidance_by_several_conditions_adds_what_each_changes():
    c, one, two = torch.randn(3, 4).unbind()
    torch.testing.assert_close(flow.guided(c, []), c)
    torch.testing.assert_close(flow.guided(c, [(one, 2.0)]), flow.guide(c, one, 2.0))
    torch.testing.assert_close(flow.guided(c, [(one, 2.0), (two, 1.5)]), c + (c - one) + 0.5 * (c - two))


def test_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps=0"):
        flow.integrate(lambda x, t: x, torch.zeros(1), steps=0)
