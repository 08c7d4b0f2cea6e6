"""Diffusion keeps its identities, solvers their orders, and the exact denoiser of a Gaussian gives it back."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthesis import diffusion
from synthesis.diffusion import SIGMA_DATA

DOUBLE = torch.float64


def _three(n=64):
    g = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(n, 3, dtype=DOUBLE, generator=g) for _ in range(2))
    return data, noise, torch.rand(n, dtype=DOUBLE, generator=g) * 0.98 + 0.01


@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
def test_a_schedule_falls_from_all_signal_to_almost_none(schedule):
    kept = diffusion.signal_kept(schedule)
    assert kept.shape == (diffusion.LEVELS + 1,)
    assert kept[0] == 1
    assert (kept.diff() < 0).all()
    assert 0 < kept[-1] < 1e-4


def test_the_linear_schedule_is_that_of_its_paper():
    # Ho et al. 2020, section 4: β from 1e-4 to 0.02 in 1000 steps.
    kept = diffusion.signal_kept("linear")
    assert kept[1].item() == pytest.approx(1 - 1e-4)
    assert (1 - kept[-1] / kept[-2]).item() == pytest.approx(0.02)


def test_the_cosine_schedule_is_half_way_half_signal():
    kept = diffusion.signal_kept("cosine")
    assert kept[500].item() == pytest.approx(
        math.cos(math.pi / 2 * 0.508 / 1.008) ** 2 / math.cos(0.004 / 1.008 * math.pi) ** 2
    )


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule='sigmoid' must be one of cosine, linear"):
        diffusion.signal_kept("sigmoid")


def test_noise_velocity_and_data_tell_of_each_other():
    data, noise, kept = _three()
    x, v = diffusion.diffuse(data, noise, kept), diffusion.velocity(data, noise, kept)
    torch.testing.assert_close(diffusion.data_of_noise(x, noise, kept), data)
    torch.testing.assert_close(diffusion.data_of_velocity(x, v, kept), data)
    torch.testing.assert_close(diffusion.noise_of_data(x, data, kept), noise)
    # Salimans & Ho 2022, appendix D: e = √(1 - ᾱ) x + √ᾱ v, and v is the slope of x along the angle.
    a = kept.view(-1, 1)
    torch.testing.assert_close((1 - a).sqrt() * x + a.sqrt() * v, noise)
    angle = torch.arccos(a.sqrt())
    ahead = (angle + 1e-6).cos() * data + (angle + 1e-6).sin() * noise
    torch.testing.assert_close((ahead - x) / 1e-6, v, atol=1e-4, rtol=1e-4)


def test_preconditioning_keeps_inputs_and_targets_at_spread_one():
    g = torch.Generator().manual_seed(0)
    for sigma in (0.002, 0.1, 0.5, 3.0, 80.0):
        s = torch.full((200_000,), sigma, dtype=DOUBLE)
        data = SIGMA_DATA * torch.randn(len(s), dtype=DOUBLE, generator=g)
        x = data + sigma * torch.randn(len(s), dtype=DOUBLE, generator=g)
        skip, out, enter, told = diffusion.preconditioning(s)
        assert (enter * x).std().item() == pytest.approx(1, abs=0.01)
        assert ((data - skip * x) / out).std().item() == pytest.approx(1, abs=0.01)
        torch.testing.assert_close(diffusion.weight(s) * out**2, torch.ones_like(s))
        assert told[0].item() == pytest.approx(math.log(sigma) / 4)


def test_preconditioning_passes_clean_data_on_and_asks_the_network_of_noise():
    x = torch.randn(4, 2, dtype=DOUBLE)

    def network(y, told):
        return torch.ones_like(y)

    nothing, all_ = (diffusion.preconditioned(network, x, torch.full((4,), s, dtype=DOUBLE)) for s in (1e-6, 1e6))
    torch.testing.assert_close(nothing, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(all_, torch.full_like(x, SIGMA_DATA), atol=1e-5, rtol=0)


def test_noise_levels_to_train_on_are_log_normal():
    logs = diffusion.draw_sigma(100_000, torch.Generator().manual_seed(0)).log()
    assert logs.mean().item() == pytest.approx(-1.2, abs=0.02)
    assert logs.std().item() == pytest.approx(1.2, abs=0.02)


@given(st.integers(1, 200))
def test_the_way_down_begins_and_ends_where_it_must(steps):
    levels, rungs = diffusion.sigmas(steps), diffusion.ladder(steps)
    assert len(levels) == len(rungs) == steps + 1
    assert levels[0] == pytest.approx(80)
    assert (levels[-1], rungs[0], rungs[-1]) == (0, 1000, 0)
    for way in (levels, rungs):
        assert all(a > b for a, b in pairwise(way))
    if steps > 1:
        assert levels[-2] == pytest.approx(0.002)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_ladder_without_rungs_or_with_too_many_is_refused(steps):
    with pytest.raises(ValueError, match=f"steps={steps} must be"):
        diffusion.ladder(steps)


def _at_the_point_that_was_left(denoise, x, now, then):
    """Correct with the slope of the old point, as the published code of the comparison: twice the work for nothing."""
    here = diffusion._slope(denoise, x, now)
    again = diffusion._slope(denoise, x, now)
    return x + (then - now) * (here + again) / 2


@pytest.mark.parametrize(
    ("step", "order"), [(diffusion.euler, 1), (diffusion.heun, 2), (_at_the_point_that_was_left, 1)]
)
def test_a_solver_has_its_order_on_a_linear_equation(step, order):
    # Data N(0, 1) and noise σ: D(x) = x / (1 + σ²), so dx/dσ = x σ / (1 + σ²) and x ~ √(1 + σ²).
    def error(steps):
        way = torch.linspace(4, 0.5, steps + 1, dtype=DOUBLE).tolist()
        x = torch.ones(1, 1, dtype=DOUBLE)
        for now, then in pairwise(way):
            x = step(lambda x, s: x / (1 + s.view(-1, 1) ** 2), x, now, then)
        return abs(x.item() - math.sqrt(1.25 / 17))

    assert error(40) / error(80) == pytest.approx(2**order, rel=0.1)


def test_the_correction_of_heun_asks_at_the_new_point_and_the_new_level():
    asked = []

    def denoise(x, sigma):
        asked.append((x.clone(), sigma[0].item()))
        return x / 2

    x = torch.ones(1, 1, dtype=DOUBLE)
    diffusion.heun(denoise, x, 2.0, 1.0)
    assert [s for _, s in asked] == [2.0, 1.0]
    torch.testing.assert_close(asked[1][0], diffusion.euler(lambda x, s: x / 2, x, 2.0, 1.0))


@pytest.mark.parametrize(("steps", "step", "expected"), [(18, diffusion.heun, 35), (18, diffusion.euler, 18)])
def test_the_network_is_asked_as_often_as_the_paper_says(steps, step, expected):
    asked = []
    diffusion.clean(lambda x, s: asked.append(s) or x, torch.ones(1, 1), diffusion.sigmas(steps), step=step)
    assert len(asked) == expected


MEAN, SPREAD = 0.7, 0.4  # what the exact denoisers know of


def _fresh(n):
    g = torch.Generator().manual_seed(1)
    return lambda: torch.randn(n, 1, dtype=DOUBLE, generator=g)


def _recovered(drawn):
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert drawn.std().item() == pytest.approx(SPREAD, abs=0.02)


@pytest.mark.parametrize("eta", [0.0, 1.0], ids=["ddim", "ancestral"])
@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_walking_down_gives_a_gaussian_back(schedule, eta, prediction):
    kept, fresh = diffusion.signal_kept(schedule), _fresh(40_000)

    def denoise(x, level):
        a = kept[level].view(-1, 1)
        gain = a.sqrt() * SPREAD**2 / (a * SPREAD**2 + 1 - a)
        data = MEAN + gain * (x - a.sqrt() * MEAN)
        noise = diffusion.noise_of_data(x, data, kept[level])  # through what a network would say, and back
        if prediction == "noise":
            return diffusion.data_of_noise(x, noise, kept[level])
        return diffusion.data_of_velocity(x, diffusion.velocity(data, noise, kept[level]), kept[level])

    _recovered(diffusion.descend(denoise, fresh(), kept, steps=200, eta=eta, fresh=fresh))


@pytest.mark.parametrize("churn", [0.0, 40.0])
@pytest.mark.parametrize(("step", "steps"), [(diffusion.heun, 40), (diffusion.euler, 400)])
def test_cleaning_gives_a_gaussian_back(step, steps, churn):
    fresh = _fresh(40_000)

    def denoise(x, sigma):
        s = sigma.view(-1, 1) ** 2
        return (SPREAD**2 * x + s * MEAN) / (SPREAD**2 + s)

    # Karras et al. put back slightly more noise than they take (S_noise 1.003), which a Gaussian notices.
    _recovered(diffusion.clean(denoise, fresh(), diffusion.sigmas(steps), step=step, churn=churn, fresh=fresh))


def test_time_read_the_wrong_way_round_does_not_give_it_back():
    kept = diffusion.signal_kept("cosine")

    def backwards(x, level):
        a = kept[diffusion.LEVELS - level].view(-1, 1)
        return MEAN + a.sqrt() * SPREAD**2 / (a * SPREAD**2 + 1 - a) * (x - a.sqrt() * MEAN)

    drawn = diffusion.descend(backwards, _fresh(10_000)(), kept, steps=50)
    assert abs(drawn.std().item() - SPREAD) > 0.1


def test_noise_that_is_needed_and_not_given_is_asked_for():
    x, same = torch.zeros(1, 1), lambda x, _: x
    with pytest.raises(ValueError, match=r"eta=1\.0 needs fresh noise"):
        diffusion.descend(same, x, diffusion.signal_kept("linear"), steps=3, eta=1.0)
    with pytest.raises(ValueError, match="churn=40 needs fresh noise"):
        diffusion.clean(same, x, diffusion.sigmas(5), churn=40)
