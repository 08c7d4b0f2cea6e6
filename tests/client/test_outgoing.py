"""What a site's people were shown before they approved is all that ever leaves: so many messages, so large."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message

from client import approval, outgoing
from client.admission import own_code
from client.app import app
from client.journal import FILE, OUT, verify
from client.outgoing import Line
from client.site import Site
from learning.messages import Code, Guess, Hello, Measure, Refusal
from learning.proposal import Proposal
from synthesis import likeness
from tests.hospitals import PLAN, SIZE, Wire, campaign, hospital, log_of, reserve_request, reserve_stage, train_request
from tests.hospitals import train_stage as trained


def proposal(tmp_path: Path, *stages: Any) -> Proposal:
    told = json.loads(campaign(tmp_path, reserve_stage(PLAN), *(stages or (trained(),))).to_json())
    return Proposal(code_digest=own_code(), bundle_digest="ab" * 32, campaign={**told, "out": ""})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that approved one training of three exchanges, and has admitted it."""
    found = hospital(tmp_path / "sites", approval=True)
    asked = proposal(tmp_path)
    approval.approve(found, asked)
    reserve = reserve_request(PLAN, experiment_digest=asked.experiment_digest, delta=asked.delta)
    assert Wire(found).ask(reserve).epsilon > 0
    return found


def left(site: Site) -> list[tuple[str, str]]:
    content = (site.folder / FILE).read_bytes()
    return [(e.kind, e.code) for e in verify(content, site.signing_key.public).entries if e.way == OUT]


def test_what_was_approved_leaves_and_may_leave_again_as_it_was(site: Site) -> None:
    wire = Wire(site)
    for number in (1, 2, 3, 2):
        assert wire.ask(train_request(round=number)).arrays.keys() == {"2.weight", "2.bias"}
    assert left(site)[1:] == [("train", "OK")] * 4


def test_one_exchange_more_than_was_approved_does_not_leave(site: Site) -> None:
    wire = Wire(site)
    for number in (1, 2, 3):
        wire.ask(train_request(round=number, steps=1))
    assert wire.ask(train_request(round=4, steps=1)) is Code.REFUSED_POLICY
    assert "3 replies to 'train' of stage 'views' were approved, and left" in log_of(site)[-1]["words"]


def test_a_stage_or_a_message_that_was_not_approved_is_not_even_computed(site: Site) -> None:
    wire = Wire(site)
    assert wire.ask(train_request(stage="more")) is Code.REFUSED_POLICY
    assert wire.ask(Guess(run="run-1", stage="views", rounds=1)) is Code.REFUSED_POLICY
    measure = Measure(run="run-1", stage="shapes", size=SIZE, plan=likeness.plan(1.0).to_json())
    assert wire.ask(measure) is Code.REFUSED_POLICY
    assert wire.ask(train_request(run="run-2")) is Code.REFUSED_POLICY
    assert not list((site.folder / "outbox").rglob("*more*"))


@pytest.mark.parametrize("more", [1, 4096])
def test_a_reply_that_is_larger_than_was_approved_does_not_leave(
    site: Site, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    serve = app._registered_funcs["train.default"]

    def fat(message: Message, context: Any) -> Message:
        reply = serve(message, context)
        found = dict(reply.content.array_records["arrays"])
        found[f"{min(found)}s"] = Array(np.zeros(more, np.float32))
        reply.content["arrays"] = ArrayRecord(found)
        return reply

    monkeypatch.setitem(app._registered_funcs, "train.default", fat)
    wire = Wire(site)
    assert wire.ask(train_request()) is Code.REFUSED_POLICY
    assert "exceeds" in log_of(site)[-1]["words"]
    assert left(site)[-1] == ("train", "REFUSED_POLICY")


def test_whoever_asks_hears_who_a_site_is_and_nothing_more(tmp_path: Path) -> None:
    wire = Wire(hospital(tmp_path, approval=True))
    assert wire.ask(Hello()).site == "aurora"
    assert wire.ask(reserve_request(PLAN)) is Code.REFUSED_POLICY


def test_after_an_approval_was_taken_back_nothing_of_it_leaves_any_more(site: Site) -> None:
    wire = Wire(site)
    wire.ask(train_request())
    approval.withdraw(site, "run-1")
    assert wire.ask(train_request()) is Code.REFUSED_POLICY
    assert wire.ask(train_request(round=2)) is Code.REFUSED_POLICY


@pytest.mark.parametrize("how", ["edited", "foreign", "torn"])
def test_a_manifest_that_was_changed_lets_nothing_out(site: Site, tmp_path: Path, how: str) -> None:
    path = site.folder / approval.FOLDER / "run-1.outgoing"
    if how == "foreign":
        other = hospital(tmp_path / "others", "borealis", approval=True)
        approval.approve(other, proposal(tmp_path))
        path.write_bytes((other.folder / approval.FOLDER / "run-1.outgoing").read_bytes())
    else:
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b'"payload":"', b'"payload":"AAAA') if how == "edited" else raw[:-9])
    assert Wire(site).ask(train_request()) is Code.REFUSED_POLICY


def test_a_margin_is_for_digits_and_not_for_arrays() -> None:
    line = Line(message="train", stage="views", exchanges=1, bytes=10_000)
    assert line.most_bytes == 10_264
    line.admit("ab", 10_264, [])
    with pytest.raises(Refusal, match="10265 bytes"):
        line.admit("ab", 10_265, [])


def test_a_site_that_asks_for_no_approval_holds_nothing_back(tmp_path: Path) -> None:
    open_site = hospital(tmp_path)
    assert outgoing.line_for(open_site, kind="train", run="run-1", stage="views") is None
