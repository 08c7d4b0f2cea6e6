"""What a learner is, and the two loops that train one: under patient-level differential privacy, and plainly."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.clips import Clips
from cohorts.frames import Frames
from learning.fairness import Declared, Groups, Minded
from privacy.audit.layer import AuditLayer
from privacy.gradients import SubjectGradients, noisy_mean
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

SUBJECTS_AT_ONCE = 32  # memory: per-subject gradients of a million parameters cost 4 MB a subject


class Learner(Protocol):
    """A module and its loss, one number per row of the frames, or of the clips where it is one of clips.

    `losses` must treat every row alone: nothing of one subject may touch the loss of another, or the clip below
    bounds nothing.
    """

    module: nn.Module

    def losses(self, frames: Any, rows: NDArray[np.int64], /, *, generator: torch.Generator) -> Tensor:
        """Return one loss per row, `(len(rows),)`."""
        ...


def fit_private(
    learner: Learner,
    frames: Frames | Clips,
    plan: DpPlan,
    *,
    steps: int,
    public_subjects: int,
    learning_rate: float,
    random: SecureRandom,
    audit: AuditLayer | None = None,
    mode: str = "auto",
    proximal: float = 0.0,
    declared: Declared | None = None,
    words: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Take `steps` steps of patient-level DP-SGD in place (Abadi et al. 2016, arXiv 1607.00133; privacy.md 1.4).

    Each subject enters a step independently with probability q. Of each, `plan.draws` rows are drawn with
    replacement (augmentation, flow time and noise differ from draw to draw), their gradients averaged, a non-finite
    mean zeroed, clipped jointly to C, summed, noised with N(0, σ²C²I) and divided by the public q·N.

    Args:
        learner: what to train; its trainable parameters change.
        frames: frames, or clips, of the members of this site.
        plan: q, σ, C and the number of draws; the same object that was charged.
        steps: local steps to take now.
        public_subjects: the declared public cohort size N, never the realised one.
        learning_rate: step length.
        random: the cryptographic source of sampling and noise.
        audit: canaries that ride along; they change no parameter.
        mode: how gradients of subjects are taken, of `SubjectGradients`; "auto" is the fastest that is right.
        proximal: μ, how much of its distance to the first weights a weight is pulled back by, times `learning_rate`; it
            reads weights that are noised already, so it costs nothing.
        declared: weights of groups that multiply the losses of a subject before its clip, so that no subject adds more
            than C whatever it weighs. They are public; weights that were counted among subjects have another type and
            no way in here. On a gradient beyond the clip a weight above 1 is lost: let the many weigh less.
        words: the group of each subject, `(subjects,)`, where there are declared weights.
        progress: called with (step, steps).
    """
    if declared is not None and not isinstance(declared, Declared):
        raise TypeError(f"declared weights must be Declared, not {type(declared).__name__}: no ε covers counted ones")
    if declared is not None and len(words) != len(frames.subjects):
        raise ValueError(f"words of {len(words)} subjects, but frames of {len(frames.subjects)}")
    weights = None if declared is None else torch.from_numpy(declared.of(words))
    rows_of = [np.flatnonzero(frames.subject == i) for i in range(len(frames.subjects))]
    dice = np.random.default_rng(int.from_bytes(random.bytes(16), "big"))  # which rows of a drawn subject: free
    generator = torch.Generator().manual_seed(int.from_bytes(random.bytes(7), "big"))
    n, riders = len(frames.subjects), audit.riders if audit is not None else 0
    learner.module.train()
    pull = Pull(learner.module, proximal)
    with SubjectGradients(learner.module, mode) as gradients:
        for step in range(steps):
            who = plan.draw(n + riders, random)
            drawn = [i for i in who[who < n] if len(rows_of[i])]
            total = torch.zeros(gradients.size, dtype=torch.float64)
            for start in range(0, len(drawn), SUBJECTS_AT_ONCE):
                chunk = drawn[start : start + SUBJECTS_AT_ONCE]
                rows = np.concatenate([dice.choice(rows_of[i], plan.draws) for i in chunk])
                losses = learner.losses(frames, rows, generator=generator)
                if weights is not None:
                    losses = losses * weights[chunk].repeat_interleave(plan.draws)
                total += gradients.clipped_sum(losses, len(chunk), plan.clip_norm)
            if audit is not None:
                total = torch.cat([total, audit.clipped_sum(who[who >= n] - n, plan.clip_norm)])
            update = noisy_mean(total, plan, public_subjects=public_subjects, random=random)
            if audit is not None:
                audit.record(update[gradients.size :])
            pull.back(learning_rate)
            gradients.step(-learning_rate * update[: gradients.size])
            if progress is not None:
                progress(step + 1, steps)
    learner.module.eval()


def fit(
    learner: Learner,
    frames: Frames | Clips,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    proximal: float = 0.0,
    groups: Groups | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train in place without privacy: for public or synthetic frames or clips, and for arms that never leave a site.

    AdamW, cosine decay to zero; batches are drawn with replacement, so every arm sees `steps` x `batch_size` rows
    however many it owns. The same seed on the same number of threads gives the same bits. With `proximal` μ the loss
    is that of FedProx, μ/2 times the squared distance to the first weights more (Li et al. 2020, arXiv:1812.06127).
    With `groups` batches are drawn and losses weighed as their method says; "none" gives the bits that no groups give.
    """
    if not len(frames):
        raise ValueError("there is no frame to train on")
    dice = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in learner.module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    learner.module.train()
    pull = Pull(learner.module, proximal)
    minded = Minded(frames, groups) if groups is not None and groups.method != "none" else None
    for step in range(steps):
        rows = dice.integers(0, len(frames), batch_size) if minded is None else minded.draw(batch_size, dice)
        losses = learner.losses(frames, rows, generator=generator)
        loss = losses.mean() if minded is None else (losses * _weights(minded, rows, losses)).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        pull.add_gradient()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    learner.module.eval()


def _weights(minded: Minded, rows: NDArray[np.int64], losses: Tensor) -> Tensor:
    return torch.from_numpy(minded.weights(rows, losses.detach().double().numpy()))


class Pull:
    """The proximal term of FedProx: what keeps the weights of a site near those it was given.

    Attributes:
        proximal: μ, at least 0; at 0 nothing is kept and nothing is done.
    """

    def __init__(self, module: nn.Module, proximal: float) -> None:
        if not 0 <= proximal < np.inf:
            raise ValueError(f"proximal={proximal} must be at least 0 and finite")
        self.proximal = proximal
        trained = [p for p in module.parameters() if p.requires_grad] if proximal else []
        self._start = [(p, p.detach().clone()) for p in trained]

    @torch.no_grad()
    def add_gradient(self) -> None:
        """Add `μ (w - w0)` to the gradients."""
        for parameter, start in self._start:
            if parameter.grad is not None:
                parameter.grad += self.proximal * (parameter - start)

    @torch.no_grad()
    def back(self, learning_rate: float) -> None:
        """Step by `-learning_rate μ (w - w0)`."""
        for parameter, start in self._start:
            parameter.sub_(learning_rate * self.proximal * (parameter - start))
