"""The coordinator's process of a disturbed deployment: `python -m tests.conductor FOLDER`, with shorter pauses.

It loads as little as the coordinator's command does.
"""

import json
import sys
import time
from pathlib import Path

from server import fleet
from server.coordinator import Coordinator
from server.rounds import QuorumLost
from server.superlink import SimulationFailed

FINISHED, REFUSED, PATIENCE_SECONDS = 0, 3, 900.0


def conduct(folder: Path) -> int:
    """Run what is proposed, or go on with it, and write down why it did not end well."""
    fleet.AGAIN_SECONDS, fleet.POLL_SECONDS = 2.0, 1.0
    said = folder / "said"
    said.unlink(missing_ok=True)

    def progress(stage: str, fraction: float, words: str) -> None:
        sys.stdout.write(json.dumps([time.strftime("%T"), stage, round(fraction, 2), words]) + "\n")
        sys.stdout.flush()

    try:
        fleet.conduct(Coordinator.open(folder), progress, patience_seconds=PATIENCE_SECONDS)
    except (QuorumLost, ValueError, OSError, SimulationFailed, fleet.LinkLost) as error:
        said.write_text(f"{type(error).__name__}: {error}")
        return REFUSED
    return FINISHED


if __name__ == "__main__":
    sys.exit(conduct(Path(sys.argv[1])))
