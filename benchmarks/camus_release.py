"""Is a release of CAMUS worth training on, at which ε, and what did each lever bring?

Three hospitals tune the public generator in common under patient-level DP, as `experiment=camus` tells them to (the
mechanism, clip, noise, average and budget are the house's own); the release is drawn; a segmenter that sees nothing
else is tested on real people who were in no training, beside segmenters trained on real members with the same recipe.
ε is of this training alone, and of the shapes where they are paid for: add or remove one, δ = 1e-5, PLD. At ε = ∞ the
same mechanism clips without noise; at ε = 0 nobody is asked and the prior of the phantom speaks. The levers were
compared on calibration people, the table by ε is of test people. Intervals: 95 % bootstrap over people. What chose
among levers here saw patients, and the ε printed does not cover that; the defaults of `experiment=camus` come from
phantoms (`benchmarks.settings`) and stay.

python -m benchmarks.camus_release [--write] [--data FOLDER] [--kept FOLDER] [--only REGEX] [--sheet FILE]
"""

import argparse
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from benchmarks import results
from benchmarks.camus_arms import BEST, BY_EPSILON, HOUSE, LEVERS, TOGETHER, Arm
from benchmarks.camus_shapes import RADIUS, weighed
from benchmarks.camus_tasks import DELTA, KEY, SAME
from benchmarks.sampling import Kept
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames, concatenate, gather
from cohorts.partition import RULES, by_columns, columns_of
from cohorts.readers.manifest import Manifest
from cohorts.split import Split, splits
from cohorts.study import SubjectKey
from conf.aggregation import Aggregation
from conf.schema import Classes
from evaluation.tasks.ventricle_segmentation import VentricleSegmentation
from learning import arrays
from learning.blocks import to_pixels, to_signal
from learning.learner import fit, fit_private
from privacy import moments
from privacy.mechanism import DpPlan, calibrate
from privacy.randomness import SecureRandom
from server.aggregate import moved
from synthesis import priors
from synthesis.conditions import conditions
from synthesis.generators.latent_flow import LatentFlow, LatentFlowGenerator

TITLE = "Releases of CAMUS"
TARGET = 0.95  # of real training, at ε = 8
METRICS = ("dice", "dice_cavity", "dice_myocardium", "dice_atrium")
Scores = Mapping[str, Mapping[str, Sequence[float]]]


class Hospitals:
    """Three sites of CAMUS: members, calibration people, test people; and what was made of them."""

    def __init__(self, data: Path, kept: Path | None) -> None:
        rules = RULES["quality_and_rate"]
        reader = Manifest(root=str(data / "camus_224"), keep=columns_of(rules), same_subject=SAME)
        pseudonyms = Pseudonyms(KEY)
        cohort = reader.read(pseudonyms=pseudonyms)
        frames, lots = gather(cohort, size=64), splits(cohort, key=KEY)
        divided = by_columns(reader.index().raw_columns(), rules, same_subject=SAME).sites.values()
        here = [{pseudonyms.subject(SAME[0][0] if name in SAME[0] else name) for name in raw} for raw in divided]
        self.lots = {lot: [frames.select(sorted(set(lots[lot]) & own)) for own in here] for lot in Split}
        self.members, self.kept = self.lots[Split.MEMBERS], kept

    def plans(self, arm: Arm) -> tuple[DpPlan, DpPlan | None]:
        """Return what the generator's training and the shapes cost, jointly ε."""
        shapes = None
        if arm.shapes == "weighed":
            shapes = DpPlan(purpose="shapes", sampling_rate=1.0, noise_multiplier=0.0,
                            clip_norm=moments.clip_norm(RADIUS), steps=1, draws=1)  # fmt: skip
            shapes = noised(shapes, arm.shape_epsilon if arm.epsilon else 8.0, ())
        plan = DpPlan(
            purpose="train.generator",
            sampling_rate=arm.sampling_rate,
            noise_multiplier=0.0,
            clip_norm=arm.clip_norm,
            steps=arm.exchanges * arm.steps,
            draws=arm.draws,
        )
        return noised(plan, arm.epsilon or math.inf, () if shapes is None else (shapes,)), shapes

    def weights(self, arm: Arm) -> arrays.Arrays:
        """Return what the sites trained in common, from a file of an earlier run where there is one."""
        plan, _ = self.plans(arm)
        told = (plan, arm.tune, arm.exchanges, arm.reach, arm.average, arm.plainly, arm.seed, arm.epsilon, prior())
        name = f"weights-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.safetensors"
        if self.kept is not None and (self.kept / name).exists():
            return arrays.read(self.kept / name)
        generator = LatentFlow(tune=arm.tune).build()
        if arm.plainly:
            fit(generator, concatenate(self.members), steps=arm.plainly, batch_size=32, learning_rate=1e-3, seed=0)
            kept = arrays.trainable(generator.module)
        else:
            kept = self.federated(generator, plan, arm) if arm.epsilon else arrays.trainable(generator.module)
        if self.kept is not None:
            arrays.write(self.kept / name, kept)
        return kept

    def federated(self, generator: Any, plan: DpPlan, arm: Arm) -> Any:
        """Train as a campaign does: every site from the common weights, the mean of the changes, the average."""
        weights = kept = arrays.trainable(generator.module)
        for exchange in range(arm.exchanges):
            changes = []
            for members in self.members:
                arrays.load(generator.module, weights)
                fit_private(generator, members, plan, steps=arm.steps, public_subjects=len(members.subjects),
                            learning_rate=arm.reach / arm.clip_norm, random=SecureRandom())  # fmt: skip
                after = arrays.trainable(generator.module)
                changes.append({n: after[n] - weights[n] for n in after})
            weights, _ = moved(weights, changes, Aggregation(), past={}, number=exchange + 1)
            kept = {n: np.float32(arm.average) * kept[n] + np.float32(1 - arm.average) * weights[n] for n in weights}
        return kept

    def shapes(self, arm: Arm) -> Frames:
        """Return what is to be drawn, its pixels those of the phantom or black."""
        if arm.shapes == "members":
            return concatenate(self.members)
        if arm.shapes == "public":
            return conditions(Classes(), arm.subjects, seed=100 + arm.seed, size=64, pictures=True)
        _, plan = self.plans(arm)
        if plan is None:
            raise ValueError(f"shapes={arm.shapes!r} must be public, weighed or members")
        return weighed(self.members, plan, arm.subjects, seed=arm.seed)

    def release(self, arm: Arm) -> Frames:
        """Return the release."""
        if arm.shapes == "encoded":
            return through(LatentFlow().build(), concatenate(self.members))
        generator = LatentFlow(
            tune=arm.tune, sample_solver=arm.solver, sample_steps=arm.sample_steps, guidance=arm.guidance
        ).build()
        arrays.load(generator.module, self.weights(arm))
        asked, parts = self.shapes(arm), []
        for k in range(arm.repeats):
            pixels = generator.sample(asked, seed=500 + arm.seed + 77 * k)
            names = tuple(SubjectKey(f"{s}-{k}") for s in asked.subjects)
            parts.append(replace(asked, pixels=pixels, subjects=names))
        return concatenate([*parts, asked] if arm.phantoms else parts)

    def scores(self, frames: Frames, arm: Arm) -> Scores:
        """Return lot → metric → score of every person of a segmenter that learned from `frames`."""
        task = VentricleSegmentation(seed=arm.seed, steps=arm.taught)
        learner = task.learner()
        fit(learner, unevenly(frames) if arm.uneven else frames, steps=task.steps, batch_size=task.batch_size,
            learning_rate=task.learning_rate, seed=arm.seed)  # fmt: skip
        return {
            lot.value: {
                m: np.round(np.concatenate([task.scores(learner, people)[m] for people in self.lots[lot]]), 4).tolist()
                for m in METRICS
            }
            for lot in (Split.CALIBRATION, Split.TEST)
        }


@lru_cache
def prior() -> str:
    """Return which public prior is in the house."""
    return arrays.digest(priors.load("latent_flow"))[:8]


@lru_cache
def noised(plan: DpPlan, epsilon: float, beside: tuple[DpPlan, ...]) -> DpPlan:
    """Return `plan` with the noise that ε asks for; none at ε = ∞."""
    return calibrate(plan, epsilon=epsilon, delta=DELTA, beside=beside) if math.isfinite(epsilon) else plan


@torch.inference_mode()
def through(generator: LatentFlowGenerator, frames: Frames) -> Frames:
    """Return frames as the frozen autoencoder gives them back: the best that any flow on its latents could draw."""
    dice, parts = torch.Generator().manual_seed(0), []
    for rows in np.array_split(np.arange(len(frames)), len(frames) // 64 + 1):
        x, masks = to_signal(torch.from_numpy(frames.pixels[rows])), torch.from_numpy(frames.masks[rows])
        noise = torch.randn(x.shape, generator=dice)
        parts.append(to_pixels(generator.autoencoder.decode(generator.autoencoder.encode(x), masks, noise)).numpy())
    return replace(frames, pixels=np.concatenate(parts))


def unevenly(frames: Frames, *, copies: int = 3) -> Frames:
    """Return the frames and copies of them under a gain, a haze and a shadow that change over the picture."""
    generator, parts = torch.Generator().manual_seed(7), [frames]
    for k in range(copies):
        x = torch.from_numpy(frames.pixels).unsqueeze(1) / 255
        gain, haze = (
            F.interpolate(torch.randn(len(x), 1, 5, 5, generator=generator), size=x.shape[-1], mode="bicubic")
            for _ in range(2)
        )
        scanned = (x > 0).float()
        x = ((x * (0.4 * gain).exp() + 0.12 * haze.clamp_min(0)) * scanned).clamp(0, 1)
        names = tuple(SubjectKey(f"{s}-uneven-{k}") for s in frames.subjects)
        pixels = (255 * x.squeeze(1)).to(torch.uint8).numpy()
        parts.append(replace(frames, pixels=pixels, subjects=names))
    return concatenate(parts)


def interval(values: NDArray[np.float64]) -> str:
    """Return the mean with its bootstrap interval over people."""
    drawn = values[np.random.default_rng(0).integers(0, len(values), (2000, len(values)))].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def change(one: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """Return by how many points of Dice the same people do better, with a bootstrap interval."""
    by = 100 * (one - other)
    drawn = by[np.random.default_rng(0).integers(0, len(by), (2000, len(by)))].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{by.mean():+.1f} ({low:+.1f} to {high:+.1f})"


class Table:
    """All arms, measured once."""

    def __init__(self, sites: Hospitals, kept: Kept, only: str) -> None:
        self.sites, self.kept, self.only = sites, kept, re.compile(only)

    def scores(self, name: str, make: Callable[[], Frames], arm: Arm) -> Scores | None:
        """Return the scores of an arm, `None` where it was neither measured before nor asked for now."""
        key = name if name.startswith("real") else f"{name} [{prior()}]"
        if key not in self.kept.rows and not self.only.search(name):
            return None
        found: Any = self.kept.row(key, lambda: [self.sites.scores(make(), arm)])[0]
        return found

    def drawn(self, arms: Mapping[str, Arm]) -> dict[str, Scores]:
        """Return the scores of releases."""
        found = {name: self.scores(name, partial(self.sites.release, arm), arm) for name, arm in arms.items()}
        return {name: s for name, s in found.items() if s is not None}

    def real(self, recipe: str, arm: Arm) -> dict[str, list[Scores]]:
        """Return the scores of each site's own segmenter, and of one of all members, taught as `arm` says."""
        members = self.sites.members
        each = [self.scores(f"real {k}{recipe}", partial(_itself, m), arm) for k, m in enumerate(members)]
        together = self.scores(f"real together{recipe}", partial(concatenate, members), arm)
        told = {ALONE: each, TOGETHER_REAL: [together]}
        return {name: [s for s in found if s is not None] for name, found in told.items() if None not in found}


ALONE, TOGETHER_REAL = "real, every hospital alone, mean of three", "real, all members together, which none may"


def _itself(frames: Frames) -> Frames:
    return frames


def people(found: Sequence[Scores], lot: Split, metric: str = "dice") -> NDArray[np.float64]:
    """Return the score of every person, the mean of some segmenters."""
    out: NDArray[np.float64] = np.mean([s[lot.value][metric] for s in found], 0)
    return out


def by_epsilon(
    arms: Mapping[str, Scores], real: Mapping[str, list[Scores]], beside: Mapping[str, list[Scores]] | None = None
) -> str:
    """Say of test people how arms do, seeds together, and what share that is of real training."""
    groups: dict[str, list[Scores]] = {**real, **(beside or {})}
    for name, scores in arms.items():
        groups.setdefault(name.rpartition(", seed")[0], []).append(scores)
    test, rows = Split.TEST, []
    for name, found in groups.items():
        shares = [f"{people(found, test).mean() / people(r, test).mean():.3f}" for r in real.values()]
        structures = [people(found, test, m).mean() for m in METRICS[1:]]
        each = ", ".join(f"{people([s], test).mean():.3f}" for s in found)
        rows.append([name, interval(people(found, test)), each, *map(float, structures), *shares])
    head = ["learned from", "Dice", "each draw", "ventricle", "myocardium", "atrium"]
    return results.table([*head, *(f"of {'alone' if name == ALONE else 'together'}" for name in real)], rows)


def by_lever(arms: Mapping[str, Scores], base: Sequence[Scores]) -> str:
    """Say of calibration people what each lever changed against the defaults, in points of Dice."""
    lot, rows = Split.CALIBRATION, []
    for name, found in arms.items():
        changed = change(people([found], lot), people(base, lot))
        parts = [100 * float((people([found], lot, m) - people(base, lot, m)).mean()) for m in METRICS[1:]]
        rows.append([name, float(people([found], lot).mean()), changed, *(f"{v:+.1f}" for v in parts)])
    rows.sort(key=lambda row: -float(row[1]))
    return results.table(["lever", "Dice", "change, points", "ventricle", "myocardium", "atrium"], rows)


def where_it_is_lost(real: Mapping[str, list[Scores]], arms: Mapping[str, Scores], levers: Mapping[str, Scores]) -> str:
    """Say of calibration people how Dice rises from the public prior to real pictures, one restriction less a time."""
    steps = {
        "the prior alone": [s for name, s in arms.items() if name.startswith("ε = 0")],
        "ε = 8": [s for name, s in arms.items() if name.startswith("ε = 8")],
        "the same parameters without clip or noise": [levers[k] for k in levers if k.startswith("token and shifts, p")],
        "all parameters without clip or noise": [levers[k] for k in levers if k.startswith("all trained, plainly")],
        "members' pictures through the autoencoder": [levers[k] for k in levers if k.startswith("members through")],
        "members' pictures": real.get(TOGETHER_REAL, []),
    }
    told = [f"{what} {people(found, Split.CALIBRATION).mean():.3f}" for what, found in steps.items() if found]
    return f"Where it is lost, Dice of calibration people: {', '.join(told)}."


def sheet(sites: Hospitals, arm: Arm, path: Path) -> None:
    """Write 24 drawn pictures over their masks as PNG; everything in it is synthetic."""
    frames = sites.release(replace(arm, subjects=24))
    rows = np.arange(24) * 4 + np.arange(24) % 4
    grey = [np.concatenate([frames.pixels[r], 80 * frames.masks[r]]) for r in rows]
    side = np.concatenate([np.concatenate(grey[:12], 1), np.concatenate(grey[12:], 1)])
    Image.fromarray(side).resize((2 * side.shape[1], 2 * side.shape[0]), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="where camus_224 lies")
    arguments.add_argument("--kept", type=Path, help="folder of rows and weights of an earlier run; outside the repo")
    arguments.add_argument("--only", default="", help="measure arms whose name matches; others only as kept")
    arguments.add_argument("--sheet", type=Path, help="write pictures of the release at ε = 8")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    if given.kept is not None:
        given.kept.mkdir(parents=True, exist_ok=True)
    sites = Hospitals(given.data, given.kept)
    table = Table(sites, Kept(given.kept / "rows.jsonl" if given.kept else None), given.only)
    real, arms = table.real("", HOUSE), table.drawn(BY_EPSILON)
    base = [s for name, s in arms.items() if name.startswith("ε = 8")]
    sizes = "; ".join(
        f"{lot.value} {' + '.join(str(len(f.subjects)) for f in frames)}" for lot, frames in sites.lots.items()
    )
    parts = [" ".join(__doc__.split("\n\n")[1].split()), f"People by site: {sizes}. Public prior: {prior()}."]
    parts += [
        "By ε, test people, settings of `experiment=camus`; a draw has its own noise, shapes and segmenter, "
        "and only ε = 8 and 0 have two:",
        by_epsilon(arms, real),
    ]
    if base and real:
        share = people(base, Split.TEST).mean() / people(real[ALONE], Split.TEST).mean()
        reached = "reached" if share >= TARGET else "missed"
        parts += [
            f"At ε = 8 a release is worth {share:.3f} of real training alone; the target of {TARGET:g} is {reached}. "
            "docs/images/camus_release.png shows draws of that generator over the masks that were asked for."
        ]
    if base and (levers := table.drawn(LEVERS)):
        words = (
            "One lever at a time, at ε = 8 unless it says otherwise; calibration people, one draw of noise each. The "
            f"change is against the mean of {len(base)} draws with the defaults. {len(levers)} of the {len(LEVERS)} in "
            "`camus_arms` were measured so far; those with 4 draws stand beside "
            '"draws: 4". What is plain has neither clip nor noise and serves diagnosis:'
        )
        parts += [words, by_lever(levers, base), where_it_is_lost(real, arms, levers)]
    taught = Arm(**BEST)
    if together := table.drawn(TOGETHER):
        likewise = {f"{name}; uneven as well": s for name, s in table.real(", same recipe", taught).items()}
        words = (
            "Weighed shapes and uneven gain together, test people. Real arms are taught in both ways, and a share is of"
        )
        parts += [f"{words} the real arm as the house teaches it:", by_epsilon(together, real, likewise)]
    text = "\n\n".join(parts)
    if given.sheet is not None:
        sheet(sites, HOUSE, given.sheet)
    if given.write:
        results.write(TITLE, "python -m benchmarks.camus_release --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
