"""Does a site screen at all? Made-up people among those it compares with, and their copies among the candidates.

A site answers one bit a candidate, and nobody may look over its shoulder: it could refuse everything, or accept
everything without opening a study. So an auditor, not the operator of the generator, hands every site some decoys,
drawn or public people whom it adds to its patients; copies of a secret part of them, and probes that resemble nobody,
are shuffled among the candidates. An honest site refuses as many copies as its own planted-copy test promised, and as
few probes as its own false rejections allow; a site that ignores pictures cannot do both, whatever share it refuses.

Decoys touch no patient's vote and no patient's count, so they cost no privacy. Both tests are binomial and exact; an
honest site is accused once in a thousand each. Where the numbers are too small to convict anybody, they acquit nobody.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from privacy.randomness import SecureRandom

DECOYS = 100
SIGNIFICANCE = 0.001


class Conduct(StrEnum):
    """What the answers about decoys and probes say of a site."""

    HONEST = "screens as promised"
    ACCEPTS = "accepts copies"
    REFUSES = "refuses strangers"
    UNDECIDED = "too few decoys or probes to tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """Candidates, copies of decoys and probes in one secret order; the auditor's, whom no site and no server asks.

    Attributes:
        order: what is shown at each place, `(n,)`: index into candidates, then copies, then probes.
        candidates: how many candidates.
        copies: how many copies of decoys.
        probes: how many probes.
    """

    order: NDArray[np.int64]
    candidates: int
    copies: int
    probes: int

    def opened(self, kept: NDArray[np.bool_]) -> "Answers":
        """Sort a site's verdicts, `(n,)`, by what they were about."""
        if kept.shape != self.order.shape:
            raise ValueError(f"kept {kept.shape} must have one verdict for each of {len(self.order)} shown")
        verdict = np.empty(len(kept), bool)
        verdict[self.order] = kept
        copies, probes = np.split(verdict[self.candidates :], [self.copies])
        return Answers(
            kept=verdict[: self.candidates],
            copies=self.copies,
            caught=int((~copies).sum()),
            probes=self.probes,
            refused=int((~probes).sum()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A site's verdicts, opened.

    Attributes:
        kept: of the candidates, `(candidates,)`, in their own order.
        copies, caught: copies of decoys, and how many of them the site refused.
        probes, refused: candidates that resemble nobody, and how many of them the site refused.
    """

    kept: NDArray[np.bool_]
    copies: int
    caught: int
    probes: int
    refused: int

    def conduct(self, *, catch: float, false_rejection: float, significance: float = SIGNIFICANCE) -> Conduct:
        """Judge the site by what its own evaluation promised.

        Args:
            catch: lower bound of the share of copies that it refuses (of its planted-copy test; with voting,
                1 - `VoteFilter.acceptance(1)` of those within τ).
            false_rejection: upper bound of the share of strangers that it refuses (with voting, of β).
            significance: probability with which an honest site is accused by one of the two tests.
        """
        from scipy.stats import binom

        for name, value in (("catch", catch), ("false_rejection", false_rejection)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must lie in [0, 1]")
        if binom.cdf(self.caught, self.copies, catch) < significance:
            return Conduct.ACCEPTS
        if binom.sf(self.refused - 1, self.probes, false_rejection) < significance:
            return Conduct.REFUSES
        convicts = max(binom.cdf(0, self.copies, catch), binom.sf(self.probes - 1, self.probes, false_rejection))
        return Conduct.HONEST if convicts < significance else Conduct.UNDECIDED


def hide(candidates: int, *, copies: int = DECOYS // 2, probes: int = DECOYS // 2, random: SecureRandom) -> Hidden:
    """Shuffle copies and probes among the candidates, by a secret that nobody can replay."""
    if min(candidates, copies, probes) < 0:
        raise ValueError(f"candidates={candidates}, copies={copies}, probes={probes} must not be negative")
    keys = np.frombuffer(random.bytes(8 * (candidates + copies + probes)), np.uint64)
    return Hidden(order=np.argsort(keys), candidates=candidates, copies=copies, probes=probes)


def copied(decoys: int = DECOYS, *, random: SecureRandom) -> NDArray[np.bool_]:
    """Say by secret fair lot which decoys have a copy among the candidates: half of them, `(decoys,)`.

    All decoys stand in a site's reference, so that it cannot tell from them which of the candidates are copies.
    """
    keys = np.frombuffer(random.bytes(8 * decoys), np.uint64)
    chosen = np.zeros(decoys, bool)
    chosen[np.argsort(keys)[: decoys // 2]] = True
    return chosen
