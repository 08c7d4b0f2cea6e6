"""Which of some listed words a cell of a hospital's table belongs to: what names groups of subjects.

A hospital's table may hold anything, a name or a date too. Only words that somebody listed beforehand come out of here;
a listed word that reads `40-64` is a band, and takes every number from 40 up to, but not including, 65, and every band
that lies within it.
"""

import math
import re
from collections.abc import Sequence

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,31}")
_BAND = re.compile(r"(\d{1,6})-(\d{1,6})")


def group_of(cell: str, listed: Sequence[str]) -> str:
    """Return the word of `listed` that `cell` is, or the first band that its number lies in; "" where there is none."""
    cell = cell.strip()
    if cell in listed:
        return cell
    if within := _BAND.fullmatch(cell):
        low, high = int(within[1]), int(within[2])
    else:
        try:
            low = high = math.floor(float(cell))
        except (ValueError, OverflowError):
            return ""
    bands = ((word, _BAND.fullmatch(word)) for word in listed)
    return next((word for word, band in bands if band and int(band[1]) <= low <= high <= int(band[2])), "")


def check(column: str, listed: Sequence[str]) -> None:
    """Raise `ValueError` unless `column` and every listed word is short and plain, and no word stands twice."""
    for word in (column, *listed):
        if not isinstance(word, str) or not WORD.fullmatch(word):
            raise ValueError(f"groups: {word!r} of {column!r} must match {WORD.pattern}")
    if len(set(listed)) != len(listed) or not listed:
        raise ValueError(f"groups: {column} must list different words, not {list(listed)}")
