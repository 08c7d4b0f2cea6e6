"""A hospital's CSV as rows whose cells are checked when they are asked for; every error names file and line."""

import csv
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cohorts.study import UnreadableStudy

HEADER_BYTES_MAX = 2**16
TABLE_BYTES_MAX = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: stripped cells by column. A column named "" is one that the table does not have."""

    where: str
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """Return the cell, "" where it is blank."""
        return self.cells[column] if column else ""

    def required(self, column: str) -> str:
        """Return the cell, or raise `UnreadableStudy` where it is blank."""
        return self.cells[column] or self.refuse(f"column {column!r} is empty")

    def number(self, column: str, low: float, high: float) -> float | None:
        """Return the cell as a number in `low..high`, `None` where it is blank; else raise `UnreadableStudy`."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        return value if low <= value <= high else self.refuse(f"{column}={text!r} is not a number in {low:g}..{high:g}")

    def index(self, column: str) -> int | None:
        """Return the cell as a whole number from 0, `None` where it is blank; else raise `UnreadableStudy`."""
        text = self.text(column)
        if text and not (text.isascii() and text.isdigit()):
            self.refuse(f"{column}={text!r} is not a whole number from 0")
        return int(text) if text else None

    def path(self, column: str, root: Path, pattern: str = "{}") -> Path:
        """Return the file beneath the resolved `root` that `pattern` names, {} being the cell.

        Raises:
            UnreadableStudy: the cell is blank, or the name leads out of `root`: by `..`, an absolute path or a link.
        """
        text = self.required(column)
        try:
            path = (root / pattern.replace("{}", text)).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links
            self.refuse(f"{column}={text!r} is no path: {error}")
        return path if path.is_relative_to(root) else self.refuse(f"{column}={text!r} leads out of the root {root}")

    def refuse(self, reason: str) -> NoReturn:
        """Raise `UnreadableStudy` for this line."""
        raise UnreadableStudy(self.where, reason)


def read_table(path: Path, *, columns: Collection[str], separator: str) -> tuple[Row, ...]:
    """Read the rows of a UTF-8 CSV whose header has at least `columns`.

    Raises:
        UnreadableStudy: no such file, no CSV, a column missing or named twice, a row too long or too short, no rows.
    """
    try:
        if path.stat().st_size > TABLE_BYTES_MAX:
            raise UnreadableStudy(str(path), f"is larger than {TABLE_BYTES_MAX} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header, columns)
            rows = tuple(_row(path, reader.line_num, header, cells) for cells in reader if cells)
    except FileNotFoundError:
        raise UnreadableStudy(str(path), "no such table") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableStudy(str(path), f"is not a CSV in UTF-8: {error}") from error
    if not rows:
        raise UnreadableStudy(str(path), "has a header but no rows")
    return rows


def header_of(path: Path, *, separator: str = ",") -> tuple[str, ...]:
    """Return the column names of a CSV, none where there is no such table: to recognise a layout by, never raises."""
    try:
        with path.open("rb") as file:
            line = file.readline(HEADER_BYTES_MAX).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(name.strip() for name in line.split(separator))


def _check_header(path: Path, header: list[str], columns: Collection[str]) -> None:
    missing = [name for name in columns if name and name not in header]
    if missing:
        raise UnreadableStudy(str(path), f"has no column {', '.join(map(repr, missing))}; it has: {', '.join(header)}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UnreadableStudy(str(path), f"has column {twice[0]!r} {header.count(twice[0])} times")


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> Row:
    where = f"{path} line {line}"
    if len(cells) != len(header):
        raise UnreadableStudy(where, f"has {len(cells)} cells, the header has {len(header)}")
    return Row(where=where, cells={name: cell.strip() for name, cell in zip(header, cells, strict=True)})
