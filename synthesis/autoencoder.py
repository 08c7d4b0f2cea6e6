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
            nn.PixelUnshuffle(2),  # full resolution costs most and adds least: work on 32x32 from the first layer
            nn.Conv2d(4, w, 3, padding=1),
            ResidualBlock(w, w),
            nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),
            ResidualBlock(2 * w, 2 * w),
            nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1),
            ResidualBlock(4 * w, 4 * w),
            norm(4 * w),
            nn.SiLU(),
            nn.Conv2d(4 * w, 2 * CHANNELS, 3, padding=1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance."""
        mean, log_variance = self.net(x).chunk(2, 1)
        return mean, log_variance.clamp(-12, 4)


class Decoder(nn.Module):
    """Latent, structures and noise -> image `(n, 1, 64, 64)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w, coarse, fine = width, STRUCTURES + 1, 4 * (STRUCTURES + 1)
        self.enter = nn.Conv2d(CHANNELS, 4 * w, 3, padding=1)
        self.at8 = ResidualBlock(4 * w + coarse, 4 * w)
        self.at16 = ResidualBlock(4 * w + coarse, 2 * w)
        self.at32 = ResidualBlock(2 * w + fine, w)
        self.last = ResidualBlock(w + fine, w)
        self.leave = nn.Sequential(norm(w), nn.SiLU(), nn.Conv2d(w, 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, z: Tensor, structures: Tensor, noise: Tensor) -> Tensor:
        """Draw the image: structures `(n, 3, 64, 64)`, noise `(n, 1, 64, 64)`."""
        # Structures are averaged; noise is scaled to keep its variance at one.
        at8, at16 = (torch.cat([F.avg_pool2d(structures, k), k * F.avg_pool2d(noise, k)], 1) for k in (8, 4))
        at32 = F.pixel_unshuffle(torch.cat([structures, noise], 1), 2)
        h = F.interpolate(self.at8(torch.cat([self.enter(z), at8], 1)), scale_factor=2.0)
        h = F.interpolate(self.at16(torch.cat([h, at16], 1)), scale_factor=2.0)
        h = self.at32(torch.cat([h, at32], 1))
        return torch.tanh(self.leave(self.last(torch.cat([h, at32], 1))))


class Autoencoder(nn.Module):
    """Encoder, decoder, and the per-channel constants that make latents standard normal on average.

    Attributes:
        latent_mean: `(4,)`, latent_std: `(4,)`: measured on the phantom, stored with the weights.
    """

    channels, factor = CHANNELS, FACTOR
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(width), Decoder(width)
        self.register_buffer("latent_mean", torch.zeros(CHANNELS))
        self.register_buffer("latent_std", torch.ones(CHANNELS))

    def encode(self, x: Tensor) -> Tensor:
        """Return the standardised latent mean `(n, 4, 8, 8)` of images `(n, 1, 64, 64)` in [-1, 1]."""
        mean, _ = self.encoder(x)
        z: Tensor = (mean - self.latent_mean.view(-1, 1, 1)) / self.latent_std.view(-1, 1, 1)
        return z

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
