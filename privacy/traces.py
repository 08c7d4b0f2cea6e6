"""Words that could tell who somebody is, in a release that should hold none: names, dates, numbers, places.

Looked for where they usually stay behind: in the names of files, in the cells of tables, and in what picture and film
files say of themselves beside their pixels. What is found is named by its kind and its place and never repeated.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = {
    "a DICOM identifier": re.compile(r"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){5,}"),
    "a DICOM name": re.compile(r"\b[^\W\d_][\w'-]+\^[^\W\d_][\w'^ -]*"),
    "a date": re.compile(
        r"(?<!\d)(?:(?:19|20)\d\d([-/.:]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
        r"|(?:0?[1-9]|[12]\d|3[01])[./-](?:0?[1-9]|1[0-2])[./-](?:19|20)\d\d)(?!\d)"
    ),
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"),
    "a path": re.compile(r"(?:/home/|/Users/|/mnt/|[A-Za-z]:\\)\S"),
    "a long number": re.compile(r"(?<![\w.])\d{7,}(?![\w.])"),
}
TABLES, PICTURES, FILMS = (".csv", ".tsv"), (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif"), (".avi", ".mp4", ".mov")
_ENDS = 65_536  # bytes of a film in which containers keep what they say of it
# What containers say stands between zero bytes; a shorter run of letters is as often compressed pixels as words.
_RUN = re.compile(rb"(?<=\x00)[\x20-\x7e]{6,}(?=\x00)|[\x20-\x7e]{16,}")
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A word that should not be there.

    Attributes:
        kind: a key of `KINDS`.
        where: file and place in it, such as "labels.csv, column patient".
    """

    kind: str
    where: str


def identifying(words: str) -> str:
    """Return the kind of identifying word that `words` hold, empty where they hold none."""
    return next((kind for kind, pattern in KINDS.items() if pattern.search(words)), "")


def traces(folder: Path) -> tuple[Trace, ...]:
    """Return what the files of a release say, one of each kind and place, at most 1000.

    DICOM files hold identifiers by their nature; `cohorts.deidentify` looks at those.
    """
    found: dict[Trace, None] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        name = path.relative_to(folder).as_posix()
        for where, words in (("the name of a file", name), *_said(path, name)):
            if kind := identifying(words):
                found[Trace(kind=kind, where=where)] = None
        if len(found) >= _MOST:
            break
    return tuple(found)[:_MOST]


def _said(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield where a file says something beside its numbers, and what."""
    kind = path.suffix.lower()
    if kind in TABLES:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ","):
                for column, cell in row.items():
                    yield f"{name}, column {column}", str(cell)
    elif kind in PICTURES:
        yield from ((f"{name}, {field}", words) for field, words in _fields(path))
    elif kind in FILMS:
        yield from ((f"{name}, {field}", words) for field, words in _film_fields(path))


def _film_fields(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what a container and its streams are labelled with; never pixels, in which any word may stand by chance."""
    import av

    try:
        with av.open(str(path)) as film:
            said = [*film.metadata.items(), *(item for stream in film.streams for item in stream.metadata.items())]
    except (av.FFmpegError, OSError, ValueError):
        return
    yield from said


def _fields(path: Path) -> Iterator[tuple[str, str]]:
    from PIL import Image, UnidentifiedImageError
    from PIL.ExifTags import TAGS

    try:
        with Image.open(path) as image:
            said = [*image.info.items(), *((TAGS.get(tag, tag), value) for tag, value in image.getexif().items())]
    except (UnidentifiedImageError, OSError, SyntaxError):
        return
    yield from ((str(field), value) for field, value in said if isinstance(value, str))
