"""Train the public prior of moving hearts on films of the phantom: `pericard prior video`.

It starts from the public image prior, whose frames it learns to tie together, on latents of the public autoencoder.
All of it is learned from a simulator, so it costs no privacy (architecture §6).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts import clips as moving
from cohorts.clips import Clips
from learning import arrays
from learning.blocks import to_signal
from synthesis import flow, priors
from synthesis.autoencoder import Autoencoder
from synthesis.generators.latent_video_edm import LatentVideoEdm
from synthesis.generators.latent_video_flow import LatentVideoFlow, LatentVideoFlowGenerator, masked_mean

Progress = Callable[[str, int, int], None]
Loss = Callable[[nn.Module, Tensor, dict[str, Tensor], torch.Generator], Tensor]  # of each clip
NAME = "latent_video_flow"
_BLOCK = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRecipe:
    """How the prior is made; written into its provenance.

    Attributes:
        subjects: phantoms to film, each in A2C and A4C.
        frames: of each film, at random phases of one beat.
        shown: fewest and most frames that a step shows of a film.
        steps: of the optimiser; batch_size: clips a step; learning_rate: the highest.
        unknown: share of the clips that are not told one condition, each condition for itself.
        bare: share of the clips that are not told their masks, so that LVEF and first frame must do.
        given: share of the clips that may be told one of their frames.
        lvef: lowest and highest ejection fraction asked of the phantoms, evenly; none: each its own.
        seed: of the phantoms, the weights and the batches.
    """

    subjects: int = 400
    frames: int = 8
    shown: tuple[int, int] = (1, 8)
    steps: int = 1_500
    batch_size: int = 10
    learning_rate: float = 8e-4
    unknown: float = 0.15
    bare: float = 0.35
    given: float = 0.6
    lvef: tuple[float, float] | None = None
    seed: int = 20_260_701


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Films as the network eats them: latents `(n, frames, 4, g, g)` and all of `Clips` but its pixels."""

    latents: Tensor
    clips: Clips


def train(out: Path, *, recipe: VideoRecipe, config: LatentVideoFlow, progress: Progress) -> None:
    """Train the prior and write it, as float16 safetensors with its provenance, into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{NAME}.part.safetensors"
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(recipe.seed)
        generator = LatentVideoFlowGenerator(config, inflated=True)
    films = encoded(recipe, generator.autoencoder, config.size, progress)
    network = train_flow(generator.module, films, recipe, progress, save=unfinished)
    write(out, network, recipe=recipe, config=config)
    unfinished.unlink(missing_ok=True)


def write(
    out: Path,
    network: nn.Module,
    *,
    recipe: VideoRecipe,
    config: LatentVideoFlow | LatentVideoEdm,
    name: str = NAME,
    command: str = "video",
    origin: str = "latent_flow",
) -> None:
    """Write the weights as float16 and, beside them, how they were made and from which prior."""
    weights = {n: a.astype(np.float16) for n, a in arrays.state(network).items()}
    arrays.write(out / f"{name}.safetensors", weights)
    record = {
        "command": f"pericard prior {command}",
        "data": "phantom, style 'wide': simulated, no patient",
        "recipe": asdict(recipe),
        "generator": asdict(config),
        "torch": torch.__version__,
        "from": {n: arrays.digest(priors.load(n)) for n in ("autoencoder", origin)},
        "digests": {name: arrays.digest(arrays.read(out / f"{name}.safetensors"))},
    }
    (out / f"{name}.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def encoded(recipe: VideoRecipe, autoencoder: Autoencoder, size: int, progress: Progress) -> Encoded:
    """Film the public subjects in blocks, and encode each frame alone."""
    blocks = -(-recipe.subjects // _BLOCK)
    sizes = [min(_BLOCK, recipe.subjects - k * _BLOCK) for k in range(blocks)]
    parts: list[Clips] = []
    latents: list[Tensor] = []
    for k, count in enumerate(sizes):
        part = _film(count, recipe.seed + k, recipe.frames, size, recipe.lvef)
        latents.append(encode(autoencoder, part.pixels))
        parts.append(replace(part, pixels=np.broadcast_to(np.uint8(0), part.masks.shape)))
        progress("films", k + 1, blocks)
    columns = {n: np.concatenate([getattr(p, n) for p in parts]) for n in moving.COLUMNS if n != "pixels"}
    subjects = tuple(s for p in parts for s in p.subjects)
    columns["subject"] = np.repeat(np.arange(len(subjects)), len(columns["view"]) // len(subjects))
    columns["pixels"] = np.broadcast_to(np.uint8(0), columns["masks"].shape)
    return Encoded(latents=torch.cat(latents), clips=Clips(**columns, subjects=subjects))


@torch.inference_mode()
def encode(autoencoder: Autoencoder, pixels: NDArray[np.uint8]) -> Tensor:
    """Return standardised latents `(n, frames, 4, g, g)` of `(n, frames, size, size)`."""
    n, frames = pixels.shape[:2]
    flat = torch.from_numpy(pixels).flatten(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        z = torch.cat([autoencoder.encode(to_signal(part)).float() for part in torch.split(flat, 32)])
    return z.view(n, frames, *z.shape[1:])


def _film(subjects: int, seed: int, frames: int, size: int, lvef: tuple[float, float] | None) -> Clips:
    dice = np.random.default_rng([seed, frames])
    # One moment in each part of the beat, so that no phase is rare and no two are the same.
    phase = (np.arange(frames) + dice.random((subjects, frames)) + dice.random((subjects, 1)) * frames) / frames
    ejected = None if lvef is None else np.random.default_rng([seed, frames, 1]).uniform(*lvef, subjects)
    films = moving.films(subjects, phase=phase, seed=seed, size=size, lvef_percent=ejected)
    # The phantom looks alike at every frame rate, and shall be known to.
    return replace(films, frame_rate_hz=dice.uniform(20, 100, len(films)).astype(np.float32))


def flow_loss(network: nn.Module, z: Tensor, conditions: dict[str, Tensor], dice: torch.Generator) -> Tensor:
    """Return the flow-matching loss of each clip over its real frames, `(n,)`."""
    t, noise = torch.rand(len(z), generator=dice), torch.randn(z.shape, generator=dice)
    predicted = network(flow.interpolate(z, noise, t), t, **conditions).float()
    return masked_mean((predicted - flow.velocity(z, noise)).square(), conditions["real"])


def train_flow(
    network: nn.Module,
    films: Encoded,
    recipe: VideoRecipe,
    progress: Progress,
    *,
    save: Path | None = None,
    loss_of: Loss = flow_loss,
) -> nn.Module:
    """Train the network; the exponential average of the weights is what is kept (Karras et al. 2022)."""
    network = network.train().requires_grad_(True)
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995),  # type: ignore[no-untyped-call]
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1
    )
    dice = torch.Generator().manual_seed(recipe.seed)
    for i, (z, conditions) in enumerate(batches(films, recipe, dice)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network, z, conditions, dice).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        rates.step()
        average.update_parameters(network)
        if save is not None and (i + 1) % 100 == 0:
            arrays.write(save, arrays.state(average.module))
        progress("network", i + 1, recipe.steps)
    kept: nn.Module = average.module
    return kept


def batches(films: Encoded, recipe: VideoRecipe, dice: torch.Generator) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield latents and conditions of random clips, of random frames, some of them unknown, `recipe.steps` times."""
    c, (n, frames) = films.clips, films.clips.phase.shape
    low, high = recipe.shown
    columns = {
        "lvef": torch.from_numpy(c.lvef_percent),
        "heart_rate": torch.from_numpy(c.heart_rate_bpm),
        "frame_rate": torch.from_numpy(c.frame_rate_hz),
    }
    phase, masks, view = (torch.from_numpy(a) for a in (c.phase, c.masks, c.view))

    def rarely(*shape: int) -> Tensor:
        return torch.rand(shape, generator=dice) < recipe.unknown

    for _ in range(recipe.steps):
        rows = torch.randint(n, (recipe.batch_size,), generator=dice)
        shown = int(torch.randint(low, high + 1, (1,), generator=dice))
        some = torch.rand((len(rows), frames), generator=dice).argsort(1)
        at, other = some[:, :shown], some[:, -1]  # where not all are shown, the first frame is one of the others
        padded = torch.randint(max(1, shown - 2), shown + 1, (len(rows),), generator=dice)
        length = padded if bool(rarely(1)) else torch.full_like(padded, shown)
        given = ~rarely(len(rows)) & (torch.rand(len(rows), generator=dice) < recipe.given)
        first = films.latents[rows, other].masked_fill(~given.view(-1, 1, 1, 1), torch.nan)
        outlined = masks[rows[:, None], at].masked_fill(
            (torch.rand(len(rows), generator=dice) < recipe.bare).view(-1, 1, 1, 1), 255
        )
        conditions = {
            "phase": phase[rows[:, None], at].masked_fill(rarely(len(rows), 1) & rarely(len(rows), 1), torch.nan),
            "real": torch.arange(shown) < length[:, None],
            "masks": outlined,
            "view": view[rows].masked_fill(rarely(len(rows)), -1),
            "first": first,
            "first_phase": phase[rows, other].masked_fill(~given, torch.nan),
            **{k: v[rows].masked_fill(rarely(len(rows)), torch.nan) for k, v in columns.items()},
        }
        yield films.latents[rows[:, None], at], conditions
