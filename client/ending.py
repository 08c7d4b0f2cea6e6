"""Flower's SuperNode as a hospital needs it: what `FLWR_HOME/bin/flower-supernode` calls.

A SuperNode whose coordinator answers once with an error of its own (HTTP 500, from a database that was locked) leaves
its loop and says good-bye, but its process stays for ever, since another thread serves its runtime interface. Whoever
watches the process sees nothing wrong, and the hospital is gone. Ended, it is started again within seconds.

It ends when its main thread does, and it tries again where Flower's would take a break of the line for a wrong
certificate. A proxy whose other side is down takes a call and hangs up, or says nothing, in the middle of the
handshake; for Flower that is an error of TLS, after which it drops the answer that it was sending. A certificate that
is wrong stays one.

Run by its path with `python -P`, as `client.only_reviewed` is: `ending.py NAME-OF-THE-PROGRAM ARGUMENTS…`.
"""

import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

SUPERNODE, MAKER = "flower-supernode", "make_simple_http_retry_invoker"
BROKEN = ("EOF occurred in violation of protocol", "timed out")  # OpenSSL's words for a line that broke, or is silent


def patient(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return, of Flower's maker of those who try again, one whose do so also where a line broke in the handshake."""

    def made() -> Any:
        trying = make()
        gives_up = trying.should_giveup
        trying.should_giveup = lambda error: not any(words in str(error) for words in BROKEN) and gives_up(error)
        return trying

    return made


def main() -> None:
    """Run the program that the first argument names, then end this process, whatever its other threads do."""
    del sys.argv[0]
    (program,) = entry_points(group="console_scripts", name=sys.argv[0])
    if sys.argv[0] == SUPERNODE:
        from flwr.supernode import fleet_http_connection as line

        vars(line)[MAKER] = patient(vars(line)[MAKER])
    try:
        program.load()()
    except Exception:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
