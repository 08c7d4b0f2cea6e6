"""What a table says of one file of grey values, before the file is opened; records become clips.

Records are checked together: what one row cannot show, such as two ejection fractions for one study or one image under
two people, a cohort can.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cohorts.decode import read_masks, read_pixels, size_of
from cohorts.index import Source
from cohorts.study import UNLABELLED, Clip, UnreadableStudy, View

PHASES = ("ED", "ES")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One checked row. Identifiers are the hospital's own: a record never leaves a reader.

    Attributes:
        where: table and line, for errors.
        person: the identifier that stands for everyone whom the reader knows to be the same person.
        subject: the identifier in this row.
        study: the identifier of the examination, unique among all subjects.
        phase: ED or ES where the file holds that one frame, else "".
    """

    where: str
    person: str
    subject: str
    study: str
    view: View | None
    phase: str
    image: Path
    mask: Path | None
    lvef_percent: float | None
    ed_frame: int | None
    es_frame: int | None
    frame_seconds: float | None
    pixel_mm: float | None
    words: Mapping[str, str]
    kept: Mapping[str, str]


def contradictions(records: Sequence[Record]) -> Iterator[UnreadableStudy]:
    """Yield what no two records may say, without opening a file."""
    first_of: dict[tuple[str, object], Record] = {}
    for record in records:
        one = first_of.setdefault(("subject", record.subject), record)
        for column, word in record.kept.items():
            if word != one.kept[column]:
                yield _against(record, one, f"{column}={word!r}", repr(one.kept[column]))
        if record.lvef_percent is not None:
            one = first_of.setdefault(("study", record.study), record)
            if record.lvef_percent != one.lvef_percent:
                yield _against(record, one, f"ejection fraction {record.lvef_percent}", str(one.lvef_percent))
        one = first_of.setdefault(("image", record.image), record)
        if record.person != one.person:
            yield _against(record, one, f"{record.image.name} of subject {record.subject!r}", repr(one.subject))
        one = first_of.setdefault(("frame", (record.study, record.view, record.phase)), record)
        if record.phase and record is not one:
            yield _against(record, one, f"a second {record.phase} frame of view {record.view}", "the first")
    fractions = [record for record in records if record.lvef_percent is not None]
    if fractions and all(0 <= (record.lvef_percent or 0) <= 1 for record in fractions):
        yield UnreadableStudy(
            fractions[0].where, "no ejection fraction of the table exceeds 1; they must be in percent"
        )


def file_problems(records: Iterable[Record]) -> Iterator[UnreadableStudy]:
    """Yield what the headers of the files say against the records; no pixel is decoded."""
    shapes: dict[tuple[str, View | None], tuple[int, int, int]] = {}
    for record in records:
        try:
            _check_headers(record, shapes)
        except UnreadableStudy as problem:
            yield problem


def sources_of(records: Iterable[Record]) -> Iterator[Source]:
    """Yield a source for every clip.

    Records of one study and view with a phase become one clip of those frames, ED first; any other record is a clip of
    its own. The two frames of such a pair do not follow each other, so they have no frame time.
    """
    clips: dict[tuple[str, View | None, str], list[Record]] = {}
    for record in records:
        clips.setdefault((record.study, record.view, "" if record.phase else record.where), []).append(record)
    for rows in clips.values():
        lvef = next((row.lvef_percent for row in rows if row.lvef_percent is not None), None)
        yield Source(
            where=str(rows[0].image),
            subject=rows[0].subject,
            study=rows[0].study,
            load=partial(_clip, rows),
            labels={**rows[0].words, **({} if lvef is None else {"lvef_percent": lvef})},
            columns=rows[0].kept,
        )


def _clip(records: list[Record]) -> Clip:
    records = sorted(records, key=lambda record: record.phase)
    first, phases = records[0], [record.phase for record in records]
    shots = [read_pixels(record.image) for record in records]
    try:
        pixels = np.concatenate([shot.pixels for shot in shots])
        masks = None
        if any(record.mask for record in records):
            masks = np.concatenate(
                [
                    read_masks(record.mask) if record.mask else np.full_like(shot.pixels, UNLABELLED)
                    for record, shot in zip(records, shots, strict=True)
                ]
            )
        return Clip(
            pixels=pixels,
            view=first.view,
            masks=masks,
            ed_frame=phases.index("ED") if "ED" in phases else first.ed_frame,
            es_frame=phases.index("ES") if "ES" in phases else first.es_frame,
            frame_seconds=None if first.phase else first.frame_seconds or shots[0].frame_seconds,
            pixel_mm=(first.pixel_mm, first.pixel_mm) if first.pixel_mm else None,
        )
    except UnreadableStudy:
        raise
    except ValueError as error:
        raise UnreadableStudy(str(first.image), str(error)) from error


def _check_headers(record: Record, shapes: dict[tuple[str, View | None], tuple[int, int, int]]) -> None:
    image = size_of(record.image)
    mask = size_of(record.mask) if record.mask else None
    if image and mask and image != mask:
        raise UnreadableStudy(str(record.mask), f"mask of {_size(mask)} for an image of {_size(image)}")
    if record.phase and (image is None or image[0] != 1):
        held = f"{image[0]} frames" if image else "a video"
        raise UnreadableStudy(record.where, f"phase {record.phase} names one frame, but {record.image.name} is {held}")
    if record.phase and image:
        other = shapes.setdefault((record.study, record.view), image)
        if other != image:
            raise UnreadableStudy(str(record.image), f"is {_size(image)}, the other phase of its view {_size(other)}")


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[2]}x{shape[1]}" + (f"x{shape[0]} frames" if shape[0] != 1 else "")


def _against(record: Record, first: Record, value: str, earlier: str) -> UnreadableStudy:
    return UnreadableStudy(record.where, f"{value} contradicts {earlier} in {first.where}")
