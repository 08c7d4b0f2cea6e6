"""From latents of 64 pixels to those of 112: the last stage of a cascade, after everything dear was done small.

As EchoDiffusion's cascade draws small and enlarges (Reynaud et al. 2023, arXiv 2303.12644), but in the latent space of
the public autoencoder and by a network without noise: what a larger picture adds is where structures end, which the
decoder is told by the larger mask, and finer speckle, which it draws. Residual on bicubic enlargement; convolutions
alone, so places do not matter. Trained on the phantom at both sizes: public, at no cost in privacy.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.clips import films
from cohorts.frames import VIEWS
from learning import arrays
from learning.blocks import ResidualBlock, one_hot, to_signal
from synthesis import priors
from synthesis.autoencoder import CHANNELS, FACTOR, GRID, STRUCTURES, Autoencoder

NAME, SIZE = "enlarger", 112


class Enlarger(nn.Module):
    """Standardised latents `(n, 4, 8, 8)` and masks of the larger side -> standardised latents of that side."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.structures = nn.Conv2d(STRUCTURES * FACTOR**2, width, 1)
        self.enter = nn.Conv2d(CHANNELS, width, 3, padding=1)
        self.blocks = nn.Sequential(ResidualBlock(width, width), ResidualBlock(width, width))
        self.leave = nn.Conv2d(width, CHANNELS, 3, padding=1)

    def forward(self, z: Tensor, masks: Tensor) -> Tensor:
        """Enlarge.

        Args:
            z: `(n, 4, g, g)`.
            masks: uint8 `(n, side, side)`, a multiple of 8.
        """
        side = masks.shape[-1] // FACTOR
        plain = F.interpolate(z, size=(side, side), mode="bicubic")
        h = self.enter(plain) + self.structures(F.pixel_unshuffle(one_hot(masks), FACTOR))
        y: Tensor = plain + self.leave(self.blocks(h))
        return y


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the enlarger is made; written into its provenance.

    Attributes:
        subjects: phantoms, each in all views; frames: of each, at random phases.
        steps: of the optimiser; batch_size: frames a step; learning_rate: the highest.
        unlabelled: share of the frames whose mask is not told.
        seed: of phantoms, weights and batches.
    """

    subjects: int = 160
    frames: int = 3
    steps: int = 1_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    unlabelled: float = 0.15
    seed: int = 20_261_121


def train(out: Path, *, recipe: Recipe, progress: Callable[[str, int, int], None]) -> None:
    """Train the enlarger and write it, as float16 safetensors with its provenance, into the folder `out`."""
    autoencoder = Autoencoder().eval().requires_grad_(False)
    arrays.load_state(autoencoder, priors.load("autoencoder"))
    small, large, masks = pairs(autoencoder, recipe.subjects, recipe.frames, seed=recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        network = Enlarger()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=recipe.steps)
    dice = torch.Generator().manual_seed(recipe.seed)
    for step in range(recipe.steps):
        rows = torch.randint(len(small), (recipe.batch_size,), generator=dice)
        unknown = torch.rand(len(rows), 1, 1, generator=dice) < recipe.unlabelled
        # Drawn latents are a little off: so are these, that the network does not sharpen what is not there.
        noisy = small[rows] + 0.05 * torch.randn(small[rows].shape, generator=dice)
        loss = F.mse_loss(network(noisy, masks[rows].masked_fill(unknown, 255)), large[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rates.step()
        progress("enlarger", step + 1, recipe.steps)
    write(out, network, recipe)


def write(out: Path, network: Enlarger, recipe: Recipe) -> None:
    """Write the weights as float16 and, beside them, how they were made."""
    out.mkdir(parents=True, exist_ok=True)
    arrays.write(out / f"{NAME}.safetensors", {n: a.astype(np.float16) for n, a in arrays.state(network).items()})
    record = {
        "command": "pericard prior video",
        "data": "phantom, style 'wide': simulated, no patient",
        "recipe": asdict(recipe),
        "torch": torch.__version__,
        "from": {"autoencoder": priors.provenance()["digests"]["autoencoder"]},
        "digests": {NAME: arrays.digest(arrays.read(out / f"{NAME}.safetensors"))},
    }
    (out / f"{NAME}.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


@torch.inference_mode()
def pairs(autoencoder: Autoencoder, subjects: int, frames: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents of phantoms at 64 and at 112 pixels, of the same moments, and their masks at 112."""
    phase = np.random.default_rng(seed).random((subjects, frames))
    small, large = (films(subjects, phase=phase, seed=seed, size=side, views=VIEWS) for side in (GRID * FACTOR, SIZE))
    masks = torch.from_numpy(large.masks.reshape(-1, SIZE, SIZE))
    return _encoded(autoencoder, small.pixels), _encoded(autoencoder, large.pixels), masks


def _encoded(autoencoder: Autoencoder, pixels: NDArray[np.uint8], at_once: int = 32) -> Tensor:
    flat = torch.from_numpy(pixels).flatten(0, -3)
    parts: Sequence[Tensor] = torch.split(flat, at_once)
    return torch.cat([autoencoder.encode(to_signal(part)) for part in parts])
