"""Flower's `flwr-clientapp` for the one bundle that this site's people reviewed: what a SuperExec of a site starts.

Flower unpacks whatever bundle a coordinator sends, into a folder that the bundle itself names by its version, "../"
included, and runs it. A read-only folder holds up neither such a version nor root. So the bundle is asked for its
SHA-256 here, before anything of it is unpacked, and what is not the reviewed one ends as an error with no word in it.

Flower gives a program 30 s to come for its message, and then starts another beside it, and so on: on a machine that is
busy for a while they take each other's time, and none ever comes. So whoever begins here ends a predecessor that has no
message yet; and of Flower only what runs a ClientApp is loaded, which takes half the time of its own program.

Run by its path with `python -P`, so that no package of ours is imported from anywhere but the bundle:
`FLWR_HOME/bin/flwr-clientapp` calls it, and `client.node` puts that first in PATH.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BUNDLE, VERSION = "PERICARD_BUNDLE", "PERICARD_VERSION"
APP = "pericard/pericard"
BEGINNING, DIGITS = (
    "beginning",
    20,
)  # in Flower's home: locked by the ClientApp that has no message yet, and holds its number


class NotReviewed(Exception):
    """A run is of another bundle than the one that was reviewed here."""


def is_reviewed(content: bytes, named: str, app: str, version: str) -> bool:
    """Say whether a bundle is the reviewed one, and will be looked for where that lies.

    Args:
        content: of the bundle.
        named: its digest, as the coordinator says it.
        app: publisher and name, as the coordinator says them.
        version: as the coordinator says it; the last three name the folder that is run.
    """
    told = (hashlib.sha256(content).hexdigest(), named, app, version)
    return told == (os.environ[BUNDLE], os.environ[BUNDLE], APP, os.environ[VERSION])


def guarded(
    pull: Callable[[Any], Any], begun: Callable[[], None] = lambda: None
) -> tuple[Callable[[Any], Any], Callable[..., None]]:
    """Return, of Flower's `pull_task_input`, one that looks at the bundle, and an installer that obeys what it saw.

    `begun` is called when the message is here.
    """
    seen = [False]

    def pulled(client: Any) -> Any:
        message, context, run, fab = pull(client)
        begun()
        seen[0] = is_reviewed(fab.content, fab.hash_str, run.fab_id, run.fab_version)
        return message, context, run, fab

    def install(*_: Any, **__: Any) -> None:  # the reviewed bundle lies there already
        if not seen[0]:
            raise NotReviewed

    return pulled, install


def begin(path: Path) -> Callable[[], None]:
    """End the ClientApp that has locked `path`, lock it, and return what gives it back."""
    with contextlib.ExitStack() as held:
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError:  # a full disk: without the file nobody is ended, and the message is answered as ever
            return lambda: None
        held.callback(os.close, handle)
        while not _locked(handle):
            _end(os.pread(handle, DIGITS, 0))
            time.sleep(0.05)
        with contextlib.suppress(OSError):  # as above
            os.pwrite(handle, b"%*d" % (DIGITS, os.getpid()), 0)
        return held.pop_all().close


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(number: bytes) -> None:
    """Kill the process of that number, if it runs this program: whoever takes the lock has not written his at once."""
    with contextlib.suppress(ValueError, OSError):
        if b"only_reviewed" in Path(f"/proc/{int(number)}/cmdline").read_bytes():
            os.kill(int(number), signal.SIGKILL)


def main() -> None:
    """Do as `flwr-clientapp` does."""
    begun = begin(Path(os.environ["FLWR_HOME"]) / BEGINNING)
    from flwr.common.args import add_args_flwr_app_common, try_obtain_flwr_app_token
    from flwr.supercore.tls import validate_and_resolve_root_certificates
    from flwr.supernode.runtime import run_clientapp

    sys.argv[0] = "flwr-clientapp"  # Flower goes by it
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime-api-address", required=True)
    add_args_flwr_app_common(parser=parser)
    told = parser.parse_args()
    pulled, install = guarded(run_clientapp.pull_task_input, begun)
    vars(run_clientapp).update(pull_task_input=pulled, install_from_fab=install)
    run_clientapp.run_clientapp(
        runtime_api_address=told.runtime_api_address,
        token=try_obtain_flwr_app_token(told),
        insecure=told.insecure,
        certificates=validate_and_resolve_root_certificates(told.root_certificates, told.insecure),
        parent_pid=told.parent_pid,
        runtime_dependency_install=False,
    )


if __name__ == "__main__":
    main()
