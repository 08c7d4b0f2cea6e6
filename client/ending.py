"""A program of Flower's that ends when its main thread does: what `FLWR_HOME/bin/flower-supernode` calls.

A SuperNode whose coordinator answers once with an error of its own (HTTP 500, from a database that was locked) leaves
its loop and says good-bye, but its process stays for ever, since another thread serves its runtime interface. Whoever
watches the process sees nothing wrong, and the hospital is gone. Ended, it is started again within seconds.

Run by its path with `python -P`, as `client.only_reviewed` is: `ending.py NAME-OF-THE-PROGRAM ARGUMENTS…`.
"""

import os
import sys
import traceback
from importlib.metadata import entry_points


def main() -> None:
    """Run the program that the first argument names, then end this process, whatever its other threads do."""
    del sys.argv[0]
    (program,) = entry_points(group="console_scripts", name=sys.argv[0])
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
