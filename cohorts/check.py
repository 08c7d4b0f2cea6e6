"""Everything that is wrong with a folder of studies, at once and worst first, before anything runs.

Harm comes first: what would make a patient's ε a lie stands above what would stop a run, and that above what would
spoil a result. A reader says what it cannot read; what only shows between people, the same heart under two identifiers
or one person's outlines on another, is found here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from cohorts.index import Index
from cohorts.likeness import ALIKE, alike
from cohorts.study import UnreadableStudy
from cohorts.survey import Seen

MM = (0.02, 5.0)  # side of a pixel that hearts are filmed with
SECONDS = (1e-3, 1.0)  # from one frame to the next
POWER = {"A2C": 1.5, "A4C": 1.5, "SAX": 1.0}  # of an area that makes a volume: all axes shrink alike, or slices add up
LVEF_APART = 35.0  # percentage points between the fraction reported and that of the outlined areas
FEW_SUBJECTS = 40  # a quarter of them judges; fewer than ten judges decide nothing
RARE = 0.1  # of the most frequent class


class Harm(IntEnum):
    """What a fault would do, worst first."""

    IDENTITY = 1
    STOPS = 2
    LABEL = 3
    LOOK = 4
    LEFT_OUT = 5
    BALANCE = 6


WORDS = {
    Harm.IDENTITY: "privacy: a patient would count as two, or be recognised",
    Harm.STOPS: "stops a run",
    Harm.LABEL: "a label or a picture cannot be right",
    Harm.LOOK: "somebody should look",
    Harm.LEFT_OUT: "is not used",
    Harm.BALANCE: "too few, or lopsided",
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One thing that is wrong: how much harm it does, what kind it is, where, why, and what to do about it."""

    harm: Harm
    kind: str
    where: str
    reason: str
    remedy: str


def faults(
    index: Index,
    seen: Sequence[Seen],
    unreadable: Iterable[UnreadableStudy],
    *,
    same_subject: Sequence[Sequence[str]] = (),
) -> tuple[Fault, ...]:
    """Return every fault of a cohort, worst first.

    Args:
        index: what the reader found.
        seen: what `survey` saw of every clip that could be read.
        unreadable: what could not be read.
        same_subject: groups of identifiers that are known to be one person.
    """
    found = [
        *_fault_of(Harm.STOPS, "refused", index.all_problems(), "mend the file or the table, or take the row out"),
        *_fault_of(Harm.STOPS, "unreadable", unreadable, "export the study again, or take it out of the table"),
        *_fault_of(Harm.LEFT_OUT, "left out", index.left_out, "nothing, if that is meant; else mend what is named"),
        *_nothing(index),
        *_twins(seen, {raw: min(group) for group in same_subject for raw in group}),
        *_borrowed_outlines(seen),
        *(fault for clip in seen for fault in _impossible(clip)),
        *_phases(seen),
        *_balance(index, seen),
    ]
    return tuple(sorted(found))


def _fault_of(harm: Harm, kind: str, problems: Iterable[UnreadableStudy], remedy: str) -> Iterator[Fault]:
    for problem in problems:
        yield Fault(harm=harm, kind=kind, where=problem.key, reason=problem.reason, remedy=remedy)


def _nothing(index: Index) -> Iterator[Fault]:
    if not index.sources and not index.problems:
        yield Fault(
            harm=Harm.STOPS,
            kind="nothing to use",
            where="the cohort",
            reason=f"holds no usable clip; {len(index.left_out)} files are left out, each for its reason",
            remedy="mend what is named, or name another reader",
        )


def _twins(seen: Sequence[Seen], known: Mapping[str, str]) -> Iterator[Fault]:
    """Yield pairs of subjects who share a picture and are not `known` to be one person."""
    names = [known.get(clip.source.subject, clip.source.subject) for clip in seen]
    subjects = {name: i for i, name in enumerate(dict.fromkeys(names))}
    rows = [
        (picture, clip, subjects[name]) for clip, name in zip(seen, names, strict=True) for picture in clip.pictures
    ]
    if not rows:
        return
    owners = np.array([owner for *_, owner in rows], np.int64)
    for pair in alike(np.stack([picture for picture, *_ in rows]), owners):
        one, other = rows[pair.first][1].source, rows[pair.second][1].source
        yield Fault(
            harm=Harm.IDENTITY,
            kind="same picture",
            where=one.where,
            reason=f"subject {one.subject!r} is alike subject {other.subject!r} in {other.where}: "
            f"correlation {pair.correlation:.3f}, at most {ALIKE} is left to two people",
            remedy=f"look at both; if they are one person, add same_subject=[[{one.subject},{other.subject}]]",
        )


def _borrowed_outlines(seen: Sequence[Seen]) -> Iterator[Fault]:
    """Yield outlines that two subjects share to the pixel."""
    first: dict[str, Seen] = {}
    for clip in seen:
        if not clip.outline:
            continue
        earlier = first.setdefault(clip.outline, clip)
        if earlier.source.subject != clip.source.subject:
            yield Fault(
                harm=Harm.LABEL,
                kind="same outlines",
                where=clip.source.where,
                reason=f"its outlines are those of {earlier.source.where}, of another subject, pixel by pixel",
                remedy="find out whose they are; take the masks of the other out",
            )


def _impossible(clip: Seen) -> Iterator[Fault]:
    """Yield what cannot be true of one clip."""

    def fault(kind: str, reason: str, remedy: str) -> Fault:
        return Fault(harm=Harm.LABEL, kind=kind, where=clip.source.where, reason=reason, remedy=remedy)

    if clip.writing:
        yield Fault(
            harm=Harm.LOOK,
            kind="burned in",
            where=clip.source.where,
            reason=clip.writing.removesuffix(", and no region is known"),
            remedy="look at it; where it names anybody, take the study out",
        )
    if not clip.shows:
        yield fault("empty picture", "every pixel has the same grey value", "export the study again")
    if not clip.moves:
        yield fault("frozen clip", f"all {clip.shape[0]} frames are the same picture", "export the study again")
    for side in clip.pixel_mm or ():
        if not MM[0] <= side <= MM[1]:
            yield fault("spacing", f"a pixel of {side:g} mm lies outside {MM[0]:g}..{MM[1]:g} mm", "check its unit: mm")
            break
    if clip.frame_seconds is not None and not SECONDS[0] <= clip.frame_seconds <= SECONDS[1]:
        yield fault(
            "frame time",
            f"{clip.frame_seconds:g} s from frame to frame lies outside {SECONDS[0]:g}..{SECONDS[1]:g} s",
            "check its unit: frames per second, or seconds",
        )


def _phases(seen: Sequence[Seen]) -> Iterator[Fault]:
    """Yield studies whose outlines say otherwise than their phases or their ejection fraction; slices are added up."""
    views: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for clip in seen:
        if clip.view is not None and clip.ed_area is not None and clip.es_area is not None:
            views[clip.source.study, clip.view.value].append(clip)
    for (_, view), clips in views.items():
        diastole, systole = (sum(getattr(clip, name) for clip in clips) for name in ("ed_area", "es_area"))
        where, lvef = clips[0].source.where, clips[0].source.labels.get("lvef_percent")
        if diastole < systole:
            yield Fault(
                harm=Harm.LABEL,
                kind="phases",
                where=where,
                reason=f"the cavity is larger at end systole ({systole} pixels) than at end diastole ({diastole})",
                remedy="check whether ED and ES are exchanged",
            )
        if view not in POWER or lvef is None or not diastole:
            continue
        drawn = 100 * (1 - (systole / diastole) ** POWER[view])
        if abs(drawn - float(lvef)) > LVEF_APART:
            yield Fault(
                harm=Harm.LABEL,
                kind="ejection fraction",
                where=where,
                reason=f"{float(lvef):g} % is reported, the outlines say about {drawn:.0f} %; "
                f"at most {LVEF_APART:g} points may lie between",
                remedy="check the report, the outlines and the two frames",
            )


def _balance(index: Index, seen: Sequence[Seen]) -> Iterator[Fault]:
    """Yield where too few subjects are to judge by, in all or of one class."""
    people = {source.subject for source in index.sources}
    if people and len(people) < FEW_SUBJECTS:
        yield Fault(
            harm=Harm.BALANCE,
            kind="few subjects",
            where="the cohort",
            reason=f"{len(people)} subjects, at least {FEW_SUBJECTS} leave ten to judge by",
            remedy="expect INCONCLUSIVE; add studies, or join with others",
        )
    classes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for source in index.sources:
        words = {name: str(value) for name, value in source.labels.items() if isinstance(value, str)}
        for name, word in {**source.columns, **words}.items():
            if name == "split":
                continue  # somebody's choice, not what patients are
            classes[name][word].add(source.subject)
    for clip in seen:
        if clip.view is not None:
            classes["view"][clip.view.value].add(clip.source.subject)
    for name, members in sorted(classes.items()):
        counts = Counter({word: len(who) for word, who in members.items()})
        most, many = counts.most_common(1)[0]
        if len(counts) > len(people) / 2:
            continue  # a number in words, not a class
        for word, n in sorted(counts.items()):
            if n < RARE * many:
                yield Fault(
                    harm=Harm.BALANCE,
                    kind="rare class",
                    where=name,
                    reason=f"{word or 'blank'!r}: {n} subjects, {most!r}: {many}",
                    remedy="no result on it can be trusted; report it apart",
                )
