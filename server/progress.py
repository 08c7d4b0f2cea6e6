"""How far a campaign is: told by whoever works, shown by whoever cares."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from learning import durable

FILE = "progress.jsonl"


class Progress(Protocol):
    """Is called now and then with the stage, the part of it that is done in 0..1, and a few words."""

    def __call__(self, stage: str, fraction: float, words: str) -> None:
        """Take note."""
        ...


def silent(stage: str, fraction: float, words: str) -> None:
    """Take no note."""


class Journal:
    """A `Progress` that appends to a file, so that another process can follow; passes everything on to `also`."""

    def __init__(self, folder: Path, also: Progress = silent) -> None:
        self.path, self._also = folder / FILE, also

    def __call__(self, stage: str, fraction: float, words: str) -> None:
        """Append one line."""
        utc = datetime.now(UTC).isoformat(timespec="seconds")
        told = {"utc": utc, "stage": stage, "fraction": round(fraction, 4), "words": words}
        durable.append(self.path, json.dumps(told))
        self._also(stage, fraction, words)


class Follower:
    """Reads what a `Journal` in another process has written since it was last asked."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._read = self.path.stat().st_size if self.path.exists() else 0

    def __iter__(self) -> Iterator[tuple[str, float, str]]:
        """Yield the new lines that are whole; one that a crash tore is none."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                yield entry["stage"], entry["fraction"], entry["words"]
