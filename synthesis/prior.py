"""Train the public priors on the phantom: `pericard prior train`.

Everything learned here is learned from a simulator, so it costs no privacy (architecture §6). Three stages: the
autoencoder (unless the one that is there shall stay) with an adversary for its texture (Goodfellow et al. 2014, arXiv
1406.2661, hinge form; patches after Isola et al. 2017, arXiv 1611.07004), the latent flow, the view classifier.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import VIEWS, Frames, concatenate
from cohorts.phantom import simulate
from cohorts.study import UNLABELLED
from learning import arrays
from learning.blocks import norm, one_hot, to_signal
from learning.learner import fit
from learning.learners.view_classifier import ViewClassifier
from synthesis import flow, priors
from synthesis.autoencoder import STRUCTURES, Autoencoder
from synthesis.generators.latent_flow import LatentFlow, LatentFlowGenerator

Progress = Callable[[str, int, int], None]
BLOCK = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the priors are made; written into their provenance.

    Attributes:
        subjects: phantoms to simulate, each in all of `VIEWS` at ED and ES.
        autoencoder_steps, flow_steps, view_steps: optimiser steps; no steps keep the autoencoder that is there.
        batch_size: images a step of the autoencoder; view_batch_size, flow_batch_size: of the classifier and the flow.
        apical: share of apical views in the batches of the flow, because most cohorts are of these.
        unknown: share of rows that are not told one condition, each condition for itself.
        bare: share of rows that are not told their mask, so that view, phase and LVEF must do.
        seed: seed of the phantoms, the weights and the batches.
    """

    subjects: int = 4_000
    autoencoder_steps: int = 0
    flow_steps: int = 7_000
    view_steps: int = 14_000
    batch_size: int = 32
    view_batch_size: int = 48
    flow_batch_size: int = 96
    apical: float = 0.6
    unknown: float = 0.15
    bare: float = 0.2
    seed: int = 20_260_101


def train(out: Path, *, recipe: Recipe, config: LatentFlow, device: str, progress: Progress) -> None:
    """Train the priors and write them, as float16 safetensors with provenance, into the folder `out`.

    An autoencoder that is kept is written as it is, with the record of how it was once made; so is a new one.
    """
    keep = recipe.autoencoder_steps == 0
    made = priors.record_of("autoencoder") if keep else None
    frames, scanners = phantoms(recipe, progress)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(recipe.seed)
        generator = LatentFlowGenerator(config)
        views = ViewClassifier(tune=".").build()
        autoencoder = generator.autoencoder.to(device)
        if keep:
            arrays.load_state(autoencoder, priors.load("autoencoder"))
        else:
            autoencoder = _train_autoencoder(autoencoder, frames, recipe, device, progress)
        network = _train_flow(generator.module, autoencoder, frames, scanners, recipe, device, progress)
    fit(
        views,
        frames,
        steps=recipe.view_steps,
        batch_size=recipe.view_batch_size,
        learning_rate=2e-3,
        seed=recipe.seed,
        progress=lambda i, n: progress("view classifier", i, n),
    )
    out.mkdir(parents=True, exist_ok=True)
    digests = {}
    for name, module in (("autoencoder", autoencoder), ("latent_flow", network), ("view_classifier", views.module)):
        weights = {n: a.astype(np.float16) for n, a in arrays.state(module.cpu()).items()}
        arrays.write(out / f"{name}.safetensors", weights)
        digests[name] = arrays.digest(arrays.read(out / f"{name}.safetensors"))
    record: dict[str, Any] = {
        "command": "pericard prior train",
        "data": "phantom, style 'wide': simulated, no patient",
        "recipe": asdict(recipe),
        "generator": asdict(config),
        "torch": torch.__version__,
        "device": device,
    }
    # The latents' own record: whoever keeps them later keeps it too.
    made = {**(made or record), "digests": {"autoencoder": digests["autoencoder"]}}
    stood_on = {"autoencoder": digests["autoencoder"]} if keep else {}
    for name, told in (("autoencoder", made), ("provenance", {**record, "from": stood_on, "digests": digests})):
        (out / f"{name}.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")


def phantoms(recipe: Recipe, progress: Progress) -> tuple[Frames, NDArray[np.float32]]:
    """Simulate the public subjects in blocks of 1,000, one process a core; block k has seed `seed` + k."""
    blocks = -(-recipe.subjects // BLOCK)
    sizes = [min(BLOCK, recipe.subjects - k * BLOCK) for k in range(blocks)]
    parts = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for part in pool.map(_block, sizes, range(recipe.seed, recipe.seed + blocks)):
            parts.append(part)
            progress("phantoms", len(parts), blocks)
    frames = concatenate([p[0] for p in parts])
    return frames, np.concatenate([p[1] for p in parts])


def _block(subjects: int, seed: int) -> tuple[Frames, NDArray[np.float32]]:
    return simulate.stills_with_style(subjects, seed=seed, size=64, style="wide", views=VIEWS)


class Adversary(nn.Module):
    """Judge of patches: image and structures `(n, 1 + 3, 64, 64)` -> one score for each of 8x8 patches."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * (1 + STRUCTURES), w, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),
            norm(2 * w),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1),
            norm(4 * w),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * w, 1, 3, padding=1),
        )

    def forward(self, image: Tensor, structures: Tensor) -> Tensor:
        """Return one score per patch, `(n, 1, 8, 8)`."""
        score: Tensor = self.net(torch.cat([image, structures], 1))
        return score


def _train_autoencoder(
    module: Autoencoder, frames: Frames, recipe: Recipe, device: str, progress: Progress
) -> Autoencoder:
    module = module.to(device).train().requires_grad_(True)
    judge = Adversary().to(device)
    steps, warm = recipe.autoencoder_steps, recipe.autoencoder_steps // 2
    builder = torch.optim.AdamW(module.parameters(), lr=8e-4, betas=(0.5, 0.99), weight_decay=1e-4)
    critic = torch.optim.AdamW(judge.parameters(), lr=2e-4, betas=(0.5, 0.99))
    rates = torch.optim.lr_scheduler.OneCycleLR(builder, 8e-4, total_steps=steps)
    pixels = torch.from_numpy(frames.pixels).to(device)
    for i, (rows, masks, _, _, _, _) in enumerate(_batches(frames, None, recipe, steps, device, recipe.batch_size)):
        x = to_signal(pixels[rows])
        structures = one_hot(torch.where(_coin(masks, 0.1), 0, masks))  # a tenth without a mask: the null condition
        with torch.autocast(device, torch.bfloat16):
            mean, log_variance = (part.float() for part in module.encoder(x))
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            drawn = module.decoder(z, structures, torch.randn_like(x)).float()
        coarse = F.l1_loss(F.avg_pool2d(drawn, 2), F.avg_pool2d(x, 2))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = coarse + 0.3 * F.l1_loss(drawn, x) + 1e-3 * divergence
        if i >= warm:
            with torch.autocast(device, torch.bfloat16):
                loss = loss - 0.05 * judge(drawn, structures).float().mean()
        builder.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        builder.step()
        rates.step()
        if i >= warm // 2:
            with torch.autocast(device, torch.bfloat16):
                real, fake = (judge(image, structures).float() for image in (x, drawn.detach()))
            doubt = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            critic.zero_grad(set_to_none=True)
            doubt.backward()  # type: ignore[no-untyped-call]
            critic.step()
        progress("autoencoder", i + 1, steps)
    module.eval().requires_grad_(False)
    with torch.inference_mode():
        parts = [
            module.encoder(to_signal(torch.from_numpy(frames.pixels[i : i + 512]).to(device)))[0]
            for i in range(0, min(len(frames), 8192), 512)
        ]
    latents = torch.cat(parts)
    module.latent_mean.copy_(latents.mean((0, 2, 3)))
    module.latent_std.copy_(latents.std((0, 2, 3)))
    return module


def _train_flow(
    network: nn.Module,
    autoencoder: Autoencoder,
    frames: Frames,
    scanners: NDArray[np.float32],
    recipe: Recipe,
    device: str,
    progress: Progress,
) -> nn.Module:
    """Train the velocity field; the exponential average of the weights is what is kept (Karras et al. 2022)."""
    network = network.to(device).train().requires_grad_(True)
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999),  # type: ignore[no-untyped-call]
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=recipe.flow_steps)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        pixels_once = torch.from_numpy(frames.pixels)
        encoded = torch.cat(
            [autoencoder.encode(to_signal(p.to(device))).float() for p in torch.split(pixels_once, 256)]
        )
    often = _mostly_apical(frames, recipe.apical)
    for i, (rows, masks, view, phase, lvef, scanner) in enumerate(
        _batches(frames, scanners, recipe, recipe.flow_steps, device, recipe.flow_batch_size, often)
    ):
        z = encoded[rows]
        t, noise = torch.rand(len(z), device=device), torch.randn_like(z)
        nameless, timeless, unmeasured = torch.rand(3, len(z), device=device) < recipe.unknown
        with torch.autocast(device, torch.bfloat16):
            predicted = network(
                flow.interpolate(z, noise, t),
                t,
                view=torch.where(nameless, -1, view),
                phase=torch.where(timeless, -1, phase),
                masks=torch.where(_coin(masks, recipe.bare), UNLABELLED, masks),
                lvef=lvef.masked_fill(unmeasured, torch.nan),
                # Half of the batches know the scanner: so what a site's token can say is how its scanner is set.
                scanner=scanner if i % 2 else None,
            )
        loss = (predicted.float() - flow.velocity(z, noise)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        rates.step()
        average.update_parameters(network)
        progress("latent flow", i + 1, recipe.flow_steps)
    kept: nn.Module = average.module
    return kept


Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _batches(
    frames: Frames,
    scanners: NDArray[np.float32] | None,
    recipe: Recipe,
    steps: int,
    device: str,
    batch_size: int,
    often: Tensor | None = None,
) -> Iterator[Batch]:
    """Yield random rows with their masks, views, phases, LVEF and scanner settings, `steps` times; `often` as that."""
    settings = scanners if scanners is not None else np.zeros((len(frames), 1), np.float32)
    columns = (frames.masks, frames.view, frames.phase, frames.lvef_percent, settings)
    masks, view, phase, lvef, scanner = (torch.from_numpy(c).to(device) for c in columns)
    chances = torch.ones(len(frames)) if often is None else often
    chances = chances.to(device)
    dice = torch.Generator(device).manual_seed(recipe.seed)
    for _ in range(steps):
        rows = torch.multinomial(chances, batch_size, replacement=True, generator=dice)
        yield rows, masks[rows], view[rows], phase[rows], lvef[rows], scanner[rows]


def _mostly_apical(frames: Frames, share: float) -> Tensor:
    """Return how often to take each row, so that `share` of all are of apical views."""
    apical = torch.from_numpy(np.isin(frames.view, [VIEWS.index(v) for v in simulate.APICAL]))
    return torch.where(apical, share / apical.sum(), (1 - share) / (~apical).sum())


def _coin(masks: Tensor, p: float) -> Tensor:
    """Return one biased coin per row, shaped to broadcast over masks."""
    return torch.rand(len(masks), 1, 1, device=masks.device) < p
