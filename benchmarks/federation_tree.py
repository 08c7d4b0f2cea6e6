"""What a tree of processes costs: CPU seconds of all that ever lived in it, proportional memory of all that live."""

import contextlib
import ctypes
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
SUBREAPER = 36  # prctl(2): orphans of ours come back to us, and are counted
EVERY_SECONDS, MEMORY_EVERY = 1.0, 2


class Tree:
    """The descendants of this process, looked at once a second; this process itself counts as a bystander.

    What a process used is in its own counters while it lives and in its parent's once it was waited for, so the sum
    over the tree loses nothing, however short a process lives.

    Attributes:
        seen: (time, CPU seconds of all descendants until then).
        memory: (time, sum of their proportional set sizes in bytes).
    """

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []
        self.memory: list[tuple[float, int]] = []
        self._over = threading.Event()

    def used(self, begun: float, ended: float) -> float:
        """Return the CPU seconds used between two times of `time.time`."""
        return self._until(ended) - self._until(begun)

    def peak(self, begun: float, ended: float) -> float:
        """Return the largest memory between two times, in MiB."""
        return max((size for at, size in self.memory if begun <= at <= ended), default=0) / 2**20

    def _until(self, at: float) -> float:
        before = max((row for row in self.seen if row[0] <= at), default=self.seen[0])
        after = min((row for row in self.seen if row[0] >= at), default=self.seen[-1])
        if after[0] <= before[0]:
            return before[1]
        return before[1] + (after[1] - before[1]) * (at - before[0]) / (after[0] - before[0])

    def _watch(self) -> None:
        number = 0
        while not self._over.is_set():
            members = _descendants()
            waited = resource.getrusage(resource.RUSAGE_CHILDREN)
            now = waited.ru_utime + waited.ru_stime + sum(members.values()) / TICKS
            # A process that is waited for between the two looks would be missed for once.
            self.seen.append((time.time(), max(now, self.seen[-1][1] if self.seen else 0.0)))
            if number % MEMORY_EVERY == 0:
                self.memory.append((time.time(), sum(map(_pss, members))))
            number += 1
            self._over.wait(EVERY_SECONDS)


@contextlib.contextmanager
def watched() -> Iterator[Tree]:
    """Watch the tree below this process until the block ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot take in orphans")
    tree = Tree()
    thread = threading.Thread(target=tree._watch, daemon=True)
    thread.start()
    try:
        yield tree
    finally:
        tree._over.set()
        thread.join()


def _descendants() -> dict[int, int]:
    """Return the ticks that each living descendant used, those of children it waited for included."""
    parent: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = path.read_text().rpartition(")")[2].split()
            parent[int(path.parent.name)] = int(words[1])
            ticks[int(path.parent.name)] = sum(map(int, words[11:15]))
    below, found = {os.getpid()}, dict[int, int]()
    while below := {pid for pid, above in parent.items() if above in below and pid not in found}:
        found.update({pid: ticks[pid] for pid in below})
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
