"""What is left of campaigns that are disturbed: `python -m benchmarks.chaos --write`.

Each schedule draws from its number what goes wrong (`tests/faults.py`), disturbs one campaign of three hospitals with
real folders, accounts and checkpoints, in processes that die, and asks what must hold afterwards (`tests/chaos.py`).
With `--kept FILE` a measurement that was interrupted goes on where it was.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import table, write

SCHEDULES = 120


def main() -> None:
    """Try all schedules and print; with --write, into `RESULTS.md`. Ends with an error if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/RESULTS.md")
    parser.add_argument("--schedules", type=int, default=SCHEDULES, help="how many, numbered from 0")
    parser.add_argument("--kept", type=Path, help="a file of JSON lines with what was tried before")
    told = parser.parse_args()
    found = _kept(told.kept)
    for trial in _tried(len(found), told.schedules - 1):
        found.append(trial)
        if told.kept:
            with told.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(trial) + "\n")
    text = report(found[: told.schedules])
    if told.write:
        command = f"python -m benchmarks.chaos --schedules {told.schedules} --write"
        write("Chaos: campaigns that are killed, cut off and filled up", command, text)
    else:
        print(text)
    if any(trial["wrong"] for trial in found):
        sys.exit(1)


def _kept(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _tried(first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield what came of each schedule."""
    if first > last:
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.chaos", str(first), str(last), folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                yield json.loads(line)
        if process.returncode:
            raise RuntimeError("a schedule could not be tried")


def report(found: list[dict[str, Any]]) -> str:
    """Return what came of the schedules, and which faults they held."""
    ends = collections.Counter(_end(trial) for trial in found)
    rows = [(end, ends[end]) for end in sorted(ends)]
    faults = collections.Counter(kind for trial in found for kind in trial["faults"])
    held = collections.Counter(kind for trial in found for kind in set(trial["faults"]))
    attempts = sorted(len(trial["attempts"]) for trial in found)
    wrong = [f"- schedule {trial['seed']}: {'; '.join(trial['wrong'])}" for trial in found if trial["wrong"]]
    accounts = collections.Counter(trial["composition"] for trial in found)
    return "\n\n".join(
        [
            f"Schedules {found[0]['seed']} to {found[-1]['seed']}, {sum(faults.values())} faults that came "
            "due (a process may end before its death, and a reply without arrays cannot be spoiled), "
            f"{attempts[0]} to {attempts[-1]} attempts a campaign (median {attempts[len(attempts) // 2]}); "
            f"{accounts['basic']} with basic accounts, {accounts['renyi']} with renyi ones. Each campaign: three "
            "hospitals, a quorum of two, three exchanges with noise and three without; every message served by a "
            "process of its own, on an in-memory grid.",
            table(("end", "campaigns"), rows),
            table(("fault", "times", "campaigns"), [(kind, faults[kind], held[kind]) for kind in sorted(faults)]),
            "Asked of every campaign: each account verifies whole, was reserved once, announced each exchange once, "
            "and paid exactly what an undisturbed account pays for the exchanges it announced (or, in a renyi account "
            "whose journal was torn, the whole reserve); what left is what the outbox holds, and nothing of it was "
            "unannounced. Of every finished one: told again to copies of the same sites, who answer from their "
            "outboxes, it has the same weights bit for bit and charges nothing; told to new sites with the same "
            "people, the part without noise has the same weights bit for bit (who was missing in an exchange is "
            "missing again).",
            "\n".join(wrong) or "Nothing was found wrong.",
        ]
    )


def _end(trial: dict[str, Any]) -> str:
    last = trial["attempts"][-1]
    if last == "finished":
        return (
            "finished, some exchanges without a site" if trial["partial"] else "finished, every site in all exchanges"
        )
    return last.partition(":")[0] + ", and said why"


if __name__ == "__main__":
    main()
