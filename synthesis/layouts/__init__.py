"""Layouts of other data sets, written: one file each, each a function from the clips of a release to a folder.

A layout never invents what a release does not hold: no frame, no volume without a pixel size, no diagnosis. What it
cannot say is an empty cell or an absent key, and it returns a sentence about each such gap for the card beside it.

Errors: `ValueError`
  └─ `Unsuitable`: the release holds nothing that this layout could hold, or names that it could not
"""

import csv
import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cohorts.study import UNLABELLED, Clip

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Unsuitable(ValueError):
    """A release that cannot be written in the layout asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One clip of a release that nobody has read yet.

    Attributes:
        subject: the synthetic person, a plain name.
        study: tells the examinations of one subject apart.
        lvef_percent: ejection fraction as released, in percent, or `None`.
        load: decodes the clip, each time anew; raises `UnreadableStudy`.
        words: what else the table says of it, by column.
    """

    subject: str
    study: str
    lvef_percent: float | None
    load: Callable[[], Clip] = field(compare=False)
    words: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("subject", self.subject), ("study", self.study)):
            if not NAME.fullmatch(value):
                raise Unsuitable(f"{name}={value!r} is no plain name of letters, digits, - and _ that a file may bear")

    @property
    def name(self) -> str:
        """Name of the examination: that of the subject, counted on from the second."""
        return self.subject if self.study == "1" else f"{self.subject}_{self.study}"

    @property
    def lvef(self) -> str:
        """Ejection fraction in percent as the cell of a table, one decimal, empty where unknown."""
        return "" if self.lvef_percent is None else f"{self.lvef_percent:.1f}"


Layout = Callable[[Path, Iterable[Take], bytes], tuple[str, ...]]
"""Writes takes, sorted by subject and study, into an empty folder; the bytes are a key that only the release sets.

Returns sentences on what is left out or not known.
"""


@contextmanager
def rows_into(path: Path, header: tuple[str, ...]) -> Iterator[Callable[[Iterable[tuple[str, ...]]], None]]:
    """Open a CSV in UTF-8, a line feed at the end of each line; yield what appends rows to it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        yield writer.writerows


def table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Write a CSV at once, as `rows_into` does row by row."""
    with rows_into(path, header) as append:
        append(rows)


def nifti(
    path: Path, array: NDArray[np.uint8], *, mm: tuple[float, float] | None, seconds: float | None = None
) -> None:
    """Write an array as NIfTI-1, compressed with no time stamp.

    Args:
        path: ends in .nii.gz.
        array: axes as the format counts them: width, height, slices or frames, frames.
        mm: height and width of a pixel; without it steps are 1 and of no unit.
        seconds: step of the fourth axis.
    """
    from nibabel import Nifti1Image

    height, width = mm or (1.0, 1.0)
    image = Nifti1Image(np.ascontiguousarray(array), np.diag([width, height, 1.0, 1.0]))  # type: ignore[no-untyped-call]
    if seconds is not None:
        image.header.set_zooms((width, height, 1.0, seconds))  # type: ignore[no-untyped-call]
    units = ("mm" if mm else "unknown", "unknown" if seconds is None else "sec")
    image.header.set_xyzt_units(*units)  # type: ignore[no-untyped-call]
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def outlined(mask: NDArray[np.uint8]) -> bool:
    """Say whether every pixel is labelled: layouts without a word for unlabelled can hold the mask only then."""
    return not (mask == UNLABELLED).any()


def masks_of(clip: Clip) -> NDArray[np.uint8]:
    """Return the masks of `clip`, all of them unlabelled where it has none."""
    return np.full_like(clip.pixels, UNLABELLED) if clip.masks is None else clip.masks


def lot(key: bytes, subject: str, n: int) -> int:
    """Return the lot of `subject`, 0..n-1: the same in every export of one release, whoever else is in it."""
    return int.from_bytes(hashlib.blake2b(subject.encode(), key=key[:64], digest_size=8).digest(), "big") % n


def counted(n: int, one: str, many: str) -> tuple[str, ...]:
    """Return a sentence that begins with a count; none where there is nothing to count."""
    return (f"{n} {one if n == 1 else many}",) if n else ()
