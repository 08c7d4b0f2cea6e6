"""How fast the phantom is: pictures, masks alone, and a cohort read for its end-diastolic and end-systolic frames.

python -m benchmarks.phantom
"""

import time
from collections.abc import Callable

from cohorts.deidentify import Pseudonyms
from cohorts.frames import gather
from cohorts.phantom import simulate
from cohorts.readers.phantom import Phantom


def main() -> None:
    """Print wall and processor seconds of each job."""
    jobs: dict[str, Callable[[], object]] = {
        "stills: 1,000 subjects x A2C, A4C x ED, ES at 64 px": lambda: simulate.stills(1000, seed=0),
        "stills: 100 subjects x A2C, A4C x ED, ES at 192 px": lambda: simulate.stills(100, seed=0, size=192),
        "conditions: 10,000 masks at 64 px": lambda: simulate.conditions(10_000, seed=0),
        "gather: 1,200 subjects x A2C, A4C x ED, ES at 64 px": lambda: gather(
            Phantom(subjects=1200).read(pseudonyms=Pseudonyms(bytes(16))), size=64
        ),
        "films: 4 subjects x A2C, A4C x one cycle at 112 px": lambda: gather(
            Phantom(subjects=4, frames=0, size=112).read(pseudonyms=Pseudonyms(bytes(16))), size=112
        ),
    }
    simulate.stills(2, seed=0)
    for name, job in jobs.items():
        wall, processor = time.perf_counter(), time.process_time()
        job()
        print(f"{name:55s} {time.perf_counter() - wall:6.1f} s wall {time.process_time() - processor:6.1f} s processor")


if __name__ == "__main__":
    main()
