"""How fast and how well does the image generator draw, by which solver, in how many steps, in which numbers?

Conditions are shapes of simulated people; what is drawn is compared with pictures of *other* simulated people. KID is
the unbiased squared maximum mean discrepancy of Binkowski et al. 2018 (arXiv 1801.01401), times 1000, in the features
of the public view classifier, over subsets of 250. "Obeyed" is the Dice of the asked mask and what a segmenter, trained
on phantoms alone, sees in the image. "Trained on" is the Dice on other phantoms of a segmenter that saw only what was
drawn. "Off the way" is the distance of latents, whose spread is 1, from where 50 steps of Heun end from the same noise.
Time is of one core, counted by the processor's clock, so that it says the same on a busy machine.

python -m benchmarks.sampling [--write] [--subjects N]
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterable
from functools import partial
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
    LatentFlow(sample_solver="midpoint", sample_steps=4, precision="bf16"),
]
STUDENTS = [LatentFlow(sample_solver=JUMP, sample_steps=n, precision=p) for n in (1, 2, 4) for p in ("fp32", "bf16")]
TRAINED = {("heun", 8, "fp32"), ("heun", 8, "bf16"), ("midpoint", 4, "bf16"), (JUMP, 1, "bf16"), (JUMP, 2, "bf16")}
SUBSET = 250
Picture = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judges:
    """What every arm is judged by: shapes asked, pictures of other people, features, and a segmenter of phantoms."""

    asked: Frames
    others: Frames
    features: Callable[[Picture], NDArray[np.float64]]
    segmenter: SegmenterLearner


def judges(subjects: int) -> Judges:
    """Simulate the people and train the segmenter."""
    views = ViewClassifier(tune=".").build()
    arrays.load_state(views.module, priors.load("view_classifier"))
    views.module.eval()

    @torch.inference_mode()
    def features(pixels: Picture) -> NDArray[np.float64]:
        return views.module[:-1](to_signal(torch.from_numpy(pixels))).double().numpy()

    return Judges(
        asked=simulate.stills(subjects, seed=601),
        others=simulate.stills(subjects, seed=602),
        features=features,
        segmenter=_segmenter(simulate.stills(subjects, seed=603)),
    )


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


def steps_against_quality(judged: Judges, arms: Iterable[LatentFlow], reference: torch.Tensor) -> str:
    """Judge every arm."""
    rows: list[list[object]] = []
    real = judged.features(judged.others.pixels)
    batch = judged.asked.select(judged.asked.subjects[:16])
    for config in arms:
        generator = config.build()
        drawn = generator.sample(judged.asked, seed=1)
        mean, error = kid(judged.features(drawn), real)
        key = (config.sample_solver, config.sample_steps, config.precision)
        trained: object = ""
        if key in TRAINED:
            learner = _segmenter(dataclasses.replace(judged.asked, pixels=drawn))
            trained = dice(learner.predict(judged.others.pixels), judged.others.masks)
        rows.append([
            *key,
            evaluations(config),
            core_milliseconds(partial(generator.sample, batch, seed=1), repeats=2) / len(batch),
            f"{mean:.3f} ± {error:.3f}",
            dice(judged.segmenter.predict(drawn), judged.asked.masks),
            float((latents(generator, judged.asked) - reference).square().mean().sqrt()),
            trained,
        ])  # fmt: skip
        print(rows[-1], flush=True)
    head = [
        "solver",
        "steps",
        "numbers",
        "evaluations",
        "core ms/image",
        "KID x 1000",
        "obeyed",
        "off the way",
        "trained on",
    ]
    return results.table(head, rows)


def tuned_at_a_site(judged: Judges) -> str:
    """Tune the generator on another scanner, then draw with students: of the public prior, and taught afresh."""
    here = simulate.stills(64, seed=611, style="site-c")
    real = judged.features(simulate.stills(len(judged.asked.subjects), seed=612, style="site-c").pixels)
    teacher = LatentFlow().build()
    fit(teacher, here, steps=80, batch_size=32, learning_rate=1e-2, seed=0)
    tuned = arrays.trainable(teacher.module)
    borrowed = LatentFlow(sample_solver=JUMP, sample_steps=2).build()
    arrays.load(borrowed.module, tuned)
    lesson = Lesson(ways=768, steps=200, batch_size=48, learning_rate=5e-4)
    afresh = teach(teacher, simulate.conditions(768, seed=613), lesson, start=borrowed)
    reference = latents(teacher, judged.asked)
    arms = {
        "public prior, 8 steps of Heun": LatentFlow().build(),
        "tuned, 8 steps of Heun": teacher,
        "tuned weights in the public student, 2 jumps": borrowed,
        f"student taught {lesson.steps} batches more, 2 jumps": afresh,
    }
    rows = []
    for name, generator in arms.items():
        mean, error = kid(judged.features(generator.sample(judged.asked, seed=1)), real)
        off = float((latents(generator, judged.asked) - reference).square().mean().sqrt())
        rows.append([name, f"{mean:.3f} ± {error:.3f}", off])
        print(rows[-1], flush=True)
    return results.table(["generator", "KID x 1000 to that site", "off the tuned teacher's way"], rows)


def growth(judged: Judges) -> str:
    """Time numbers of images, drawn in one call."""
    rows = []
    arms = (LatentFlow(), LatentFlow(sample_solver="midpoint", sample_steps=4, precision="bf16"), STUDENTS[3])
    generators = [config.build() for config in arms]
    for n in (64, 256, len(judged.asked)):
        some = judged.asked.select(judged.asked.subjects[: n // 4])
        ms = [core_milliseconds(partial(g.sample, some, seed=1), repeats=1) / n for g in generators]
        rows.append([n, *ms])
        print(rows[-1], flush=True)
    names = [f"{c.sample_solver} {c.sample_steps}, {c.precision}" for c in arms]
    return results.table(["images", *names], rows)


def wall(judged: Judges, threads: int) -> str:
    """Time batches of 64 by the wall clock with all threads; the best of several, scaled to 1,000 images."""
    torch.set_num_threads(threads)
    batch, rows = judged.asked.select(judged.asked.subjects[:16]), []
    for config in (LatentFlow(), LatentFlow(precision="bf16"), STUDENTS[3], STUDENTS[1]):
        generator, best = config.build(), np.inf
        for _ in range(6):
            begun = time.perf_counter()
            generator.sample(batch, seed=1)
            best = min(best, time.perf_counter() - begun)
        rows.append([config.sample_solver, config.sample_steps, config.precision, best * 1000 / len(batch)])
        print(rows[-1], flush=True)
    torch.set_num_threads(1)
    return results.table(["solver", "steps", "numbers", f"s per 1,000 images, {threads} threads, best batch"], rows)


def stock(judged: Judges) -> str:
    """Time MONAI's pixel-space diffusion network of about as many weights as ours, told the mask by concatenation."""
    from monai.networks.nets import DiffusionModelUNet
    from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

    rows: list[list[object]] = []
    for size in (32, 64, 112):
        network = DiffusionModelUNet(
            spatial_dims=2, in_channels=4, out_channels=1, channels=(32, 64, 64), num_res_blocks=1,
            attention_levels=(False, False, True), num_head_channels=32, norm_num_groups=16,
        ).eval()  # fmt: skip
        count = sum(p.numel() for p in network.parameters())
        for scheduler, steps in ((DDPMScheduler(num_train_timesteps=1000), 1000), (DDIMScheduler(1000), 50)):
            scheduler.set_timesteps(steps)
            x, masks, n = torch.randn(8, 1, size, size), torch.zeros(8, 3, size, size), 8

            def one(s: Any = scheduler, x: torch.Tensor = x, masks: torch.Tensor = masks, net: Any = network) -> None:
                with torch.inference_mode():
                    t = s.timesteps[0]
                    s.step(net(torch.cat([x, masks], 1), timesteps=t.expand(len(x))), t, x)

            ms = core_milliseconds(one) * steps / n
            rows.append([type(scheduler).__name__, size, f"{count / 1e6:.2f} M", steps, ms])
            print(rows[-1], flush=True)
    return results.table(["MONAI", "size", "weights", "steps", "core ms/image"], rows)


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--subjects", type=int, default=96, help="simulated people, four images each")
    arguments.add_argument("--threads", type=int, default=2, help="for the wall clock")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    judged = judges(given.subjects)
    reference = latents(REFERENCE.build(), judged.asked)
    floor, error = kid(judged.features(judged.asked.pixels), judged.features(judged.others.pixels))
    seen = dice(judged.segmenter.predict(judged.asked.pixels), judged.asked.masks)
    text = "\n\n".join([
        " ".join(__doc__.split("\n\n")[1].split()),
        f"{len(judged.asked)} images an arm. Phantoms against other phantoms: KID x 1000 {floor:.3f} ± {error:.3f}, "
        f'"obeyed" {seen:.4f}. This processor draws by "auto" in {chosen("auto")}.',
        "### Solvers, steps, numbers\n\n" + steps_against_quality(judged, [*ARMS, *STUDENTS], reference),
        "### A generator tuned at a site, and its student\n\nTuned on 64 phantoms of another scanner without noise; "
        "the student takes over what the site tuned.\n\n" + tuned_at_a_site(judged),
        "### Growth with the number, core ms an image\n\n" + growth(judged),
        "### By the wall clock\n\nOn a busy machine these are upper bounds.\n\n" + wall(judged, given.threads),
        "### The stock alternative: diffusion on pixels\n\nThe network is not trained: this is its time alone, of one "
        "step times the steps.\n\n" + stock(judged),
    ])  # fmt: skip
    print(text)
    if given.write:
        results.write("Sampling", "python -m benchmarks.sampling --write", text)


if __name__ == "__main__":
    main()
