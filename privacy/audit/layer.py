"""Canaries that ride along in a real private training: an auxiliary layer whose gradients are known exactly.

m made-up subjects, each thrown in by a fair coin, have a gradient that after clipping is C in a direction of their own,
and zero everywhere else (Dirac canaries; privacy audits in one run: Steinke, Nasr and Jagielski 2023,
arXiv:2305.08846). Those that are in go through the very sampler, clip, noise and averaging of the real subjects: what
is summed and noised is the vector [trained parameters | audit coordinates]. The sum of a canary's noisy coordinates
over all steps then tells how well its coin can be guessed, and `privacy.audit.bounds` what that proves about ε.

Costs no privacy and no utility: real subjects are zero on the audit coordinates and canaries are zero on the trained
parameters, the noise of the two is independent, and who is drawn among the canaries does not depend on who is drawn
among the subjects. So the scores are a function of coins and noise alone, whatever the cohort is. The denominator is
the public q·N of the real subjects: canaries share its scale and do not enter it.

Each canary has a coordinate in each of two blocks, as if in two layers: a clip of each layer by itself, claimed as a
joint one, would let √2·C through.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privacy.audit.bounds import Guesses, guess, to_guess
from privacy.gradients import clip
from privacy.randomness import SecureRandom

BLOCKS = 2
CANARIES = 30_000  # where everybody is in every step, so many show at ε = 8 that half of the noise is missing
STATISTICS = ("sum", "spread")
_FAR_ABOVE = 1e3  # of C: gradient of a canary before the clip

Floats = NDArray[np.float64]


@dataclass(slots=True, kw_only=True)
class AuditLayer:
    """The canaries of one training at one site: coins, which never leave, and what their coordinates added up to.

    Attributes:
        included: the coins, bool `(m,)`.
        total: per canary, the sum over steps of its noisy coordinate, `(m,)`.
        squares: the sum of the squares, `(m,)`.
        steps: steps taken so far.
        guessed: r, how many coins will be guessed; fixed with the coins, before anything was scored.
    """

    included: NDArray[np.bool_]
    total: Floats
    squares: Floats
    steps: int = 0
    guessed: int = 1

    @classmethod
    def throw(cls, canaries: int, random: SecureRandom, *, guessed: int | None = None) -> "AuditLayer":
        """Throw a fair coin for each of `canaries` canaries, `guessed` of which will be guessed."""
        if canaries < 1:
            raise ValueError(f"canaries={canaries} must be at least 1")
        r = to_guess(canaries) if guessed is None else guessed
        if not 1 <= r <= canaries:
            raise ValueError(f"guessed={r} must be between 1 and the canaries={canaries}")
        coins = random.bernoulli(canaries, 0.5).astype(np.bool_)
        return cls(included=coins, total=np.zeros(canaries), squares=np.zeros(canaries), guessed=r)

    @property
    def size(self) -> int:
        """Number of audit coordinates."""
        return BLOCKS * len(self.included)

    @property
    def riders(self) -> int:
        """Number of canaries that are in: what the sampler draws from beside the subjects."""
        return int(self.included.sum())

    def clipped_sum(self, drawn: NDArray[np.int64], clip_norm: float) -> Tensor:
        """Return the sum of the clipped gradients of the riders numbered `drawn`, float64 `(size,)`."""
        at = np.flatnonzero(self.included)[drawn]
        # A canary is zero off its own coordinates, so that its norm is the norm over those.
        rows = clip(torch.full((len(at), BLOCKS), _FAR_ABOVE * clip_norm), clip_norm)
        summed = torch.zeros(BLOCKS, len(self.included), dtype=torch.float64)
        summed[:, torch.from_numpy(at)] = rows.double().T
        return summed.reshape(-1)

    def record(self, noisy: Tensor) -> None:
        """Add up the audit coordinates `(size,)` of one step's update, as they are after noise and averaging."""
        blocks = noisy.detach().cpu().double().numpy().reshape(BLOCKS, -1)
        along = blocks.sum(0) / math.sqrt(BLOCKS)
        self.total += along
        self.squares += along**2
        self.steps += 1

    def scores(self, statistic: str) -> Floats:
        """Return one score per canary, `(m,)`: what it left in the sum, or how unevenly it came over the steps.

        The sum is what an honest mechanism bounds best; noise that was used twice cancels in the spread alone.
        """
        if statistic == "sum":
            return self.total
        if statistic == "spread":
            return self.squares - self.total**2 / max(1, self.steps)
        raise ValueError(f"statistic={statistic!r} must be one of {', '.join(STATISTICS)}")

    def guesses(self) -> dict[str, Guesses]:
        """Return the guesses by each statistic, r of them as fixed beforehand; all that may leave the site."""
        return {name: guess(self.scores(name), self.included, guessed=self.guessed) for name in STATISTICS}

    def to_bytes(self) -> bytes:
        """Return coins and scores as safetensors; they belong among what never leaves a site."""
        from safetensors.numpy import save

        columns = {"included": self.included, "total": self.total, "squares": self.squares}
        return save({**columns, "counts": np.array([self.steps, self.guessed], np.int64)})

    @classmethod
    def from_bytes(cls, content: bytes) -> "AuditLayer":
        """Read what `to_bytes` wrote."""
        from safetensors.numpy import load

        found = load(content)
        return cls(
            included=found["included"],
            total=found["total"],
            squares=found["squares"],
            steps=int(found["counts"][0]),
            guessed=int(found["counts"][1]),
        )
