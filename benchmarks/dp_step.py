"""What a private step costs beside a plain one: time and peak memory, our ways and Opacus' own, in the same run.

A step is forward pass, backward pass and update of one batch, one row a subject; the private one clips every subject's
gradient and adds them up. Noise is left out, for it is the same whatever the way: its cost stands by itself. Time is
the median over pairs of the private step's to that of the plain step just before it, all ways in turn, so that whatever
else the machine does falls on all of them. Memory is the growth of the resident set (its high-water mark, which Linux
lets a process reset) over three steps in a fresh process for each way. Each way's sum is compared with gradients taken
one subject at a time.

python -m benchmarks.dp_step [--write] [--pairs N] [--network NAME]
"""

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import results
from cohorts.frames import VIEWS, Frames
from cohorts.study import SubjectKey
from learning.blocks import to_signal
from learning.learner import Learner
from learning.learners.segmenter import Segmenter
from learning.learners.view_classifier import ViewClassifier
from privacy.gradients import SubjectGradients, clip
from privacy.randomness import SecureRandom
from synthesis.autoencoder import Autoencoder
from synthesis.generators.latent_flow import LatentFlow

THREADS = 2
BATCHES = (64, 256)
CHECKED = 16  # subjects, for comparing sums
MEMORY_TARGET = 1.5
Step = Callable[[], Tensor]


class AutoencoderLearner:
    """The autoencoder as a variational one, all of it trained."""

    def __init__(self) -> None:
        self.module: nn.Module = Autoencoder()

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return reconstruction and divergence of each row."""
        module: Any = self.module
        x, masks = to_signal(torch.from_numpy(frames.pixels[rows])), torch.from_numpy(frames.masks[rows])
        mean, log_variance = module.encoder(x)
        z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator)
        drawn = module.decode(z, masks, torch.randn(x.shape, generator=generator))
        divergence = mean.square() + log_variance.exp() - log_variance - 1
        losses: Tensor = (drawn - x).square().flatten(1).mean(1) + 1e-4 * divergence.flatten(1).mean(1)
        return losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of the house at its production size.

    Attributes:
        build: makes the learner.
        target: of time, private to plain.
        at_once: subjects a book-keeping pass, where the batch is larger.
        everything: train all that the loss touches, else what the config tunes.
    """

    build: Callable[[], Learner]
    target: float
    at_once: int = 32
    everything: bool = True


NETWORKS = {
    "transformer flow": Network(build=lambda: LatentFlow().build(), target=1.2, at_once=128),
    "transformer flow as tuned at sites": Network(
        build=lambda: LatentFlow().build(), target=1.2, at_once=128, everything=False
    ),
    "U-Net segmenter": Network(build=lambda: Segmenter().build(), target=1.7),
    "view classifier": Network(build=lambda: ViewClassifier().build(), target=1.7),
    "view classifier as tuned at sites": Network(build=lambda: ViewClassifier().build(), target=1.7, everything=False),
    "autoencoder": Network(build=AutoencoderLearner, target=1.7),
}


def learner_of(network: Network, frames: Frames) -> Learner:
    """Build with every weight moved, so that no gradient is zero because a layer starts at zero."""
    learner, dice = network.build(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in learner.module.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=dice))
    learner.module.train()
    if network.everything:
        learner.module.requires_grad_(True)
        losses(learner, frames, 0, 2).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in learner.module.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
    return learner


def blank(n: int) -> Frames:
    """Return noise in the shape of frames: speed does not look at pictures."""
    dice = np.random.default_rng(1)
    return Frames(
        pixels=dice.integers(0, 256, (n, 64, 64), dtype=np.uint8),
        masks=dice.integers(0, 4, (n, 64, 64), dtype=np.uint8),
        view=dice.integers(0, len(VIEWS), n),
        phase=dice.integers(0, 2, n),
        lvef_percent=np.full(n, 50, np.float32),
        subject=np.arange(n),
        subjects=tuple(SubjectKey(f"s{i}") for i in range(n)),
    )


def losses(learner: Learner, frames: Frames, start: int, stop: int) -> Tensor:
    """Return the losses of rows `start` to `stop`, the same at every call."""
    return learner.losses(frames, np.arange(start, stop), generator=torch.Generator().manual_seed(start))


def plain(learner: Learner, frames: Frames, _: float) -> Step:
    """Return the step that any training takes."""
    optimiser = torch.optim.SGD([p for p in learner.module.parameters() if p.requires_grad], lr=0.0)

    def step() -> Tensor:
        optimiser.zero_grad()
        losses(learner, frames, 0, len(frames)).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return torch.zeros(0)

    return step


def ours(mode: str, at_once: int) -> Callable[[Learner, Frames, float], Step]:
    """Return the step of `learning.learner.fit_private`, noise apart."""

    def prepare(learner: Learner, frames: Frames, clip_norm: float) -> Step:
        gradients = SubjectGradients(learner.module, mode)

        def step() -> Tensor:
            total = torch.zeros(gradients.size, dtype=torch.float64)
            for start in range(0, len(frames), at_once):
                stop = min(start + at_once, len(frames))
                total += gradients.clipped_sum(losses(learner, frames, start, stop), stop - start, clip_norm)
            gradients.step(0.0 * total)
            return total

        return step

    return prepare


def opacus(*, functorch: bool = False) -> Callable[[Learner, Frames, float], Step]:
    """Return Opacus' step with a gradient per sample, as its privacy engine sets it up."""

    def prepare(learner: Learner, frames: Frames, clip_norm: float) -> Step:
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        GradSampleModule(learner.module, loss_reduction="sum", force_functorch=functorch, strict=False)
        parameters = [p for p in learner.module.parameters() if p.requires_grad]
        optimiser = DPOptimizer(
            torch.optim.SGD(parameters, lr=0.0), noise_multiplier=0.0, max_grad_norm=clip_norm,
            expected_batch_size=1, loss_reduction="sum",
        )  # fmt: skip

        def step() -> Tensor:
            optimiser.zero_grad()
            losses(learner, frames, 0, len(frames)).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            return torch.cat([p.summed_grad.flatten() for p in parameters])

        return step

    return prepare


def opacus_twice(*, ghost: bool) -> Callable[[Learner, Frames, float], Step]:
    """Return Opacus' step with two backward passes: norms first, then the weighted loss."""

    def prepare(learner: Learner, frames: Frames, clip_norm: float) -> Step:
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

        module = GradSampleModuleFastGradientClipping(
            learner.module, loss_reduction="sum", strict=False, max_grad_norm=clip_norm, use_ghost_clipping=ghost
        )
        parameters = [p for p in learner.module.parameters() if p.requires_grad]
        optimiser = DPOptimizerFastGradientClipping(
            torch.optim.SGD(parameters, lr=0.0), noise_multiplier=0.0, max_grad_norm=clip_norm,
            expected_batch_size=1, loss_reduction="sum",
        )  # fmt: skip

        def step() -> Tensor:
            optimiser.zero_grad()
            rows = losses(learner, frames, 0, len(frames))
            DPTensorFastGradientClipping(module, optimiser, rows, loss_reduction="sum").backward()
            optimiser.step()
            return torch.cat([p.summed_grad.flatten() for p in parameters])

        return step

    return prepare


def ways(network: Network) -> dict[str, Callable[[Learner, Frames, float], Step]]:
    """Return every way to take a step, the plain one first."""
    return {
        "plain": plain,
        f"ours: book-keeping, {network.at_once} at once": ours("bookkeeping", network.at_once),
        "ours: Opacus' hooks, 32 at once": ours("hooks", 32),
        "Opacus: hooks": opacus(),
        "Opacus: functorch": opacus(functorch=True),
        "Opacus: ghost clipping": opacus_twice(ghost=True),
        "Opacus: fast gradient clipping": opacus_twice(ghost=False),
    }


def true_sum(learner: Learner, frames: Frames) -> tuple[Tensor, float]:
    """Return the clipped sum from gradients taken one subject at a time, and the clip norm: the median gradient's."""
    parameters = [p for p in learner.module.parameters() if p.requires_grad]
    rows = []
    for start in range(0, len(frames), 16):
        stop = min(start + 16, len(frames))
        for loss in losses(learner, frames, start, stop):
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in gradients]))
    flat = torch.stack(rows)
    clip_norm = float(flat.norm(dim=1).median())
    return clip(flat, clip_norm).double().sum(0), clip_norm


def timed(step: Step) -> float:
    """Return how long one step takes, in seconds."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def wrong_by(network: Network, way: str) -> str:
    """Return by how much the sum of a way differs from that of gradients taken one at a time, or how it fails."""
    frames = blank(CHECKED)
    learner, twin = learner_of(network, frames), learner_of(network, frames)
    twin.module.load_state_dict(learner.module.state_dict())
    wanted, clip_norm = true_sum(learner, frames)
    try:
        found = ways(network)[way](twin, frames, clip_norm)()
    except Exception as error:  # whatever Opacus raises where it cannot
        return f"fails ({type(error).__name__})"
    return f"{float((found - wanted).norm() / wanted.norm()):.0e}"


def times(network: Network, names: list[str], batch: int, pairs: int) -> dict[str, float]:
    """Return the median ratio of each way's time to that of the plain step before it, and of plain its seconds."""
    frames = blank(batch)
    steps = {name: ways(network)[name](learner_of(network, frames), frames, 1.0) for name in names}
    for step in steps.values():
        step()
        step()
    of_plain, ratio = [], {name: [] for name in names if name != "plain"}
    for _ in range(pairs):
        for name, found in ratio.items():
            before = timed(steps["plain"])
            found.append(timed(steps[name]) / before)
            of_plain.append(before)
    return {"plain": statistics.median(of_plain)} | {name: statistics.median(found) for name, found in ratio.items()}


def memory(network: Network, way: str, batch: int) -> float:
    """Return by how many bytes the resident set grows at most over three steps; to be called in a fresh process."""
    frames = blank(batch)
    step = ways(network)[way](learner_of(network, frames), frames, 1.0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
    before = _kilobytes("VmRSS")
    for _ in range(3):
        step()
    return 1024.0 * (_kilobytes("VmHWM") - before)


def _kilobytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _memory_elsewhere(network: str, way: str, batch: int) -> float:
    command = [sys.executable, "-m", "benchmarks.dp_step", "--memory", network, way, str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def report(name: str, pairs: int) -> str:
    """Measure a network at every batch size and return a table."""
    network, rows = NETWORKS[name], []
    right = {way: wrong_by(network, way) for way in ways(network) if way != "plain"}
    running = ["plain", *(way for way, found in right.items() if not found.startswith("fails"))]
    spent = {batch: times(network, running, batch, pairs) for batch in BATCHES}
    grown = {batch: {way: _memory_elsewhere(name, way, batch) for way in running} for batch in BATCHES}
    for way in ways(network):
        row: list[object] = [way, right.get(way, "")]
        for batch in BATCHES:
            if way not in running:
                row += ["", ""]
            elif way == "plain":
                row += [f"{1e3 * spent[batch][way]:.0f} ms", f"{grown[batch][way] / 2**20:.0f} MiB"]
            else:
                row += [f"{spent[batch][way]:.2f} x", f"{grown[batch][way] / grown[batch]['plain']:.2f} x"]
        rows.append(row)
    learner = learner_of(network, blank(2))
    trained = sum(p.numel() for p in learner.module.parameters() if p.requires_grad)
    random = SecureRandom()
    noise = [timed(lambda: torch.from_numpy(random.normal((trained,), dtype="float64"))) for _ in range(5)]
    head = ["way", "wrong by", *(f"{what}, {batch}" for batch in BATCHES for what in ("time", "memory"))]
    said = (
        f"{trained:,} trained parameters; target {network.target} x in time, {MEMORY_TARGET} x in memory. "
        f"Noise: {1e3 * statistics.median(noise):.1f} ms a step, whatever the way."
    )
    return f"### {name}\n\n{said}\n\n{results.table(head, rows)}\n"


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--pairs", type=int, default=11, help="pairs of a plain and a private step")
    arguments.add_argument(
        "--network", choices=NETWORKS, action="append", help="measure this one only; may be repeated"
    )
    arguments.add_argument("--memory", nargs=3, metavar=("NETWORK", "WAY", "BATCH"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    if given.memory:
        name, way, batch = given.memory
        print(memory(NETWORKS[name], way, int(batch)))
        return
    parts = []
    for name in given.network or NETWORKS:
        parts.append(report(name, given.pairs))
        print(parts[-1], flush=True)
    text = f"{' '.join(__doc__.split(chr(10) * 2)[1].split())}\n\nTwo threads.\n\n" + "\n".join(parts)
    if given.write:
        results.write("Private steps", "python -m benchmarks.dp_step --write", text)


if __name__ == "__main__":
    main()
