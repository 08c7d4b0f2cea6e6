"""TMED-2: stills of an examination for aortic stenosis, labelled by view and severity (Huang et al. 2022).

tmed.cs.tufts.edu; Proceedings of Machine Learning Research 182. A table has a row a picture: query_key, view_label,
diagnosis_label, and columns of splits. Pictures are PNG files named by query_key, `<patient>s<study>_<image>.png`, in
any folder beneath `root`. Views that the table itself leaves open (A4CorA2CorOther) are not known. Severity belongs to
the study. There are no outlines, and no still is known to be of a phase. Columns that differ between the pictures of
one person cannot partition people and are left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cohorts.decode import read_pixels, reasons, size_of
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, Source, folder_of, settle
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Origin, UnreadableStudy, View
from cohorts.table import Row, header_of, read_table

COLUMNS = ("query_key", "view_label", "diagnosis_label")
KEY = re.compile(r"(\d+)s(\d+)_\d+")
VIEWS = {"PLAX": View.PLAX, "PSAX": View.PSAX, "A2C": View.A2C, "A4C": View.A4C}
UNKNOWN = frozenset({"", "not_provided", "other"})


@READERS("tmed2")
@dataclass(frozen=True, slots=True, kw_only=True)
class Tmed2:
    """Where the table and the pictures are.

    Attributes:
        root: the folder of both; pictures may lie at any depth.
        table: the table within `root`; "" for the only one of this kind in it or in its folders.
        patient: column of the person; "" to take it out of query_key.
        study: column of the examination; "" to take it out of query_key.
        same_subject: groups of patients that are one person.
        subjects_file, site: a partition, and whose part of it is read.
        origin: what the studies are: real, phantom or synthetic.
    """

    root: str = ""
    table: str = ""
    patient: str = ""
    study: str = ""
    same_subject: tuple[list[str], ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.REAL.value

    def __post_init__(self) -> None:
        settle(self)

    def index(self) -> Index:
        """Check the table and the headers of all pictures."""
        try:
            root = folder_of(self.root)
            table = root / self.table if self.table else _only_table(root)
            rows = read_table(table, columns=(*COLUMNS, self.patient, self.study), separator=",")
            pictures = _pictures(root)
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        sources: dict[str, Source] = {}
        problems: list[UnreadableStudy] = []
        for row in rows:
            name = _bare(row.text("query_key"))
            try:
                if name in sources:
                    row.refuse(f"query_key={name!r} stands twice")
                found = pictures.get(name, [])
                if len(found) != 1:
                    row.refuse(f"query_key={name!r} has {len(found)} pictures in {root}, must have 1")
                sources[name] = self._source(row, found[0])
            except UnreadableStudy as problem:
                problems.append(problem)
        return Index(sources=tuple(_constant(tuple(sources.values()))), problems=tuple(problems))

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """Index the pictures; raises `UnreadableStudy` for the first problem, with the number of others."""
        return self.index().cohort(
            pseudonyms=pseudonyms,
            origin=Origin(self.origin),
            same_subject=self.same_subject,
            subjects_file=self.subjects_file,
            site=self.site,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether a table of this kind lies in `root` or in one of its folders."""
        try:
            return bool(_tables(root))
        except UnreadableStudy:
            return False

    def _source(self, row: Row, picture: Path) -> Source:
        key = KEY.fullmatch(_bare(row.text("query_key")))
        if key is None and not (self.patient and self.study):
            row.refuse(f"query_key={row.text('query_key')!r} is not <patient>s<study>_<image>; set patient and study")
        patient = row.required(self.patient) if self.patient or key is None else key[1]
        # Studies of the key are counted within the patient of the key, whoever the column says that is.
        study = f"{patient}s{row.required(self.study)}" if self.study or key is None else f"{key[1]}s{key[2]}"
        word = row.text("view_label")
        view = VIEWS.get(word)
        if view is None and word.lower() not in UNKNOWN and not word.endswith("Other"):
            row.refuse(f"view_label={word!r} is no view; known: {', '.join(VIEWS)}")
        diagnosis = row.text("diagnosis_label")
        if size_of(picture) is None:
            row.refuse(f"{picture.name} is a video, must be a still")
        return Source(
            where=str(picture),
            subject=patient,
            study=study,
            load=partial(_clip, picture, view),
            labels={} if diagnosis.lower() in UNKNOWN else {"diagnosis": diagnosis},
            columns={
                "diagnosis": diagnosis,
                **{name: cell for name, cell in row.cells.items() if name.lower().endswith("split")},
            },
        )


def _bare(key: str) -> str:
    return key.strip().removesuffix(".png")


def _tables(root: Path) -> list[Path]:
    with reasons(root):
        tables = [*sorted(root.glob("*.csv")), *sorted(root.glob("*/*.csv"))] if root.is_dir() else []
        return [table for table in tables if set(COLUMNS) <= set(header_of(table))]


def _only_table(root: Path) -> Path:
    found = _tables(root)
    if len(found) != 1:
        raise UnreadableStudy(str(root), f"has {len(found)} tables of TMED-2; set table to the name of the right one")
    return found[0]


def _pictures(root: Path) -> Mapping[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    with reasons(root):
        for path in sorted(root.rglob("*.png")):
            found.setdefault(_bare(path.name), []).append(path)
    return found


def _constant(sources: Sequence[Source]) -> Iterator[Source]:
    """Yield sources with those columns alone that are the same for all pictures of their person."""
    seen: dict[tuple[str, str], set[str]] = {}
    for source in sources:
        for name, cell in source.columns.items():
            seen.setdefault((source.subject, name), set()).add(cell)
    for source in sources:
        same = {name: cell for name, cell in source.columns.items() if len(seen[source.subject, name]) == 1}
        yield replace(source, columns=same)


def _clip(picture: Path, view: View | None) -> Clip:
    return Clip(pixels=read_pixels(picture).pixels, view=view)
