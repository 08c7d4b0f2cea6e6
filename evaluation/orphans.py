"""Processes of Flower's that outlived whoever started them: who is killed cannot end them, and they hold ports.

A folder belongs to one process at a time. Whoever gets it ends what an earlier holder left running, known by its home
of Flower's; so the same command, given again after any death, goes on.

Errors: `InUse`, a `ValueError` that names the folder.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

GONE_SECONDS = 30.0


class InUse(ValueError):
    """Another process works in the folder."""


@contextlib.contextmanager
def alone(folder: Path, home: Path) -> Iterator[None]:
    """Hold `folder`, and end every process whose FLWR_HOME is `home` (where there is a /proc).

    Raises:
        InUse: if another process holds the folder.
    """
    handle = os.open(folder / "running", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _end(home)
        yield
    except BlockingIOError as error:
        raise InUse(f"another process works with {folder}: end that one first") from error
    finally:
        os.close(handle)


def _end(home: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while (left := _of(home)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _of(home: Path) -> list[int]:
    """Return the processes that work in `home`; one that has ended and was not waited for has no environment."""
    wanted, found = b"FLWR_HOME=" + os.fsencode(home.resolve()), []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in entry.read_bytes().split(b"\0") and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
    return found
