"""How long `pericard verify` takes: `python -m benchmarks.verify --write`, under a minute.

Releases of up to ten thousand files are certified by a coordinator and three sites, and verified by a fresh process
each time, as a reader does it, with a list of withdrawals: start of the interpreter, imports, signatures, statement,
policy, and the hash of every file. Beside it: hashing the same files by coreutils' sha256sum.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import table, write
from evaluation import certificate, revocation
from evaluation.certificate import TRUST
from tests.certified import certify

FILES, BYTES, REPEATS = (100, 1_000, 10_000), 4_096, 7
PROGRAM = """
import sys
from pericard.cli import run
code = run(sys.argv[1:])
heavy = {"torch", "numpy", "scipy", "pandas", "PIL", "monai", "matplotlib", "flwr", "sklearn", "jinja2", "omegaconf"}
print(sorted(heavy & set(sys.modules)), len(sys.modules), file=sys.stderr)
sys.exit(code)
"""


def main() -> None:
    """Measure and print; with --write, into `RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/RESULTS.md")
    told = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n in FILES:
            rows.append(_measure(Path(folder) / f"{n}", n))
            print(rows[-1])
    text = (
        f"Seconds of a fresh process, median and least of {REPEATS}, files of {BYTES} bytes in the disk's cache; four "
        f"signatures, a list of "
        f"withdrawals. Wall time depends on what else the machine does. Heavy libraries loaded: {rows[-1][-1]}.\n\n"
        + table(
            ("files", "manifest, KiB", "CPU", "least CPU", "wall", "least wall", "peak MiB", "sha256sum alone, wall"),
            [row[:-1] for row in rows],
        )
    )
    if told.write:
        write("Verify", "python -m benchmarks.verify --write", text)
    else:
        print(text)


def _measure(folder: Path, n: int) -> list[object]:
    made = certify(folder, n_files=n, content="x" * BYTES, issued=datetime.now(UTC))
    verified = certificate.verify(folder, trust=made.trust, now=datetime.now(UTC))
    entry = revocation.entry_of(verified.statement, verified.digest)
    listed = folder.with_suffix(".list")
    now = datetime.now(UTC)
    listed.write_bytes(revocation.sealed(revocation.updated(None, now=now, enter=[entry]), made.coordinator).canonical)
    asked = ["verify", str(folder), "--trust", str(folder / TRUST), "--revocations", str(listed), "--json"]
    seconds, computed, heavy = [], [], ""
    for _ in range(REPEATS + 1):
        start, before = time.perf_counter(), _computed()
        done = subprocess.run([sys.executable, "-c", PROGRAM, *asked], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        computed.append(_computed() - before)
        assert json.loads(done.stdout)["status"]["known"]  # noqa: S101 - what is timed must be what is meant
        heavy = done.stderr.strip().splitlines()[-1].partition("]")[0] + "]"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    start = time.perf_counter()
    with (folder.parent / "digests").open("w") as digests:
        subprocess.run(["sha256sum", *map(str, sorted(folder.rglob("*.png")))], check=True, stdout=digests)
    plain = time.perf_counter() - start
    size = os.stat(folder / "release/manifest.json").st_size / 1024  # noqa: PTH116
    shown = (f(times[1:]) for times in (computed, seconds) for f in (statistics.median, min))
    return [n + 3, size, *shown, peak, plain, heavy]


def _computed() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
