"""Why a campaign ended: written beside it, so that whoever started it in another process can raise the same.

Errors::

    ValueError
    └── CampaignFailed        it cannot go on as it was asked for; the words say what to change
        └── CampaignChanged   a file of it is not as the campaign wrote it
"""

import json
from pathlib import Path

from learning import durable
from learning.schema import canonical
from server.rounds import QuorumLost

FILE = "failure.json"


class CampaignFailed(ValueError):
    """The campaign cannot go on as it was asked for."""


class CampaignChanged(CampaignFailed):
    """A file of the campaign was changed after it was written."""


def write_failure(folder: Path, error: Exception) -> None:
    """Write down `error`; only what the coordinator may know is in it."""
    kind = "OSError" if isinstance(error, OSError) else type(error).__name__
    told = {"error": kind, "words": str(error), "failed": getattr(error, "failed", {})}
    durable.write(folder / FILE, canonical(told).encode())


def read_failure(out: Path) -> Exception | None:
    """Return the error that ended the campaign in `out`: what somebody can mend as such, a bug by its name."""
    path = out / "campaign" / FILE
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    match told["error"]:
        case "QuorumLost":
            return QuorumLost(told["words"], told["failed"])
        case "CampaignChanged":
            return CampaignChanged(told["words"])
        case "CampaignFailed" | "OSError":  # a full disk, say
            return CampaignFailed(told["words"])
        case name:
            return RuntimeError(f"{name}: {told['words']}")
