"""Audit of ourselves: does what canaries prove stay below what is claimed, and above it once the machinery is broken?

The honest machinery is `learning.learner.fit_private` and the ledger, as hospitals run them. Each mutant breaks one
piece of that very code. Two kinds of canaries take part: some go through the engine as subjects of a model of their own
(gradient, clip per layer or jointly, draws, sampler), many more ride along in the auxiliary layer (sampler, noise,
averaging). What the denominator gives away is audited by many small trainings instead.

python -m benchmarks.audit_self [--write] [--nightly]
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import results
from cohorts.frames import Frames
from cohorts.study import SubjectKey
from learning.learner import fit_private
from privacy.audit.bounds import SIGNIFICANCE, Errors, gaussian_bound, guess, to_guess
from privacy.audit.layer import STATISTICS, AuditLayer
from privacy.audit.power import guesses_for
from privacy.gradients import SubjectGradients, noisy_mean
from privacy.ledger import LedgerRefusal, PrivacyLedger
from privacy.mechanism import DpPlan, calibrate, epsilon
from privacy.randomness import SecureRandom

DELTA = 1e-5
SUBJECTS, LAYERS, CLIPS = 1_000, 8, 5  # canaries that are subjects of the engine, in so many layers, with so many clips
RIDERS = 30_000  # canaries in the auxiliary layer
RESUMES = 4
HONEST_FACTOR = 2.2  # what canaries prove of the honest machinery is at least the claim divided by this
HONEST, MUTANT = 20, 3  # seeds of each
RUNS = 100  # with and without a subject, where many small trainings are compared
EVERYBODY, SOME = 1.0, 0.5


def plan_of(sampling_rate: float, claimed: float, steps: int = 10) -> DpPlan:
    """Return a plan that claims at most `claimed`."""
    plan = DpPlan(
        purpose="train.audit", sampling_rate=sampling_rate, noise_multiplier=1.0, clip_norm=0.5, steps=steps, draws=2
    )
    return calibrate(plan, epsilon=claimed, delta=DELTA)


class CanaryLearner:
    """A model in which subject i has a parameter of its own in every layer, and a gradient far above any clip there."""

    def __init__(self, canaries: NDArray[np.int64], size: int) -> None:
        self.module: nn.Module = nn.ModuleList(nn.Linear(size, 1, bias=False) for _ in range(LAYERS))
        self._canaries, self._size = canaries, size
        for layer in self.module.children():
            nn.init.zeros_(layer.weight)

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return one loss per row."""
        del generator
        x = torch.zeros(len(rows), self._size)
        x[torch.arange(len(rows)), torch.from_numpy(self._canaries[frames.subject[rows]])] = 1e3
        return -sum((layer(x)[:, 0] for layer in self.module.children()), torch.zeros(len(rows)))


def cohort(n_subjects: int) -> Frames:
    """Return subjects with `CLIPS` rows each and nothing to see."""
    n = n_subjects * CLIPS
    blank = np.zeros((n, 1, 1), np.uint8)
    return Frames(
        pixels=blank,
        masks=blank,
        view=np.zeros(n, np.int64),
        phase=np.zeros(n, np.int64),
        lvef_percent=np.zeros(n, np.float32),
        subject=np.repeat(np.arange(n_subjects), CLIPS),
        subjects=tuple(SubjectKey(f"canary-{i}") for i in range(n_subjects)),
    )


def audit(plan: DpPlan, seed: int, broken: Callable[[], Any]) -> float:
    """Train once as a site does, resuming as often as the ledger lets it, and return the ε that the canaries prove."""
    with ExitStack() as stack:
        stack.enter_context(patch("privacy.randomness.os.urandom", np.random.default_rng(seed).bytes))
        stack.enter_context(broken())
        random = SecureRandom()
        coins = random.bernoulli(SUBJECTS, 0.5).astype(bool)
        learner = CanaryLearner(np.flatnonzero(coins), SUBJECTS)
        riders = AuditLayer.throw(RIDERS, random, guessed=guesses_for(plan, DELTA, canaries=RIDERS))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ledger = PrivacyLedger(folder / "ledger.db", epsilon_cap=50.0, delta_cap=0.5)
        ledger.authorise("run", [plan], delta=DELTA)
        for resumed in range(RESUMES):
            try:
                ledger.intend("run", plan.purpose, f"from-the-start-{resumed}", plan.steps)
            except LedgerRefusal:
                break
            riders = AuditLayer.from_bytes(riders.to_bytes())
            fit_private(
                learner,
                cohort(int(coins.sum())),
                plan,
                steps=plan.steps,
                public_subjects=SUBJECTS // 2,
                learning_rate=1.0,
                random=random,
                audit=riders,
            )
    moved = sum(layer.weight.detach()[0].double().numpy() for layer in learner.module.children())
    found = [guess(moved, coins, guessed=to_guess(SUBJECTS)), *riders.guesses().values()]
    share = SIGNIFICANCE / (1 + len(STATISTICS))
    return max(gaussian_bound(one, DELTA, significance=share) for one in found)


def audit_denominator(plan: DpPlan, seed: int, broken: Callable[[], Any], runs: int = RUNS) -> float:
    """Train many times with three subjects and with two; guess which from the size of the noise alone."""
    scales = {}
    for n in (3, 2):
        scales[n] = []
        for k in range(runs):
            entropy = np.random.default_rng([seed, n, k]).bytes
            with patch("privacy.randomness.os.urandom", entropy), broken():
                riders = AuditLayer(included=np.zeros(500, bool), total=np.zeros(500), squares=np.zeros(500))
                learner = CanaryLearner(np.arange(n), 8)
                fit_private(
                    learner,
                    cohort(n),
                    plan,
                    steps=plan.steps,
                    public_subjects=3,
                    learning_rate=1.0,
                    random=SecureRandom(),
                    audit=riders,
                )
                scales[n].append(float(np.sqrt(riders.squares.mean() / plan.steps)))
    threshold = plan.noise_multiplier * plan.clip_norm * (1 / 3 + 1 / 2) / 2  # fixed before any run
    missed, alarmed = (int(np.sum(np.asarray(scales[3]) > threshold)), int(np.sum(np.asarray(scales[2]) <= threshold)))
    return Errors(missed=missed, with_it=runs, alarmed=alarmed, without=runs).epsilon_bound(DELTA)


# ---- what is broken, each in the code that runs


@contextmanager
def nothing() -> Iterator[None]:
    """Leave everything as it is."""
    yield


def _normal(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    honest = SecureRandom.normal

    def broken(self: SecureRandom, shape: Any, *, dtype: Any = np.float32) -> Any:
        return change(honest(self, shape, dtype=dtype))

    return patch.object(SecureRandom, "normal", broken)


def half_the_noise() -> Any:
    """Draw noise of half the size."""
    return _normal(lambda noise: noise / 2)


def no_noise() -> Any:
    """Draw zeros."""
    return _normal(np.zeros_like)


def noise_used_twice() -> Any:
    """Draw once and use that in every step."""
    kept: dict[tuple[int, ...], NDArray[Any]] = {}
    return _normal(lambda noise: kept.setdefault(noise.shape, noise))


def no_clip() -> Any:
    """Add gradients up as they are."""
    return patch.object(
        SubjectGradients, "clipped_sum", lambda self, losses, n, clip_norm: self.flat(losses, n).double().sum(0)
    )


def clip_by_layer() -> Any:
    """Clip every layer by itself to C, and call that a joint clip."""

    def broken(self: SubjectGradients, losses: Tensor, n: int, clip_norm: float) -> Tensor:
        parts = self.flat(losses, n).double().split([p.numel() for _, p in self.parameters], dim=1)
        return torch.cat([(p * (clip_norm / p.norm(dim=1, keepdim=True)).clamp(max=1)).sum(0) for p in parts])

    return patch.object(SubjectGradients, "clipped_sum", broken)


def clips_drawn() -> Any:
    """Draw every clip by itself: a subject comes as often as its clips do."""
    honest = DpPlan.draw

    def broken(self: DpPlan, n: int, random: SecureRandom) -> NDArray[np.int64]:
        return np.concatenate([honest(self, n, random) for _ in range(CLIPS)])

    return patch.object(DpPlan, "draw", broken)


def twice_the_rate() -> Any:
    """Draw with twice the probability that is claimed."""
    honest = DpPlan.draw

    def broken(self: DpPlan, n: int, random: SecureRandom) -> NDArray[np.int64]:
        return honest(dataclasses.replace(self, sampling_rate=2 * self.sampling_rate), n, random)

    return patch.object(DpPlan, "draw", broken)


def forgotten_steps() -> Any:
    """Let every resumed run begin to count from zero."""
    return patch.object(PrivacyLedger, "intend", lambda *_: None)


@contextmanager
def realised_batch() -> Iterator[None]:
    """Average over who was drawn, not over the declared q·N."""
    honest, drawn = DpPlan.draw, [0]

    def draw(self: DpPlan, n: int, random: SecureRandom) -> NDArray[np.int64]:
        who = honest(self, n, random)
        drawn[0] = len(who)
        return who

    def average(total: Tensor, plan: DpPlan, *, public_subjects: int, random: SecureRandom) -> Tensor:
        del public_subjects
        whole = dataclasses.replace(plan, sampling_rate=1.0)
        return noisy_mean(total, whole, public_subjects=max(1, drawn[0]), random=random)

    with patch.object(DpPlan, "draw", draw), patch("learning.learner.noisy_mean", average):
        yield


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One way to run: a plan, what is broken, and how it is audited."""

    name: str
    plan: DpPlan
    broken: Callable[[], Any]
    audit: Callable[[DpPlan, int, Callable[[], Any]], float] = audit


def honest_cases() -> tuple[Case, ...]:
    """Return the machinery as it is."""
    return (
        Case("honest, everybody in every step", plan_of(EVERYBODY, 4.0), nothing),
        Case("honest, half of them in a step", plan_of(SOME, 4.0, steps=40), nothing),
    )


def mutants() -> tuple[Case, ...]:
    """Return every known way to break it, each under a claim at which so many canaries can tell."""
    whole, half = plan_of(EVERYBODY, 4.0), plan_of(SOME, 4.0, steps=40)
    return (
        Case("half the noise", whole, half_the_noise),
        Case("no noise", whole, no_noise),
        Case("no clip", whole, no_clip),
        Case("clip by layer claimed as joint", whole, clip_by_layer),
        Case("clips drawn, subjects claimed", whole, clips_drawn),
        Case("twice the sampling rate", half, twice_the_rate),
        Case("noise used twice", half, noise_used_twice),
        Case("resume that forgets steps", whole, forgotten_steps),
    )


def main() -> int:
    """Run every case, print the table, and return 1 where one did not come out as it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into benchmarks/RESULTS.md")
    parser.add_argument("--nightly", action="store_true", help="five hundred small trainings each way")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    honest, broken = honest_cases(), mutants()
    small = plan_of(EVERYBODY, 2.0, steps=1)
    many = partial(audit_denominator, runs=500 if arguments.nightly else RUNS)
    honest += (Case(f"honest, {many.keywords['runs']} trainings with and without a subject", small, nothing, many),)
    broken += (Case("averaged by the realised batch", small, realised_batch, many),)
    rows, wrong = [], 0
    for cases, seeds in ((honest, HONEST), (broken, MUTANT)):
        for case in cases:
            begun, claimed = time.perf_counter(), epsilon([case.plan], DELTA)
            proved = [case.audit(case.plan, seed, case.broken) for seed in range(seeds if case.audit is audit else 1)]
            as_it_must = [p <= claimed for p in proved] if cases is honest else [p > claimed for p in proved]
            if cases is honest and case.audit is audit:
                as_it_must = [ok and p >= claimed / HONEST_FACTOR for ok, p in zip(as_it_must, proved, strict=True)]
            wrong += as_it_must.count(False)
            what = "below the claim" if cases is honest else "caught"
            rows.append([case.name, claimed, min(proved), max(proved), f"{what} in {sum(as_it_must)} of {len(proved)}"])
            print(*rows[-1], f"({time.perf_counter() - begun:.0f} s)", sep=" · ", flush=True)
    text = f"Proved of an honest training: its claim at most, and that divided by {HONEST_FACTOR:g} at least.\n\n"
    text += results.table(["machinery", "ε claimed", "ε proved, least", "most", "outcome"], rows)
    if arguments.write:
        results.write("Audit of ourselves", "make audit-self", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
