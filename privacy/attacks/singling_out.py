"""Singling out: does a released picture describe exactly one of the people used?

The attacker claims of a released person s: "there is exactly one of the people used who lies within r of s". Such a
claim is worth something only if it would hardly ever be true of people who were not used: of n people, a claim that a
share w of all people fulfils is true by chance with n·w·(1-w)^(n-1), 37 % at w = 1/n (Cohen & Nissim 2020,
arXiv:1904.06009). Only claims with w at most 1/(10 n) count; the radius is set so that n·w is `expected`, far below.

w is too small to be counted. It is carried inwards from the k-th nearest person of a public or held-out reference, at
distance r_k: w(r) = k/m · (r/r_k)^D, with the local dimension D by maximum likelihood from the same neighbours (Levina
& Bickel 2004, averaged as MacKay & Ghahramani 2005). Controls, of whom the same is claimed, test that extrapolation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.attacks import ATTACKS
from privacy.gallery import Gallery
from privacy.neighbours import Features
from privacy.resemblance import apart, nearest_people, singly
from privacy.risk import Attempts

LARGEST_EXPECTED = 0.1
_LEAST = 1e-6


@ATTACKS("singling_out")
@dataclass(frozen=True, slots=True, kw_only=True)
class SinglingOut:
    """One claim for each released person.

    Attributes:
        expected: people among the n asked about who fulfil a claim by chance, n·w, at most 0.1.
        neighbours: k, people of the reference from whose distances w is carried inwards.
        claims: the most claims made; more released people than that are drawn by lot.
    """

    kind: ClassVar[str] = "risk"

    expected: float = 0.01
    neighbours: int = 10
    claims: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.expected <= LARGEST_EXPECTED:
            raise ValueError(f"expected={self.expected} must lie in (0, {LARGEST_EXPECTED}]: larger is true by chance")
        if self.neighbours < 3 or self.claims < 1:
            raise ValueError(f"neighbours={self.neighbours} must be at least 3 and claims={self.claims} at least 1")

    @classmethod
    def forms(cls, known: Sequence[str]) -> dict[tuple[str, ...], "SinglingOut"]:
        """Return what to run, whatever attributes are known."""
        del known
        return {(): cls()}

    def attempt(self, targets: Gallery, released: Gallery, reference: Gallery, *, rng: np.random.Generator) -> Attempts:
        """Claim of released people; a success is a claim that exactly one subject of `targets` fulfils."""
        if problem := self._problem(targets, reference):
            return problem
        centres = _one_each(released, rng, self.claims)
        near, _ = nearest_people(centres, reference, self.neighbours)
        radii = self._radii(near, len(reference.subjects), len(targets.subjects))
        distinct = _distinct(centres, radii)
        centres, radii = singly(centres, distinct), radii[distinct]
        return Attempts(successes=_isolated(centres, radii, targets), attempts=len(radii))

    def naive(self, targets: Gallery, reference: Gallery, *, rng: np.random.Generator) -> Attempts:
        """Claim of people of the reference, who were not used either: the same without the release."""
        if problem := self._problem(targets, reference):
            return problem
        centres = _one_each(reference, rng, self.claims)
        near, _ = nearest_people(centres, reference, self.neighbours + 1)  # the first is who the claim is made of
        radii = self._radii(near[:, 1:], len(reference.subjects) - 1, len(targets.subjects))
        return Attempts(successes=_isolated(centres, radii, targets), attempts=len(radii))

    def _problem(self, targets: Gallery, reference: Gallery) -> Attempts | None:
        if not targets.subjects:
            return Attempts(successes=0, attempts=0, note="there is nobody to be singled out")
        if len(reference.subjects) < 2 * self.neighbours:
            few = f"{len(reference.subjects)} people of the reference say nothing of rare likenesses"
            return Attempts(successes=0, attempts=0, note=f"{few}; {2 * self.neighbours} are needed")
        return None

    def _radii(self, near: Features, m: int, n: int) -> NDArray[np.float64]:
        """Return r of each claim, `(claims,)`, from the distances of the nearest of m people, `(claims, k)`."""
        distances = np.maximum(near.astype(np.float64), _LEAST)
        last = distances[:, -1]
        inverse = np.log(last[:, None] / distances[:, :-1]).sum(axis=1) / (self.neighbours - 2)
        dimension = 1 / max(float(inverse.mean()), _LEAST)
        return np.asarray(last * (self.expected / n * m / self.neighbours) ** (1 / dimension), np.float64)


def _isolated(centres: Gallery, radii: NDArray[np.float64], targets: Gallery) -> int:
    """Return how many balls hold exactly one subject."""
    return sum(int(((away <= radii[some, None]).sum(axis=1) == 1).sum()) for some, away in apart(centres, targets))


def _one_each(gallery: Gallery, rng: np.random.Generator, most: int) -> Gallery:
    """Return one picture, by lot, of each of at most so many subjects, each picture a subject of its own."""
    mixed = rng.permutation(len(gallery))
    first = mixed[np.unique(gallery.subject[mixed], return_index=True)[1]]
    return singly(gallery, np.sort(rng.permutation(first)[:most]))


def _distinct(centres: Gallery, radii: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the claims whose centre lies in no earlier claim's ball: the same claim made twice is one attempt."""
    keep = np.ones(len(radii), bool)
    for some, away in apart(centres, centres):
        for i, distances in enumerate(away, some.start):
            keep[i] = not (keep[:i] & (distances[:i] <= radii[i])).any()
    return np.flatnonzero(keep)
