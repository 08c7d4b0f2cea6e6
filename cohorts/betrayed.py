"""Identifiers of patients that stand in a release: in a file's name, a table's cell, a header.

Only an identifier that could hardly be anybody else's counts: names that every data set gives, such as patient0001,
would be found in any release that counts its files.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

LEAST = 6  # characters of a word by which an identifier is looked for
TEXT_BYTES = 2**26
ENDS = 2**16  # bytes looked at of either end of a file that is no text: where headers and trailers are
TEXTS = frozenset({".csv", ".json", ".txt", ".md", ".xml", ".html", ".yaml", ".yml", ".tsv", ".cfg"})
_WORD = re.compile(r"[^\W_]+")
_COUNTER = re.compile(r"(?i)[a-z_ -]*\d{0,6}")
_GENERAL = frozenset({"patient", "person", "subject", "sample", "study", "series", "image", "video", "clip", "control"})


def telling(identifier: str) -> str:
    """Return the word by which an identifier is looked for, "" where it could be anybody's.

    >>> telling("0X1A2B3C4D5E6F"), telling("Mueller_Anna_1954"), telling("patient0001")
    ('0x1a2b3c4d5e6f', 'mueller', '')
    """
    words = [word.casefold() for word in _WORD.findall(identifier)]
    bare = _COUNTER.fullmatch(identifier) is not None
    if bare and (not words or any(word.rstrip("0123456789") in _GENERAL for word in words) or len(words) == 1):
        return ""
    return max((w for w in words if len(w) >= LEAST and w not in _GENERAL), key=len, default="")


def betrayed(release: Path, identifiers: Collection[str]) -> frozenset[str]:
    """Return those of `identifiers` that stand in some file of `release`, or in its name; upper and lower case alike.

    Args:
        release: the folder; links are not followed.
        identifiers: of patients, in the hospital's own words.
    """
    asked: dict[str, list[str]] = {}
    for identifier in identifiers:
        if word := telling(identifier):
            asked.setdefault(word, []).append(identifier)
    found: set[str] = set()
    for text in _texts(release) if asked else ():
        lower = text.casefold()
        for word in asked.keys() & set(_WORD.findall(lower)):
            found |= {identifier for identifier in asked[word] if identifier.casefold() in lower}
    return frozenset(found)


def _texts(folder: Path) -> Iterator[str]:
    """Yield the name of every file, and what of it may be text."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        yield path.relative_to(folder).as_posix()
        size = path.stat().st_size
        with path.open("rb") as file:
            if path.suffix.lower() in TEXTS and size <= TEXT_BYTES:
                yield file.read().decode("utf-8", errors="replace")
                continue
            yield file.read(ENDS).decode("latin-1")
            if size > ENDS:
                file.seek(max(ENDS, size - ENDS))
                yield file.read().decode("latin-1")
