"""What leaves under secure aggregation is what was approved: asked again the same bytes, and never a second sum."""

import contextlib
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message

from client import approval, outgoing
from client.app import app as client_app
from client.journal import FILE, OUT, SERVED, Entry, verify
from client.site import Site
from learning.messages import Code, Keys, Masked, Parts
from learning.proposal import Proposal
from server.grid import InProcessGrid
from server.rounds import QuorumLost, mean
from server.secure_sum import forget, secure_mean
from tests.client.test_outgoing import proposal
from tests.hospitals import NAMES, WEIGHTS, log_of, train_request, train_stage
from tests.masked import Play, acquainted, changing

ROUNDS = 2
STEPS = ("query.keys", "query.shares", "train.masked", "query.unmask")
DICE = np.random.default_rng(11)
CHANGES = {site: {n: DICE.normal(size=a.shape).astype(np.float32) for n, a in WEIGHTS.items()} for site in NAMES}


def _asked(tmp_path: Path, run: str) -> Proposal:
    told = proposal(tmp_path, train_stage(rounds=ROUNDS, aggregation={"secure": True}))
    return replace(told, campaign={**told.campaign, "run": run})


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[list[Site]]:
    """Three hospitals that approved one training of two exchanges under masks."""
    with pytest.MonkeyPatch.context() as patch:
        changing(patch, CHANGES)
        found = acquainted(tmp_path / "sites", approval=True)
        for site in found:
            approval.approve(site, _asked(tmp_path, "run-1"))
        yield found


def _left(site: Site) -> list[Entry]:
    content = (site.folder / FILE).read_bytes()
    return [e for e in verify(content, site.signing_key.public).entries if e.way == OUT]


class Hasty:
    """The real app, of which replies are lost by dice after they were made, in every one of the four exchanges."""

    def __init__(self, dice: random.Random, share: float) -> None:
        self.dice, self.share, self.lost = dice, share, set[str]()

    def __call__(self, message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if self.dice.random() < self.share:
            self.lost.add(message.metadata.message_type)
            raise ConnectionError("lost")
        return reply


def test_replies_that_are_lost_anywhere_and_asked_for_again_leave_within_what_was_approved(
    sites: list[Site], tmp_path: Path
) -> None:
    """Twenty exchanges, each tried until it is done; one reply in seven is lost."""
    plain, lost = mean([CHANGES[name] for name in NAMES]), set()
    for seed in range(10):
        app, tries = Hasty(random.Random(seed), 1 / 7), 0  # noqa: S311
        grid = InProcessGrid(app, [{"site": str(site.folder)} for site in sites])  # type: ignore[arg-type]
        nodes = dict(zip(NAMES, grid.get_node_ids(), strict=True))
        run, folder = f"run-{seed + 2}", tmp_path / str(seed)
        for site in sites:
            approval.approve(site, _asked(tmp_path, run))
        folder.mkdir()
        for number in range(1, ROUNDS + 1):
            found = None
            while found is None and (tries := tries + 1) <= 16 * ROUNDS:
                with contextlib.suppress(QuorumLost):
                    asked = train_request(run=run, round=number)
                    found = secure_mean(grid, nodes, asked, quorum=2, seconds=1.0, folder=folder)
            assert found is not None
            forget(folder)
            if len(found.sites) == len(NAMES):
                for n, exact in plain.items():
                    np.testing.assert_allclose(found.change[n], exact, rtol=1e-6, atol=1e-6)
        lost |= app.lost
        for site in sites:
            left = [entry for entry in _left(site) if entry.run == run]
            assert {entry.code for entry in left} == {SERVED}
            different = defaultdict(set)
            for entry in left:
                different[entry.kind].add(entry.digest)
            assert len(different["query.unmask"]) <= ROUNDS
    assert lost == set(STEPS)


def _steps(play: Play, name: str) -> dict[str, dict[str, bytes]]:
    """Play an exchange, and ask `name` every question of it a second and a third time before the next."""
    offers = play.offers()
    for _ in range(3):
        again = {n: play.read(Parts, play.ask(Keys(**play.place), n)).parts for n in play.names}
        assert again == offers
    sealed = {n: play.read(Parts, play.share(n, offers)).parts for n in play.names}
    for _ in range(2):
        assert play.read(Parts, play.share(name, offers)).parts == sealed[name]
    masked = {n: play.read(Masked, play.train(n, sealed, play.names)).arrays for n in play.names}
    for _ in range(2):
        again = play.read(Masked, play.train(name, sealed, play.names)).arrays
        assert all(np.array_equal(again[n], masked[name][n]) for n in again)
    opened = {n: play.read(Parts, play.unmask(n, play.names)).parts for n in play.names}
    for _ in range(2):
        assert play.read(Parts, play.unmask(name, play.names)).parts == opened[name]
    return {"offers": offers, "sealed": sealed}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_question_is_answered_again_with_the_same_bytes_and_no_other(sites: list[Site], name: str) -> None:
    play = Play(sites)
    told = _steps(play, name)
    entries = [e for e in _left(play.sites[name]) if e.kind in STEPS]
    assert {e.code for e in entries} == {SERVED}
    for step in STEPS:
        assert len({e.digest for e in entries if e.kind == step}) == 1
        assert len([e for e in entries if e.kind == step]) >= 3
    pair = sorted({name, next(n for n in play.names if n != name)})
    others = {
        "query.shares": lambda: play.share(name, told["offers"], threshold=3),
        "train.masked": lambda: play.train(name, told["sealed"], play.names, learning_rate=0.25),
        "query.unmask": lambda: play.unmask(name, pair),
    }
    for step, ask in others.items():
        assert ask() is Code.REFUSED_POLICY
        last = _left(play.sites[name])[-1]
        assert (last.kind, last.code) == (step, "REFUSED_POLICY")
    assert play.read(Parts, play.unmask(name, play.names)).parts  # what was opened may be told again


def test_nothing_is_begun_anew_once_the_sum_of_an_exchange_was_opened(sites: list[Site]) -> None:
    play = Play(sites)
    _steps(play, "aurora")
    later = Play(sites, attempt=2)
    assert later.ask(Keys(**later.place), "aurora") is Code.REFUSED_POLICY
    assert "was opened; no other sum" in log_of(play.sites["aurora"])[-1]["words"]


def test_as_many_tries_leave_as_were_approved_and_not_one_more(sites: list[Site]) -> None:
    most = outgoing.TRIES["query.keys"] * ROUNDS
    for attempt in range(1, most + 1):
        play = Play(sites, attempt=attempt)
        assert play.read(Parts, play.ask(Keys(**play.place), "aurora")).parts
    past = Play(sites, attempt=most + 1)
    assert past.ask(Keys(**past.place), "aurora") is Code.REFUSED_POLICY
    assert f"{most} replies to 'query.keys' of stage 'views' were approved, and left" in log_of(sites[0])[-1]["words"]


def test_a_sum_of_an_exchange_that_was_not_approved_is_not_opened(sites: list[Site]) -> None:
    for number in (1, 2):
        _steps(Play(sites, round=number), "aurora")
    more = Play(sites, round=3)
    offers = more.offers()
    sealed = {n: more.read(Parts, more.share(n, offers)).parts for n in more.names}
    for n in more.names:
        more.read(Masked, more.train(n, sealed, more.names))
    assert more.unmask("aurora", more.names) is Code.REFUSED_POLICY
    assert "2 replies to 'query.unmask' of stage 'views' were approved, and left" in log_of(sites[0])[-1]["words"]
