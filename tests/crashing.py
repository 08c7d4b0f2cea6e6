"""Processes that share one account and are killed at any moment: `python -m tests.crashing FOLDER KILLS SEED`.

One process imports everything once and forks the workers, so that a kill costs milliseconds. A worker says what it did
in a file of its own, durably, and only after the account's answer: what stands there must be in the account for good.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from evaluation.trust import SigningKey
from privacy.ledger import LedgerRefusal, Limits, PrivacyLedger, Terms
from privacy.mechanism import DpPlan, LaplacePlan, Plan, epsilon

WORKERS, DELTA = 8, 1e-6
TRAIN = DpPlan(purpose="train", sampling_rate=0.05, noise_multiplier=4.0, clip_norm=1.0, steps=40, draws=1)
AUDIT = LaplacePlan(purpose="audit", epsilon=0.06)
BUNDLES: tuple[tuple[Plan, ...], ...] = ((TRAIN,), (TRAIN, AUDIT), (AUDIT,))


def account(folder: Path) -> PrivacyLedger:
    return PrivacyLedger(
        folder / "ledger.db",
        epsilon_cap=4.7,  # audits fill theirs halfway; this one lasts until the last kill
        delta_cap=1e-5,
        terms=Terms(composition="renyi", order=6.0),
        limits=Limits(per_purpose={"audit": 0.9}),
        key=SigningKey.read(folder / "signing.pem"),
    )


def work(folder: Path, dice: random.Random) -> None:
    """Do to the account whatever a site's processes do, until killed."""
    told = os.open(folder / "told" / f"{os.getpid()}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def tell(**what: Any) -> None:
        os.write(told, json.dumps(what).encode() + b"\n")
        os.fsync(told)

    for number in range(10**6):
        ledger = account(folder)  # a site's process is new for every message
        runs = list(ledger._chain.now()[0].runs)
        act = dice.choices(("reserve", "intend", "commit", "abort", "recover"), (3, 12, 1, 1, 1))[0]
        try:
            if act == "reserve" and len(runs) < 12:
                run = f"{os.getpid()}-{number}"
                receipt = ledger.authorise(run, dice.choice(BUNDLES), delta=DELTA)
                tell(act=act, run=run, seq=receipt.seq, head=receipt.head)
            elif act == "intend" and runs:
                run, key = dice.choice(runs), f"{dice.randrange(30)}"
                purpose, steps = dice.choice((("train", 1 + int(key) % 4), ("audit", 1)))
                ledger.intend(run, purpose, key, steps)
                tell(act=act, run=run, purpose=purpose, key=key, steps=steps)  # the bytes leave: a kill is too late
            elif act not in ("reserve", "intend") and runs:
                event = getattr(ledger, act)(run := dice.choice(runs))
                tell(act=act, run=run, seq=event["seq"], head=event["hash"])
        except LedgerRefusal:
            continue


def main(folder: Path, kills: int, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    account(folder)
    for plans in BUNDLES:
        epsilon(plans, DELTA)  # computed once, before any fork
    workers: list[int] = []
    journal = folder / "ledger.jsonl"

    def hire() -> None:
        if (pid := os.fork()) == 0:
            try:
                work(folder, random.Random(f"{seed} {os.getpid()}"))  # noqa: S311
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        workers.append(pid)

    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        workers.remove(pid)
        if not os.WIFSIGNALED(status):
            raise RuntimeError("a worker ended by itself")

    done = 0
    while done < kills:
        while len(workers) < WORKERS:
            hire()
        wanted, late = journal.stat().st_size + dice.randrange(10_000), time.monotonic() + 5
        while journal.stat().st_size < wanted and time.monotonic() < late:  # however slow this machine is today
            time.sleep(0.001)
        time.sleep(dice.uniform(0.0, 0.02))
        kill(dice.choice(workers))
        done += 1
        if done % 20 == 0:  # everybody dies at once, and the line that one of them was writing is torn
            while workers:
                kill(workers[0])
                done += 1
            with journal.open("ab") as file:
                file.write(b'{"event":{"actor":"')
    while workers:
        kill(workers[0])
        done += 1
    sys.stdout.write(json.dumps({"kills": done}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
