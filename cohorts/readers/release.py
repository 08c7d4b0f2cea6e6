"""A release of our own: pictures, masks and a table, each bound by its SHA-256 in manifest.json.

`root` is the folder of manifest.json, or one above whose `release` it is. Every file is hashed before any is decoded:
one that is changed, missing or not listed refuses the whole release. Whether its certificate is authentic is another
question, which `pericard verify` answers.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cohorts.decode import reasons
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, folder_of, settle
from cohorts.readers import READERS
from cohorts.readers.manifest import Manifest
from cohorts.study import Cohort, Origin, UnreadableStudy
from cohorts.table import header_of, read_table

MANIFEST, TABLE = "manifest.json", "labels.csv"
COLUMNS = ("patient", "study", "view", "phase", "image", "mask", "ef_reported", "origin")
MANIFEST_BYTES_MAX = 2**28
CHUNK = 2**20


@READERS("release")
@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Where the release is.

    Attributes:
        root: the folder of manifest.json and labels.csv, or the one above.
        same_subject: groups of subjects that are one person.
        subjects_file, site: a partition, and whose part of it is read.
        origin: what the table must say that its frames are.
    """

    root: str = ""
    same_subject: tuple[list[str], ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.SYNTHETIC.value

    def __post_init__(self) -> None:
        settle(self)

    def index(self) -> Index:
        """Hash every file, then check the table and the headers of all pictures."""
        try:
            folder = _folder(folder_of(self.root))
            differing = tuple(_differences(folder))
            rows = read_table(folder / TABLE, columns=COLUMNS, separator=",")
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        problems = differing + tuple(
            UnreadableStudy(row.where, f"origin={row.text('origin')!r}, must be {self.origin!r}")
            for row in rows
            if row.text("origin") != self.origin
        )
        words = {name: name for name in rows[0].cells if name not in COLUMNS}
        table = Manifest(root=str(folder), study="study", labels=words, origin=self.origin)
        index = table.index()
        return Index(sources=index.sources, problems=(*problems, *index.problems))

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """Index the release; raises `UnreadableStudy` for the first problem, with the number of others."""
        return self.index().cohort(
            pseudonyms=pseudonyms,
            origin=Origin(self.origin),
            same_subject=self.same_subject,
            subjects_file=self.subjects_file,
            site=self.site,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether manifest.json and a table with a column `origin` lie in `root` or its `release`."""
        folder = _folder(root)
        return (folder / MANIFEST).is_file() and set(COLUMNS) <= set(header_of(folder / TABLE))


def _folder(root: Path) -> Path:
    inner = root / "release"
    return inner if not (root / MANIFEST).exists() and (inner / MANIFEST).is_file() else root


def _differences(folder: Path) -> Iterator[UnreadableStudy]:
    """Yield every file that is not as the manifest says."""
    listed = _listed(folder / MANIFEST)
    with reasons(folder):
        present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    for name in sorted((present.keys() | listed.keys()) - {MANIFEST}):
        path = folder / name
        if name not in listed:
            yield UnreadableStudy(str(path), f"is not in {MANIFEST}")
        elif name not in present:
            yield UnreadableStudy(str(path), f"is in {MANIFEST}, but not there")
        elif path.is_symlink() or not path.is_file():
            yield UnreadableStudy(str(path), "is not a plain file")
        elif (found := _sha256(path)) != listed[name]:
            yield UnreadableStudy(str(path), f"has SHA-256 {found[:12]}…, {MANIFEST} says {listed[name][:12]}…")


def _listed(path: Path) -> Mapping[str, str]:
    with reasons(path):
        if path.stat().st_size > MANIFEST_BYTES_MAX:
            raise ValueError(f"has {path.stat().st_size} bytes; at most {MANIFEST_BYTES_MAX} are read")
        try:
            files = json.loads(path.read_bytes())["files"]
            return {str(entry["path"]): str(entry["sha256"]) for entry in files}
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError("is no manifest: it needs files, each with path and sha256") from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with reasons(path), path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
