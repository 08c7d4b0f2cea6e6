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

# Measured: 25.2, 29.6 and 30.0 dB; speckle, which it draws instead of keeping, is averaged away before.
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
    error = (F.avg_pool2d(drawn, 4) - F.avg_pool2d(x, 4)).square().mean().item()
    psnr = 10 * np.log10(4 / error)
    assert psnr > least
