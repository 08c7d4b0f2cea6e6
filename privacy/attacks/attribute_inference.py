"""Attribute inference: does a release tell more about the people in it than about anybody?

The attacker holds pictures of a person and the release, and wants to know what is not in the picture: sex, age band,
class of ejection fraction, diagnosis. He takes the label that most of the `k` released people have who look most like
the person (WP29 opinion 05/2014, "inference"; Giomi et al. 2023, arXiv:2211.10459). On members and controls alike he
learns what hearts look like; what he learns about members alone is the risk.

With `recall` below one he picks the people of whom he is surest and keeps silent on the others, as an attacker would
(Francis & Wagner 2025, arXiv:2507.01710): those who lie much nearer to the release than to the reference. Few copies in
a release move the average by their share; they move the precision at a recall of 5 % by nearly one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import VIEWS
from privacy.attacks import ATTACKS
from privacy.gallery import Gallery
from privacy.resemblance import nearest_people, singly
from privacy.risk import Attempts

VIEW, SUREST = "view", "surest"
NEIGHBOURS, RECALL = (1, 5, 10), 0.05
_LEAST = 1e-3  # closer is a copy, however close


@ATTACKS("attribute_inference")
@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeInference:
    """One attribute, guessed from those who look alike.

    Attributes:
        attribute: a key of `Gallery.attributes`, or "view", which is known of pictures: then one picture of each
            person, drawn by lot, is all that the attacker has.
        k: how many of the released people who look most alike vote; a tie goes to the nearer.
        recall: share of the people about whom he dares a guess, in (0, 1].
    """

    kind: ClassVar[str] = "risk"

    attribute: str = "ef_class"
    k: int = 1
    recall: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k={self.k} must be at least 1")
        if not 0 < self.recall <= 1:
            raise ValueError(f"recall={self.recall} must lie in (0, 1]")

    @classmethod
    def forms(cls, known: Sequence[str]) -> dict[tuple[str, ...], "AttributeInference"]:
        """Return what to run, by what to call it, where these attributes are known; "surest" at a recall of 5 %."""
        found: dict[tuple[str, ...], AttributeInference] = {}
        for attribute in (*known, VIEW):
            found |= {(attribute, f"k{k}"): cls(attribute=attribute, k=k) for k in NEIGHBOURS}
            found[attribute, SUREST] = cls(attribute=attribute, recall=RECALL)
        return found

    def attempt(self, targets: Gallery, released: Gallery, reference: Gallery, *, rng: np.random.Generator) -> Attempts:
        """Guess the attribute of subjects of `targets`; a success is a right guess."""
        people, truth = self._told(targets, rng)
        bank, words = self._told(released, None)
        known = words != ""
        asked = np.flatnonzero(truth != "")
        if not known.any() or not len(asked):
            return _silent(self.attribute, "released people" if not known.any() else "people asked about")
        distances, who = nearest_people(people, bank, self.k, among=known)
        background, _ = nearest_people(people, reference, 1)
        surprise = np.log(np.maximum(background[:, 0], _LEAST)) - np.log(np.maximum(distances[:, 0], _LEAST))
        chosen = asked[np.argsort(-surprise[asked], kind="stable")[: math.ceil(self.recall * len(asked))]]
        right = sum(_majority(words[who[i][who[i] >= 0]]) == truth[i] for i in chosen)
        return Attempts(successes=right, attempts=len(chosen))

    def naive(self, targets: Gallery, reference: Gallery, *, rng: np.random.Generator) -> Attempts:
        """Guess by lot from the labels of the reference, which shows how common each is."""
        _, truth = self._told(targets, rng)
        _, words = self._told(reference, None)
        asked, words = np.flatnonzero(truth != ""), words[words != ""]
        if not len(words) or not len(asked):
            return _silent(self.attribute, "people of the reference" if not len(words) else "people asked about")
        chosen = rng.permutation(asked)[: math.ceil(self.recall * len(asked))]
        return Attempts(successes=int((rng.choice(words, len(chosen)) == truth[chosen]).sum()), attempts=len(chosen))

    def _told(self, gallery: Gallery, rng: np.random.Generator | None) -> tuple[Gallery, NDArray[np.object_]]:
        """Return the people and what is known of each; of views, one picture (by lot), or each as if it were one."""
        if self.attribute != VIEW:
            return gallery, gallery.attributes.get(self.attribute, np.full(len(gallery.subjects), "", object))
        rows = np.arange(len(gallery))
        if rng is not None:
            mixed = rng.permutation(rows)
            rows = np.sort(mixed[np.unique(gallery.subject[mixed], return_index=True)[1]])
        alone = singly(gallery, rows)
        return alone, np.array([str(VIEWS[v]) if 0 <= v < len(VIEWS) else "" for v in alone.view], object)


def _majority(votes: NDArray[np.object_]) -> str:
    """Return the commonest word, on a tie the one named first."""
    words = list(votes)
    return max(words, key=words.count) if words else ""


def _silent(attribute: str, whose: str) -> Attempts:
    return Attempts(successes=0, attempts=0, note=f"the {attribute} of none of the {whose} is known")
