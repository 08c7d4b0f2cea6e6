"""Is it worth its ε to let hospitals say where their hearts lie in the picture?

CAMUS as three hospitals. Members' masks are measured under patient-level DP (`synthesis.likeness`: one noised sum a
site; add or remove one, δ = 1e-5, of this mechanism alone), public hearts are drawn again by what the sites say, and a
segmenter learns from them and from nothing else: from the phantom's own pictures, or from pictures that the public
prior draws, which has seen no patient either. Dice is of real people who are in no training, with 95 % bootstrap
intervals over people; the change is of the same people against public shapes and the same pictures. At ε = ∞ the sum
is clipped, but has no noise. LVEF measured in what is drawn stands beside: it is asked from 15 to 75 percent.

python -m benchmarks.likeness [--write] [--data FOLDER] [--subjects 400] [--kept FILE] [--only REGEX]
"""

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.camus_tasks import DELTA, Site, hospitals, said
from cohorts.frames import Frames
from evaluation import volumes
from evaluation.tasks.ventricle_segmentation import VentricleSegmentation
from learning.learner import fit
from privacy.mechanism import calibrate
from privacy.randomness import SecureRandom
from synthesis import likeness, shape
from synthesis.generators.latent_flow import LatentFlow

EPSILONS = (0.0, 1.0, math.inf, 0.5, 2.0)
PICTURES = ("of the phantom", "of the public prior")
SEEDS = (0, 1)
METRICS = ("dice", "dice_cavity", "dice_myocardium", "dice_atrium")
Row = dict[str, list[float]]


def shapes(sites: Sequence[Site], epsilon: float, n: int, *, seed: int) -> Frames:
    """Return public hearts with the phantom's pictures, chosen by what members' masks say at ε; 0 asks nobody."""
    lvef, people = shape.spread(n, seed=seed), None
    if epsilon:
        plan = likeness.plan(0.0)
        plan = calibrate(plan, epsilon=epsilon, delta=DELTA) if math.isfinite(epsilon) else plan
        told = [likeness.told(members, plan, random=SecureRandom()) for members, _ in sites]
        people = likeness.chosen(likeness.fitted(told, plan), lvef, seed=seed)
    return shape.stills(lvef, seed=seed, people=people)


def measured(sites: Sequence[Site], frames: Frames, *, seed: int) -> Row:
    """Return the scores of every person held out, of a segmenter that learned from `frames`; and LVEF off."""
    task = VentricleSegmentation(seed=seed)
    learner = task.learner()
    fit(learner, frames, steps=task.steps, batch_size=task.batch_size, learning_rate=task.learning_rate, seed=seed)
    found = [task.scores(learner, people) for _, people in sites]
    row = {m: np.round(np.concatenate([f[m] for f in found]), 4).tolist() for m in METRICS}
    asked = frames.lvef_percent[np.unique(frames.subject, return_index=True)[1]]
    return row | {"off": (volumes.biplane_lvef(frames) - asked).tolist()}


def change(one: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """Return by how many points of Dice the same people do better, with a bootstrap interval."""
    by = 100 * (one - other)
    drawn = by[np.random.default_rng(0).integers(0, len(by), (2000, len(by)))].mean(1)
    return f"{by.mean():+.1f} ({np.quantile(drawn, 0.025):+.1f} to {np.quantile(drawn, 0.975):+.1f})"


def table(rows: dict[str, Row]) -> str:
    """Return the table of what was measured, seeds together."""
    lines: list[list[object]] = []
    for pictures in PICTURES:
        base: NDArray[np.float64] | None = None
        for epsilon in sorted(EPSILONS):
            found = [rows[key] for s in SEEDS if (key := name(pictures, epsilon, s)) in rows]
            if not found:
                continue
            dice = {m: np.mean([f[m] for f in found], axis=0) for m in METRICS}
            base = dice["dice"] if epsilon == 0 else base
            by = change(dice["dice"], base) if epsilon and base is not None else ""
            shown = "0, public shapes" if not epsilon else "∞" if math.isinf(epsilon) else f"{epsilon:g}"
            off = float(np.abs(np.concatenate([f["off"] for f in found])).mean())
            parts = [float(dice[m].mean()) for m in METRICS[1:]]
            lines.append([pictures, shown, len(found), said(dice["dice"]), by, *parts, off])
    head = (
        "pictures",
        "ε of shapes",
        "draws",
        "Dice",
        "change, points",
        "ventricle",
        "myocardium",
        "atrium",
        "LVEF off",
    )
    return results.table(head, lines)


def name(pictures: str, epsilon: float, seed: int) -> str:
    """Return what one row is called."""
    return f"{pictures}, ε = {epsilon:g}, seed {seed}"


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where camus_224 lies")
    parser.add_argument("--subjects", type=int, default=400, help="synthetic subjects of every release")
    parser.add_argument("--kept", type=Path, help="file of rows of an earlier run; outside the repo")
    parser.add_argument("--only", default="", help="measure rows whose name matches; others only as kept")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Row] = {}
    if given.kept and given.kept.exists():
        rows = dict(json.loads(line) for line in given.kept.read_text().splitlines())
    sites = hospitals(given.data)
    for seed in SEEDS:
        for epsilon in EPSILONS:
            frames = None
            for pictures in PICTURES:
                key = name(pictures, epsilon, seed)
                if key in rows or not re.search(given.only, key):
                    continue
                frames = frames or shapes(sites, epsilon, given.subjects, seed=seed)
                taught = frames
                if pictures != PICTURES[0]:
                    taught = replace(frames, pixels=LatentFlow().build().sample(frames, seed=500 + seed))
                rows[key] = measured(sites, taught, seed=seed)
                print(key, said(np.array(rows[key]["dice"])), flush=True)
                if given.kept:
                    with given.kept.open("a") as file:
                        file.write(json.dumps([key, rows[key]]) + "\n")
    people = " + ".join(f"{len(members.subjects)}/{len(others.subjects)}" for members, others in sites)
    text = "\n\n".join(
        [" ".join(__doc__.split("\n\n")[1].split()), f"Members/held out by site: {people}.", table(rows)]
    )
    print(text)
    if given.write:
        results.write("Likeness", "python -m benchmarks.likeness --write", text)


if __name__ == "__main__":
    main()
