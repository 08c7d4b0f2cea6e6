"""The public autoencoders keep what they are given, at every size that the house works in."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cohorts.phantom import simulate
from learning import arrays
from learning.blocks import to_signal
from synthesis import priors
from synthesis.autoencoder import Autoencoder
from synthesis.gamma import GammaAutoencoder

# Measured: 25.2, 29.6 and 30.0 dB, and of the Γ one 25.5, 29.4 and 30.0: of means of 4x4 pixels, without the speckle.
AVAE = [("autoencoder", Autoencoder, size, psnr) for size, psnr in ((32, 24.0), (64, 28.5), (112, 29.0))]


@pytest.mark.parametrize(("name", "make", "size", "least"), AVAE)
def test_a_public_autoencoder_keeps_what_is_coarser_than_speckle(name, make, size, least):
    module = make().eval()
    arrays.load_state(module, priors.load(name))
    frames = simulate.stills(4, seed=97, size=size)
    x, masks = to_signal(torch.from_numpy(frames.pixels)), torch.from_numpy(frames.masks)
    with torch.inference_mode():
        z = module.encode(x)
        drawn = module.decode(z, masks, torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    assert z.shape == (16, module.channels, size // module.factor, size // module.factor)
    assert drawn.shape == x.shape
    assert _psnr(F.avg_pool2d(drawn, 4), F.avg_pool2d(x, 4)) > least


@pytest.mark.parametrize(("size", "least"), [(32, 24.5), (64, 28.5), (112, 29.0)])
def test_the_public_gamma_autoencoder_keeps_more_than_a_small_picture_does(size, least):
    module = GammaAutoencoder().eval()
    arrays.load_state(module, priors.load("gamma"))
    x = to_signal(torch.from_numpy(simulate.stills(4, seed=97, size=size).pixels))
    small = F.avg_pool2d(x, 4)
    with torch.inference_mode():
        z = module.encode(x)
        drawn = module.decode(z)
    assert z.shape == small.shape
    assert np.corrcoef(z.flatten(), small.flatten())[0, 1] > 0.9
    assert _psnr(F.avg_pool2d(drawn, 4), small) > least
    assert _psnr(drawn, x) > _psnr(F.interpolate(small, scale_factor=4.0), x) + 0.8


def _psnr(one, two):
    return 10 * np.log10(4 / (one - two).square().mean().item())
