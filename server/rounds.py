"""Rounds: ask every site, keep a quorum, refuse what was not asked for, average in the order of names.

Replies are sorted by the site's name before anything is summed, so that the order of arrival leaves no trace in the
bits. A site that fails is listed, never silently absent; fewer than the quorum end the campaign, not shorten the round.

Errors::

    RuntimeError
    └── QuorumLost   too few sites answered; says which did not, and with which code
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from learning import messages
from learning.messages import REPLIES, Code, Greeting, Hello, Trained
from learning.schema import Malformed
from server import left
from server.grid import InProcessGrid

R = TypeVar("R")
Weights = Mapping[str, NDArray[np.float32]]
NO_REPLY = "no reply before the deadline"
KNOWN_CODES = {int(code): code.name for code in Code}


class QuorumLost(RuntimeError):
    """Fewer sites answered than the campaign needs; `failed` says of the others with which code."""

    def __init__(self, words: str, failed: Mapping[str, str]) -> None:
        super().__init__(words)
        self.failed = dict(failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Generic[R]):
    """The replies of one exchange, and why the other sites have none; both sorted by site."""

    replies: Mapping[str, R]
    failed: Mapping[str, str]


def discover(grid: Grid, *, quorum: int, seconds: float) -> dict[str, tuple[int, Greeting]]:
    """Ask every node who it is; returns name → (node, greeting), sorted by name.

    Where the operator registered a name for a node, that name counts and not the one the node gives itself.

    Raises:
        QuorumLost: if fewer than `quorum` sites answer.
        ValueError: if two nodes have one name.
    """
    registered = {node.node_id: node.name for node in grid.get_nodes()}
    answers: Answers[Greeting] = ask(
        grid, {str(node): node for node in registered}, lambda _: Hello(), quorum=quorum, seconds=seconds
    )
    found: dict[str, tuple[int, Greeting]] = {}
    for node, greeting in answers.replies.items():
        name = registered[int(node)] or greeting.site
        if name in found:
            raise ValueError(f"two nodes are named {name!r}: {found[name][0]} and {node}")
        found[name] = (int(node), greeting)
    return dict(sorted(found.items()))


def ask(
    grid: Grid,
    sites: Mapping[str, int],
    request: Callable[[str], object],
    *,
    quorum: int,
    seconds: float,
    check: Callable[[Any], None] = lambda reply: None,
    heard: Callable[[int, int], None] = lambda served, all_sites: None,
    group: str = "",
) -> Answers[Any]:
    """Send `request(site)` to every site and return the replies that follow their schema and pass `check`.

    Args:
        grid: of Flower.
        sites: name → node.
        request: makes the message for a site.
        quorum: fewest good replies.
        seconds: to wait for replies.
        check: raises `ValueError` for a reply that must not be used; its site then counts as failed.
        heard: told how many of the sites have been served, where sites are served one after the other.
        group: the round, for the log.

    Raises:
        QuorumLost: if fewer than `quorum` good replies came.
    """
    asked = {site: request(site) for site in sites}
    kinds = {site: messages.kind_of(asked[site]) for site in sites}
    outgoing = [
        Message(messages.encode(asked[site]), node, kinds[site], ttl=seconds + 60, group_id=group)
        for site, node in sites.items()
    ]
    site_of = {node: site for site, node in sites.items()}
    replies: dict[str, Any] = {}
    failed: dict[str, str] = dict.fromkeys(sites, NO_REPLY)
    for message in _exchange(grid, outgoing, seconds, heard):
        site = site_of.get(message.metadata.src_node_id)
        if site is None or site in replies:
            continue
        left.note(site, kinds[site], asked[site], message)
        if message.has_error():
            failed[site] = _reason(message.error.code, message.error.reason)
            continue
        try:
            reply = messages.decode(message.content, REPLIES[kinds[site]])
            check(reply)
        except (Malformed, ValueError) as error:
            failed[site] = f"foreign reply: {error}"
            continue
        replies[site] = reply
        del failed[site]
    answers = Answers(replies=dict(sorted(replies.items())), failed=dict(sorted(failed.items())))
    if len(replies) < quorum:
        why = "; ".join(f"{site}: {reason}" for site, reason in answers.failed.items()) or "nobody else is there"
        what = f"{next(iter(kinds.values()), 'exchange')} {group}".strip()
        raise QuorumLost(
            f"{what}: {', '.join(answers.replies) or 'no site'} answered, the quorum is {quorum} ({why})",
            answers.failed,
        )
    return answers


def _exchange(
    grid: Grid, outgoing: list[Message], seconds: float, heard: Callable[[int, int], None]
) -> Iterable[Message]:
    if not isinstance(grid, InProcessGrid):
        yield from grid.send_and_receive(outgoing, timeout=seconds)
        return
    for served, message in enumerate(outgoing, 1):
        yield from grid.send_and_receive([message])
        heard(served, len(outgoing))


def fits(given: Weights) -> Callable[[Trained], None]:
    """Return the check of a training reply: exactly the names and shapes that were `given`."""
    shapes = {name: array.shape for name, array in given.items()}

    def check(reply: Trained) -> None:
        if {name: array.shape for name, array in reply.arrays.items()} != shapes:
            raise ValueError("its arrays have other names or shapes than those it was given")

    return check


def mean(replies: Iterable[Weights]) -> dict[str, NDArray[np.float32]]:
    """Average with equal weights, in float64 and in the order given.

    Equal, because a weight by the number of subjects would tell that number, and any site could claim a larger one.
    """
    parts = list(replies)
    return {n: np.asarray(np.mean([p[n] for p in parts], axis=0, dtype=np.float64), np.float32) for n in parts[0]}


def _reason(code: int, text: str | None) -> str:
    """Return code and reference; text of anything but our guard is not passed on."""
    if code not in KNOWN_CODES:
        return f"Flower error {code}"
    reference = (text or "").rpartition("ref=")[2]
    return f"{KNOWN_CODES[code]} ref={reference[:12] if reference.isalnum() else '?'}"
