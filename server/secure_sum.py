"""The coordinator's side of secure aggregation: four exchanges for one, and a mean of which it sees no part.

Sites may fall away in each of the four. Who offered no keys, or shared nothing, is out of the protocol; of who shared
and then sent nothing, the others open the key; below the threshold nothing is opened, and the exchange fails in words.
What it gives and does not give: `learning.masked`.

`attempt.json` counts the tries at one exchange. `sum.safetensors` is written before a sum is opened: sites open one
sum of an exchange, so a coordinator that died meanwhile goes on with that one.

Errors::

    rounds.QuorumLost   too few sites; says which did not answer, with which code
    CampaignFailed      what was opened is no sum: shares or masks that do not belong together
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from learning import durable, masked, wire
from learning.masked import OFFER_BYTES, SEALED_BYTES, Offer, Session
from learning.messages import Keys, Masked, MaskedTrain, Parts, Share, Train, Unmask
from learning.schema import canonical
from privacy import masks, shamir
from server.failure import CampaignFailed
from server.rounds import Answers, QuorumLost, ask

ATTEMPT, SUM = "attempt.json", "sum.safetensors"
Send = Callable[[Mapping[str, int], Callable[[str], object], int, Callable[[Any], None]], Answers[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """The mean change of `sites`, and why the others are not in it."""

    change: Mapping[str, NDArray[np.float32]]
    sites: tuple[str, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    """A sum that is still under masks.

    Attributes:
        session, asked: the try, and the digest of what the sites were asked.
        threshold: how many must open it.
        offers: of everybody who began, in hexadecimal, sorted by name.
        sharers: who shared; survivors: who is in the sum.
        failed: why the others are not.
    """

    session: Session
    asked: str
    threshold: int
    offers: Mapping[str, str]
    sharers: tuple[str, ...]
    survivors: tuple[str, ...]
    failed: Mapping[str, str]


def secure_mean(
    grid: Grid,
    sites: Mapping[str, int],
    asked: Train,
    *,
    quorum: int,
    seconds: float,
    folder: Path,
    heard: Callable[[int, int], None] = lambda served, all_sites: None,
) -> Mean:
    """Return the mean of what sites change when they are `asked`, each with equal weight; see the module for errors.

    Args:
        grid: of Flower.
        sites: name → node, sorted by name.
        asked: the same for every site: masks of sites that were asked different things do not cancel.
        quorum: fewest sites in the sum, and to open it; never below two thirds of those that begin.
        seconds: to wait for the replies of each of the four exchanges.
        folder: of the stage.
        heard: told how many of the sites have trained, where they are served one after the other.
    """

    def send(
        to: Mapping[str, int], request: Callable[[str], object], least: int, check: Callable[[Any], None]
    ) -> Answers[Any]:
        return ask(
            grid, to, request, quorum=least, seconds=seconds, check=check, group=f"{asked.stage}-{asked.round}",
            **({"heard": heard} if isinstance(request(next(iter(to))), MaskedTrain) else {}),
        )  # fmt: skip

    if len(sites) < masked.MIN_SITES:
        raise QuorumLost(f"a secure sum needs {masked.MIN_SITES} sites, {len(sites)} take part", {})
    found = _kept(folder, asked)
    if found is None:
        found = _gather(send, sites, asked, quorum=quorum, folder=folder)
    closed, total = found
    opened = send(
        {site: sites[site] for site in closed.survivors},
        lambda _: Unmask(**_words(closed.session), survivors=list(closed.survivors)),
        closed.threshold,
        lambda reply: _fits(reply.parts, shamir.SHARE_BYTES, len(closed.sharers)),
    )
    mean = masks.decode(_bare(closed, total, opened.replies), sites=len(closed.survivors))
    change = {name: np.asarray(array, np.float32) for name, array in mean.items()}
    return Mean(change=change, sites=closed.survivors, failed=closed.failed)


def forget(folder: Path) -> None:
    """Remove what was kept of an exchange whose step is done."""
    for file in (SUM, ATTEMPT):
        (folder / file).unlink(missing_ok=True)


def _gather(
    send: Send, sites: Mapping[str, int], asked: Train, *, quorum: int, folder: Path
) -> tuple[_Closed, masks.Hidden]:
    """Have the sites offer, share and train; return the sum under masks, which is on disk by then."""
    session = _begin(folder, asked)
    words = _words(session)

    keys: Answers[Parts] = send(
        sites, lambda _: Keys(**words), max(quorum, masked.MIN_SITES), lambda reply: _fits(reply.parts, OFFER_BYTES, 1)
    )
    names = list(keys.replies)
    threshold = max(quorum, masked.least_threshold(len(names)))
    offers = b"".join(keys.replies[name].parts for name in names)

    shared: Answers[Parts] = send(
        {name: sites[name] for name in names},
        lambda _: Share(**words, threshold=threshold, sites=names, offers=offers),
        threshold,
        lambda reply: _fits(reply.parts, SEALED_BYTES, len(names) - 1),
    )
    sharers = list(shared.replies)
    sealed = {
        sender: masked.blocks(shared.replies[sender].parts, SEALED_BYTES, [n for n in names if n != sender])
        for sender in sharers
    }
    told = {field.name: getattr(asked, field.name) for field in fields(Train)}

    def train(site: str) -> MaskedTrain:
        own = b"".join(sealed[sender][site] for sender in sharers if sender != site)
        return MaskedTrain(**told, attempt=session.attempt, sharers=sharers, sealed=own)

    answers: Answers[Masked] = send({n: sites[n] for n in sharers}, train, threshold, _shaped(asked))
    total = {name: np.zeros(array.shape, np.uint64) for name, array in asked.arrays.items()}
    for reply in answers.replies.values():
        total = {name: total[name] + reply.arrays[name] for name in total}
    closed = _Closed(
        session=session,
        asked=wire.digest(asked),
        threshold=threshold,
        offers={name: keys.replies[name].parts.hex() for name in names},
        sharers=tuple(sharers),
        survivors=tuple(answers.replies),
        failed={**keys.failed, **shared.failed, **answers.failed},
    )
    _keep(folder, closed, total)
    return closed, total


def _bare(closed: _Closed, total: masks.Hidden, replies: Mapping[str, Parts]) -> masks.Hidden:
    """Take from the sum the own masks of who is in it, and the masks that survivors shared with who is not."""
    bare, names = dict(total), sorted(closed.offers)
    offers = {name: Offer.read(bytes.fromhex(closed.offers[name])) for name in names}
    circled = masked.circle(closed.session, closed.threshold, offers)
    openers = list(replies)[: closed.threshold]
    shares = {n: masked.blocks(replies[n].parts, shamir.SHARE_BYTES, closed.sharers) for n in openers}
    for name in closed.sharers:
        try:
            secret = shamir.combine({names.index(n) + 1: shares[n][name] for n in openers})
        except ValueError as error:
            raise CampaignFailed(f"the sum cannot be opened: of {name!r}, {error}") from error
        if name in closed.survivors:
            if masked.commitment(closed.session, name, secret) != offers[name].commitment:
                raise CampaignFailed(
                    f"the sum cannot be opened: the shares of {name!r} are not of the mask it committed to"
                )
            masks.blind(bare, secret, add=False)
            continue
        if masked.public_of(secret) != offers[name].mask:
            raise CampaignFailed(f"the sum cannot be opened: the shares of {name!r} are not of the key it offered")
        for survivor in closed.survivors:
            seed = masked.pair_seed(secret, offers[survivor].mask, circled, closed.asked, survivor, name)
            masks.blind(bare, seed, add=not survivor < name)
    return bare


def _begin(folder: Path, asked: Train) -> Session:
    """Return the next try at this exchange; it is counted on disk before a site hears of it."""
    path, place = folder / ATTEMPT, {"stage": asked.stage, "round": asked.round}
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    attempt = before["attempt"] + 1 if {k: before.get(k) for k in place} == place else 1
    durable.write(path, canonical({**place, "attempt": attempt}).encode())
    return Session(run=asked.run, stage=asked.stage, round=asked.round, attempt=attempt)


def _keep(folder: Path, closed: _Closed, total: masks.Hidden) -> None:
    told = {field.name: getattr(closed, field.name) for field in fields(_Closed)} | {"session": _words(closed.session)}
    durable.write(folder / SUM, save(total, {"closed": canonical(told)}))


def _kept(folder: Path, asked: Train) -> tuple[_Closed, masks.Hidden] | None:
    """Return the sum that waits to be opened for just this exchange; `None` where there is none."""
    path = folder / SUM
    if not path.exists():
        return None
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    told = json.loads(header["__metadata__"]["closed"])
    if told["asked"] != wire.digest(asked):
        return None
    lists = {name: tuple(told[name]) for name in ("sharers", "survivors")}
    return _Closed(**{**told, **lists, "session": Session(**told["session"])}), load_file(path)


def _words(session: Session) -> dict[str, Any]:
    return {field.name: getattr(session, field.name) for field in fields(Session)}


def _fits(raw: bytes, size: int, number: int) -> None:
    masked.blocks(raw, size, [""] * number)


def _shaped(asked: Train) -> Callable[[Masked], None]:
    shapes = {name: array.shape for name, array in asked.arrays.items()}

    def check(reply: Masked) -> None:
        if {name: array.shape for name, array in reply.arrays.items()} != shapes:
            raise ValueError("its arrays have other names or shapes than those it was given")

    return check
