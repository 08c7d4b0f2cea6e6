"""Flower's `flwr-clientapp` for the one bundle that this site's people reviewed: what a SuperExec of a site starts.

Flower unpacks whatever bundle a coordinator sends, into a folder that the bundle itself names by its version, "../"
included, and runs it. A read-only folder holds up neither such a version nor root. So the bundle is asked for its
SHA-256 here, before anything of it is unpacked, and what is not the reviewed one ends as an error with no word in it.

Run by its path with `python -P`, so that no package of ours is imported from anywhere but the bundle:
`FLWR_HOME/bin/flwr-clientapp` calls it, and `client.node` puts that first in PATH.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from typing import Any

BUNDLE, VERSION = "PERICARD_BUNDLE", "PERICARD_VERSION"
APP = "pericard/pericard"


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


def guarded(pull: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Callable[..., None]]:
    """Return, of Flower's `pull_task_input`, one that looks at the bundle, and an installer that obeys what it saw."""
    seen = [False]

    def pulled(client: Any) -> Any:
        message, context, run, fab = pull(client)
        seen[0] = is_reviewed(fab.content, fab.hash_str, run.fab_id, run.fab_version)
        return message, context, run, fab

    def install(*_: Any, **__: Any) -> None:  # the reviewed bundle lies there already
        if not seen[0]:
            raise NotReviewed

    return pulled, install


def main() -> None:
    """Do as `flwr-clientapp` does."""
    from flwr.supernode.cli import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp

    pulled, install = guarded(run_clientapp.pull_task_input)
    vars(run_clientapp).update(pull_task_input=pulled, install_from_fab=install)
    sys.argv[0] = "flwr-clientapp"  # Flower goes by it
    flwr_clientapp()


if __name__ == "__main__":
    main()
