r"""How long an audit takes and how much memory it needs, beside what one would take instead.

Features are 256 numbers of norm one, each picture another person's; a fiftieth of a release are copies. Every job runs
in a process of its own with one thread, ours and theirs in turn for each n. Seconds are those that the processor worked
for it, which on a machine of one's own is how long it takes, the least of its repeats; memory is what the process took
at most on top of its libraries and its data. Neighbours are the two nearest members of each released picture; the whole
suite attacks n released pictures with n people, of whom half are members. Where two ways have to find the same and do
not, the command fails.

scikit-learn, faiss and torchmetrics are no dependencies of ours. To have them stand beside:

uv pip install --target /tmp/rivals --no-deps scikit-learn joblib loky cloudpickle threadpoolctl narwhals faiss-cpu \
    torchmetrics lightning-utilities
python -m benchmarks.audit [--write] [--rivals /tmp/rivals] [--only REGEX] [--n 2000 5000 10000 20000] [--repeats 3]
"""

import argparse
import ctypes
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import results

THREADS = 1  # with more, numbers would be of who else uses the machine
DIMENSION = 256
SIZES = (2000, 5000, 10_000, 20_000)
TARGET_SECONDS, TARGET_MB = 60, 2048
Work = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one process saw: seconds, peak memory of its own in MB, and a number that all ways must agree about."""

    seconds: float
    mb: float
    found: float


def features(n: int, seed: int, copied: Any = None) -> Any:
    """Return features of n strangers in which hearts vary in few directions; the last fiftieth may be copies."""
    import numpy as np

    directions = np.random.default_rng(0).standard_normal((40, DIMENSION))
    rng = np.random.default_rng([1, seed])
    rows = rng.standard_normal((n, 40)) @ directions + 2 * rng.standard_normal((n, DIMENSION))
    found = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    if copied is not None:
        found[-(n // 50) :] = copied[: n // 50]
    return found


def nearest_ours(n: int) -> Work:
    """`privacy.neighbours.nearest`."""
    from privacy.neighbours import nearest

    members = features(n, 1)
    released = features(n, 2, members)
    return lambda: float(nearest(released, members, 2)[0].sum())


def nearest_sklearn(n: int) -> Work:
    """Brute force of scikit-learn."""
    from sklearn.neighbors import NearestNeighbors

    members = features(n, 1)
    released = features(n, 2, members)
    return lambda: float(NearestNeighbors(n_neighbors=2, algorithm="brute").fit(members).kneighbors(released)[0].sum())


def nearest_faiss(n: int) -> Work:
    """Exact index of faiss."""
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(THREADS)
    members = features(n, 1)
    released = features(n, 2, members)

    def work() -> float:
        index = faiss.IndexFlatL2(DIMENSION)
        index.add(members)
        return float(np.sqrt(np.maximum(index.search(released, 2)[0], 0)).sum())

    return work


def suite_ours(n: int) -> Work:
    """`privacy.suite.attacked`: every attack, its controls and its plantings."""
    import numpy as np

    from privacy.gallery import Gallery, joined
    from privacy.suite import RANDOM, attacked

    def people(name: str, rows: Any) -> Gallery:
        who = np.arange(len(rows))
        words = np.array(["low", "middle", "high"], object)[who % 3]
        return Gallery(
            features=rows, subject=who, subjects=tuple(f"{name}-{i}" for i in who), view=who % 2, phase=who % 2,
            attributes={"ef_class": words},
        )  # fmt: skip

    members, rest = features(n // 2, 1), features(n - n // 2, 3)
    released = people("released", features(n, 2, members))
    of_members, controls = people("member", members), people("control", rest[: n // 4])
    reference = people("reference", rest[n // 4 :])

    def work() -> float:
        found = attacked(
            released, of_members, controls, reference,
            copies=joined(of_members, controls), disclosure={}, split=RANDOM, seed=0,
        )  # fmt: skip
        return min(r.p_value for r in found.records if r.p_value is not None)

    return work


def frechet_ours(n: int) -> Work:
    """`evaluation.distances.frechet`."""
    from evaluation.distances import frechet

    one, other = features(n, 1), features(n, 2)
    return lambda: frechet(one, other)


def frechet_torchmetrics(n: int) -> Work:
    """FID of torchmetrics on the same features."""
    return _torchmetrics("fid", n)


def kernel_ours(n: int) -> Work:
    """`evaluation.distances.kernel`, 100 subsets of 1,000 or of half."""
    import numpy as np

    from evaluation.distances import kernel

    one, other = features(n, 1), features(n, 2)
    return lambda: kernel(one, other, rng=np.random.default_rng(0)).value


def kernel_torchmetrics(n: int) -> Work:
    """KID of torchmetrics with the same subsets."""
    return _torchmetrics("kid", n)


def _torchmetrics(which: str, n: int) -> Work:
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    torch.set_num_threads(THREADS)

    class AsTheyAre(torch.nn.Module):
        num_features = DIMENSION

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    one, other = torch.from_numpy(features(n, 1)), torch.from_numpy(features(n, 2))

    def work() -> float:
        metric: Any = (
            FrechetInceptionDistance(feature=AsTheyAre())
            if which == "fid"
            else KernelInceptionDistance(feature=AsTheyAre(), subsets=100, subset_size=min(1000, n // 2))
        )
        metric.update(one, real=True)
        metric.update(other, real=False)
        found = metric.compute()
        return float(found if which == "fid" else found[0])

    return work


JOBS: dict[str, dict[str, Callable[[int], Work]]] = {
    "two nearest of n among n": {
        "ours": nearest_ours, "scikit-learn, brute force": nearest_sklearn, "faiss, flat index": nearest_faiss,
    },
    "Fréchet distance": {"ours": frechet_ours, "torchmetrics": frechet_torchmetrics},
    "kernel distance": {"ours": kernel_ours, "torchmetrics": kernel_torchmetrics},
    "the whole suite": {"ours": suite_ours},
}  # fmt: skip
AGREE = {"two nearest of n among n": 1e-4, "Fréchet distance": 1e-3}  # of each other; the kernel draws other subsets


def child(job: str, way: str, n: int) -> None:
    """Do one job in this process and print what it took."""
    work = JOBS[job][way](n)
    JOBS[job][way](200)()  # libraries load and pools start before the clock does
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what making the data left free would hide what the work takes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
    before = _peak_mb()
    start = time.process_time()
    found = work()
    seconds = time.process_time() - start
    mb = _peak_mb() - before
    print(json.dumps([seconds, mb, found]))


def _peak_mb() -> float:
    """Return the most memory of this process since the mark was reset; the parent is too light to be in it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(job: str, way: str, n: int, *, rivals: str) -> Measured | None:
    """Do one job in a process of its own; `None` where its library is not there."""
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    path = os.pathsep.join(p for p in (os.environ.get("PYTHONPATH", ""), rivals if way != "ours" else "") if p)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.audit", "--job", job, "--way", way, "--n", str(n)],
        env={**os.environ, **threads, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        if "ModuleNotFoundError" in done.stderr and way != "ours":
            return None
        raise RuntimeError(f"{job}, {way}, n={n} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    seconds, mb, found = json.loads(done.stdout.splitlines()[-1])
    return Measured(seconds=seconds, mb=mb, found=found)


def beside(job: str, n: int, *, rivals: str, repeats: int) -> dict[str, Measured]:
    """Return the best repeat of every way, all ways in turn."""
    best: dict[str, Measured] = {}
    for _ in range(repeats):
        for way in JOBS[job]:
            found = measure(job, way, n, rivals=rivals)
            if found and (way not in best or found.seconds < best[way].seconds):
                best[way] = found
                print(f"{job}, {way}, n={n}: {found}", flush=True)
    numbers = [m.found for m in best.values()]
    if job in AGREE and max(numbers) - min(numbers) > AGREE[job] * max(map(abs, numbers)):
        raise RuntimeError(f"{job}, n={n}: {best} do not agree")
    return best


def table(job: str, rows: dict[int, dict[str, Measured]]) -> str:
    """Return the table of one job: seconds and MB of every way, and ours as a share of each other's."""
    lines: list[Sequence[object]] = []
    for n, ways in rows.items():
        ours = ways["ours"]
        for way, found in ways.items():
            ratios = ("", "") if way == "ours" else (found.seconds / ours.seconds, found.mb / max(ours.mb, 1.0))
            lines.append([n, way, found.seconds, round(found.mb), *ratios])
    head = ("n", "way", "seconds", "MB", "times our seconds", "times our MB")
    return f"### {job[0].upper()}{job[1:]}\n\n{results.table(head, lines)}"


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    parser.add_argument("--rivals", default="", help="folder where the other libraries were installed")
    parser.add_argument("--only", default="", help="jobs whose name matches")
    parser.add_argument("--n", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3, help="of each job; the whole suite runs once")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        child(given.job, given.way, given.n[0])
        return
    rows: dict[str, dict[int, dict[str, Measured]]] = {job: {} for job in JOBS if re.search(given.only, job)}
    for job, found in rows.items():
        for n in given.n:
            repeats = given.repeats if len(JOBS[job]) > 1 else 1
            found[n] = beside(job, n, rivals=given.rivals, repeats=repeats)
            text = said(rows)
            if given.write:  # the largest take long: what there is stands already
                results.write("Audit", "python -m benchmarks.audit --write --rivals FOLDER", text)
    print(said(rows))


def said(rows: dict[str, dict[int, dict[str, Measured]]]) -> str:
    """Return what was measured so far, in words and tables."""
    parts = [" ".join(__doc__.split("\n\n")[1].split())]
    for job, found in rows.items():
        parts += [table(job, found)] if found else []
        if found and job.startswith("two nearest"):
            at = max(found)
            ours, met = found[at]["ours"], ("met", "missed")
            parts.append(
                f"Target at 20,000: {TARGET_SECONDS} s ({met[ours.seconds > TARGET_SECONDS]}) and {TARGET_MB} MB "
                f"({met[ours.mb > TARGET_MB]}); measured at {at:,}."
            )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
