"""M&Ms and M&Ms-2: cine magnetic resonance of several vendors and centres, as NIfTI beside a table.

Campello et al. 2021, doi:10.1109/TMI.2021.3090082; Martín-Isla et al. 2023, doi:10.1109/JBHI.2023.3267857. Of M&Ms the
table has the columns External code, Vendor, Centre, ED, ES (frames, from 0) and Pathology, and a subject's folder
`CODE_sa.nii.gz` and `CODE_sa_gt.nii.gz`, labels at ED and ES. Of M&Ms-2 it has SUBJECT_CODE, DISEASE, VENDOR, SCANNER
and FIELD, and a folder `NNN_SA_{ED,ES}[_gt].nii.gz`; its long axis is not read. Labels are 1 left ventricular cavity,
2 myocardium, 3 right ventricle; volumes without any label are the unlabelled part. A slice becomes a clip.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cohorts.decode import reasons
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, Source, folder_of, settle
from cohorts.readers import READERS
from cohorts.short_axis import Examination, Outline
from cohorts.study import CAVITY, MYOCARDIUM, RIGHT_VENTRICLE, Cohort, Origin, UnreadableStudy
from cohorts.table import Row, header_of, read_table

FIRST = ("External code", "Vendor", "Centre", "ED", "ES")
SECOND = ("SUBJECT_CODE", "VENDOR")
COLUMNS = {  # theirs, of either challenge: ours
    "Vendor": "vendor",
    "VENDOR": "vendor",
    "Centre": "centre",
    "Pathology": "pathology",
    "DISEASE": "pathology",
    "SCANNER": "scanner",
    "FIELD": "field",
}
SEXES = {"F": "female", "M": "male"}
OURS = (0, CAVITY, MYOCARDIUM, RIGHT_VENTRICLE)  # by their label
DEPTH = 3  # folders beneath root in which a subject's folder is looked for


@READERS("mnms")
@dataclass(frozen=True, slots=True, kw_only=True)
class Mnms:
    """Where the table and the subjects are.

    Attributes:
        root: the folder of the table; the subjects' folders lie up to three levels beneath.
        table: the name of the table; "" for the only CSV of this kind in `root`.
        same_subject: groups of subjects that are one person.
        subjects_file, site: a partition, and whose part of it is read.
        origin: what the studies are: real, phantom or synthetic.
    """

    root: str = ""
    table: str = ""
    same_subject: tuple[list[str], ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.REAL.value

    def __post_init__(self) -> None:
        settle(self)

    def index(self) -> Index:
        """Check the table and the headers of all volumes."""
        sources: dict[str, list[Source]] = {}
        problems: list[UnreadableStudy] = []
        try:
            root = folder_of(self.root)
            table = root / self.table if self.table else _only_table(root)
            first = set(FIRST) <= set(header_of(table))
            rows = read_table(table, columns=FIRST if first else SECOND, separator=",")
            folders = _folders(root)
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        for row in rows:
            code = row.text("External code") if first else row.text("SUBJECT_CODE").zfill(3)
            try:
                if code in sources:
                    row.refuse(f"subject {code!r} stands twice")
                if code not in folders:
                    row.refuse(f"subject {code!r} has no folder in {root}")
                folder, *others = folders[code]
                if others:
                    row.refuse(f"subject {code!r} has {1 + len(others)} folders, {folder} and {others[0]}")
                exam = _first(row, folder) if first else _second(folder)
                sources[code] = list(exam.sources(code, labels=_labels(row), columns=_columns(row)))
            except UnreadableStudy as problem:
                problems.append(problem)
        return Index(sources=tuple(s for found in sources.values() for s in found), problems=tuple(problems))

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """Index the subjects; raises `UnreadableStudy` for the first problem, with the number of others."""
        return self.index().cohort(
            pseudonyms=pseudonyms,
            origin=Origin(self.origin),
            same_subject=self.same_subject,
            subjects_file=self.subjects_file,
            site=self.site,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether `root` has one table of either challenge."""
        try:
            return _only_table(root).is_file()
        except UnreadableStudy:
            return False


def _only_table(root: Path) -> Path:
    with reasons(root):
        tables = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv")
    found = [t for t in tables if set(FIRST) <= (names := set(header_of(t))) or set(SECOND) <= names]
    if len(found) != 1:
        raise UnreadableStudy(str(root), f"has {len(found)} tables of M&Ms; set table to the name of the right one")
    return found[0]


def _folders(root: Path) -> Mapping[str, list[Path]]:
    """Return the folders beneath `root` by name, those of subjects among them."""
    found: dict[str, list[Path]] = {}

    def beneath(folder: Path, depth: int) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield path
                if depth > 1:
                    yield from beneath(path, depth - 1)

    with reasons(root):
        for path in beneath(root, DEPTH):
            found.setdefault(path.name, []).append(path)
    return found


def _first(row: Row, folder: Path) -> Examination:
    """Return an examination of M&Ms: a cine, and a file of labels that are empty but at ED and ES."""
    image, drawn = (folder / f"{folder.name}_sa{end}.nii.gz" for end in ("", "_gt"))
    if not image.is_file():
        raise UnreadableStudy(str(image), "no such file")
    at = {phase: row.index(phase) for phase in ("ED", "ES")}
    frames = [frame for frame in at.values() if frame is not None] if drawn.is_file() else []
    outlines = tuple(Outline(path=drawn, frame=frame, volume=frame) for frame in frames)
    return Examination(images=(image,), outlines=outlines, ours=OURS, ed=at["ED"], es=at["ES"])


def _second(folder: Path) -> Examination:
    """Return an examination of M&Ms-2: two volumes, ED and ES; its table does not say where they are in the cine."""
    images = {phase: folder / f"{folder.name}_SA_{phase}.nii.gz" for phase in ("ED", "ES")}
    for image in images.values():
        if not image.is_file():
            raise UnreadableStudy(str(image), "no such file")
    drawn = [folder / f"{folder.name}_SA_{phase}_gt.nii.gz" for phase in images]
    outlines = tuple(Outline(path=path, frame=frame) for frame, path in enumerate(drawn) if path.is_file())
    return Examination(images=tuple(images.values()), outlines=outlines, ours=OURS, ed=0, es=1)


def _labels(row: Row) -> dict[str, float | str]:
    labels: dict[str, float | str] = {}
    diagnosis = row.cells.get("Pathology") or row.cells.get("DISEASE")
    if diagnosis:
        labels["diagnosis"] = diagnosis
    age = row.number("Age", 0, 130) if "Age" in row.cells else None
    if age is not None:
        labels["age_years"] = age
    if sex := SEXES.get(row.cells.get("Sex", "").upper()):
        labels["sex"] = sex
    return labels


def _columns(row: Row) -> dict[str, str]:
    return {ours: row.cells[theirs] for theirs, ours in COLUMNS.items() if theirs in row.cells}
