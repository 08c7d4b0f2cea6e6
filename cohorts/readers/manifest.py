"""Any folder with a CSV: columns are mapped by name, PNG, JPEG, NPY, AVI or MP4 files lie behind it.

Rows of one study and view with the phases ED and ES become one clip of two frames; a row without a phase is a clip of
its own, of as many frames as its file holds. `read` opens the table and the headers of the files it names; grey values
are decoded when a subject is asked for, each time anew. Nothing is skipped: one bad row refuses the cohort, with the
first problem and the number of others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cohorts import partition
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, folder_of, settle
from cohorts.readers import READERS
from cohorts.records import PHASES, Record, contradictions, file_problems, sources_of
from cohorts.study import Cohort, Origin, UnreadableStudy, View
from cohorts.table import Row, header_of, read_table

PEOPLE = ("patient", "subject")
OBVIOUS = {  # a setting, and the names of columns that can mean nothing else
    "subject": PEOPLE,
    "study": ("study",),
    "view": ("view",),
    "phase": ("phase",),
    "mask": ("mask",),
    "lvef": ("ef_reported", "lvef_percent"),
    "ed_frame": ("ed_frame",),
    "es_frame": ("es_frame",),
    "frame_rate_hz": ("frame_rate_hz",),
    "pixel_mm": ("pixel_mm",),
}
WORDS = ("sex", "age_band", "diagnosis")  # of a person or a study, kept as labels under their own names


@READERS("manifest")
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Where the table is, which column says what, and which records are one person.

    Attributes:
        root: the folder; no file outside it is opened.
        table: the CSV in it, UTF-8, with a header.
        separator: what stands between two cells.
        subject: column of the person's identifier; it becomes a keyed pseudonym.
        study: column that tells the examinations of one subject apart; "" where there is one each.
        view: column of the view; "" where the table has none.
        phase: column of ED or ES; "" where the table has none.
        image: column of the file of grey values.
        mask: column of the file of labels 0..3; "" where the table has none.
        image_path: where in `root` that file is, {} being the cell: "Videos/{}.avi".
        mask_path: the same for masks.
        lvef: column of the ejection fraction in percent; "" where the table has none.
        ed_frame: column of the index of end diastole in a video, counted from 0.
        es_frame: column of the index of end systole in a video, counted from 0.
        frame_rate_hz: column of the acquired frame rate; without it a video's container is believed.
        pixel_mm: column of the side of a pixel in millimetres.
        view_names: the table's words for views; `A2C` and its like need no entry.
        labels: words known of a study, by the name they get: `labels.diagnosis=COLUMN`; blank cells are not known.
        same_subject: groups of raw identifiers that are one person.
        keep: columns to index: known without opening a file, constant in a subject.
        subjects_file: a partition of `cohorts.partition`; only its subjects at `site` are read.
        site: a site of that partition.
        origin: what the studies are: real, phantom or synthetic.
    """

    root: str = ""
    table: str = "labels.csv"
    separator: str = ","
    subject: str = "patient"
    study: str = ""
    view: str = "view"
    phase: str = "phase"
    image: str = "image"
    mask: str = "mask"
    image_path: str = "{}"
    mask_path: str = "{}"
    lvef: str = "ef_reported"
    ed_frame: str = ""
    es_frame: str = ""
    frame_rate_hz: str = ""
    pixel_mm: str = ""
    view_names: dict[str, str] = field(default_factory=lambda: {"2CH": "A2C", "4CH": "A4C"})
    labels: dict[str, str] = field(default_factory=dict)
    same_subject: tuple[list[str], ...] = ()
    keep: tuple[str, ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.REAL.value

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", tuple(self.keep))
        for name in ("table", "subject", "image"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; a manifest needs it")
        for name in ("image_path", "mask_path"):
            if "{}" not in getattr(self, name):
                raise ValueError(f"{name}={getattr(self, name)!r} must hold {{}}, where the cell goes")
        if len(self.separator) != 1:
            raise ValueError(f"separator={self.separator!r} must be one character")
        for word, view in self.view_names.items():
            if view not in set(View):
                raise ValueError(f"view_names[{word!r}]={view!r} is no view; known: {', '.join(View)}")
        settle(self)

    def index(self) -> Index:
        """Check the table, its labels and the headers of all files; with a `site`, of its subjects alone."""
        try:
            records, problems = self._records()
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        return Index(sources=tuple(sources_of(records)), problems=(*problems, *file_problems(records)))

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """Index the cohort, and refuse it before training would: table, labels and headers of all files are checked.

        Raises:
            UnreadableStudy: the first problem, and how many others there are.
        """
        return self.index().cohort(pseudonyms=pseudonyms, origin=Origin(self.origin), same_subject=self.same_subject)

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether `root` holds a labels.csv that names images, and whose they are."""
        has = set(header_of(root / "labels.csv"))
        return "image" in has and bool(has & set(PEOPLE)) and not (root / "manifest.json").exists()

    @staticmethod
    def obvious(root: Path) -> tuple[str, ...]:
        """Return the settings, NAME=VALUE, that the header of `root`'s labels.csv leaves no doubt about."""
        has = header_of(root / "labels.csv")
        if "image" not in has:
            return ()
        named = {setting: next((c for c in columns if c in has), "") for setting, columns in OBVIOUS.items()}
        words = [f"labels.{word}={word}" for word in WORDS if word in has]
        return (*(f"{setting}={column}" for setting, column in named.items()), *words)

    def _records(self) -> tuple[list[Record], list[UnreadableStudy]]:
        root = folder_of(self.root)
        rows = read_table(root / self.table, columns=self._columns(), separator=self.separator)
        here = set(partition.read(Path(self.subjects_file)).subjects(self.site)) if self.site else None
        same = {raw: min(group) for group in self.same_subject for raw in group}
        records: list[Record] = []
        problems: list[UnreadableStudy] = []
        for row in rows:
            if here is None or row.text(self.subject) in here:
                try:
                    records.append(self._record(row, root, same))
                except UnreadableStudy as problem:
                    problems.append(problem)
        absent = sorted((here or set()) - {row.text(self.subject) for row in rows})
        if absent:
            problems.append(UnreadableStudy(self.subjects_file, f"names {absent[0]!r}, which {self.table} does not"))
        return records, [*problems, *contradictions(records)]

    def _columns(self) -> tuple[str, ...]:
        labels = (self.view, self.phase, self.mask, self.lvef, self.ed_frame, self.es_frame)
        return (
            self.subject,
            self.study,
            self.image,
            *labels,
            self.frame_rate_hz,
            self.pixel_mm,
            *self.labels.values(),
            *self.keep,
        )

    def _record(self, row: Row, root: Path, same: Mapping[str, str]) -> Record:
        subject = row.required(self.subject)
        phase = row.text(self.phase).upper()
        if phase and phase not in PHASES:
            row.refuse(f"{self.phase}={phase!r} is no phase; known: {', '.join(PHASES)}")
        rate = row.number(self.frame_rate_hz, 0.1, 1e5)
        return Record(
            where=row.where,
            person=same.get(subject, subject),
            subject=subject,
            study=f"{subject}\0{row.text(self.study)}",
            view=self._view(row),
            phase=phase,
            image=row.path(self.image, root, self.image_path),
            mask=row.path(self.mask, root, self.mask_path) if row.text(self.mask) else None,
            lvef_percent=row.number(self.lvef, 0, 100),
            ed_frame=row.index(self.ed_frame),
            es_frame=row.index(self.es_frame),
            frame_seconds=1 / rate if rate else None,
            pixel_mm=row.number(self.pixel_mm, 1e-3, 1e2),
            words={name: row.text(column) for name, column in self.labels.items() if row.text(column)},
            kept={column: row.text(column) for column in self.keep},
        )

    def _view(self, row: Row) -> View | None:
        word = row.text(self.view)
        if not word:
            return None
        name = self.view_names.get(word, word)
        if name not in set(View):
            row.refuse(f"{self.view}={word!r} is no view; known: {', '.join(dict.fromkeys([*self.view_names, *View]))}")
        return View(name)
