"""What left the sites, as the coordinator hears it: a line of JSON for each answer, in `OUT/campaign/left.jsonl`.

The line is written when the answer has come, whatever grid brought it; an answer that was asked for again after a crash
left again, and counts again. The countersignature under the certificate comes too late to stand in it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from evaluation.predicate import Left
from learning import durable
from learning.schema import canonical

FILE = "left.jsonl"
_listening: ContextVar[Path | None] = ContextVar("listening", default=None)


@contextmanager
def counted(folder: Path) -> Iterator[None]:
    """Write down what leaves the sites while this lasts, in `folder`."""
    token = _listening.set(folder / FILE)
    try:
        yield
    finally:
        _listening.reset(token)


def note(site: str, kind: str, request: object, reply: Message) -> None:
    """Write down one answer of a site to `request`, if anybody counts.

    It was charged where the request names a plan of the ledger, is of the FORMAL lane, or has patients vote.
    """
    path = _listening.get()
    if path is None:
        return
    votes = "votes" in getattr(request, "rule", {})
    charged = votes or getattr(request, "plan", None) is not None or bool(getattr(request, "formal", False))
    size = sum(len(part.deflate()) for part in get_all_nested_objects(reply).values())
    row = {"site": site, "kind": kind, "bytes": size, "charged": charged}
    durable.append(path, canonical({"utc": datetime.now(UTC).isoformat(timespec="seconds"), **row}))


def section(folder: Path) -> tuple[Left, ...]:
    """Return what left each site, by kind of answer; a line that was torn by a crash is no answer."""
    path, found = folder / FILE, dict[tuple[str, str, bool], list[int]]()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found.setdefault((row["site"], row["kind"], row["charged"]), []).append(row["bytes"])
    return tuple(
        Left(site=site, kind=kind, messages=len(sizes), bytes=sum(sizes), charged=charged)
        for (site, kind, charged), sizes in sorted(found.items())
    )
