"""One run of the attacks that can be repeated: on the release, on the release with planted copies, on strangers."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.attacks import of_kind
from privacy.attacks.flow_loss import Loss
from privacy.estimate import Estimate, holm
from privacy.gallery import Gallery, joined
from privacy.membership import Exchange, Scores, Separation, by_subject, separation
from privacy.neighbours import nearest
from privacy.risk import Attempts, risk

SHARES = (0.01, 0.05)
"""Shares of the members with planted copies."""

SIGNIFICANCE = 0.05
ISOLATED = 0.05
_FEWEST_ISOLATED = 5
_PLANTINGS, _FEWER, _MANY = 10, 5, 40_000_000  # fewer plantings where one costs that many distances

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One attack on one release.

    Attributes:
        name: its name in `ATTACKS`, ".isolated" behind it for the subjects with the fewest likes.
        kind: its kind.
        n_member: members attacked.
        n_control: controls attacked.
        auc: area under the curve of the mean score of every subject, 95 %; `None` where the attack does not rank.
        tpr: false positive rate → share of members found, 95 %.
        auc_largest: the same area for the largest score of every subject.
        p_value: of members and controls being exchangeable, for mean and largest together (Bonferroni).
        p_adjusted: the same after Holm's adjustment for all attacks of the suite.
        positive_control: share of members with planted copies → share of plantings that this attack noticed at 5 %.
        negative_control: p-value of the attack on a release of other real people; `None` where it could not be run.
        blind_baseline: whether a classifier without release told nothing apart.
        risk: excess over controls of an attack that guesses, 95 %.
        void: why nothing may be concluded from that, empty where something may.
        note: what a reader has to know.
    """

    name: str
    kind: str
    n_member: int
    n_control: int
    auc: Estimate | None = None
    tpr: Mapping[float, Estimate] = field(default_factory=dict)
    auc_largest: Estimate | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    positive_control: Mapping[float, float] = field(default_factory=dict)
    negative_control: float | None = None
    blind_baseline: bool = False
    risk: Estimate | None = None
    void: str = ""
    note: str = ""


class AttackRun:
    """The galleries of one run, and what is drawn once for all attacks."""

    def __init__(
        self, released: Gallery, members: Gallery, controls: Gallery, reference: Gallery, copies: Gallery, seed: int
    ) -> None:
        self.released, self.members, self.controls, self.reference = released, members, controls, reference
        self.copies, self.seed = copies, seed
        self.targets = joined(members, controls)
        self.member = np.arange(len(self.targets.subjects)) < len(members.subjects)
        self.attacks = {name: of_kind("membership")[name]() for name in of_kind("membership")}
        self.everybody = np.ones(len(self.member), bool)
        self.null = self.exchange(self.everybody)

    def rng(self, what: str) -> np.random.Generator:
        """Return a stream of its own for `what`."""
        return np.random.default_rng([self.seed, *what.encode()])

    def exchange(self, some: NDArray[np.bool_]) -> Exchange:
        """Return the null hypothesis for some of the subjects."""
        return Exchange(int((some & self.member).sum()), int((some & ~self.member).sum()), seed=self.seed)

    def scores(self, name: str, released: Gallery, reference: Gallery) -> dict[str, Scores]:
        """Return the mean and the largest score of every subject."""
        return self.subjects(self.attacks[name].score(self.targets, released, reference, rng=self.rng(name)))

    def subjects(self, scores: Scores) -> dict[str, Scores]:
        """Return the mean and the largest of the scores of every subject's pictures."""
        return {how: by_subject(scores, self.targets.subject, len(self.member), how) for how in ("mean", "max")}

    def apart(self, scores: Scores, some: NDArray[np.bool_], null: Exchange) -> Separation:
        """Say how well scores tell some members from some controls."""
        return separation(scores[some & self.member], scores[some & ~self.member], null)

    def p_value(self, scores: Mapping[str, Scores], member: NDArray[np.bool_]) -> float:
        """Return the p-value of mean and largest score together, where `member` says whom to take for one."""
        return _either(self.null.p_value(s[member], s[~member]) for s in scores.values())

    def membership(self) -> tuple[list[Record], Record | None]:
        """Run every membership attack on everybody, on the isolated, and on halves."""
        lonely, records = self.isolated(), []
        scored = {name: self.scores(name, self.released, self.reference) for name in self.attacks}
        for name, scores in scored.items():
            found, largest = (self.apart(scores[how], self.everybody, self.null) for how in ("mean", "max"))
            records.append(
                self.record(name, self.everybody, found, _either([found.p_value, largest.p_value]), largest.auc)
            )
            if lonely is not None:
                alone = self.apart(scores["mean"], lonely, self.exchange(lonely))
                records.append(self.record(f"{name}.isolated", lonely, alone, alone.p_value))
        return records, self.best({name: scores["mean"] for name, scores in scored.items()})

    def record(
        self,
        name: str,
        some: NDArray[np.bool_],
        found: Separation,
        p_value: float,
        largest: Estimate | None = None,
        note: str = "",
    ) -> Record:
        """Return the record of a membership attack on some of the subjects."""
        return Record(
            name=name,
            kind="membership",
            n_member=int((some & self.member).sum()),
            n_control=int((some & ~self.member).sum()),
            auc=found.auc,
            tpr=found.tpr,
            auc_largest=largest,
            p_value=p_value,
            note=note,
        )

    def model(self, loss: Loss, others: Sequence[Loss]) -> list[Record]:
        """Run the attacks that hold the weights; no copy can be planted in those, so they have no positive control."""
        return [self._of_model(name, of_kind("model")[name](), loss, others) for name in of_kind("model")]

    def _of_model(self, name: str, attack: Any, loss: Loss, others: Sequence[Loss]) -> Record:
        def scored(attacked: Loss, rest: Sequence[Loss]) -> dict[str, Scores]:
            return self.subjects(attack.score(self.targets, attacked, rest, self.reference, rng=self.rng(name)))

        scores = scored(loss, others)
        found, largest = (self.apart(scores[how], self.everybody, self.null) for how in ("mean", "max"))
        p_value = _either([found.p_value, largest.p_value])
        note = "no copy can be planted in weights: this attack has no positive control"
        record = self.record(name, self.everybody, found, p_value, largest.auc, note)
        negative = self.p_value(scored(others[0], others[1:]), self.member) if others else None
        return replace(record, kind="model", negative_control=negative)

    def risks(self) -> list[Record]:
        """Run the attacks that guess, on every attribute and every pair of halves that somebody knows of."""
        known, records = sorted(self.members.attributes), []
        for name in of_kind("risk"):
            for form, attack in of_kind("risk")[name].forms(known).items():
                records.append(self._risk(".".join([name, *form]), attack))
        return records

    def _risk(self, name: str, attack: Any) -> Record:
        def made(people: Gallery, released: Gallery) -> Attempts:
            attempts: Attempts = attack.attempt(people, released, self.reference, rng=self.rng(name))
            return attempts

        runs = (
            *(made(people, self.released) for people in (self.members, self.controls)),
            attack.naive(self.members, self.reference, rng=self.rng(name)),
        )
        found = risk(*runs)
        if found.void and found.excess is not None:  # too weak, or is there nothing to find? planted copies tell
            found = risk(*runs, planted=made(self.members, joined(self.released, self._leak())))
        return Record(
            name=name,
            kind="risk",
            n_member=len(self.members.subjects),
            n_control=len(self.controls.subjects),
            risk=found.excess,
            void=found.void,
            note=found.note,
        )

    def _leak(self) -> Gallery:
        """Return copies of the larger share of members, with their labels."""
        copied = self.rng("leak").permutation(self.members.subjects)[
            : math.ceil(SHARES[-1] * len(self.members.subjects))
        ]
        labels = self.members.select(copied.tolist()).attributes
        return replace(self.copies.select(copied.tolist()), attributes=labels)

    def isolated(self) -> NDArray[np.bool_] | None:
        """Return the twentieth of all subjects who resemble others least, members and controls alike."""
        subject = self.targets.subject
        away = nearest(self.targets.features, self.targets.features, exclude_same=(subject, subject))[0][:, 0]
        lonely = by_subject(np.where(np.isfinite(away), away, 0).astype(np.float64), subject, len(self.member))
        some = lonely >= np.sort(lonely)[-max(1, round(ISOLATED * len(lonely)))]
        enough = min((some & self.member).sum(), (some & ~self.member).sum()) >= _FEWEST_ISOLATED
        return some if enough else None

    def best(self, scored: Mapping[str, Scores]) -> Record | None:
        """Choose the attack on one half of the subjects, report it on the other."""
        first = np.array([lot(s, self.seed, "half") < 0.5 for s in self.targets.subjects])
        halves = [first, ~first]
        if not scored or min(min((h & self.member).sum(), (h & ~self.member).sum()) for h in halves) < 2:
            return None
        nulls = [self.exchange(half) for half in halves]
        tried = {name: self.apart(scores, halves[0], nulls[0]) for name, scores in scored.items()}
        name = min(tried, key=lambda n: (tried[n].p_value, -tried[n].auc.value, n))
        found = self.apart(scored[name], halves[1], nulls[1])
        return self.record("suite_maximum", halves[1], found, found.p_value, note=f"{name}, chosen on the other half")

    def positive(self, progress: Progress) -> tuple[dict[str, dict[float, float]], dict[float, float]]:
        """Plant copies of 1 % and of 5 % of the members, again and again; say who noticed how often.

        Each time other subjects are taken for members, drawn by lot from all, as the members once were: how often a
        leak is noticed in cohorts of this size must not hang on what is true, or by chance looks true, of this one.
        """
        many = len(self.targets) * len(self.released) > _MANY
        plantings, n = _FEWER if many else _PLANTINGS, len(self.members.subjects)
        powers: dict[str, dict[float, float]] = {name: {} for name in self.attacks}
        family: dict[float, float] = {}
        for at, share in enumerate(SHARES):
            rng, noticed = self.rng(f"plant {share}"), []
            for k in range(plantings):
                progress((at + k / plantings) / len(SHARES), f"planting copies of {100 * share:g} %")
                lot = rng.permutation(len(self.member))
                copied = [self.copies.subjects[i] for i in np.sort(lot[: math.ceil(share * n)])]
                leak = joined(self.released, self.copies.select(copied))
                member = np.isin(np.arange(len(lot)), lot[:n])
                noticed.append([self.p_value(self.scores(a, leak, self.reference), member) for a in self.attacks])
            for name, p_values in zip(self.attacks, zip(*noticed, strict=True), strict=True):
                powers[name][share] = float(np.mean(np.array(p_values) < SIGNIFICANCE))
            family[share] = float(np.mean([min(holm(p), default=1.0) < SIGNIFICANCE for p in noticed]))
        return powers, family

    def negative(self) -> dict[str, float]:
        """Attack a release made of one half of the reference people, with the other half as reference."""
        lots = [lot(s, self.seed, "negative") for s in self.reference.subjects]
        halves = [
            self.reference.select(
                [s for s, lot in zip(self.reference.subjects, lots, strict=True) if (lot < 0.5) == own]
            )
            for own in (True, False)
        ]
        if min(map(len, halves)) < 2:
            return {}
        return {name: self.p_value(self.scores(name, *halves), self.member) for name in self.attacks}


def _either(p_values: Iterable[float]) -> float:
    """Return the p-value of several tests of one hypothesis together (Bonferroni)."""
    several = list(p_values)
    return min(1.0, len(several) * min(several))


def lot(subject: str, seed: int, purpose: str) -> float:
    """Return a number in [0, 1) that hangs on the subject's name, the seed and the purpose only."""
    digest = hashlib.blake2b(subject.encode(), key=f"{seed} {purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
