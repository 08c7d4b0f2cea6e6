"""The public autoencoder: 64x64 images to 4x8x8 latents and back, trained on the phantom only.

The decoder also sees the structures to draw (spatially adaptive, after Park et al. 2019, arXiv 1903.07291, here by
concatenation) and a noise map (Karras et al. 2019, arXiv 1812.04948), so that a latent carries appearance, the mask
says exactly where the structures end, and speckle is drawn instead of averaged away. Nothing in it ever saw a patient:
sites use it frozen, at no cost in privacy.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning.blocks import ResidualBlock, norm, one_hot

CHANNELS, GRID, FACTOR = 4, 8, 8
STRUCTURES = 3


class Encoder(nn.Module):
    """Image `(n, 1, 64, 64)` in [-1, 1] -> mean and log variance of the latent, each `(n, 4, 8, 8)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.net = nn.Sequential(
            nn.Conv2d(1, w, 3, padding=1),
            ResidualBlock(w, w),
            nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),
            ResidualBlock(2 * w, 2 * w),
            nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1),
            ResidualBlock(4 * w, 4 * w),
            nn.Conv2d(4 * w, 4 * w, 4, stride=2, padding=1),
            ResidualBlock(4 * w, 4 * w),
            norm(4 * w),
            nn.SiLU(),
            nn.Conv2d(4 * w, 2 * CHANNELS, 3, padding=1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.net(x).chunk(2, 1)
        return mean, log_variance.clamp(-12, 4)


class Decoder(nn.Module):
    """Latent, structures and noise -> image `(n, 1, 64, 64)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w, extra = width, STRUCTURES + 1
        self.enter = nn.Conv2d(CHANNELS, 4 * w, 3, padding=1)
        self.stages = nn.ModuleList(
            [ResidualBlock(4 * w + extra, 4 * w), ResidualBlock(4 * w + extra, 2 * w), ResidualBlock(2 * w + extra, w)]
        )
        self.last = ResidualBlock(w + extra, w)
        self.leave = nn.Sequential(norm(w), nn.SiLU(), nn.Conv2d(w, 1, 3, padding=1))

    def forward(self, z: Tensor, structures: Tensor, noise: Tensor) -> Tensor:
        h = self.enter(z)
        for stage in self.stages:
            h = F.interpolate(stage(self._see(h, structures, noise)), scale_factor=2.0)
        return torch.tanh(self.leave(self.last(self._see(h, structures, noise))))

    def _see(self, h: Tensor, structures: Tensor, noise: Tensor) -> Tensor:
        step = structures.shape[-1] // h.shape[-1]
        coarse = F.avg_pool2d(structures, step) if step > 1 else structures
        # One noise map for all scales: every step-th pixel, so that its variance stays one.
        return torch.cat([h, coarse, noise[..., ::step, ::step]], 1)


class Autoencoder(nn.Module):
    """Encoder, decoder, and the per-channel constants that make latents standard normal on average.

    Attributes:
        latent_mean: `(4,)`, latent_std: `(4,)`: measured on the phantom, stored with the weights.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(width), Decoder(width)
        self.register_buffer("latent_mean", torch.zeros(CHANNELS))
        self.register_buffer("latent_std", torch.ones(CHANNELS))

    def encode(self, x: Tensor) -> Tensor:
        """Return the standardised latent mean `(n, 4, 8, 8)` of images `(n, 1, 64, 64)` in [-1, 1]."""
        mean, _ = self.encoder(x)
        return (mean - self.latent_mean.view(-1, 1, 1)) / self.latent_std.view(-1, 1, 1)

    def decode(self, z: Tensor, masks: Tensor, noise: Tensor) -> Tensor:
        """Return images `(n, 1, 64, 64)` in [-1, 1].

        Args:
            z: standardised latents `(n, 4, 8, 8)`.
            masks: uint8 `(n, 64, 64)`.
            noise: standard normal `(n, 1, 64, 64)`.
        """
        latent = z * self.latent_std.view(-1, 1, 1) + self.latent_mean.view(-1, 1, 1)
        image: Tensor = self.decoder(latent, one_hot(masks), noise)
        return image
