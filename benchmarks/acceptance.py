"""Does the certificate tell five generators apart whose privacy is known? The acceptance run of the plan, on pixels.

Each seed has a hospital of its own: simulated people whose scanner despeckles, which the public simulator does not; by
lot they are members or controls. Five releases are made, attacked by the whole suite, and decided by the rules of the
policies `audit` and `default`. What must come out is fixed beforehand:

- independent: the public phantom, which saw nobody. No rule of privacy fails; utility does.
- private: the public prior, tuned on members by the house's own engine at ε = 8. No rule of privacy fails; ε covers it.
- plain: the same parameters tuned on the same members without clip and noise. No ε covers it, so it cannot pass.
- 4 % copied: the independent release in which pictures of 4 % of the members stand. Disclosure fails it, while
  NNDR, DCR and the area under the curve stay where the independent releases have them.
- all copied: the members' own pictures. Disclosure fails it.
- large: the first and the fourth once more, with more people released, so that the copies are 1 % of the pictures.

python -m benchmarks.acceptance [--write] [--seeds N] [--kept FILE]
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import median_filter

from benchmarks import results
from benchmarks.sampling import Kept
from cohorts.frames import Frames
from cohorts.phantom.simulate import stills
from cohorts.study import SubjectKey, View
from conf.schema import Classes
from evaluation.attacked import findings
from evaluation.evidence import Finding, Verdict, decide, exact
from evaluation.policy import Lane, Policy
from evaluation.tasks.ventricle_segmentation import VentricleSegmentation
from learning import arrays
from learning.learner import fit, fit_private
from privacy.estimate import paired
from privacy.mechanism import DpPlan, calibrate, epsilon
from privacy.randomness import SecureRandom
from privacy.suite import RANDOM, Suite, examine
from synthesis.conditions import conditions
from synthesis.generators.latent_flow import LatentFlow

TITLE = "Acceptance: five generators whose privacy is known"
SEEDS, ENOUGH = 20, 19
PEOPLE, REFERENCE, RELEASED, TESTED = 300, 80, 225, 30
EPSILON, DELTA = 8.0, 1e-5
TASK = VentricleSegmentation(width=8, steps=80, batch_size=16)
STEPS, PLAIN_STEPS = 5, 20
USUAL = ("NNDR", "DCR", "AUC")
PRIVACY, DP, UTILITY = ("disclosure", "mia.auc", "mia.tpr1", "risk"), ("dp.eps", "dp.covered"), "utility.segmentation"
INDEPENDENT, PRIVATE, PLAIN, FEW, ALL = "independent", "private, ε = 8", "plain", "4 % copied", "all copied"
SOME = Classes(released=("A4C",))
LARGE = 600  # people of two further releases, in which the same copies are 1 % of the pictures, as in the plan's toy
FEW_LARGE, INDEPENDENT_LARGE = "4 % copied, large", "independent, large"
NULL = {FEW: INDEPENDENT, FEW_LARGE: INDEPENDENT_LARGE}
GENERATORS = (INDEPENDENT, PRIVATE, PLAIN, FEW, ALL, INDEPENDENT_LARGE, FEW_LARGE)


def policy() -> Policy:
    """Return the rules of `audit` on attacks and those of `default` on ε and utility, as they are shipped."""
    audit, default = Policy.load("audit"), Policy.load("default")
    rules = [r for r in audit.rules if r.id in PRIVACY] + [r for r in default.rules if r.id in (*DP, UTILITY)]
    if len(rules) != len(PRIVACY) + len(DP) + 1:
        raise ValueError(f"the policies lack a rule of {(*PRIVACY, *DP, UTILITY)}: there are {[r.id for r in rules]}")
    return Policy(name="acceptance", text=audit.text + default.text, rules=tuple(rules))


class Hospital:
    """Members, controls and others of one seed, and the five releases."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        people = stills(2 * PEOPLE + REFERENCE, seed=9_000 + seed, style="site-a", views=(View.A4C,))
        people = _diastole(replace(people, pixels=np.asarray(median_filter(people.pixels, (1, 3, 3)), np.uint8)))
        lot = np.random.default_rng([seed, 1]).permutation(len(people.subjects))
        names = [people.subjects[i] for i in lot]
        self.members, self.controls = people.select(names[:PEOPLE]), people.select(names[PEOPLE : 2 * PEOPLE])
        self.reference = people.select(names[2 * PEOPLE :])
        self.asked = _named(conditions(SOME, RELEASED, seed=5_000 + seed, size=64, pictures=True))
        self.generator = LatentFlow(sample_steps=4).build()
        self.prior = arrays.trainable(self.generator.module)
        self.plan = calibrate(
            DpPlan(purpose="train.generator", sampling_rate=1.0, noise_multiplier=1.0, clip_norm=0.03, steps=STEPS,
                   draws=1),
            epsilon=EPSILON, delta=DELTA,
        )  # fmt: skip

    def release(self, name: str) -> Frames:
        """Return what a generator released."""
        rng = np.random.default_rng([self.seed, 2])
        if name == INDEPENDENT:
            return self.asked
        if name == INDEPENDENT_LARGE:
            return _named(conditions(SOME, LARGE, seed=5_000 + self.seed, size=64, pictures=True))
        if name == ALL:
            return _named(self.members)
        if name in NULL:
            clean = self.release(NULL[name])
            who = rng.choice(PEOPLE, PEOPLE // 25, replace=False)
            rows = [int(rng.choice(np.flatnonzero(self.members.subject == i))) for i in who]
            pixels = clean.pixels.copy()
            pixels[rng.choice(len(pixels), len(rows), replace=False)] = self.members.pixels[rows]
            return replace(clean, pixels=pixels)
        generator = self.generator
        arrays.load(generator.module, self.prior)
        if name == PRIVATE:
            fit_private(generator, self.members, self.plan, steps=self.plan.steps, public_subjects=PEOPLE,
                        learning_rate=1 / self.plan.clip_norm, random=SecureRandom())  # fmt: skip
        else:
            fit(generator, self.members, steps=PLAIN_STEPS, batch_size=32, learning_rate=1e-3, seed=self.seed)
        return replace(self.asked, pixels=generator.sample(self.asked, seed=self.seed))

    def utility(self, released: Frames) -> Finding:
        """Compare segmenters that learned from a release and from members, on controls."""
        tested = self.controls.select(self.controls.subjects[:TESTED])
        scores = []
        for learned in (released, self.members):
            learner = TASK.learner()
            fit(learner, learned, steps=TASK.steps, batch_size=TASK.batch_size, learning_rate=TASK.learning_rate,
                seed=self.seed)  # fmt: skip
            scores.append(TASK.scores(learner, tested)["dice"])
        return Finding(metric=UTILITY, estimate=paired(*scores, rng=np.random.default_rng(self.seed)))

    def findings(self, name: str) -> Iterator[Finding]:
        """Yield what is known of a generator before anybody attacks it."""
        if name == INDEPENDENT:
            yield exact("dp.eps", 0.0)
            yield self.utility(self.asked)
        if name == PRIVATE:
            yield exact("dp.eps", epsilon([self.plan], DELTA))
        yield exact("dp.covered", float(name in (INDEPENDENT, INDEPENDENT_LARGE, PRIVATE)))


def examined(hospital: Hospital, name: str) -> dict[str, Any]:
    """Return verdicts by rule, and the numbers that others print."""
    begun = time.process_time()
    released = hospital.release(name)
    made = time.process_time()
    suite = examine(
        released, hospital.members, hospital.controls, reference=hospital.reference, split=RANDOM, seed=hospital.seed
    )
    decision = decide(policy(), [*findings(suite), *hospital.findings(name)], lane=Lane.FORMAL)
    return {
        "verdict": str(decision.verdict),
        "rules": {j.rule.id: str(j.verdict) for j in decision.judged},
        "reasons": {j.rule.id: j.reason for j in decision.judged},
        **_numbers(suite),
        "seconds": [round(made - begun, 1), round(time.process_time() - made, 1)],
    }


def as_expected(name: str, found: Mapping[str, Any]) -> bool:
    """Say whether the rules came out as fixed beforehand."""
    rules, overall = found["rules"], found["verdict"]
    unconvicted = all(rules[r] != Verdict.FAIL for r in PRIVACY)
    if name == INDEPENDENT:
        return unconvicted and rules[UTILITY] == Verdict.FAIL
    if name == INDEPENDENT_LARGE:
        return unconvicted
    if name == PRIVATE:
        return unconvicted and all(rules[r] == Verdict.PASS for r in DP)
    if name == PLAIN:
        return overall != Verdict.PASS and all(rules[r] != Verdict.PASS for r in DP)
    return rules["disclosure"] == Verdict.FAIL and overall == Verdict.FAIL


def report(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the section of the results."""
    n = len(rows[INDEPENDENT])
    outcome = []
    for name, found in rows.items():
        hit = sum(as_expected(name, f) for f in found)
        outcome.append([
            name, f"{hit} of {n}", _aim(hit, n),
            *(_counted(f["rules"][rule] for f in found) for rule in (*PRIVACY, *DP)),
            _counted(f["verdict"] for f in found),
        ])  # fmt: skip
    head = ["generator", "as expected", "aim", *PRIVACY, *DP, "overall"]
    parts = [" ".join(__doc__.split("\n\n")[1].split())]
    parts += [
        f"{PEOPLE} members, {PEOPLE} controls, {REFERENCE} reference people, one picture each, {RELEASED} "
        f"people with two released ({LARGE} in the large ones); {n} seeds. Counts are "
        "PASS / INCONCLUSIVE / FAIL, decided in the FORMAL lane.",
        results.table(head, outcome),
    ]
    utility = [f["rules"][UTILITY] for f in rows[INDEPENDENT]]
    parts += [f"Utility of the independent release: {_counted(utility)}; {rows[INDEPENDENT][0]['reasons'][UTILITY]}."]
    parts += ["Mean ± standard deviation over seeds:", _usual(rows)]
    for name, null in NULL.items():
        told = ", ".join(f"{measure} in {_inside(rows, name, measure)} of {n}" for measure in USUAL)
        seen = sum(f["rules"]["disclosure"] == Verdict.FAIL for f in rows[name])
        parts += [
            f"Of the releases {name!r}, disclosure fails {seen} of {n}; within 1.96 standard deviations of the mean of "
            f"{null!r} lie {told}."
        ]
    return "\n\n".join(parts)


def _aim(hit: int, n: int) -> str:
    if n < SEEDS:
        return f"open: {n} of {SEEDS} seeds so far"
    return "reached" if hit >= ENOUGH else "missed"


def _inside(rows: Mapping[str, Sequence[Mapping[str, Any]]], name: str, measure: str) -> int:
    null = np.array([f[measure] for f in rows[NULL[name]]])
    away = np.abs(np.array([f[measure] for f in rows[name]]) - null.mean())
    return int((away <= 1.96 * null.std(ddof=1)).sum())


def _usual(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    names = [*USUAL, "TPR at 1 %", "members disclosed", "controls disclosed", "eps_lb", "blind AUC", "noticed 5 %"]
    table = []
    for name, found in rows.items():
        columns = [np.array([f[column] for f in found], float) for column in names]
        table.append([name, *(f"{c.mean():.3f} ± {c.std(ddof=1) if len(c) > 1 else 0:.3f}" for c in columns)])
    return results.table(["generator", *names], table)


def _counted(verdicts: Iterator[str] | Sequence[str]) -> str:
    found = list(verdicts)
    return " / ".join(str(found.count(kind)) for kind in ("PASS", "INCONCLUSIVE", "FAIL"))


def _numbers(suite: Suite) -> dict[str, Any]:
    distance = next(r for r in suite.records if r.name == "distance")
    if distance.auc is None:
        raise ValueError("the distance attack ranks; it has an area")
    return {
        "NNDR": suite.similarity.nndr_median,
        "DCR": suite.similarity.dcr_p5_ratio,
        "AUC": distance.auc.value,
        "TPR at 1 %": distance.tpr[0.01].value,
        "members disclosed": suite.disclosure["members_disclosed"],
        "controls disclosed": suite.disclosure["controls_disclosed"],
        "eps_lb": suite.disclosure["eps_lb"],
        "blind AUC": 0.5 if suite.blind is None else suite.blind.value,
        "noticed 5 %": suite.positive_control[0.05],
    }


def _diastole(frames: Frames) -> Frames:
    rows = np.flatnonzero(frames.phase == 0)
    columns = ("pixels", "masks", "view", "phase", "lvef_percent", "subject", "pixel_mm")
    return Frames(**{name: getattr(frames, name)[rows] for name in columns}, subjects=frames.subjects)


def _named(frames: Frames) -> Frames:
    return replace(frames, subjects=tuple(SubjectKey(f"released-{i}") for i in range(len(frames.subjects))))


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--seeds", type=int, default=SEEDS, help="how many hospitals")
    arguments.add_argument("--kept", type=Path, help="file of rows of an earlier run; outside the repo")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    kept, rows = Kept(given.kept), {name: [] for name in GENERATORS}
    for seed in range(given.seeds):
        missing = [name for name in GENERATORS if f"{seed} {name}" not in kept.rows]
        hospital = Hospital(seed) if missing else None
        for name in GENERATORS:
            rows[name].append(kept.row(f"{seed} {name}", lambda h=hospital, n=name: [examined(h, n)])[0])
    text = report(rows)
    if given.write:
        results.write(TITLE, "python -m benchmarks.acceptance --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
