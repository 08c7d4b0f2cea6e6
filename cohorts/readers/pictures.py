"""A folder of pictures or clips and no table: PNG, JPEG, NPY, AVI, MP4, as generators write their samples.

Whose picture it is, only the folders can say: what lies beneath `root/NAME/` belongs to the person NAME, unless
`person` says that every file is another person. Files in `root` itself say nothing of people, and are refused until it
does. Where a folder on the way is named after a view (A4C), that is the view; nothing else is known of a picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from cohorts.decode import SUFFIXES, read_pixels, reasons, size_of
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, Source, folder_of, settle
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Origin, UnreadableStudy, View

FOLDER, FILE = "folder", "file"
BESIDE = frozenset({".txt", ".md", ".pdf", ".json", ".html"})  # files that may lie beside pictures: a licence, a note
LOOKED_AT = 256


@READERS("pictures")
@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Where the pictures are, and what one person is.

    Attributes:
        root: the folder.
        person: what belongs to one person: a `folder` of `root` with all that is in it, or each `file` alone.
        same_subject: groups of identifiers that are one person.
        subjects_file, site: a partition, and whose part of it is read.
        origin: what the studies are: real, phantom or synthetic.
    """

    root: str = ""
    person: str = FOLDER
    same_subject: tuple[list[str], ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.REAL.value

    def __post_init__(self) -> None:
        settle(self)
        if self.person not in (FOLDER, FILE):
            raise ValueError(f"person={self.person!r} must be {FOLDER} or {FILE}")

    def index(self) -> Index:
        """List the files and check the headers of pictures; a file of another kind is left out."""
        sources: list[Source] = []
        problems: list[UnreadableStudy] = []
        left_out: list[UnreadableStudy] = []
        try:
            root = folder_of(self.root)
            paths = list(_files(root))
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        for path in paths:
            if path.suffix.lower() not in SUFFIXES:
                left_out.append(UnreadableStudy(str(path), "is no picture and no clip"))
                continue
            try:
                size_of(path)
                sources.append(self._source(path, path.relative_to(root)))
            except UnreadableStudy as problem:
                problems.append(problem)
        return Index(sources=tuple(sources), problems=tuple(problems), left_out=tuple(left_out))

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """List the pictures; raises `UnreadableStudy` for the first problem, with the number of others."""
        return self.index().cohort(
            pseudonyms=pseudonyms,
            origin=Origin(self.origin),
            same_subject=self.same_subject,
            subjects_file=self.subjects_file,
            site=self.site,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether pictures and clips, and no table or file of another format, lie beneath `root`."""
        try:
            beside = {path.suffix.lower() for path in root.iterdir() if path.is_file() and path.name[0] != "."}
            kinds = beside | {path.suffix.lower() for path in islice(_files(root), LOOKED_AT)}
        except (OSError, UnreadableStudy):
            return False
        return bool(kinds & SUFFIXES) and kinds <= SUFFIXES | BESIDE

    def _source(self, path: Path, name: Path) -> Source:
        if self.person == FOLDER and len(name.parts) == 1:
            raise UnreadableStudy(
                str(path), f"lies in no folder of a person; say person={FILE} if every file is another person"
            )
        views = [View(part) for part in name.parts[:-1] if part in set(View)]
        return Source(
            where=str(path),
            subject=name.parts[0] if self.person == FOLDER else name.as_posix(),
            study=name.as_posix(),
            load=partial(_clip, path, views[0] if views else None),
        )


def _files(root: Path) -> Iterator[Path]:
    """Yield every file beneath `root` that is not hidden, in order, without leaving it through a link."""
    with reasons(root):
        entries = sorted(root.iterdir())
    for path in entries:
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _clip(path: Path, view: View | None) -> Clip:
    decoded = read_pixels(path)
    return Clip(pixels=decoded.pixels, view=view, frame_seconds=decoded.frame_seconds)
