"""The pictures of a folder beside what an attacker or an auditor needs to know of them: whose, where, and what is said.

Several frames stand for a clip, so that a copy which begins at another moment of the beat is met, too. An album holds
the hospital's own words and never leaves the machine: what may leave is made of `frames` alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cohorts.deidentify import Pseudonyms
from cohorts.frames import VIEWS, Frames, moments, still
from cohorts.study import Origin, SubjectKey

EF_CLASSES = ((40.0, "reduced"), (50.0, "mildly reduced"), (101.0, "preserved"))  # below, in percent
WORDS = ("sex", "age_band", "diagnosis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Album:
    """The pictures of one folder.

    Attributes:
        frames: the pictures, at a common size.
        files: of each picture the file it comes from, in the hospital's words.
        names: of each subject the hospital's own identifier.
        attributes: subject → attribute (sex, age_band, ef_class, diagnosis) → word, as far as known.
        views: names of the views that occur; unknown ones are left out.
        clips: files that were read.
        people: whether the folder says who is who, or every file was taken for somebody else.
    """

    frames: Frames
    files: tuple[str, ...]
    names: Mapping[SubjectKey, str]
    attributes: Mapping[SubjectKey, Mapping[str, str]]
    views: tuple[str, ...]
    clips: int
    people: bool


def album(
    config: Any,
    *,
    pseudonyms: Pseudonyms,
    size: int,
    frames: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Album:
    """Read every clip of a folder once.

    Args:
        config: its reader.
        pseudonyms: name subjects in `frames`.
        size: side of every picture.
        frames: of a clip, spread evenly, beside end diastole and end systole where those are known.
        progress: told the number of files done, and of all.

    Raises:
        UnreadableStudy: the first thing that is wrong with the folder; nothing is skipped in silence.
    """
    index = config.index()
    cohort = index.cohort(
        pseudonyms=pseudonyms,
        origin=Origin(config.origin),
        same_subject=config.same_subject,
        subjects_file=config.subjects_file,
        site=config.site,
    )
    same = {raw: min(group) for group in config.same_subject for raw in group}
    place = {subject: at for at, subject in enumerate(cohort.subjects)}
    rows, files, names, views = [], [], dict[SubjectKey, str](), set[str]()
    attributes: dict[SubjectKey, dict[str, str]] = {}
    for done, source in enumerate(index.sources):
        person = same.get(source.subject, source.subject)
        subject = pseudonyms.subject(person)
        if subject not in place:
            continue  # of another site of the partition
        names[subject] = person
        attributes.setdefault(subject, {}).update(_attributes(source.labels))
        clip = source.load()
        views |= {clip.view.value} if clip.view else set()
        view = VIEWS.index(clip.view) if clip.view in VIEWS else -1
        lvef = float(source.labels.get("lvef_percent", np.nan))
        for phase, at in moments(clip, frames, always=len(clip.pixels) > 2):
            rows.append((*still(clip, at, size), view, phase, lvef, place[subject]))
            files.append(source.where)
        progress(done + 1, len(index.sources))
    pixels, masks, view_of, phase_of, lvef_of, owner = zip(*rows, strict=True)
    return Album(
        frames=Frames(
            pixels=np.stack(pixels),
            masks=np.stack(masks),
            view=np.array(view_of, np.int64),
            phase=np.array(phase_of, np.int64),
            lvef_percent=np.array(lvef_of, np.float32),
            subject=np.array(owner, np.int64),
            subjects=cohort.subjects,
        ),
        files=tuple(files),
        names=names,
        attributes=attributes,
        views=tuple(sorted(views)),
        clips=len(index.sources),
        people=getattr(config, "person", "") != "file",
    )


def _attributes(labels: Mapping[str, float | str]) -> dict[str, str]:
    """Return what labels say of a person, in words that several people share."""
    found = {name: str(labels[name]) for name in WORDS if labels.get(name)}
    if "age_years" in labels:
        low = int(float(labels["age_years"])) // 10 * 10
        found.setdefault("age_band", f"{low}-{low + 9}")
    if "lvef_percent" in labels:
        ef = float(labels["lvef_percent"])
        found["ef_class"] = next(word for below, word in EF_CLASSES if ef < below)
    return found
