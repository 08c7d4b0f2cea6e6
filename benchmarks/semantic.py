"""What does semantic diffusion cost, and what is it good for, by what it diffuses and what it predicts?

The comparison of Stojanovski et al. 2024 (arXiv 2409.19371), small: phantoms of 32 px, apical views, every arm trained
from noise on the same pictures for the same time of one core, its autoencoder included. That is minutes where the paper
took days of GPUs: no arm has converged, and order may change with length. The house's own public prior, trained for an
hour on other phantoms of 64 px, stands beside, drawn at 64 px and halved. Conditions are shapes of people that nobody
was trained on, and what is drawn is compared with pictures of yet others. KID x 1000 is in the features of the public
view classifier, over all; "Dice" and "IoU" are of the asked mask and what a segmenter of phantoms sees; "trained on" is
the Dice on other phantoms of a segmenter that saw only what was drawn; "view" is the share in which the public
classifier sees the view that was asked. Times are of one core, by the processor's clock, in the numbers it is fast in;
GFLOP are counted, decoder included. Fifty steps are timed, not judged.

python -m benchmarks.semantic [--write] [--subjects N] [--seconds S] [--kept FILE] [--sheet PNG]
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import results
from benchmarks.sampling import Kept, _segmenter, core_milliseconds, dice, kid
from cohorts.frames import Frames
from cohorts.phantom import simulate
from learning import arrays
from learning.blocks import one_hot, to_pixels, to_signal
from learning.learner import Learner, fit
from learning.learners.view_classifier import ViewClassifier
from synthesis import priors
from synthesis.gamma import GammaAutoencoder, GammaLearner
from synthesis.generators.latent_flow import LatentFlow
from synthesis.generators.semantic_diffusion import SemanticDiffusion, SemanticDiffusionGenerator
from synthesis.precision import computing_in

SIZE, ASKED = 32, 32
STEPS, JUDGED, TRAINED = (5, 10, 25, 50), (5, 10, 25), 25
RATE = 1e-3
SMALL = {"size": SIZE, "prior": False, "precision": "auto"}
PIXELS = {**SMALL, "space": "pixels"}
ARMS = {
    "EDM, Γ f4": SemanticDiffusion(**SMALL, factor=4),
    "EDM, Γ f2": SemanticDiffusion(**SMALL, factor=2),
    "EDM, pixels": SemanticDiffusion(**PIXELS),
    "v, pixels": SemanticDiffusion(**PIXELS, prediction="v", sample_solver="ddim"),
    "DDPM, pixels": SemanticDiffusion(**PIXELS, prediction="ddpm", sample_solver="ancestral"),
}
Picture = NDArray[np.uint8]
Sample = Callable[[Frames, int], Picture]  # conditions, steps


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A trained generator.

    Attributes:
        weights: of what is asked at every step, in millions.
        trained: what its training took, in words.
        sample: draws pictures of 32 px.
    """

    weights: float
    trained: str
    sample: Sample


class Judges:
    """The people, the segmenter and the classifier that every arm is judged by."""

    def __init__(self, subjects: int) -> None:
        self.seen = simulate.stills(subjects, seed=701, size=SIZE)
        self.asked, self.others = (simulate.stills(ASKED, seed=seed, size=SIZE) for seed in (702, 703))
        self._views = ViewClassifier(tune=".").build()
        arrays.load_state(self._views.module, priors.load("view_classifier"))
        self._views.module.eval()

    @torch.inference_mode()
    def features(self, pixels: Picture) -> NDArray[np.float64]:
        """Return what the public view classifier sees in pictures doubled to its size, `(n, 1024)`."""
        return self._views.module[:-1](to_signal(torch.from_numpy(doubled(pixels)))).double().numpy()

    @cached_property
    def segmenter(self) -> Any:
        """A segmenter of phantoms."""
        return _segmenter(simulate.stills(4 * ASKED, seed=704, size=SIZE))

    @cached_property
    def of_others(self) -> NDArray[np.float64]:
        """Features of the people that drawn ones are compared with."""
        return self.features(self.others.pixels)

    def judge(self, drawn: Picture, *, train: bool) -> list[object]:
        """Return KID, Dice and IoU of what was asked, the share of right views, Dice of who was trained on it."""
        found, learned = self.segmenter.predict(drawn), ""
        if train:
            learner = _segmenter(dataclasses.replace(self.asked, pixels=drawn))
            learned = f"{dice(learner.predict(self.others.pixels), self.others.masks):.3f}"
        views = self._views.predict(doubled(drawn)).argmax(1) == self.asked.view
        obeyed = dice(found, self.asked.masks)
        return [kid(self.features(drawn), self.of_others)[0], obeyed, iou(found, self.asked.masks),
                float(views.mean()), learned]  # fmt: skip


def doubled(pixels: Picture) -> Picture:
    """Return pictures of twice the side, interpolated."""
    x = F.interpolate(to_signal(torch.from_numpy(pixels)), scale_factor=2.0, mode="bilinear")
    return to_pixels(x).numpy()


def iou(one: Picture, two: Picture) -> float:
    """Return the mean intersection over union of the three structures over all images that show them."""
    scores = []
    for k in (1, 2, 3):
        a, b = one == k, two == k
        either = (a | b).sum((1, 2))
        scores.append(((a & b).sum((1, 2))[either > 0] / either[either > 0]).mean())
    return float(np.mean(scores))


def train(learner: Learner, frames: Frames, *, batch_size: int, seconds: float) -> str:
    """Train for about so many seconds of the processor, as many steps as a few of them say; return what it was."""

    def steps(n: int) -> float:
        begun = time.process_time()
        fit(learner, frames, steps=n, batch_size=batch_size, learning_rate=RATE, seed=0)
        return time.process_time() - begun

    before = arrays.state(learner.module)
    steps(1)  # encodes the pictures, warms up
    each = steps(4) / 4
    arrays.load_state(learner.module, before)
    n = max(1, int(seconds / each))
    return f"{steps(n):.0f} s, {n} x {batch_size}"


def ours(config: SemanticDiffusion, frames: Frames, seconds: float) -> Arm:
    """Train semantic diffusion, a sixth of the time for the autoencoder where there is one."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        generator, told = SemanticDiffusionGenerator(config), ""
    if isinstance(generator.space, GammaAutoencoder):
        generator.space.requires_grad_(True)
        told = train(GammaLearner(generator.space), frames, batch_size=16, seconds=seconds / 6) + " for Γ; "
        generator.space.eval().requires_grad_(False)
    told += train(generator, frames, batch_size=16 if config.space == "pixels" else 32,
                  seconds=seconds * (5 / 6 if told else 1))  # fmt: skip

    def sample(asked: Frames, steps: int) -> Picture:
        generator.config = dataclasses.replace(config, sample_steps=steps)
        return generator.sample(asked, seed=1, batch_size=min(len(asked), 64))

    return Arm(weights=_millions(generator.module), trained=told, sample=sample)


class Stock:
    """MONAI's network of diffusion on pixels, told the mask by concatenation, view and phase as a class."""

    def __init__(self) -> None:
        from monai.networks.nets import DiffusionModelUNet
        from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

        self.module: Any = DiffusionModelUNet(
            spatial_dims=2, in_channels=4, out_channels=1, channels=(32, 64, 64), num_res_blocks=1, num_class_embeds=8,
            attention_levels=(False, False, True), num_head_channels=32, norm_num_groups=16,
        )  # fmt: skip
        self.noised = DDPMScheduler(num_train_timesteps=1000)
        self.way = DDIMScheduler(num_train_timesteps=1000)

    def _told(self, frames: Frames, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        return one_hot(torch.from_numpy(frames.masks[rows])), torch.from_numpy(2 * frames.view + frames.phase)[rows]

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> torch.Tensor:
        """Return the squared error of the noise of each row."""
        x, (masks, classes) = to_signal(torch.from_numpy(frames.pixels[rows])), self._told(frames, rows)
        noise, t = torch.randn(x.shape, generator=generator), torch.randint(0, 1000, (len(rows),), generator=generator)
        noisy = self.noised.add_noise(x, noise, t)
        predicted = self.module(torch.cat([noisy, masks], 1), timesteps=t, class_labels=classes)
        return (predicted - noise).square().flatten(1).mean(1)

    @torch.inference_mode()
    def sample(self, asked: Frames, steps: int) -> Picture:
        """Draw by MONAI's DDIM."""
        self.module.eval()
        self.way.set_timesteps(steps)
        drawn, dice_ = [], torch.Generator().manual_seed(1)
        for rows in np.array_split(np.arange(len(asked)), -(-len(asked) // 64)):
            masks, classes = self._told(asked, rows)
            x = torch.randn(len(rows), 1, SIZE, SIZE, generator=dice_)
            for t in self.way.timesteps:
                with computing_in("auto"):
                    told = self.module(torch.cat([x, masks], 1), timesteps=t.expand(len(x)), class_labels=classes)
                x, _ = self.way.step(told.float(), t, x)
            drawn.append(to_pixels(x).numpy())
        return np.concatenate(drawn)


def stock(frames: Frames, seconds: float) -> Arm:
    """Train MONAI's as long as ours."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        learner = Stock()
    trained = train(learner, frames, batch_size=16, seconds=seconds)
    return Arm(weights=_millions(learner.module), trained=trained, sample=learner.sample)


def house(large: Frames) -> Arm:
    """Return the public prior of the latent flow, drawn at 64 px and halved."""

    def sample(asked: Frames, steps: int) -> Picture:
        generator = LatentFlow(sample_steps=steps, precision="auto").build()
        same = large.select(large.subjects[: len(asked.subjects)])  # the same hearts, twice as large
        drawn = generator.sample(same, seed=1, batch_size=min(len(same), 64))
        return to_pixels(F.avg_pool2d(to_signal(torch.from_numpy(drawn)), 2)).numpy()

    return Arm(weights=_millions(LatentFlow().build().module), trained="public prior, 64 px", sample=sample)


def measured(make: Callable[[], Arm], judged: Judges, sheet: Path | None) -> list[object]:
    """Make an arm, and return a row for each number of steps."""
    arm, rows = make(), []
    few, one = (judged.asked.select(judged.asked.subjects[:n]) for n in (2, 1))
    for steps in STEPS:
        with FlopCounterMode(display=False) as counter:
            arm.sample(one, steps)
        spent = core_milliseconds(partial(arm.sample, few, steps)) / len(few)
        operations = counter.get_total_flops() / len(one) / 1e9
        found: list[object] = [""] * 5
        if steps in JUDGED:
            drawn = arm.sample(judged.asked, steps)
            found = judged.judge(drawn, train=steps == TRAINED)
            if sheet is not None:
                np.save(sheet, drawn[:16])
        rows.append([f"{arm.weights:.2f} M", arm.trained, steps, operations, spent, *found])
    return list(rows)


def _millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def _drawn(folder: Path, names: list[str], judged: Judges, png: Path) -> None:
    """Lay masks, phantoms and sixteen drawn pictures of each arm under each other."""
    rows = [judged.asked.masks[:16] * 80, judged.asked.pixels[:16]]
    rows += [np.load(folder / f"{n}.npy") for n in names if (folder / f"{n}.npy").exists()]
    sheet = np.concatenate([np.concatenate(list(row), 1) for row in rows])
    Image.fromarray(sheet).resize((sheet.shape[1] * 3, sheet.shape[0] * 3), Image.Resampling.NEAREST).save(png)


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--subjects", type=int, default=600, help="simulated people to train on, four images each")
    arguments.add_argument("--seconds", type=float, default=60, help="of one core, for the training of an arm")
    arguments.add_argument("--kept", type=Path, help="arms of an earlier run that was stopped; new ones are added")
    arguments.add_argument("--sheet", type=Path, help="a picture of what was drawn; needs --kept")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    judged, kept = Judges(given.subjects), Kept(given.kept)
    makers: dict[str, Callable[[], Arm]] = {
        "latent flow, the house's": partial(house, simulate.stills(ASKED, seed=702)),
        **{name: partial(ours, config, judged.seen, given.seconds) for name, config in ARMS.items()},
    }
    if find_spec("einops") is not None:  # MONAI's network needs it
        makers["MONAI's DDPM, pixels"] = partial(stock, judged.seen, given.seconds)
    floor = kept.row("floor", lambda: judged.judge(judged.asked.pixels, train=True))
    head = ["arm", "weights", "training, steps x batch", "steps", "GFLOP/image", "core ms/image", "KID x 1000",
            "Dice", "IoU", "view", "trained on"]  # fmt: skip
    rows: list[list[object]] = [["phantoms themselves", *[""] * 5, *floor]]
    text = " ".join(__doc__.split("\n\n")[1].split()) + (
        f"\n\n{len(judged.seen)} pictures of {given.subjects} people to train on, {given.seconds:.0f} s of one core an "
        f"arm; {len(judged.asked)} pictures drawn.\n\n"
    )
    folder = given.kept.parent if given.kept else None
    for name, make in makers.items():
        sheet = folder / f"{name}.npy" if folder else None
        rows += [[name, *row] for row in kept.row(name, partial(measured, make, judged, sheet))]
        if given.write:  # after every arm: a run that is stopped leaves what it measured
            results.write(
                "Semantic diffusion", "python -m benchmarks.semantic --write", text + results.table(head, rows)
            )
    if folder and given.sheet:
        _drawn(folder, list(makers), judged, given.sheet)
    if not given.write:
        print(text + results.table(head, rows))


if __name__ == "__main__":
    main()
