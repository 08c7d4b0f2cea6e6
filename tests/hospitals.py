"""Three tiny hospitals, a tiny learner, and one-line campaigns over them: what the tests of the federation share."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from flwr.app import Message, RecordDict
from numpy.typing import NDArray
from torch import Tensor, nn

from client.admission import own_code
from client.app import app as client_app
from client.policy import Policy
from client.site import KEYS, Site
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Origin, Study, SubjectKey, UnreadableStudy, View
from evaluation.overall import Overall
from evaluation.tasks import TASKS
from learning import messages
from learning.learners import LEARNERS
from learning.messages import Code, Reserve, Train
from privacy.attacks import ATTACKS
from privacy.mechanism import DpPlan, LaplacePlan
from server.campaign import Campaign, Stage
from server.grid import InProcessGrid

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


@TASKS("tiny_task")
@dataclass(frozen=True, slots=True, kw_only=True)
class TinyTask:
    """Name the phase; `seed` gives the initial weights."""

    steps: int = 20
    batch_size: int = 16
    learning_rate: float = 0.5
    primary: str = "accuracy"

    def learner(self) -> TinyLearner:
        return TinyLearner("")

    def scores(self, learner: Any, frames: Frames) -> dict[str, NDArray[np.float64]]:
        with torch.inference_mode():
            named = learner.module(torch.from_numpy(frames.pixels).float().div(255).unsqueeze(1)).argmax(1).numpy()
        right = (named == frames.phase).astype(np.float64)
        accuracy = np.bincount(frames.subject, right) / np.bincount(frames.subject)
        return {"accuracy": accuracy, "unknown": np.full(len(accuracy), np.nan)}

    def trivial(self, train: Frames, test: Frames) -> dict[str, NDArray[np.float64]]:
        usual = float(train.phase.mean() > 0.5)
        return {"accuracy": np.bincount(test.subject, test.phase == usual) / np.bincount(test.subject)}

    def overall(self, learner: Any, frames: Frames) -> Overall:
        return Overall(subject=frames.subject, statistics={"recall": lambda rows: float(frames.phase[rows].mean())})


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyCounts:
    members: int
    near: float
    by_share: tuple[float, ...]


@ATTACKS("tiny_attack")
@dataclass(frozen=True, slots=True, kw_only=True)
class TinyAttack:
    """Count subjects; noised in the FORMAL lane."""

    kind: ClassVar[str] = "counts"

    def plans(self) -> list[LaplacePlan]:
        return [LaplacePlan(purpose="tiny_attack", epsilon=0.5)]

    def count(
        self, released: Frames, members: Frames, controls: Frames, *, random: Any, formal: bool, public_subjects: int
    ) -> TinyCounts:
        assert not set(members.subjects) & set(controls.subjects)
        noise = random.discrete_laplace(0.5) if formal else 0
        return TinyCounts(members=len(members.subjects) + noise, near=float(released.pixels.mean()), by_share=(0.5,))


def policy(**changes: Any) -> Policy:
    settings: dict[str, Any] = {
        "epsilon_cap": 20.0, "delta_cap": 1e-3, "min_noise_multiplier": 0.5, "max_sampling_rate": 0.5,
        "max_clip_norm": 1.0, "max_steps": 100, "learners": ("tiny", "view_classifier"), "generators": ("copier",),
        "tasks": ("tiny_task",), "attacks": ("tiny_attack",), "allow_scores": True, "min_cell": 3,
        "allow_non_dp_reference": True, "allow_empirical": True, "allow_shapes": True, "seconds_per_message": 600,
        "code": ("installed",),
    }  # fmt: skip
    return Policy(**(settings | changes))


def hospital(
    root: Path,
    name: str = "aurora",
    *,
    cohort: Mapping[str, Any] | None = None,
    public_subjects: int = 40,
    allowed: Policy | None = None,
    **changes: Any,
) -> Site:
    told = cohort or {"reader": "canary", "seed": NAMES.index(name)}
    bounds = allowed or policy(**changes)
    site = Site.create(root / name, name=name, cohort=told, public_subjects=public_subjects, policy=bounds)
    for key in KEYS:  # fixed lots: no test hangs on how many subjects happen to be in a split
        (site.folder / "secrets" / key).write_bytes(hashlib.sha256(f"{name} {key}".encode()).digest())
    return Site(site.folder)


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


class Wire:
    """The line between the coordinator and some hospitals: asks them through the in-memory grid, and listens in."""

    def __init__(self, *sites: Site) -> None:
        self.sent: list[bytes] = []
        self.grid = InProcessGrid(client_app, [{"site": str(s.folder)} for s in sites], wiretap=self._listen)
        self.nodes = list(self.grid.get_node_ids())

    def _listen(self, direction: str, part: bytes) -> None:
        if direction == "up":
            self.sent.append(part)

    def raw(self, record: RecordDict, kind: str, node: int = 0) -> Message:
        """Send a record as it is; return the reply, an error or not."""
        (reply,) = self.grid.send_and_receive([Message(record, self.nodes[node], kind)])
        return reply

    def ask(self, request: object, node: int = 0) -> Any:
        """Send a request; return the reply, or the code with which it was refused."""
        reply = self.raw(messages.encode(request), messages.kind_of(request), node)
        if reply.has_error():
            return Code(reply.error.code)
        return messages.decode(reply.content, messages.REPLIES[messages.kind_of(request)])


WEIGHTS = {"2.weight": np.full((2, 16), 0.01, np.float32), "2.bias": np.zeros(2, np.float32)}


def reserve_request(*plans: DpPlan, **changes: Any) -> Reserve:
    settings: dict[str, Any] = {
        "run": "run-1", "code_digest": own_code(), "experiment_digest": "0" * 64,
        "plans": [plan.to_json() for plan in plans], "delta": 1e-5,
    }  # fmt: skip
    return Reserve(**(settings | changes))


def train_request(**changes: Any) -> Train:
    settings: dict[str, Any] = {
        "run": "run-1", "stage": "views", "round": 1, "kind": "learner", "name": "tiny", "config": {}, "prior": "",
        "plan": PLAN.to_json(), "size": SIZE, "steps": 2, "batch_size": 8, "learning_rate": 0.5, "seed": 3,
        "proximal": 0.0, "personal": "", "arrays": WEIGHTS, "frozen": {},
    }  # fmt: skip
    return Train(**(settings | changes))


def images(n: int = 4) -> dict[str, NDArray[np.uint8]]:
    dice = np.random.default_rng(n)
    pixels = dice.integers(0, 255, (n, SIZE, SIZE)).astype(np.uint8)
    none = np.full(n, 255, np.uint8)
    return {"pixels": pixels, "masks": np.zeros_like(pixels), "view": none, "phase": none}
