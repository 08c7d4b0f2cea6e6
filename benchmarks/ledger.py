"""What a charge costs when an account is old: `python -m benchmarks.ledger --write`, about three minutes.

Accounts of up to a hundred thousand events are filled event by event, with their signatures, and then charged again:
a reserve whose ε is known already, an announcement of steps, the look of a new process at the account, the fold of all
events in memory, and the full verification.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.results import table, write
from evaluation.trust import SigningKey
from privacy import journal, store
from privacy.account import opened
from privacy.ledger import PrivacyLedger
from privacy.mechanism import DpPlan, epsilon

SIZES = (100, 10_000, 100_000)
STEPS = 98  # events of a run: its reserve, its announcements, its end
OPEN = 10  # runs that are open while the account is charged
PLANS = [DpPlan(purpose="train", sampling_rate=0.01, noise_multiplier=20.0, clip_norm=1.0, steps=STEPS, draws=1)]
DELTA, REPEATS = 1e-9, 15


def main() -> None:
    """Measure and print; with --write, into `RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/RESULTS.md")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="events of the largest account")
    told = parser.parse_args()
    epsilon(PLANS, DELTA)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (s for s in SIZES if s <= told.most):
            rows.append(_measure(Path(folder) / f"{size}", size))
            print(rows[-1])
    text = (
        "Milliseconds, medians. A reserve and an announcement open the account, write database and journal, and wait "
        "for the disk.\n\n"
        + table(("events", "reserve", "step_intent", "open and look", "fold in memory", "verify everything"), rows)
    )
    if told.write:
        write("Ledger: a charge in an old account", "python -m benchmarks.ledger --write", text)
    else:
        print(text)


def _measure(folder: Path, size: int) -> list[object]:
    folder.mkdir()
    key = SigningKey.create()

    def account() -> PrivacyLedger:
        return PrivacyLedger(folder / "ledger.db", epsilon_cap=1e6, delta_cap=0.5, key=key)

    _fill(account(), size)
    ledger = account()
    for k in range(OPEN):
        ledger.authorise(f"open {k}", PLANS, delta=DELTA)
    reserve = [_milliseconds(lambda k=k: account().authorise(f"new {k}", PLANS, delta=DELTA)) for k in range(REPEATS)]
    intend = [_milliseconds(lambda k=k: ledger.intend("open 0", "train", f"{k}", 1)) for k in range(REPEATS)]
    look = [_milliseconds(lambda: account().today()) for _ in range(REPEATS)]
    events = ledger.events()

    def fold() -> None:
        state = opened(events[0])
        for event in events[1:]:
            state.apply(event)

    folds = [_milliseconds(fold) for _ in range(3)]
    verify = _milliseconds(ledger.verify)
    return [len(events), *(statistics.median(times) for times in (reserve, intend, look, folds)), verify]


def _fill(ledger: PrivacyLedger, size: int) -> None:
    """Write about `size` events; without waiting for the disk, since nobody will miss this account."""
    full, sync = store.SYNCHRONOUS, journal.sync
    store.SYNCHRONOUS, journal.sync = "OFF", lambda handle: None
    try:
        run = 0
        while ledger.newest().seq < size:
            name = f"old {run}"
            ledger.authorise(name, PLANS, delta=DELTA)
            for k in range(STEPS):
                ledger.intend(name, "train", f"{k}", 1)
            ledger.commit(name)
            run += 1
    finally:
        store.SYNCHRONOUS, journal.sync = full, sync


def _milliseconds(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return 1000 * (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
