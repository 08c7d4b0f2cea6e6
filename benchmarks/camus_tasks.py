"""What federation and privacy cost three tasks on real echo: CAMUS as three hospitals, people held out at each.

View (A2C or A4C), segmentation and ejection fraction. Every arm starts from a network that phantoms taught, which is
the arm "phantom". "local" trains at each site alone and is tested on everybody's held-out people; "central" on all
members together, which no hospital may; "federated" in common, plainly and at patient-level ε (add or remove one, δ =
1e-5, PLD, this training alone). Under privacy few parameters are trained, every member is in every step, and the
length of a step is chosen on phantoms of other scanners, never on patients. Scores are means over held-out people with
95 % bootstrap intervals over people; the noise and the split are drawn once.

python -m benchmarks.camus_tasks [--write] [--data FOLDER] [--task NAME]
"""

import argparse
import copy
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames, concatenate, gather
from cohorts.partition import RULES, by_columns, columns_of
from cohorts.phantom import simulate
from cohorts.readers.manifest import Manifest
from cohorts.split import Split, splits
from evaluation.tasks import TASKS
from learning import arrays
from learning.learner import Learner, fit, fit_private
from privacy.mechanism import DpPlan, calibrate
from privacy.randomness import SecureRandom

SAME = (["patient0033", "patient0068"],)
EPSILONS = (math.inf, 8.0, 4.0, 2.0)
TITLE = "Tasks on CAMUS"
DELTA, CLIP, EXCHANGES, STEPS, DRAWS = 1e-5, 0.1, 4, 5, 4
LENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of a noised step, in units of 1 / clip
KEY = b"a benchmark keeps no secret at all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A task: its name, how long phantoms teach it, how long members do, and what is trained under privacy."""

    task: str
    phantom_steps: int
    steps: int
    tune: str


KINDS = {
    "view": Kind(task="view_recognition", phantom_steps=400, steps=200, tune=r"^13\.|^(1|4|7|10)\."),
    "segmentation": Kind(task="ventricle_segmentation", phantom_steps=600, steps=300, tune=r"norm|leave\.0"),
    "ejection fraction": Kind(task="ejection_fraction", phantom_steps=600, steps=300, tune=r"^13\.|^(1|4|7|10)\."),
}
Site = tuple[Frames, Frames]  # members, and people held out


def hospitals(data: Path) -> list[Site]:
    """Return CAMUS as three sites, by image quality and frame rate."""
    rules = RULES["quality_and_rate"]
    reader = Manifest(root=str(data / "camus_224"), keep=columns_of(rules), same_subject=SAME)
    pseudonyms = Pseudonyms(KEY)
    cohort = reader.read(pseudonyms=pseudonyms)
    divided = by_columns(reader.index().raw_columns(), rules, same_subject=SAME)
    frames, lots = gather(cohort, size=64), splits(cohort, key=KEY)
    found = []
    for raw in divided.sites.values():
        here = {pseudonyms.subject(SAME[0][0] if name in SAME[0] else name) for name in raw}
        members = [s for s in lots[Split.MEMBERS] if s in here]
        others = [s for lot in (Split.CALIBRATION, Split.TEST) for s in lots[lot] if s in here]
        found.append((frames.select(sorted(members)), frames.select(sorted(others))))
    return found


def stand_ins() -> list[Site]:
    """Return phantoms of three scanners in the place of the hospitals."""
    both = [simulate.stills(90, seed=900 + k, style=style) for k, style in enumerate(("site-a", "site-b", "site-c"))]
    return [(f.select(f.subjects[:60]), f.select(f.subjects[60:])) for f in both]


def taught(kind: Kind) -> Learner:
    """Return the network after the phantom."""
    task = TASKS[kind.task]()
    learner: Learner = task.learner()
    fit(learner, simulate.stills(600, seed=5), steps=kind.phantom_steps, batch_size=32,
        learning_rate=task.learning_rate, seed=0)  # fmt: skip
    return learner


def federated(kind: Kind, start: Learner, sites: Sequence[Site], epsilon: float, length: float) -> Learner:
    """Train in common, plainly at ε = ∞, else under patient-level privacy at every site."""
    learner = copy.deepcopy(start)
    task, private = TASKS[kind.task](), math.isfinite(epsilon)
    for name, parameter in learner.module.named_parameters():
        parameter.requires_grad_(not private or re.search(kind.tune, name) is not None)
    plan = DpPlan(
        purpose="benchmark",
        sampling_rate=1.0,
        noise_multiplier=1.0,
        clip_norm=CLIP,
        steps=EXCHANGES * STEPS,
        draws=DRAWS,
    )
    plan = calibrate(plan, epsilon=epsilon, delta=DELTA) if private else plan
    weights = arrays.trainable(learner.module)
    for exchange in range(EXCHANGES):
        changes = []
        for k, (members, _) in enumerate(sites):
            arrays.load(learner.module, weights)
            if private:
                fit_private(learner, members, plan, steps=STEPS, public_subjects=len(members.subjects),
                            learning_rate=length / CLIP, random=SecureRandom())  # fmt: skip
            else:
                fit(learner, members, steps=kind.steps // EXCHANGES, batch_size=task.batch_size,
                    learning_rate=task.learning_rate, seed=10 * exchange + k)  # fmt: skip
            after = arrays.trainable(learner.module)
            changes.append({n: after[n] - weights[n] for n in after})
        weights = {n: (weights[n] + np.mean([c[n] for c in changes], 0)).astype(np.float32) for n in weights}
    arrays.load(learner.module, weights)
    return learner


def alone(kind: Kind, start: Learner, members: Frames) -> Learner:
    """Train on one cohort, plainly, for as many steps as a site takes in common."""
    learner, task = copy.deepcopy(start), TASKS[kind.task]()
    fit(learner, members, steps=kind.steps, batch_size=task.batch_size, learning_rate=task.learning_rate, seed=1)
    return learner


def scores(kind: Kind, learner: Learner, sites: Sequence[Site]) -> NDArray[np.float64]:
    """Return the primary metric of every held-out person of every site."""
    task = TASKS[kind.task]()
    learner.module.eval()
    found: NDArray[np.float64] = np.concatenate([task.scores(learner, people)[task.primary] for _, people in sites])
    return found[~np.isnan(found)]


def said(values: NDArray[np.float64]) -> str:
    """Return the mean with its bootstrap interval over people."""
    dice = np.random.default_rng(0)
    means = values[dice.integers(0, len(values), (2000, len(values)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def measure(name: str, sites: Sequence[Site]) -> list[list[object]]:
    """Return a row for every arm of a task."""
    kind = KINDS[name]
    start = taught(kind)
    phantoms = stand_ins()
    tried = {length: scores(kind, federated(kind, start, phantoms, 8.0, length), phantoms).mean() for length in LENGTHS}
    length = max(tried, key=lambda one: float(tried[one]))
    print(name, "on phantoms", *(f"{one:g}: {mean:.4f}" for one, mean in tried.items()), flush=True)
    rows: list[list[object]] = []

    def tell(arm: str, values: NDArray[np.float64]) -> None:
        rows.append([name, arm, said(values)])
        print(*rows[-1], flush=True)

    tell("phantom", scores(kind, start, sites))
    each = [scores(kind, alone(kind, start, members), sites) for members, _ in sites]
    tell("local, mean of three", np.mean(each, 0))
    tell("central", scores(kind, alone(kind, start, concatenate([members for members, _ in sites])), sites))
    for epsilon in EPSILONS:
        arm = f"federated, ε = {epsilon:g}" if math.isfinite(epsilon) else "federated, no privacy"
        tell(arm, scores(kind, federated(kind, start, sites, epsilon, length), sites))
    rows.append([name, "length of a private step, from phantoms", f"{length:g} of {LENGTHS[0]:g} to {LENGTHS[-1]:g}"])
    return rows


def kept(names: Sequence[str]) -> list[list[object]]:
    """Return the rows that an earlier run wrote of the tasks `names`, as they stand in RESULTS.md."""
    whole = results.RESULTS.read_text(encoding="utf-8") if results.RESULTS.exists() else ""
    section = whole.partition(f"## {TITLE}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [list(cells) for cells in lines if cells[0] in names]


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="where camus_224 lies")
    only = "this one only, the others as RESULTS.md has them; may be repeated"
    arguments.add_argument("--task", choices=KINDS, action="append", help=only)
    given = arguments.parse_args()
    sites = hospitals(given.data)
    rows: list[list[Any]] = []
    for name in KINDS:
        rows += measure(name, sites) if name in (given.task or KINDS) else kept([name])
    sizes = ", ".join(f"{len(m.subjects)} + {len(h.subjects)}" for m, h in sites)
    head = ["task", "arm", "score per person"]
    what = (
        f"Members and held-out people by site: {sizes}. Scores: accuracy, mean Dice of three structures, 1 less the "
        "absolute error of the fraction."
    )
    text = f"{' '.join(__doc__.split(chr(10) * 2)[1].split())}\n\n{what}\n\n{results.table(head, rows)}"
    if given.write:
        results.write(TITLE, "python -m benchmarks.camus_tasks --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
