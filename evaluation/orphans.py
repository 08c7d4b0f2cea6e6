"""Processes of Flower's that outlived whoever started them: who is killed cannot end them, and they hold ports.

A folder belongs to one process at a time. Whoever gets it ends what an earlier holder left running, known by its home
of Flower's; so the same command, given again after any death, goes on.

Errors: `InUse`, a `ValueError` that names the folder.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from learning import durable

GONE_SECONDS = 30.0


class InUse(ValueError):
    """Another process works in the folder."""


@contextlib.contextmanager
def alone(folder: Path, home: Path) -> Iterator[None]:
    """Hold `folder`, and end every process whose FLWR_HOME is `home` (where there is a /proc).

    Raises:
        InUse: if another process holds the folder.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(durable.lock(folder / "running", wait=False))
        except BlockingIOError as error:
            raise InUse(f"another process works with {folder}: end that one first") from error
        _end(home)
        yield


def _end(home: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while (left := marked("FLWR_HOME", str(home.resolve()))) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def newest_alone(home: Path, program: str) -> None:
    """End every process whose FLWR_HOME is `home` and that runs `program`, but the one that began last.

    Flower gives a program 30 s to come for its task, and then starts another beside it, and so on: on a machine that is
    busy for a while they take each other's time, and none ever comes. Those before the last have lost their task.
    """
    begun = []
    for pid in marked("FLWR_HOME", str(home.resolve())):
        with contextlib.suppress(OSError):  # it ended meanwhile
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if program in (Path(os.fsdecode(word)).name for word in words):
                told = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
                begun.append((int(told.rpartition(")")[2].split()[19]), pid))  # proc(5): ticks at which it began
    for _, pid in sorted(begun)[:-1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def marked(name: str, value: str) -> list[int]:
    """Return the processes but this one whose environment holds `name` with `value`; none where there is no /proc.

    One that has ended and was not waited for has no environment.
    """
    wanted, found = f"{name}=".encode() + os.fsencode(value), []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in entry.read_bytes().split(b"\0") and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
    return found
