"""Why a campaign ended: written beside it, so that whoever started it in another process can raise the same."""

import json
from pathlib import Path

from learning import durable
from learning.schema import canonical
from server.rounds import QuorumLost

FILE = "failure.json"


def write_failure(folder: Path, error: Exception) -> None:
    """Write down `error`; only what the coordinator may know is in it."""
    told = {"error": "ValueError" if isinstance(error, ValueError) else type(error).__name__, "words": str(error)}
    durable.write(folder / FILE, canonical(told | {"failed": getattr(error, "failed", {})}).encode())


def read_failure(out: Path) -> Exception | None:
    """Return the error that ended the campaign in `out`: `QuorumLost` and `ValueError` as such, others by name."""
    path = out / "campaign" / FILE
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    if told["error"] == "QuorumLost":
        return QuorumLost(told["words"], told["failed"])
    if told["error"] == "ValueError":
        return ValueError(told["words"])
    return RuntimeError(f"{told['error']}: {told['words']}")
