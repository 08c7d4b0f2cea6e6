"""Every attack on one release, each beside its controls; what comes out are plain records, not verdicts.

Attacks are only as good as what they would have noticed. So every run plants copies of 1 % and of 5 % of the members
(positive control), attacks a release made of other real people (negative control), and lets a classifier guess without
any release (blind baseline); the p-values of all attacks, also of those that found nothing, are adjusted together.

Nothing here is noised: a suite is run where the studies are, and its numbers stay there unless somebody answers for it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from cohorts.frames import Frames, concatenate
from privacy.attack_run import SHARES, AttackRun, Progress, Record, lot
from privacy.attacks import of_kind
from privacy.attacks.disclosure import Disclosure
from privacy.attacks.flow_loss import Loss
from privacy.blind import FOLDS, blind_auc
from privacy.estimate import Estimate, holm
from privacy.gallery import Gallery
from privacy.planted import altered_copy
from privacy.randomness import SecureRandom
from privacy.similarity import Similarity, similarity

__all__ = ["RANDOM", "Record", "Suite", "attacked", "examine"]

RANDOM = "random"
"""`split` of a cohort whose members were drawn by lot before training; any other word makes p-values conditional."""

POWER = 0.8
NEGATIVE_SIGNIFICANCE = 0.01  # a control that cries wolf in one run of twenty would spoil every other suite
COPY_LEVEL = 1
Attributes = Mapping[str, Mapping[str, str]]
_NOTHING: Attributes = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What all attacks on one release found.

    Attributes:
        records: one an attack, in the order of their names.
        chosen: the attack that did best on one half of the subjects, and what it then did on the other half.
        disclosure: what `Disclosure.judge` found; empty where it was not run.
        blind: area under the curve of the blind baseline, 95 %; `None` with too few subjects.
        positive_control: share of members with planted copies → share of plantings that any attack noticed, adjusted.
        negative_control: whether no attack cried wolf on a release of other real people.
        similarity: metrics that never decide.
        alone: name of an attack that looks at the release alone → what it saw.
        split: how members were told from controls: `RANDOM`, or other words.
        seed: of everything drawn here.
        n_member: members.
        n_control: controls that were attacked.
        n_reference: subjects set apart as reference.
    """

    records: tuple[Record, ...]
    chosen: Record | None
    disclosure: Mapping[str, int | float | bool | None]
    blind: Estimate | None
    positive_control: Mapping[float, float]
    negative_control: bool
    similarity: Similarity
    alone: Mapping[str, Any]
    split: str
    seed: int
    n_member: int
    n_control: int
    n_reference: int

    @property
    def blind_baseline(self) -> bool:
        """Whether the blind baseline told nothing apart; false where it could not be run."""
        return self.blind is not None and self.blind.low <= 0.5

    @property
    def controls(self) -> dict[str, bool]:
        """What a policy may ask of the controls, by name."""
        return {
            "random_split": self.split == RANDOM,
            "blind_baseline": self.blind_baseline,
            "negative_control": self.negative_control,
            "positive_control": self.positive_control.get(SHARES[-1], 0.0) >= POWER,
            "positive_control_1_percent": self.positive_control.get(SHARES[0], 0.0) >= POWER,
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON object; rates are words, as JSON has no other keys."""
        document: dict[str, Any] = plain(self)
        return document


def examine(
    released: Frames,
    members: Frames,
    controls: Frames,
    *,
    reference: Frames | None = None,
    attributes: Attributes = _NOTHING,
    disclosure: Disclosure | None = None,
    loss: Loss | None = None,
    other_losses: Sequence[Loss] = (),
    split: str,
    seed: int,
    progress: Progress = lambda share, what: None,
) -> Suite:
    """Attack a release with everything.

    Args:
        released: the release.
        members: pictures of the subjects that were trained on.
        controls: pictures of subjects that were not.
        reference: pictures of further real people, neither members nor controls, of the same kind; without any, a third
            of the controls, drawn by keyed hash, is set apart.
        attributes: subject → attribute → word, for all four.
        disclosure: the disclosure attack with its threshold; by default that of the house at the share of members here.
        loss: of the generator under its weights, for the attacks that hold them; without it they are not run.
        other_losses: of models that trained on neither members nor controls, the public prior first.
        split: `RANDOM` where members were drawn by lot before training, else how they were.
        seed: of everything drawn here.
        progress: told the share done and what comes next.

    Raises:
        ValueError: a subject is on two sides, or a side has too few.
    """
    _disjoint(
        members=members.subjects, controls=controls.subjects, reference=() if reference is None else reference.subjects
    )
    progress(0.0, "looking for members in the release")
    share = len(members.subjects) / max(1, len(members.subjects) + len(controls.subjects))
    rule = disclosure or Disclosure(inclusion=min(max(share, 0.01), 0.99))
    counts = rule.count(released, members, controls, random=SecureRandom(), formal=False, public_subjects=0)
    progress(0.2, "embedding pictures")
    rest = controls
    if reference is None:
        reference, rest = _set_apart(controls, seed)
    return attacked(
        *(Gallery.of(frames, attributes=attributes) for frames in (released, members, rest, reference)),
        copies=Gallery.of(_copies(concatenate([members, rest]))),
        disclosure=rule.judge([counts]),
        loss=loss,
        other_losses=other_losses,
        split=split,
        seed=seed,
        progress=lambda done, what: progress(0.3 + 0.7 * done, what),
    )


def attacked(
    released: Gallery,
    members: Gallery,
    controls: Gallery,
    reference: Gallery,
    *,
    copies: Gallery,
    disclosure: Mapping[str, int | float | bool | None],
    loss: Loss | None = None,
    other_losses: Sequence[Loss] = (),
    split: str,
    seed: int,
    progress: Progress = lambda share, what: None,
) -> Suite:
    """Attack features; `examine` calls this with pictures embedded.

    Args:
        released: the release.
        members: members.
        controls: controls.
        reference: other real people.
        copies: one picture of every member and then of every control: what a leak would look like.
        disclosure: what the disclosure attack found, which needs pictures.
        loss: as in `examine`, and the losses of other models likewise.
        other_losses: see there.
        split: as in `examine`.
        seed: of everything drawn here.
        progress: as in `examine`.
    """
    for name, gallery in (("released", released), ("reference", reference)):
        if len(gallery) < 2:
            raise ValueError(f"{name} has {len(gallery)} pictures, at least 2 are needed")
    run = AttackRun(released, members, controls, reference, copies, seed)
    progress(0.0, "guessing without the release")
    blind = None
    if min(len(members.subjects), len(controls.subjects)) >= FOLDS:
        blind = blind_auc(members, controls, seed=seed)
    progress(0.1, "membership attacks")
    records, chosen = run.membership()
    progress(0.3, "planting copies")
    powers, family = run.positive(lambda done, what: progress(0.3 + 0.5 * done, what))
    progress(0.8, "attacking other people's pictures")
    negative = run.negative()
    records = [
        replace(r, positive_control=powers.get(r.name, {}), negative_control=negative.get(r.name)) for r in records
    ]
    if loss is not None:
        records += run.model(loss, other_losses)
    progress(0.9, "guessing attributes and links")
    records += run.risks()
    heard = blind is not None and blind.low <= 0.5
    tested = [r for r in records if r.p_value is not None]
    adjusted = dict(zip((r.name for r in tested), holm([r.p_value or 0.0 for r in tested]), strict=True))
    return Suite(
        records=tuple(replace(r, blind_baseline=heard, p_adjusted=adjusted.get(r.name)) for r in records),
        chosen=chosen,
        disclosure=disclosure,
        blind=blind,
        positive_control=family,
        negative_control=bool(negative) and min(negative.values()) >= NEGATIVE_SIGNIFICANCE / len(negative),
        similarity=similarity(released, members, controls, rng=run.rng("similarity")),
        alone={name: of_kind("alone")[name]().look(released, rng=run.rng(name)) for name in of_kind("alone")},
        split=split,
        seed=seed,
        n_member=len(members.subjects),
        n_control=len(controls.subjects),
        n_reference=len(reference.subjects),
    )


def _set_apart(controls: Frames, seed: int) -> tuple[Frames, Frames]:
    apart = [s for s in controls.subjects if lot(s, seed, "reference") < 1 / 3]
    rest = [s for s in controls.subjects if lot(s, seed, "reference") >= 1 / 3]
    return controls.select(apart), controls.select(rest)


def _copies(people: Frames) -> Frames:
    """Return one picture of each subject, altered as a generator that repeats itself would."""
    rows, pixels = [], []
    for at, subject in enumerate(people.subjects):
        own = np.flatnonzero(people.subject == at)
        if not len(own):
            raise ValueError(f"subject {at} of {len(people.subjects)} has no picture")
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(subject.encode()).digest()))
        rows.append(int(rng.choice(own)))
        pixels.append(altered_copy(people.pixels[rows[-1]], level=COPY_LEVEL, rng=rng))
    chosen = replace(
        people, **{name: getattr(people, name)[rows] for name in ("masks", "view", "phase", "lvef_percent")}
    )
    return replace(chosen, pixels=np.stack(pixels), subject=np.arange(len(rows)))


def _disjoint(**sides: Sequence[str]) -> None:
    names = list(sides)
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            if both := set(sides[first]) & set(sides[second]):
                raise ValueError(f"{len(both)} subjects are both {first} and {second}")


def plain(value: Any) -> Any:
    """Return records as JSON knows them: dataclasses and mappings as objects, rates as words where they are keys."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {f"{key:g}" if isinstance(key, float) else str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value
