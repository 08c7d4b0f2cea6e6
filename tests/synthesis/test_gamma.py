"""The Γ-autoencoder: its divergence is right, its draws are its own, and it really encodes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cohorts.phantom import simulate
from learning.blocks import to_signal
from learning.learner import fit
from synthesis.gamma import ALPHA, BETA, GammaAutoencoder, GammaLearner, divergence, draw

DOUBLE = torch.float64
positive = st.floats(0.05, 50)


def _pair(alpha, beta):
    return torch.tensor(alpha, dtype=DOUBLE), torch.tensor(beta, dtype=DOUBLE)


def test_the_divergence_of_the_prior_from_itself_is_nothing():
    assert divergence(*_pair(ALPHA, BETA)).item() == pytest.approx(0, abs=1e-12)


@given(positive, positive)
def test_the_divergence_is_never_negative_and_is_that_of_torch(alpha, beta):
    # torch's own closed form, of the prior from the posterior: in this order.
    p, q = (torch.distributions.Gamma(*_pair(a, b)) for a, b in ((ALPHA, BETA), (alpha, beta)))
    found = divergence(*_pair(alpha, beta)).item()
    assert found >= -1e-12
    assert found == pytest.approx(torch.distributions.kl_divergence(p, q).item(), rel=1e-9, abs=1e-9)


def test_the_divergence_is_the_mean_of_the_log_ratio_over_the_prior():
    g = torch.Generator().manual_seed(0)
    z = torch._standard_gamma(torch.full((400_000,), ALPHA, dtype=DOUBLE), generator=g) / BETA
    for alpha, beta in ((2.0, 10.8), (6.0, 12.0), (3.75, 5.0)):
        p, q = (torch.distributions.Gamma(*_pair(a, b)) for a, b in ((ALPHA, BETA), (alpha, beta)))
        by_chance = (p.log_prob(z) - q.log_prob(z)).mean().item()
        assert divergence(*_pair(alpha, beta)).item() == pytest.approx(by_chance, rel=0.02, abs=0.005)


def test_the_slope_of_the_divergence_is_that_of_finite_differences():
    at = [t.requires_grad_() for t in _pair([0.5, 3.75, 9.0], [4.0, 10.8, 30.0])]
    assert torch.autograd.gradcheck(divergence, at)


def test_draws_have_the_mean_and_the_spread_of_their_gamma_and_a_slope():
    alpha, beta = torch.full((4, 50_000), 5.0, requires_grad=True), torch.full((4, 50_000), 9.0)
    z = draw(alpha, beta, torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(5 / 9, rel=0.01)
    assert z.var().item() == pytest.approx(5 / 81, rel=0.02)
    z.mean().backward()
    assert alpha.grad.sum().item() == pytest.approx(1 / 9, rel=0.02)  # d(α/β)/dα


def test_the_draws_of_a_row_do_not_hang_on_another_row():
    one, other = torch.full((3, 400), 2.0), torch.full((3, 400), 2.0)
    other[0] = 0.05  # rejected more often
    first, second = (draw(a, torch.ones_like(a), torch.Generator().manual_seed(0)) for a in (one, other))
    assert torch.equal(first[1:], second[1:])
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("factor", [2, 4])
def test_the_posterior_begins_near_the_prior_and_the_latent_is_small(factor):
    module = GammaAutoencoder(width=8, factor=factor)
    x = torch.rand(2, 1, 32, 32) * 2 - 1
    alpha, beta = module.posterior(x)
    assert alpha.shape == beta.shape == (2, 1, 32 // factor, 32 // factor)
    assert min(alpha.min(), beta.min()) > 0
    assert module.encode(x).abs().max() <= 1
    assert module.decode(module.encode(x)).shape == x.shape


def test_a_factor_that_nobody_trained_is_refused():
    with pytest.raises(ValueError, match="factor=3 must be one of"):
        GammaAutoencoder(factor=3)


def _psnr(one, two):
    return 10 * np.log10(4 / (one - two).square().mean().item())


def test_it_really_encodes_where_the_published_one_drew_from_the_prior():
    seen, new = (simulate.stills(n, seed=seed, size=32) for n, seed in ((40, 81), (10, 82)))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = GammaAutoencoder(width=16, factor=2)
    fit(GammaLearner(module), seen, steps=120, batch_size=16, learning_rate=3e-3, seed=0)
    x = to_signal(torch.from_numpy(new.pixels))
    with torch.inference_mode():
        z = module.encode(x)
        prior = torch._standard_gamma(torch.full_like(z, ALPHA), generator=torch.Generator().manual_seed(0)) / BETA
        through, noise = _psnr(module.decode(z), x), _psnr(module.decode((2 * prior - 1).clamp(-1, 1)), x)
        small = torch.nn.functional.avg_pool2d(x, 2)
    assert through > 18
    assert through > noise + 5
    # The latent is a small picture that can be read.
    assert np.corrcoef(z.flatten(), small.flatten())[0, 1] > 0.8
