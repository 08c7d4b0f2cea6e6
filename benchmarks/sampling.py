"""How fast and how well does the image generator draw, by which solver, in how many steps, in which numbers?

Conditions are shapes of simulated people; what is drawn is compared with pictures of *other* simulated people. KID is
the unbiased squared maximum mean discrepancy of Binkowski et al. 2018 (arXiv 1801.01401), times 1000, in the features
of the public view classifier, over subsets of 250. "Obeyed" is the Dice of the asked mask and what a segmenter, trained
on phantoms alone, sees in the image. "Trained on" is the Dice on other phantoms of a segmenter that saw only what was
drawn. "Off the way" is the distance of latents, whose spread is 1, from where 50 steps of Heun end from the same noise.
Time is of one core, counted by the processor's clock, so that it says the same on a busy machine.

python -m benchmarks.sampling [--write] [--subjects N] [--threads N] [--kept FILE]
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from functools import cache, cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import results
from cohorts.frames import Frames
from cohorts.phantom import simulate
from learning import arrays
from learning.blocks import to_signal
from learning.learner import fit
from learning.learners.segmenter import Segmenter, SegmenterLearner
from learning.learners.view_classifier import ViewClassifier
from synthesis import flow, priors
from synthesis.distill import Lesson, teach
from synthesis.generators.latent_flow import JUMP, LatentFlow, LatentFlowGenerator, _noise
from synthesis.precision import chosen, computing_in

STEPS = (1, 2, 4, 8, 10, 20, 50)
REFERENCE = LatentFlow(sample_solver="heun", sample_steps=50, precision="fp32")
ARMS = [
    *[LatentFlow(sample_solver="heun", sample_steps=n) for n in STEPS],
    *[LatentFlow(sample_solver="euler", sample_steps=n) for n in (1, 2, 4, 10, 20, 50)],
    *[LatentFlow(sample_solver="midpoint", sample_steps=n) for n in (2, 4)],
    *[LatentFlow(sample_solver="heun", sample_steps=n, precision="bf16") for n in (4, 8)],
    *[LatentFlow(sample_solver="midpoint", sample_steps=n, precision="bf16") for n in (2, 4)],
]
STUDENTS = [LatentFlow(sample_solver=JUMP, sample_steps=n, precision=p) for n in (1, 2, 4) for p in ("fp32", "bf16")]
TRAINED = {
    ("heun", 8, "fp32"),
    ("heun", 8, "bf16"),
    ("midpoint", 2, "bf16"),
    ("midpoint", 4, "bf16"),
    (JUMP, 1, "bf16"),
    (JUMP, 2, "bf16"),
}
SUBSET = 250
Picture = NDArray[np.uint8]


class Judges:
    """What every arm is judged by, made when it is first needed: shapes, pictures of other people, a segmenter."""

    def __init__(self, subjects: int) -> None:
        self.subjects = subjects
        self.asked, self.others = (simulate.stills(subjects, seed=seed) for seed in (601, 602))
        self._views = ViewClassifier(tune=".").build()
        arrays.load_state(self._views.module, priors.load("view_classifier"))
        self._views.module.eval()

    @torch.inference_mode()
    def features(self, pixels: Picture) -> NDArray[np.float64]:
        """Return what the public view classifier sees before it names a view, `(n, 1024)`."""
        return self._views.module[:-1](to_signal(torch.from_numpy(pixels))).double().numpy()

    @cached_property
    def segmenter(self) -> SegmenterLearner:
        """A segmenter of phantoms."""
        return _segmenter(simulate.stills(self.subjects, seed=603))

    @cached_property
    def reference(self) -> torch.Tensor:
        """Where 50 steps of Heun end."""
        return latents(REFERENCE.build(), self.asked)


class Kept:
    """Rows that were measured before, in a file of JSON lines, so that a stopped run can go on."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        self.rows: dict[str, list[object]] = dict(json.loads(line) for line in lines)

    def row(self, key: str, measure: Callable[[], list[object]]) -> list[object]:
        """Return the row `key`, measured now if it never was."""
        if key not in self.rows:
            self.rows[key] = measure()
            print(key, self.rows[key], flush=True)
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([key, self.rows[key]]) + "\n")
        return self.rows[key]


def _segmenter(frames: Frames) -> SegmenterLearner:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        learner = Segmenter().build()
    fit(learner, frames, steps=250, batch_size=16, learning_rate=3e-3, seed=0)
    return learner


def kid(one: NDArray[np.float64], two: NDArray[np.float64], *, repeats: int = 20) -> tuple[float, float]:
    """Return 1000 KID and the standard deviation of its mean over random subsets."""
    dice = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        x, y = (f[dice.choice(len(f), min(SUBSET, len(f)), replace=False)] for f in (one, two))
        xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        n = len(x)
        within = sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (xx, yy))
        found.append(1000 * (within - 2 * xy.mean()))
    return float(np.mean(found)), float(np.std(found) / repeats**0.5)


def dice(one: Picture, two: Picture) -> float:
    """Return the mean Dice of the three structures over all images that show them."""
    scores = []
    for k in (1, 2, 3):
        a, b = one == k, two == k
        both = a.sum((1, 2)) + b.sum((1, 2))
        scores.append((2 * (a & b).sum((1, 2))[both > 0] / both[both > 0]).mean())
    return float(np.mean(scores))


def latents(generator: LatentFlowGenerator, asked: Frames) -> torch.Tensor:
    """Return where the first 128 noises of seed 1 end, `(128, 4, 8, 8)`."""
    config, rows = generator.config, np.arange(min(128, len(asked)))
    noise, masks = _noise(1, rows)[0], torch.from_numpy(asked.masks[rows])
    with torch.inference_mode(), computing_in(config.precision):
        if config.is_student:
            network = generator._network(asked, rows, masks, True)
            return flow.jump(lambda z, t, r: network(z, t, until=r), noise, steps=config.sample_steps).float()
        field = generator.field(asked, rows, at_sites=True)
        return flow.integrate(field, noise, steps=config.sample_steps, solver=config.sample_solver).float()


def core_milliseconds(work: Callable[[], Any], repeats: int = 2) -> float:
    """Return the least time of this process' processors over some tries, in ms; call it with one thread."""
    spent = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return 1000 * min(spent)


def evaluations(config: LatentFlow) -> int:
    """Return how often the network is asked for one image."""
    return config.sample_steps if config.is_student else flow.evaluations(config.sample_solver, config.sample_steps)


def steps_against_quality(judged: Judges, kept: Kept) -> str:
    """Judge every arm."""
    rows = []
    for config in (*ARMS, *STUDENTS):
        key = (config.sample_solver, config.sample_steps, config.precision)
        rows.append([*key, evaluations(config), *kept.row(f"steps {key}", partial(_judged, judged, config, key))])
    head = ["solver", "steps", "numbers", "evaluations", "core ms/image", "KID x 1000", "obeyed", "off the way"]
    return results.table([*head, "trained on"], rows)


def _judged(judged: Judges, config: LatentFlow, key: tuple[str, int, str]) -> list[object]:
    generator = config.build()
    drawn = generator.sample(judged.asked, seed=1)
    batch = judged.asked.select(judged.asked.subjects[:16])
    trained: object = ""
    if key in TRAINED:
        learner = _segmenter(dataclasses.replace(judged.asked, pixels=drawn))
        trained = dice(learner.predict(judged.others.pixels), judged.others.masks)
    return [
        core_milliseconds(partial(generator.sample, batch, seed=1)) / len(batch),
        _told(kid(judged.features(drawn), judged.features(judged.others.pixels))),
        dice(judged.segmenter.predict(drawn), judged.asked.masks),
        float((latents(generator, judged.asked) - judged.reference).square().mean().sqrt()),
        trained,
    ]


def tuned_at_a_site(judged: Judges, kept: Kept) -> str:
    """Tune the generator on another scanner, then draw with students: of the public prior, and taught afresh."""
    head = ["generator", "KID x 1000 to that site", "off the tuned teacher's way"]
    names = ("public prior, Heun 8", "tuned, Heun 8", "tuned weights in the public student, 2 jumps",
             "the same, taught 200 batches more, 2 jumps")  # fmt: skip

    @cache
    def measured() -> dict[str, list[object]]:
        here = simulate.stills(64, seed=611, style="site-c")
        real = judged.features(simulate.stills(judged.subjects, seed=612, style="site-c").pixels)
        teacher = LatentFlow().build()
        fit(teacher, here, steps=80, batch_size=32, learning_rate=1e-2, seed=0)
        borrowed = LatentFlow(sample_solver=JUMP, sample_steps=2).build()
        arrays.load(borrowed.module, arrays.trainable(teacher.module))
        lesson = Lesson(ways=768, steps=200, learning_rate=5e-4)
        afresh = teach(teacher, simulate.conditions(768, seed=613), lesson, start=borrowed)
        reference, found = latents(teacher, judged.asked), {}
        for name, generator in zip(names, (LatentFlow().build(), teacher, borrowed, afresh), strict=True):
            drawn = judged.features(generator.sample(judged.asked, seed=1))
            off = (latents(generator, judged.asked) - reference).square().mean().sqrt()
            found[name] = [_told(kid(drawn, real)), float(off)]
        return found

    return results.table(head, [[n, *kept.row(f"tuned {n}", lambda n=n: measured()[n])] for n in names])


def growth(judged: Judges, kept: Kept) -> str:
    """Time numbers of images, drawn in one call."""
    arms = (
        LatentFlow(),
        LatentFlow(precision="bf16"),
        LatentFlow(sample_solver=JUMP, sample_steps=2, precision="bf16"),
    )

    def measured(n: int) -> list[object]:
        some = judged.asked.select(judged.asked.subjects[: n // 4])
        return [core_milliseconds(partial(config.build().sample, some, seed=1), repeats=1) / n for config in arms]

    rows = [[n, *kept.row(f"growth {n}", partial(measured, n))] for n in (64, 128, 256, 384) if n <= len(judged.asked)]
    return results.table(["images", *(f"{c.sample_solver} {c.sample_steps}, {c.precision}" for c in arms)], rows)


def wall(judged: Judges, kept: Kept, threads: int) -> str:
    """Time batches of 64 by the wall clock with all threads; the best of several, scaled to 1,000 images."""
    batch, rows = judged.asked.select(judged.asked.subjects[:16]), []

    def measured(config: LatentFlow) -> list[object]:
        generator, best = config.build(), np.inf
        for _ in range(6):
            begun = time.perf_counter()
            generator.sample(batch, seed=1)
            best = min(best, time.perf_counter() - begun)
        return [best * 1000 / len(batch)]

    torch.set_num_threads(threads)
    for config in (LatentFlow(), LatentFlow(precision="bf16"), *(c for c in STUDENTS if c.precision == "bf16")):
        key = (config.sample_solver, config.sample_steps, config.precision)
        rows.append([*key, *kept.row(f"wall {threads} {key}", partial(measured, config))])
    torch.set_num_threads(1)
    return results.table(["solver", "steps", "numbers", f"s per 1,000 images, {threads} threads"], rows)


def stock(kept: Kept) -> str:
    """Time MONAI's pixel-space diffusion network of about as many weights as ours, told the mask by concatenation."""
    if find_spec("einops") is None:
        return "Not measured: MONAI's network needs einops, which is not installed here."
    from monai.networks.nets import DiffusionModelUNet
    from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

    def measured(size: int, scheduler: Any, steps: int) -> list[object]:
        network = DiffusionModelUNet(
            spatial_dims=2, in_channels=4, out_channels=1, channels=(32, 64, 64), num_res_blocks=1,
            attention_levels=(False, False, True), num_head_channels=32, norm_num_groups=16,
        ).eval()  # fmt: skip
        scheduler.set_timesteps(steps)
        x, masks, t = torch.randn(8, 1, size, size), torch.zeros(8, 3, size, size), scheduler.timesteps[0]

        @torch.inference_mode()
        def one() -> None:
            scheduler.step(network(torch.cat([x, masks], 1), timesteps=t.expand(len(x))), t, x)

        weights = sum(p.numel() for p in network.parameters())
        return [f"{weights / 1e6:.2f} M", steps, core_milliseconds(one) * steps / len(x)]

    kinds: tuple[tuple[str, Any, int], ...] = (("DDPM", DDPMScheduler, 1000), ("DDIM", DDIMScheduler, 50))
    rows = [
        [name, size, *kept.row(f"stock {name} {size}", partial(measured, size, kind(num_train_timesteps=1000), steps))]
        for size in (32, 64, 112)
        for name, kind, steps in kinds
    ]
    return results.table(["MONAI, pixels", "size", "weights", "steps", "core ms/image"], rows)


def _told(found: tuple[float, float]) -> str:
    return f"{found[0]:.3f} ± {found[1]:.3f}"


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--subjects", type=int, default=96, help="simulated people, four images each")
    arguments.add_argument("--threads", type=int, default=2, help="for the wall clock")
    arguments.add_argument("--kept", type=Path, help="rows of an earlier run that was stopped; new ones are added")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    judged, kept = Judges(given.subjects), Kept(given.kept)
    of_real = partial(kid, judged.features(judged.asked.pixels), judged.features(judged.others.pixels))
    floor = kept.row("floor", lambda: [_told(of_real()), _obeyed(judged)])
    text = (
        f"{' '.join(__doc__.split(chr(10) * 2)[1].split())}\n\n{len(judged.asked)} images an arm. Phantoms against "
        f'other phantoms: KID x 1000 {floor[0]}, "obeyed" {floor[1]:.4f}. "auto" is {chosen("auto")} here.'
    )
    parts: dict[str, Callable[[], str]] = {
        "Solvers, steps, numbers": partial(steps_against_quality, judged, kept),
        "A generator tuned at a site, and its student. Tuned on 64 phantoms of another scanner without noise; the "
        "student takes over what the site tuned": partial(tuned_at_a_site, judged, kept),
        "Growth with the number, core ms an image": partial(growth, judged, kept),
        "By the wall clock; on a busy machine an upper bound": partial(wall, judged, kept, given.threads),
        "The stock alternative, diffusion on pixels; not trained, so its time alone, of one step times the steps": (
            partial(stock, kept)
        ),
    }
    for title, measure in parts.items():
        text += f"\n\n{title}:\n\n{measure()}"
        if given.write:  # after every part: a run that is stopped leaves what it measured
            results.write("Sampling", "python -m benchmarks.sampling --write", text)


def _obeyed(judged: Judges) -> float:
    return dice(judged.segmenter.predict(judged.asked.pixels), judged.asked.masks)


if __name__ == "__main__":
    main()
