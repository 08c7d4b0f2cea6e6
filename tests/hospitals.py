"""Three tiny hospitals, a tiny learner, and one-line campaigns over them: what the tests of the federation share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.policy import Policy
from client.site import Site
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Origin, Study, SubjectKey, UnreadableStudy, View
from learning.learners import LEARNERS
from privacy.mechanism import DpPlan
from server.campaign import Campaign, Stage

CANARY = "DOE-JANE-1957"
SIZE = 16
NAMES = ("aurora", "borealis", "corvus")
PLAN = DpPlan(purpose="tiny", sampling_rate=0.5, noise_multiplier=2.0, clip_norm=1.0, steps=6, draws=1)


@READERS("canary")
@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryReader:
    """A cohort whose subjects carry a patient's name as identifier; `broken` ones cannot be read, and say so."""

    subjects: int = 40
    seed: int = 0
    broken: bool = False

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        raw = {pseudonyms.subject(f"{CANARY}-{i}"): i for i in range(self.subjects)}

        def load(subject: SubjectKey) -> tuple[Study, ...]:
            if self.broken:
                raise UnreadableStudy(f"/records/{CANARY}-{raw[subject]}.dcm", "torn")
            dice = np.random.default_rng([self.seed, raw[subject]])
            still = dice.integers(0, 128, (SIZE, SIZE))
            pixels = np.stack([still + 100, still]).astype(np.uint8)
            clip = Clip(pixels=pixels, view=View.A4C, ed_frame=0, es_frame=1)
            return (Study(key=pseudonyms.study("1"), subject=subject, clips=(clip,), origin=Origin.PHANTOM),)

        return Cohort(subjects=tuple(sorted(raw)), load=load, origin=Origin.PHANTOM)


@LEARNERS("tiny")
@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    """A linear classifier of the phase from an 4x4 thumbnail; `words` makes its loss fail with them."""

    words: str = ""

    def build(self) -> "TinyLearner":
        return TinyLearner(self.words)


class TinyLearner:
    def __init__(self, words: str) -> None:
        self.words = words
        self.module: nn.Module = nn.Sequential(nn.AvgPool2d(SIZE // 4), nn.Flatten(), nn.Linear(16, 2))

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        if self.words:
            raise RuntimeError(f"{self.words} in {frames.subjects[0]}")
        x = torch.from_numpy(frames.pixels[rows]).float().div(255).unsqueeze(1)
        return nn.functional.cross_entropy(self.module(x), torch.from_numpy(frames.phase[rows]), reduction="none")


def policy(**changes: Any) -> Policy:
    settings: dict[str, Any] = {
        "epsilon_cap": 20.0, "delta_cap": 1e-3, "min_noise_multiplier": 0.5, "max_sampling_rate": 0.5,
        "max_clip_norm": 1.0, "max_steps": 100, "learners": ("tiny", "view_classifier"), "generators": (),
        "tasks": ("tiny_task",), "attacks": ("tiny_attack",), "allow_scores": True, "min_cell": 3,
        "allow_non_dp_reference": True, "allow_empirical": True, "seconds_per_message": 60, "code": ("installed",),
    }  # fmt: skip
    return Policy(**(settings | changes))


def hospital(root: Path, name: str = "aurora", *, cohort: Mapping[str, Any] | None = None, **changes: Any) -> Site:
    told = cohort or {"reader": "canary", "seed": NAMES.index(name)}
    return Site.create(root / name, name=name, cohort=told, public_subjects=40, policy=policy(**changes))


def reserve_stage(*plans: DpPlan) -> Stage:
    return Stage(name="reserve", do="reserve", settings={"plans": [plan.to_json() for plan in plans]})


def train_stage(stage: str = "views", *, plan: DpPlan | None = PLAN, **changes: Any) -> Stage:
    settings: dict[str, Any] = {
        "kind": "learner", "name": "tiny", "config": {}, "prior": "", "plan": plan.to_json() if plan else None,
        "rounds": 3, "steps": 2, "batch_size": 8, "learning_rate": 0.5, "server_learning_rate": 1.0, "average": 0.0,
    }  # fmt: skip
    return Stage(name=stage, do="train", settings=settings | changes)


def campaign(out: Path, *stages: Stage, **changes: Any) -> Campaign:
    settings: dict[str, Any] = {
        "run": "run-1", "out": str(out), "seed": 5, "size": SIZE, "quorum": 3, "seconds": 60.0, "threads": 1,
        "delta": 1e-5, "experiment": {"name": "test"}, "stages": stages or (reserve_stage(PLAN), train_stage()),
    }  # fmt: skip
    return Campaign(**(settings | changes))


def log_of(site: Site) -> list[dict[str, Any]]:
    path = site.folder / "log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
