"""What every reader finds before it opens a pixel: sources, what forbids to read them, what is left out and why.

A source is one clip in the hospital's own words. Sources become studies of pseudonymous subjects here, in one place,
whatever the format: a reader only has to find them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cohorts import partition
from cohorts.deidentify import Pseudonyms
from cohorts.study import Clip, Cohort, Origin, Study, SubjectKey, UnreadableStudy


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One clip that nobody has read yet. Identifiers are the hospital's own: a source never leaves its site.

    Attributes:
        where: the file, and the line of its table if it has one, for errors.
        subject: identifier of the person.
        study: identifier of the examination, unique among all subjects.
        load: decodes the clip, each time anew; raises `UnreadableStudy`.
        labels: what is known of the study, under the names of `Study.labels`; quantities end in their unit.
        columns: what is known of the person without opening a pixel; partitions are made of it.
    """

    where: str
    subject: str
    study: str
    load: Callable[[], Clip]
    labels: Mapping[str, float | str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Everything that a folder holds, as far as names, tables and headers tell.

    Attributes:
        sources: every clip that can be used.
        problems: what is wrong with the folder; with any of these `cohort` refuses.
        left_out: what is not used, each with its reason; the rest can be used without it.
    """

    sources: tuple[Source, ...]
    problems: tuple[UnreadableStudy, ...] = ()
    left_out: tuple[UnreadableStudy, ...] = ()

    def all_problems(self) -> tuple[UnreadableStudy, ...]:
        """Return everything for which `cohort` would refuse: of single files, and of what two of them say."""
        return (*self.problems, *_contradictions(self.sources))

    def raw_columns(self) -> Mapping[str, Mapping[str, str]]:
        """Return the columns by the hospital's subject identifier: what partitions are made of.

        Raises:
            UnreadableStudy: the first problem, where nothing at all was found.
        """
        if not self.sources:
            _refuse(self.problems)
        return {source.subject: source.columns for source in reversed(self.sources)}

    def cohort(
        self,
        *,
        pseudonyms: Pseudonyms,
        origin: Origin = Origin.REAL,
        same_subject: Sequence[Sequence[str]] = (),
        subjects_file: str = "",
        site: str = "",
    ) -> Cohort:
        """Make the cohort of these sources.

        Args:
            pseudonyms: replaces the identifiers of subjects and studies.
            origin: what the studies are.
            same_subject: groups of subject identifiers that are one person.
            subjects_file: a partition; only the subjects of `site` in it are kept.
            site: needs `subjects_file`.

        Raises:
            UnreadableStudy: the first problem and how many others there are, or no usable clip at all.
        """
        problems, sources = self.problems or tuple(_contradictions(self.sources)), self.sources
        if site:
            here = set(partition.read(Path(subjects_file)).subjects(site))
            absent = sorted(here - {source.subject for source in sources})
            if absent:
                problems += (UnreadableStudy(subjects_file, f"names {absent[0]!r}, whom nothing here belongs to"),)
            sources = tuple(source for source in sources if source.subject in here)
        _refuse(problems)
        if not sources:
            why = f"; left out: {self.left_out[0]}" if self.left_out else ""
            raise UnreadableStudy("cohort", f"holds no usable clip{why}")
        same = {raw: min(group) for group in same_subject for raw in group}
        people: dict[SubjectKey, dict[str, list[Source]]] = {}
        columns: dict[SubjectKey, Mapping[str, str]] = {}
        for source in sources:
            subject = pseudonyms.subject(same.get(source.subject, source.subject))
            people.setdefault(subject, {}).setdefault(source.study, []).append(source)
            columns.setdefault(subject, source.columns)

        def load(subject: SubjectKey) -> tuple[Study, ...]:
            return tuple(
                Study(
                    key=pseudonyms.study(raw),
                    subject=subject,
                    clips=tuple(source.load() for source in clips),
                    origin=origin,
                    labels={name: value for source in clips for name, value in source.labels.items()},
                )
                for raw, clips in people[subject].items()
            )

        return Cohort(subjects=tuple(sorted(people)), load=load, origin=origin, columns=columns, left_out=self.left_out)


def settle(reader: Any) -> None:
    """Check the fields that every layout has, and make lists of a YAML file tuples; for `__post_init__`.

    Raises:
        ValueError: an unknown origin, one person in two groups, or half a partition.
    """
    groups = tuple(list(group) for group in reader.same_subject)
    object.__setattr__(reader, "same_subject", groups)
    if reader.origin not in set(Origin):
        raise ValueError(f"origin={reader.origin!r} is unknown; known: {', '.join(Origin)}")
    if bool(reader.subjects_file) != bool(reader.site):
        raise ValueError(f"subjects_file={reader.subjects_file!r} and site={reader.site!r} need each other")
    grouped = [raw for group in groups for raw in set(group)]
    twice = sorted({raw for raw in grouped if grouped.count(raw) > 1})
    if twice:
        raise ValueError(f"same_subject has {twice[0]!r} in two groups; join them")


def folder_of(root: str) -> Path:
    """Return the resolved folder `root`; raises `UnreadableStudy` where there is none."""
    if not root or not Path(root).is_dir():
        raise UnreadableStudy(f"root={root!r}", "is not a folder; set it to where the studies are")
    return Path(root).resolve()


def _contradictions(sources: Sequence[Source]) -> Iterator[UnreadableStudy]:
    """Yield what no two sources may say of one study or one person."""
    owner: dict[str, Source] = {}
    labels: dict[tuple[str, str], Source] = {}
    columns: dict[str, Source] = {}
    for source in sources:
        first = owner.setdefault(source.study, source)
        if first.subject != source.subject:
            yield UnreadableStudy(source.where, f"the study of {first.where} belongs to another subject")
        for name, value in source.labels.items():
            earlier = labels.setdefault((source.study, name), source)
            if earlier.labels[name] != value:
                yield UnreadableStudy(
                    source.where, f"{name}={value} contradicts {earlier.labels[name]} in {earlier.where}"
                )
        earlier = columns.setdefault(source.subject, source)
        for name in sorted(source.columns.keys() & earlier.columns.keys()):
            if source.columns[name] != earlier.columns[name]:
                yield UnreadableStudy(
                    source.where,
                    f"{name}={source.columns[name]!r} contradicts {earlier.columns[name]!r} in {earlier.where}",
                )


def _refuse(problems: Sequence[UnreadableStudy]) -> None:
    if problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UnreadableStudy(problems[0].key, problems[0].reason + others)
