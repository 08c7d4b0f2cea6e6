"""What is left of campaigns that are disturbed: `python -m benchmarks.chaos --deployed 20 --whole 4 --write`.

Each schedule draws from its number what goes wrong, and asks afterwards what must hold (`tests/verdicts.py`): in
process (`tests/chaos.py`, three hospitals with real folders, accounts and checkpoints, in processes that die), deployed
(`tests/chaos_deployed.py`, Flower's own programs over TLS), and so up to a certificate (`tests/whole.py`). What came of
each is kept in a file, so a measurement that was interrupted goes on where it was. What was found wrong is tried again,
and stays in the file.
"""

import argparse
import collections
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import table, write

SCHEDULES, DEPLOYMENTS, KEPT = 120, 2, Path(__file__).with_name("chaos.jsonl")
CERTIFIED = "to a certificate"
WAYS = {
    "in process": "In process there are three of each, and every message is served by a process of its own, on an "
    "in-memory grid; a fault counts when it came due (a process may end before its death, and a reply without arrays "
    "cannot be spoiled).",
    "deployed": "Deployed there are two and one, and everything is Flower's own program over TLS on loopback: "
    "SuperLink, SuperExec and ServerApp of the coordinator; SuperNode, SuperExec and ClientApps of each hospital "
    "(`pericard site run`), whose line to the coordinator is a relay that can be cut; a fault counts when it met a "
    "living process, or a call. No process may be left behind, none may end that was not struck, and every hospital "
    "must have a part in a campaign, unless it was cut off, halted or killed before sites joined it.",
    CERTIFIED: "To a certificate the programs are those of a deployment, and the campaign is `experiment=smoke`, of "
    "which all that is trained is charged; the certificate and every file that it speaks of must verify, signed by the "
    "coordinator and by a quorum.",
}
NONE_DEPLOYED = "No schedule over a deployment is in this table: none was asked for, or none came to its end."


def main() -> None:
    """Try all schedules and print; with --write, into `RESULTS.md`. Ends with an error if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/RESULTS.md")
    parser.add_argument("--schedules", type=int, default=SCHEDULES, help="how many in process, numbered from 0")
    parser.add_argument("--deployed", type=int, default=0, help="how many over a deployment, numbered from 0")
    parser.add_argument("--whole", type=int, default=0, help="how many of these up to a certificate, numbered from 0")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no deployed schedule after so long")
    parser.add_argument("--at-once", type=int, default=DEPLOYMENTS, help="how many deployments at the same time")
    parser.add_argument("--kept", type=Path, default=KEPT, help="a file of JSON lines with what was tried before")
    told = parser.parse_args()
    found, code = _kept(told.kept), _code()
    asked = {"deployed": range(told.deployed), CERTIFIED: range(told.whole), "in process": range(told.schedules)}
    for way, numbers in asked.items():
        right = {trial["seed"] for trial in found if trial["way"] == way and not trial["wrong"]}
        left = [n for n in numbers if n not in right]
        for trial in _in_process(left) if way == "in process" else _deployed(left, way, told.minutes, told.at_once):
            found.append({**trial, "way": way, "code": code})
            with told.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[-1]) + "\n")
    found = [trial for trial in found if trial["seed"] in asked[trial["way"]]]
    last = {(trial["way"], trial["seed"]): trial for trial in found}
    text = report([last[key] for key in sorted(last)], [t for t in found if t["wrong"] and t not in last.values()])
    if told.write:
        numbers = f"--deployed {told.deployed} --whole {told.whole} --schedules {told.schedules}"
        command = f"python -m benchmarks.chaos {numbers} --write"
        write("Chaos: campaigns that are killed, cut off and filled up", command, text)
    else:
        print(text)
    if any(trial["wrong"] for trial in last.values()):
        sys.exit(1)


def _code() -> str:
    """Return the commit that is tried, "-dirty" behind it where more than results differs from it."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ":/", ":/!benchmarks"], check=False).returncode
    return f"{commit}-dirty" if changed else commit


def _kept(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _in_process(seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield what came of each schedule in process."""
    if not seeds:
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.chaos", str(seeds[0]), str(seeds[-1]), folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                yield json.loads(line)
        if process.returncode:
            raise RuntimeError("a schedule could not be tried")


def _deployed(seeds: Sequence[int], way: str, minutes: float, at_once: int) -> Iterator[dict[str, Any]]:
    """Yield what came of each schedule over a deployment, some at the same time, as they end."""
    waiting, found, began = iter(seeds), queue.Queue[dict[str, Any] | None](), time.monotonic()
    turn, failed = threading.Lock(), list[int]()

    def following() -> int | None:
        with turn:
            return next(waiting, None) if time.monotonic() - began < 60 * minutes else None

    def work() -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "tests.chaos_deployed", folder, *["whole"] * (way == CERTIFIED)]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                with subprocess.Popen(command, **pipes, text=True) as process:
                    asking, answers = process.stdin, process.stdout
                    while asking and answers and (seed := following()) is not None:
                        asking.write(f"{seed}\n")
                        asking.flush()
                        if not (line := answers.readline()):
                            break
                        found.put(json.loads(line))
                if process.returncode:
                    failed.append(process.returncode)
        finally:
            found.put(None)

    workers = [threading.Thread(target=work) for _ in range(min(at_once, len(seeds)))]
    for worker in workers:
        worker.start()
    ended = 0
    while ended < len(workers):
        if (trial := found.get()) is None:
            ended += 1
        else:
            yield trial
    if failed:
        raise RuntimeError("a deployment could not be run to its end")


def report(found: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]] = ()) -> str:
    """Return what came of the schedules, and which faults they held; `before` were wrong, and were tried again."""
    ways = {way: told for way in WAYS if (told := [t for t in found if t["way"] == way])}
    ends = {way: collections.Counter(map(_end, told)) for way, told in ways.items()}
    wrong, again = _wrong(found) or ["Nothing was found wrong."], _wrong(before)
    every = sorted({end for counted in ends.values() for end in counted})
    return "\n\n".join(
        [
            *(_about(way, told) for way, told in ways.items()),
            "Each campaign: three hospitals, a quorum of two, exchanges with noise, then (but where it ends with a "
            "certificate) without. "
            + " ".join(WAYS[way] for way in ways),
            *([] if "deployed" in ways else [NONE_DEPLOYED]),
            table(("end", *ways), [(end, *(ends[way][end] for way in ways)) for end in every]),
            *(_faults(way, told) for way, told in ways.items()),
            "Asked of every campaign: it finishes once nothing is in its way any more; each account verifies whole, "
            "was reserved once, announced each exchange once, and paid exactly what an undisturbed account pays for "
            "the exchanges it announced (or, in a renyi account whose journal was torn, the whole reserve); what left, "
            "by the site's own signed lines, too, is what the outbox holds, and nothing of it was unannounced; told "
            "again in process to copies of the same sites, who answer from their outboxes, it has the same weights, "
            "and where it goes so far the same released pictures, bit for bit, and charges nothing; told to new sites "
            "with the same people, the part without noise has the same weights bit for bit (who was missing in an "
            "exchange is missing again).",
            "\n".join(wrong),
            *(["Wrong when tried before; what came of it since is in the tables:", "\n".join(again)] if again else []),
        ]
    )  # fmt: skip


def _wrong(found: Sequence[dict[str, Any]]) -> list[str]:
    return [f"- {t['way']}, schedule {t['seed']}, on {t['code']}: {'; '.join(t['wrong'])}" for t in found if t["wrong"]]


def _faults(way: str, told: Sequence[dict[str, Any]]) -> str:
    times = collections.Counter(kind for trial in told for kind in trial["faults"])
    held = collections.Counter(kind for trial in told for kind in set(trial["faults"]))
    return table((f"fault, {way}", "times", "campaigns"), [(kind, times[kind], held[kind]) for kind in sorted(held)])


def _about(way: str, told: Sequence[dict[str, Any]]) -> str:
    faults = sum(len(trial["faults"]) for trial in told)
    attempts = sorted(len(trial["attempts"]) for trial in told)
    accounts = collections.Counter(trial["composition"] for trial in told)
    code = collections.Counter(trial["code"] for trial in told)
    tried = ", ".join(f"{times} on {commit}" for commit, times in code.most_common())
    return (
        f"{way.capitalize()}: {len(told)} schedules of the numbers {told[0]['seed']} to {told[-1]['seed']}, "
        f"{faults} faults, {attempts[0]} to {attempts[-1]} attempts a campaign "
        f"(median {attempts[len(attempts) // 2]}); "
        f"{accounts['basic']} with basic accounts, {accounts['renyi']} with renyi ones; tried: {tried}."
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
