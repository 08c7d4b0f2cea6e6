"""Copies without any original: what a release betrays by itself.

The attacker, or an auditor, holds the release and no real picture. A generator draws every person anew, so that one
picture drawn for several people is one that it knows by heart (Carlini et al. 2023, arXiv:2301.13188, find memorised
pictures by such cliques): pictures equal to the last grey value, pairs of people more alike than strangers are, and one
person with many such twins. How alike strangers are is known of public populations alone
(`python -m benchmarks.strangers`), and people can be alike for worse generators than thieving ones. So these clues can
fail a release; what they do not find was perhaps only well hidden, and nothing here can pass one.
"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from privacy.attacks import ATTACKS
from privacy.gallery import Gallery
from privacy.resemblance import apart
from privacy.traces import identifying

SIGNIFICANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Clue:
    """One thing that was counted in a release.

    Attributes:
        name: what.
        count: how often.
        of: out of how many.
        expected: how often in a public population of the same size; at most, where that is not exactly known.
        fails: whether it is so much more that the release should not go out. False is no acquittal.
        note: what a reader has to know.
    """

    name: str
    count: int
    of: int
    expected: float
    fails: bool
    note: str = ""


@ATTACKS("copies")
@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What counts as alike, and how common that is among strangers.

    Attributes:
        similarity: at which two people are twins: one picture, altered.
        rate: share of pairs of strangers who are; of four public sites with 1.1 million pairs each, none was.
        crowded: the same share for who resembles most others, who at a lower similarity resembles 43 times as many.
    """

    kind: ClassVar[str] = "alone"

    similarity: float = 0.95
    rate: float = 3e-6
    crowded: float = 1.3e-4

    def __post_init__(self) -> None:
        for name in ("similarity", "rate", "crowded"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in (0, 1)")

    def look(self, released: Gallery, *, rng: np.random.Generator) -> tuple[Clue, ...]:
        """Return every clue, also those that found nothing."""
        del rng
        return (self._equal(released), *self._alike(released), self._words(released))

    def _equal(self, released: Gallery) -> Clue:
        """Count the pictures that are, to the last grey value, the picture of somebody else."""
        shown = released.features if released.pixels is None else released.pixels
        full = released.features.any(axis=1)  # an empty picture resembles nothing
        pictures = [shown[i].tobytes() for i in np.flatnonzero(full)]
        owners = Counter(picture for picture, _ in {*zip(pictures, released.subject[full].tolist(), strict=True)})
        count = sum(owners[picture] > 1 for picture in pictures)
        return Clue(name="identical pictures", count=count, of=len(released), expected=0.0, fails=count > 0)

    def _alike(self, released: Gallery) -> tuple[Clue, Clue]:
        from scipy.stats import poisson

        n = len(released.subjects)
        twins, radius = np.zeros(n, np.int64), float(np.sqrt(2 - 2 * self.similarity))
        for some, away in apart(released, released):
            away[np.arange(len(away)), np.arange(some.start, some.stop)] = np.inf
            twins[some] = (away <= radius).sum(axis=1)
        pairs, possible = int(twins.sum()) // 2, n * (n - 1) // 2
        expected = possible * self.rate
        several = Clue(
            name="pairs of twins",
            count=pairs,
            of=possible,
            expected=expected,
            fails=bool(poisson.sf(pairs - 1, expected) < SIGNIFICANCE),
            note=f"{int((twins > 0).sum())} of {n} people have one",
        )
        most = int(twins.max(initial=0))
        fellows = max(0, n - 1) * self.crowded
        crowd = Clue(
            name="twins of one person",
            count=most,
            of=max(0, n - 1),
            expected=fellows,
            fails=most > 1 and n * float(poisson.sf(most - 1, fellows)) < SIGNIFICANCE,
        )
        return several, crowd

    @staticmethod
    def _words(released: Gallery) -> Clue:
        words = [*released.subjects, *(str(w) for told in released.attributes.values() for w in told)]
        kinds = sorted({kind for word in words if (kind := identifying(word))})
        count = sum(bool(identifying(word)) for word in words)
        return Clue(
            name="identifying words",
            count=count,
            of=len(words),
            expected=0.0,
            fails=count > 0,
            note=", ".join(kinds),
        )
