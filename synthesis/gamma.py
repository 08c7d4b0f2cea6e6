"""The Γ-latent autoencoder: echo pictures to small ones whose pixels are Gamma distributed, and back.

After Stojanovski et al. 2024 (arXiv 2409.19371): grey values of echo are Gamma distributed, so the posterior of the
latent is Gamma(α, β) around the prior Gamma(3.75, 10.8), and a small term keeps it a readable picture. Departures from
what was released: the encoder's own mean is what `encode` returns (there a draw from the prior took its place), that
mean begins as the picture made small, and there is no perceptual term.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames
from cohorts.phantom import simulate
from learning import arrays
from learning.blocks import ResidualBlock, norm, to_signal
from learning.learner import fit

ALPHA, BETA = 3.75, 10.8  # shape and rate of the prior
FACTORS = (2, 4)
NAME = "gamma"
RECONSTRUCTION, DIVERGENCE, READABLE = 10.0, 1e-3, 1e-2
_LEAST = 1e-2  # of α and β: below, draws leave the range of float32


def divergence(alpha: Tensor, beta: Tensor) -> Tensor:
    """Return KL(Gamma(3.75, 10.8) || Gamma(α, β)) of each element: the prior comes first; β is a rate.

    (a_p - a_q) ψ(a_p) - ln Γ(a_p) + ln Γ(a_q) + a_q (ln b_p - ln b_q) + a_p (b_q - b_p) / b_p; Soch et al. 2020, "The
    Book of Statistical Proofs", P93.
    """
    a, b = torch.full_like(alpha, ALPHA), torch.full_like(beta, BETA)
    return (
        (a - alpha) * torch.digamma(a)
        - torch.lgamma(a)
        + torch.lgamma(alpha)
        + alpha * (b.log() - beta.log())
        + a * (beta - b) / b
    )


def draw(alpha: Tensor, beta: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from Gamma(α, β), differentiably (implicit reparametrisation: Figurnov et al. 2018, arXiv 1805.08498)."""
    # By rejection, so a row uses up as many numbers as its own α asks for: each has a stream of its own, or the noise
    # of one subject would hang on another. `rsample` of torch.distributions calls the same, but takes no generator.
    seeds = torch.randint(2**62, (len(alpha),), generator=generator).tolist()
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    rows = [torch._standard_gamma(a, generator=stream) for a, stream in zip(alpha, streams, strict=True)]
    return torch.stack(rows) / beta


class GammaAutoencoder(nn.Module):
    """Pictures `(n, 1, s, s)` in [-1, 1] to latents `(n, 1, s/factor, s/factor)` in [-1, 1] and back.

    Args:
        width: channels at half resolution, where it begins.
        factor: 2 or 4, how much smaller a latent is; s is divisible by it.
    """

    channels = 1

    def __init__(self, width: int = 32, factor: int = 4) -> None:
        super().__init__()
        if factor not in FACTORS:
            raise ValueError(f"factor={factor} must be one of {FACTORS}")
        self.factor, deep = factor, width * factor // 2
        down = [nn.Conv2d(width, deep, 4, stride=2, padding=1)] if factor == 4 else []
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4, width, 3, padding=1),
            ResidualBlock(width, width),
            *down,
            ResidualBlock(deep, deep),
            norm(deep),
            nn.SiLU(),
            nn.Conv2d(deep, 2, 3, padding=1),
        )
        nn.init.ones_(
            cast("Tensor", self.encoder[-1].bias)
        )  # softplus of one is one: the posterior begins at the prior
        up = [nn.Upsample(scale_factor=2.0)] if factor == 4 else []
        self.decoder = nn.Sequential(
            nn.Conv2d(1, deep, 3, padding=1),
            ResidualBlock(deep, deep),
            *up,
            ResidualBlock(deep, width),
            norm(width),
            nn.SiLU(),
            nn.Conv2d(width, 4, 3, padding=1),
            nn.PixelShuffle(2),
        )
        # The latent begins as the small picture itself and the picture as the latent made large; else chance decides
        # whether the latent becomes a negative of the picture, and the small term that keeps it readable is too weak.
        last, leave = cast("nn.Conv2d", self.encoder[-1]), cast("nn.Conv2d", self.decoder[-2])
        for parameter in (last.weight, last.bias, leave.weight, leave.bias):
            nn.init.zeros_(cast("Tensor", parameter))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return α and β of each pixel of the latent of pictures in [-1, 1]."""
        picture = (x + 1) / 2
        of_shape, of_rate = self.encoder(picture).chunk(2, 1)
        of_shape = of_shape + F.avg_pool2d(picture, self.factor) * (BETA / ALPHA)
        shape, rate = F.softplus(of_shape, beta=10), F.softplus(of_rate + 1, beta=10)  # softplus of one is one
        return (ALPHA * shape).clamp_min(_LEAST), (BETA * rate).clamp_min(_LEAST)

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior's mean α/β as diffusion wants it: clamp(2 z - 1, -1, 1)."""
        alpha, beta = self.posterior(x)
        return (2 * alpha / beta - 1).clamp(-1, 1)

    def decode(self, z: Tensor, masks: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Return pictures in [-1, 1] of latents in [-1, 1]; masks and noise are no matter to it."""
        return 2 * self.picture((z + 1) / 2) - 1

    def picture(self, z: Tensor) -> Tensor:
        """Return the picture, about [0, 1], of Gamma latents, which are positive."""
        drawn: Tensor = F.interpolate(z, scale_factor=float(self.factor)) + self.decoder(z)
        return drawn


class GammaLearner:
    """How the Γ-autoencoder is trained, on public pictures; a `Learner`."""

    def __init__(self, module: GammaAutoencoder) -> None:
        self.module: nn.Module = module

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return reconstruction, divergence and readability of each row, `(len(rows),)`."""
        module = cast("GammaAutoencoder", self.module)
        signal = to_signal(torch.from_numpy(frames.pixels[rows]))
        x = (signal + 1) / 2
        alpha, beta = module.posterior(signal)
        z = draw(alpha, beta, generator)
        terms = (
            (RECONSTRUCTION, (module.picture(z) - x).square()),
            (DIVERGENCE, divergence(alpha, beta)),
            (READABLE, (z - F.avg_pool2d(x, module.factor)).square()),
        )
        loss: Tensor = sum((w * term.flatten(1).mean(1) for w, term in terms), torch.zeros(len(rows)))
        return loss


@dataclass(frozen=True, slots=True, kw_only=True)
class GammaRecipe:
    """How the public one is made; written into its provenance.

    Attributes:
        subjects: phantoms to simulate, each in two views at ED and ES, pictures of 64 px.
        width, factor: of the autoencoder.
        steps, batch_size, learning_rate: of its training.
        seed: of the phantoms, the weights and the batches.
    """

    subjects: int = 120
    width: int = 32
    factor: int = 4
    steps: int = 160
    batch_size: int = 12
    learning_rate: float = 2e-3
    seed: int = 20_260_801


def train(out: Path, recipe: GammaRecipe, *, progress: Callable[[str, int, int], None]) -> None:
    """Train the public Γ-autoencoder and write it, as float16 safetensors with provenance, into the folder `out`."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        learner = GammaLearner(GammaAutoencoder(recipe.width, recipe.factor))
    fit(
        learner,
        simulate.stills(recipe.subjects, seed=recipe.seed),
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        seed=recipe.seed,
        progress=lambda i, n: progress(NAME, i, n),
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{NAME}.safetensors"
    arrays.write(path, {n: a.astype(np.float16) for n, a in arrays.state(learner.module).items()})
    record = {
        "command": "pericard prior gamma",
        "data": "phantom, style 'wide': simulated, no patient",
        "recipe": asdict(recipe),
        "torch": torch.__version__,
        "digests": {NAME: arrays.digest(arrays.read(path))},
    }
    (out / f"{NAME}.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
