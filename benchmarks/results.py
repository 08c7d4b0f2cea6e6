"""`benchmarks/RESULTS.md`: one section a benchmark, each written by the command that measured it."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = "# Results\n\nEvery section was written by the command it names.\n"


def write(title: str, command: str, text: str) -> None:
    """Replace the section `title` of `RESULTS.md` by `text`, or add it; the other sections stay as they are."""
    whole = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _HEAD
    sections = re.split(r"(?m)^(?=## )", whole)
    where = f"`{command}`, {date.today()}, {os.cpu_count()} cores, {platform.machine()}"
    mine = f"## {title}\n\n{where}\n\n{text.strip()}\n"
    kept = [s.rstrip() + "\n" for s in sections if not s.startswith(f"## {title}\n")]
    RESULTS.write_text("\n".join([*kept, mine]), encoding="utf-8")
    print(mine)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; floats with four digits."""
    lines = [head, ["---"] * len(head), *([_cell(c) for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
