"""Teach a student to cross in one, two or four jumps what its teacher walks in many steps.

The student answers u(x_t, t, r), the mean velocity on the way from t down to r, as in MeanFlow (Geng et al. 2025,
arXiv 2505.13447). There it is learned from data by the derivative of its own defining equation, because nobody knows
the way. Here a teacher can walk it, on latents of 256 numbers: so the student regresses on (x_t - x_r) / (t - r) along
the teacher's own ways, which needs no derivative, no target that moves, and has the exact jump for its minimum (the
Lagrangian view of Boffi et al. 2024, arXiv 2406.07507). Shortcut models (Frans et al. 2024, arXiv 2410.12557) and
progressive distillation (Salimans & Ho 2022, arXiv 2202.00512) chain errors of halves; this does not.

Only masks of the public shape model and noise enter: of a generator that sites tuned under differential privacy the
student is post-processing, free of charge. What sites tune is not taught but taken over from the teacher, so that the
weights of a finished campaign fit into the public student as well.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import simulate
from cohorts.study import UNLABELLED
from learning import arrays
from synthesis import flow, priors
from synthesis.autoencoder import CHANNELS
from synthesis.autoencoder import GRID as SIDE
from synthesis.generators.latent_flow import JUMP, STUDENT, LatentFlow, LatentFlowGenerator
from synthesis.precision import computing_in

GRID = 8  # equal intervals of a teacher's way that are kept
LATENT = (CHANNELS, SIDE, SIDE)
AT_ONCE = 128  # walks side by side: a memory bound
SPANS = (8, 4, 2)  # of them, what is crossed at one go by one, two and four jumps
_AS_OFTEN = (*simulate.APICAL, *simulate.APICAL, *VIEWS)  # the views of the walks: three quarters apical
Progress = Callable[[str, int, int], None]
Told = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """How a student is taught; written into its provenance.

    Attributes:
        ways: walks of the teacher, each from noise of its own.
        walk: steps of the teacher between two kept points of a way.
        steps: batches for the student.
        batch_size: rows a batch: one jump of a way each, of a span drawn by `weights`.
        weights: share of the rows that cross all, half, a quarter of the way; the rest are velocities at any time.
        null_share: share of walks that are not told one condition, each condition for itself.
        learning_rate: the highest, of a triangle.
        seed: of shapes, noise and batches.
        precision: of the walks and of the student's products.
    """

    ways: int = 4_000
    walk: int = 1
    steps: int = 2_400
    batch_size: int = 48
    weights: tuple[float, float, float] = (0.4, 0.3, 0.2)
    null_share: float = 0.1
    learning_rate: float = 1e-3
    seed: int = 20_260_301
    precision: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Walks of a teacher, all of which know their scanner, or none.

    Attributes:
        points: where each was at t = 1, 7/8, … 0, `(n, GRID + 1, 4, 8, 8)`, float16.
        masks, view, phase, lvef: the conditions of each walk.
        scanner: `(n, descriptors)`, or `None`.
    """

    points: Tensor
    masks: Tensor
    view: Tensor
    phase: Tensor
    lvef: Tensor
    scanner: Tensor | None

    def conditions(self, rows: Tensor) -> Told:
        """Return what the network is told of some walks."""
        told = {name: getattr(self, name)[rows] for name in ("view", "phase", "masks", "lvef")}
        return told if self.scanner is None else told | {"scanner": self.scanner[rows]}


def teach(
    teacher: LatentFlowGenerator,
    conditions: Frames,
    lesson: Lesson,
    *,
    start: LatentFlowGenerator | None = None,
    progress: Progress | None = None,
) -> LatentFlowGenerator:
    """Return a student of `teacher`: a generator of the same file that draws by jumps.

    Args:
        teacher: a solver's generator, public or tuned at sites; it is read, never changed.
        conditions: public masks, views and phases; walk k takes row k, and begins again at the end.
        lesson: how long and from what.
        start: a student of another teacher that goes on with this one; `None` begins with what the teacher knows. For a
            generator that sites tuned, the public student is far on the way.
        progress: called with (what, done, of how many).

    Raises:
        ValueError: the teacher is a student itself, `start` is none, or there are no conditions.
    """
    if teacher.config.is_student:
        raise ValueError("teacher must not be a student itself")
    if start is not None and not start.config.is_student:
        raise ValueError(f"start must be a student, not a generator by {start.config.sample_solver!r}")
    if not len(conditions):
        raise ValueError("conditions must not be empty")
    told = progress or _silent
    dice = torch.Generator().manual_seed(lesson.seed)
    # Half of the walks know a scanner: so the student answers to all that a site's token may say.
    pools = [_walks(teacher, conditions, lesson, known, dice, told) for known in (True, False)]
    student = student_of(teacher)
    if start is not None:
        own = {name for name, p in teacher.module.named_parameters() if p.requires_grad}
        taught = {name: tensor for name, tensor in start.module.state_dict().items() if name not in own}
        student.module.load_state_dict(taught, strict=False)
    _learn(student, teacher, pools, lesson, dice, told)
    return student


def student_of(teacher: LatentFlowGenerator) -> LatentFlowGenerator:
    """Return a student that knows what its teacher knows, and takes mean velocities for velocities."""
    config = dataclasses.replace(
        teacher.config, sample_solver=JUMP, sample_steps=2, guidance=1.0, view_guidance=1.0, prior=False
    )
    student = LatentFlowGenerator(config)
    student.autoencoder.load_state_dict(teacher.autoencoder.state_dict())
    student.module.load_state_dict(teacher.module.state_dict(), strict=False)  # lacks the interval, which is zero
    return student


@torch.no_grad()
def _walks(
    teacher: LatentFlowGenerator,
    conditions: Frames,
    lesson: Lesson,
    known: bool,
    dice: torch.Generator,
    progress: Progress,
) -> Ways:
    teacher.module.eval()
    parts, total = [], -(-lesson.ways // 2)
    for start in range(0, total, AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, total)) % len(conditions)
        shapeless, nameless, timeless, unmeasured = torch.rand(4, len(rows), generator=dice) < lesson.null_share
        told = Ways(
            points=torch.randn(len(rows), 1, *LATENT, generator=dice),
            masks=torch.where(shapeless.view(-1, 1, 1), UNLABELLED, torch.from_numpy(conditions.masks[rows])),
            view=torch.where(nameless, -1, torch.from_numpy(conditions.view[rows])),
            phase=torch.where(timeless, -1, torch.from_numpy(conditions.phase[rows])),
            lvef=torch.from_numpy(conditions.lvef_percent[rows]).masked_fill(unmeasured, torch.nan),
            scanner=2 * torch.rand(len(rows), teacher.config.descriptors, generator=dice) - 1 if known else None,
        )
        with computing_in(lesson.precision):
            parts.append(dataclasses.replace(told, points=_walk(teacher, told, lesson.walk).half()))
        progress(f"walks, scanner {'known' if known else 'unknown'}", start + len(rows), total)
    return Ways(
        points=torch.cat([p.points for p in parts]),
        masks=torch.cat([p.masks for p in parts]),
        view=torch.cat([p.view for p in parts]),
        phase=torch.cat([p.phase for p in parts]),
        lvef=torch.cat([p.lvef for p in parts]),
        scanner=torch.cat([p.scanner for p in parts if p.scanner is not None]) if known else None,
    )


def _walk(teacher: LatentFlowGenerator, told: Ways, steps: int) -> Tensor:
    """Walk from the one point that is there to all, by Heun's rule, `steps` between two that are kept."""
    field = _velocity(teacher, told.conditions(torch.arange(len(told.points))))
    x = told.points[:, 0]
    kept, times = [x], torch.linspace(1, 0, GRID * steps + 1)
    for i, (now, then) in enumerate(pairwise(times)):
        x = flow.heun(field, x, now, then)
        if (i + 1) % steps == 0:
            kept.append(x)
    return torch.stack(kept, 1)


def _velocity(teacher: LatentFlowGenerator, told: Told) -> flow.Field:
    network = teacher.module
    unknown = {
        "masks": (torch.full_like(told["masks"], UNLABELLED), teacher.config.guidance),
        "view": (torch.full_like(told["view"], -1), teacher.config.view_guidance),
    }
    nulls = [(told | {name: null}, weight) for name, (null, weight) in unknown.items() if weight != 1.0]

    def field(x: Tensor, t: Tensor) -> Tensor:
        v: Tensor = network(x, t, **told, at_sites=True)
        return flow.guided(v, [(network(x, t, **null, at_sites=True), weight) for null, weight in nulls])

    return field


def _learn(
    student: LatentFlowGenerator,
    teacher: LatentFlowGenerator,
    pools: list[Ways],
    lesson: Lesson,
    dice: torch.Generator,
    progress: Progress,
) -> None:
    """Regress on jumps; the exponential average of the weights is what is kept (Karras et al. 2022)."""
    network = student.module.train()
    taken_over = re.compile(teacher.config.tune)
    taught = [p for n, p in network.named_parameters() if not taken_over.search(n)] or list(network.parameters())
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parameter in taught:
        parameter.requires_grad_(True)
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995),  # type: ignore[no-untyped-call]
    )
    optimiser = torch.optim.AdamW(taught, lr=lesson.learning_rate, weight_decay=0.0)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, lesson.learning_rate, total_steps=lesson.steps)
    for i in range(lesson.steps):
        with computing_in(lesson.precision):
            x, t, until, told, target = _exercise(teacher, pools[i % len(pools)], lesson, dice)
            answer = network(x, t, **told, at_sites=True, until=until)
        loss = (answer.float() - target).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(taught, 1.0)
        optimiser.step()
        rates.step()
        average.update_parameters(network)
        progress("student", i + 1, lesson.steps)
    network.load_state_dict(average.module.state_dict())
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(taken_over.search(name) is not None)
    network.eval()


@torch.no_grad()
def _exercise(
    teacher: LatentFlowGenerator, ways: Ways, lesson: Lesson, dice: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Told, Tensor]:
    """Draw a batch: where, when, until when, under which conditions, and the mean velocity that is right."""
    n = lesson.batch_size
    rows = torch.randint(len(ways.points), (n,), generator=dice)
    told = ways.conditions(rows)
    shares = torch.tensor([*lesson.weights, max(0.0, 1 - sum(lesson.weights))])
    kind = torch.multinomial(shares, n, replacement=True, generator=dice).sort().values
    span = torch.tensor([*SPANS, 0])[kind]
    which = torch.rand(n, generator=dice) * (GRID / span.clamp_min(1))
    begin = which.long() * span
    points = ways.points[rows].float()
    everyone = torch.arange(n)
    x, end = points[everyone, begin], points[everyone, begin + span]
    t, until = 1 - begin / GRID, 1 - (begin + span) / GRID
    target = (x - end) * (GRID / span.clamp_min(1)).view(-1, 1, 1, 1)
    still = span == 0  # no jump at all: the velocity of the teacher at any time near its ways
    if still.any():
        t[still] = torch.rand(int(still.sum()), generator=dice)
        noise = torch.randn(x[still].shape, generator=dice)
        x[still] = flow.interpolate(points[still, -1], noise, t[still])
        until[still] = t[still]
        asked = {name: column[still] for name, column in told.items()}
        target[still] = _velocity(teacher, asked)(x[still], t[still]).float()
    return x, t, until, told, target


def write(out: Path, student: LatentFlowGenerator, *, lesson: Lesson, teacher_digest: str) -> None:
    """Write a public student and where it comes from into the folder of the priors `out`."""
    weights = {n: a.astype(np.float16) for n, a in arrays.state(student.module).items()}
    out.mkdir(parents=True, exist_ok=True)
    arrays.write(out / f"{STUDENT}.safetensors", weights)
    record = {
        "command": "pericard prior distill",
        "data": "masks of the phantom's shape model and the prior latent_flow: simulated, no patient",
        "recipe": asdict(lesson),
        "generator": asdict(student.config),
        "teacher": {"latent_flow": teacher_digest},
        "torch": torch.__version__,
        "digests": {STUDENT: arrays.digest(arrays.read(out / f"{STUDENT}.safetensors"))},
    }
    (out / f"{STUDENT}.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def distill_public(out: Path, lesson: Lesson, *, progress: Progress | None = None) -> LatentFlowGenerator:
    """Teach a student of the public prior and write it into the folder `out`."""
    teacher = LatentFlow().build()
    conditions = simulate.conditions(lesson.ways, seed=lesson.seed, views=_AS_OFTEN)
    student = teach(teacher, conditions, lesson, progress=progress)
    write(out, student, lesson=lesson, teacher_digest=arrays.digest(priors.load("latent_flow")))
    return student


def _silent(what: str, done: int, total: int) -> None:
    pass
