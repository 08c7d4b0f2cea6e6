"""Teach the public re-identification embedding on phantoms: no patient is read, so it costs no privacy.

InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) at temperature 0.07. A batch shows people of one site, all in the
same view and phase, half the time of one sex and like ejection fraction: sector, gain and plane, which tell random
strangers apart at a glance, tell nobody apart there. Identity: two pictures of one person, of another phase, clip,
day or view. Copy: a picture and its copy, altered as far as `privacy.planted` ever does.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cohorts.clips import films
from cohorts.phantom import motion, simulate
from privacy.identity import MEASURES, NAME, SIDE, Recognition, Weights, calibrated, prepared, seen, shapes, trunk
from privacy.motion import motion_signature, motion_similarity
from privacy.planted import LEVELS

if TYPE_CHECKING:
    from torch import Generator, Tensor

TEMPERATURE = 0.07
FRAMES = 12  # of a film that motion is calibrated on
TAKES = ((0, 0), (0, 1), (1, 0))  # study and clip: one, another of the same day, one of another day
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the public embedding is made; written into its provenance.

    Attributes:
        people: phantoms of each style, each filmed in two views at two phases, three times.
        steps: batches.
        batch_size: people in a batch.
        learning_rate: highest, of AdamW, warmed up and annealed.
        copies: share of the loss that is the copy head's.
        strangers: site and number of the people that similarities are calibrated on, of whom nothing is learned.
        seed: of the phantoms, the weights and the batches.
    """

    people: tuple[tuple[str, int], ...] = (("wide", 1200), ("site-a", 400))
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 2e-3
    copies: float = 0.5
    strangers: tuple[str, int] = ("site-b", 160)
    seed: int = 20_261_121


@dataclass(frozen=True, slots=True, kw_only=True)
class Album:
    """Pictures of people of one site.

    Attributes:
        pixels: as `prepared`, `(n, takes, views, phases, SIDE, SIDE)`, uint8.
        lvef_percent: `(n,)`.
        female: `(n,)`.
    """

    pixels: NDArray[np.uint8]
    lvef_percent: NDArray[np.float32]
    female: NDArray[np.bool_]


def album(n: int, *, seed: int, style: str) -> Album:
    """Film `n` phantoms of a site in `simulate.APICAL`, at end diastole and end systole, in each of `TAKES`."""
    pixels = np.empty((n, len(TAKES), 2, 2, SIDE, SIDE), np.uint8)
    for start in range(0, n, 16):
        some = list(range(start, min(start + 16, n)))
        for t, (study, clip) in enumerate(TAKES):
            exam = simulate.examinations(some, seed=seed, style=style, study=study)
            phase = np.stack([np.zeros(len(some)), motion.systole(exam.who.heart_rate_bpm)], axis=1)
            for v, view in enumerate(simulate.APICAL):
                grey = simulate.film(exam, some, view, phase, seed=seed, size=SIDE, study=study, clip=clip)[0]
                pixels[some, t, v] = prepared(grey.reshape(-1, SIDE, SIDE)).reshape(grey.shape)
    exam = simulate.examinations(range(n), seed=seed, style=style)
    return Album(pixels=pixels, lvef_percent=exam.who.lvef_percent.astype(np.float32), female=exam.female)


def train(recipe: Recipe, progress: Progress) -> Weights:
    """Return the weights after `recipe`; a quarter of a second of one core a step."""
    import torch

    albums = []
    for style, n in recipe.people:
        albums.append(album(n, seed=recipe.seed, style=style))
        progress("phantoms", len(albums), len(recipe.people))
    generator = torch.Generator().manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    weights = {name: _initial(name, shape, generator).requires_grad_() for name, shape in shapes().items()}
    optimiser = torch.optim.AdamW(weights.values(), lr=recipe.learning_rate, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=recipe.steps)
    chance = np.array([n for _, n in recipe.people]) / sum(n for _, n in recipe.people)
    for step in range(recipe.steps):
        one, two = _batch(albums[rng.choice(len(albums), p=chance)], recipe.batch_size, rng)
        here, copy = (trunk(weights, altered(one, generator, strength)) for strength in (0.5, 1.0))
        again = trunk(weights, altered(two, generator, 0.5))
        person = _told_apart(*(seen(weights, x, "identity") for x in (here, again)))
        picture = _told_apart(*(seen(weights, x, "copy") for x in (here, copy)))
        loss = (1 - recipe.copies) * person + recipe.copies * picture
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rates.step()
        progress("embedding", step + 1, recipe.steps)
    return {name: w.detach() for name, w in weights.items()}


def strangers(weights: Weights, *, people: int, seed: int, style: str) -> dict[str, NDArray[np.float32]]:
    """Return how alike phantoms of a site are to each measure: pictures of the same view and phase, and films."""
    whole = Recognition(weights=weights, calibration={})
    pixels = album(people, seed=seed, style=style).pixels
    others = ~np.eye(people, dtype=bool)
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in MEASURES}
    for view, phase in np.ndindex(2, 2):
        one, two = (whole.look(pixels[:, take, view, phase]) for take in (0, 1))
        for name, rows in found.items():
            rows.append((one[name] @ two[name].T)[others])
    phases = np.tile(np.arange(FRAMES) / FRAMES, (people, 1))
    filmed = [films(people, phase=phases, seed=seed, size=SIDE, style=style, views=[view]) for view in simulate.APICAL]
    moved = [motion_similarity(signature, signature)[others] for signature in map(motion_signature, filmed)]
    return {name: np.concatenate(rows) for name, rows in found.items()} | {"motion": np.concatenate(moved)}


def write(out: Path, recipe: Recipe, progress: Progress) -> None:
    """Train, calibrate on people of a third site and write both into the folder `out`, with their provenance."""
    import torch
    from safetensors.torch import save

    weights = {name: w.half() for name, w in train(recipe, progress).items()}
    style, people = recipe.strangers
    others = strangers({n: w.float() for n, w in weights.items()}, people=people, seed=recipe.seed + 1, style=style)
    knots = {f"calibration.{n}": torch.from_numpy(k) for n, k in calibrated(others).items()}
    content = save({**weights, **knots})
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{NAME}.safetensors").write_bytes(content)
    record = {
        "command": f"pericard prior {NAME}",
        "data": "phantom, styles of the recipe: simulated, no patient",
        "recipe": asdict(recipe),
        "torch": torch.__version__,
        "digests": {f"{NAME}.safetensors": sha256(content).hexdigest()},
    }
    (out / f"{NAME}.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def _initial(name: str, shape: tuple[int, ...], generator: "Generator") -> "Tensor":
    import torch

    if len(shape) == 1:
        return torch.full(shape, float(name.endswith("gain")))
    return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]) / 2)


def _batch(people: Album, size: int, rng: np.random.Generator) -> tuple["Tensor", "Tensor"]:
    """Return two pictures of each of `size` people, `(size, 1, SIDE, SIDE)` each: one kind against another kind."""
    import torch

    n = len(people.pixels)
    if rng.random() < 0.5:
        rows = rng.choice(n, min(size, n), replace=False)
    else:
        like = rng.integers(n)
        far = np.abs(people.lvef_percent - people.lvef_percent[like]) + 1e3 * (people.female != people.female[like])
        rows = np.argsort(far, kind="stable")[:size]
    take, view, phase = (int(rng.integers(k)) for k in (len(TAKES), 2, 2))
    kind = rng.choice(4, p=(0.3, 0.2, 0.2, 0.3))
    one, two = (take, view, phase), (take, view, 1 - phase)
    if kind == 1:
        one, two = (0, view, phase), (1, view, int(rng.integers(2)))
    elif kind == 2:
        one, two = (int(rng.integers(2)), view, phase), (2, view, int(rng.integers(2)))
    elif kind == 3:
        two = (int(rng.integers(len(TAKES))), 1 - view, int(rng.integers(2)))
    first, second = (torch.from_numpy(people.pixels[rows, *at]).float()[:, None] / 255 for at in (one, two))
    return (first, second) if rng.random() < 0.5 else (second, first)


def _told_apart(one: "Tensor", two: "Tensor") -> "Tensor":
    """Return InfoNCE of rows that belong together against all others, both ways."""
    import torch
    import torch.nn.functional as F

    logits = one @ two.T / TEMPERATURE
    right = torch.arange(len(one))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def altered(x: "Tensor", generator: "Generator", strength: float) -> "Tensor":
    """Alter pictures `(n, 1, h, w)` in [0, 1], each by itself, up to `strength` times level 3 of `privacy.planted`."""
    import torch
    import torch.nn.functional as F

    n, most = len(x), LEVELS[3]

    def dice(*shape: int) -> "Tensor":
        return 2 * torch.rand(n, *shape, generator=generator) - 1

    amount = strength * torch.rand(n, 1, generator=generator)
    angle = torch.deg2rad(most.degrees * amount * dice(1))[:, 0]
    scale = (most.scale ** (amount * dice(1)))[:, 0]
    move = 2 * most.shift * amount * dice(2)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    grid = torch.stack([torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)], 1)
    y = F.grid_sample(x, F.affine_grid(grid, list(x.shape), align_corners=False), align_corners=False)
    amount = amount[:, :, None, None]
    y = y.clamp_min(1e-6) ** torch.exp(0.5 * amount * dice(1, 1, 1))
    field = F.interpolate(torch.randn(n, 1, 5, 5, generator=generator), size=x.shape[2:], mode="bicubic")
    y = y * torch.exp(0.3 * amount * field)
    grain = torch.randn(x.shape, generator=generator)
    soft = F.avg_pool2d(grain, 3, 1, 1) * 2.5
    mix = torch.rand(n, 1, 1, 1, generator=generator)
    y = y * (1 + most.speckle * amount * (mix * grain + (1 - mix) * soft))
    y = y + most.noise * amount * torch.randn(x.shape, generator=generator)
    blurred = F.avg_pool2d(y, 3, 1, 1)
    y = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.3, blurred, y)
    return y.clamp(0, 1)
