"""Linkability: does a release join two things known of one person that were not joined before?

The attacker holds two files without names: one has a person's apical four-chamber pictures (half A), the other pictures
in another view or the labels of that person (half B). He joins two entries when the `k` released people nearest to A
and those most like B have someone in common (WP29 opinion 05/2014, "linkability"; Giomi et al. 2023, arXiv:2211.10459).
What a heart's pictures and labels share joins controls as well; joining members better is the risk.

A release whose people have one view each has no identity that could join two views: then the attack does not apply,
which is no reason to call the release safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS
from cohorts.study import View
from privacy.attacks import ATTACKS
from privacy.gallery import Gallery
from privacy.resemblance import nearest_people
from privacy.risk import Attempts

HALVES = ("views", "labels")
_A = VIEWS.index(View.A4C)


@ATTACKS("linkability")
@dataclass(frozen=True, slots=True, kw_only=True)
class Linkability:
    """One attempt for each person with both halves.

    Attributes:
        half: what half B is: "views", pictures in any other view, or "labels", all attributes known of the person,
            for which everybody stands who agrees in most of them.
        k: released people that stand for a half in pictures.
    """

    kind: ClassVar[str] = "risk"

    half: str = "views"
    k: int = 1

    def __post_init__(self) -> None:
        if self.half not in HALVES:
            raise ValueError(f"half={self.half!r} must be one of {', '.join(HALVES)}")
        if self.k < 1:
            raise ValueError(f"k={self.k} must be at least 1")

    @classmethod
    def forms(cls, known: Sequence[str]) -> dict[tuple[str, ...], "Linkability"]:
        """Return what to run, by what half B is."""
        return {(half,): cls(half=half) for half in HALVES if half == "views" or known}

    def attempt(self, targets: Gallery, released: Gallery, reference: Gallery, *, rng: np.random.Generator) -> Attempts:
        """Join the halves of subjects of `targets`; a success is a released person near to both halves of one."""
        del reference, rng
        return self._link(targets, released, whose="released people")

    def naive(self, targets: Gallery, reference: Gallery, *, rng: np.random.Generator) -> Attempts:
        """Join them through people of the reference, who stand where the released people stood."""
        del rng
        return self._link(targets, reference, whose="people of the reference")

    def _link(self, targets: Gallery, bank: Gallery, *, whose: str) -> Attempts:
        common = sorted(targets.attributes.keys() & bank.attributes.keys())
        asked, through = self._whole(targets, common), self._whole(bank, common)
        if through.sum() <= self.k:
            return _silent(f"{through.sum()} of the {whose} have both halves")
        if not asked.any():
            return _silent("nobody asked about has both halves")
        _, near_a = nearest_people(_half(targets, first=True), _half(bank, first=True), self.k, among=through)
        if self.half == "views":
            _, near_b = nearest_people(_half(targets, first=False), _half(bank, first=False), self.k, among=through)
            joined = (near_a[:, :, None] == near_b[:, None, :]).any(axis=(1, 2))
        else:
            joined = np.take_along_axis(_agreeing(targets, bank, common, through), near_a, 1).any(axis=1)
        return Attempts(successes=int(joined[asked].sum()), attempts=int(asked.sum()))

    def _whole(self, gallery: Gallery, common: Sequence[str]) -> NDArray[np.bool_]:
        """Say who has both halves, `(subjects,)`."""
        n = len(gallery.subjects)
        in_a = np.bincount(gallery.subject[gallery.view == _A], minlength=n) > 0
        if self.half == "views":
            in_b = np.bincount(gallery.subject[_elsewhere(gallery)], minlength=n) > 0
        else:
            in_b = np.zeros(n, bool)
            for name in common:
                in_b |= np.asarray(gallery.attributes[name] != "", bool)
        return np.asarray(in_a & in_b, bool)


def _elsewhere(gallery: Gallery) -> NDArray[np.bool_]:
    return np.asarray((gallery.view >= 0) & (gallery.view != _A), bool)


def _half(gallery: Gallery, *, first: bool) -> Gallery:
    rows = gallery.view == _A if first else _elsewhere(gallery)
    return replace(
        gallery,
        features=gallery.features[rows],
        subject=gallery.subject[rows],
        view=gallery.view[rows],
        phase=gallery.phase[rows],
        pixels=None,
    )


def _agreeing(targets: Gallery, bank: Gallery, common: Sequence[str], through: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say who of `bank` agrees with a target in the most labels, `(targets, bank)`; lots would hide a copy in a tie."""
    score = np.where(through, np.int16(0), np.int16(-1))[None].repeat(len(targets.subjects), axis=0)
    for name in common:
        mine, theirs = targets.attributes[name][:, None], bank.attributes[name][None]
        score += np.asarray((mine == theirs) & (theirs != "") & through, np.int16)
    return np.asarray((score == score.max(axis=1, keepdims=True)) & through, bool)


def _silent(why: str) -> Attempts:
    return Attempts(successes=0, attempts=0, note=f"not applicable: {why}")
