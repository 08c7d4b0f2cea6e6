"""Personal weights: each site's own head, which no message holds and which the site brings along again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import personal
from client.site import Site
from learning import arrays
from learning.messages import Code, Trained, encode
from tests.client.test_assessment import score
from tests.hospitals import PLAN, WEIGHTS, TinyLearner, Wire, hospital, reserve_request, train_request

SHARED = {"2.weight": WEIGHTS["2.weight"]}


def request(**changes: Any) -> Any:
    return train_request(**({"personal": "2.bias", "arrays": SHARED, "stage": "reference", "plan": None} | changes))


def test_the_own_head_stays_and_the_rest_returns(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    reply = wire.ask(request())
    assert isinstance(reply, Trained)
    assert set(reply.arrays) == {"2.weight"}
    own = personal.read(site, "run-1", "reference", 1)
    assert set(own) == {"2.bias"}
    assert own["2.bias"].tobytes() not in b"".join(wire.sent)


@pytest.mark.parametrize("plan", [None, PLAN.to_json()], ids=["plain", "private"])
def test_the_next_exchange_goes_on_from_the_own_head(plan: Any, tmp_path: Path) -> None:
    site = hospital(tmp_path)
    wire = Wire(site)
    wire.ask(reserve_request(PLAN))
    for number in (1, 2):
        assert isinstance(wire.ask(request(round=number, plan=plan, steps=1, learning_rate=1e-6)), Trained)
    first, second = (personal.read(site, "run-1", "reference", k)["2.bias"] for k in (1, 2))
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert np.array_equal(personal.read(site, "run-1", "reference")["2.bias"], second)


def test_every_site_has_its_own(tmp_path: Path) -> None:
    sites = [hospital(tmp_path, name) for name in ("aurora", "borealis")]
    wire = Wire(*sites)
    for node in (0, 1):
        wire.ask(reserve_request(PLAN), node)
        wire.ask(request(), node)
    heads = [personal.read(site, "run-1", "reference")["2.bias"] for site in sites]
    assert not np.array_equal(*heads)


def test_weights_that_are_said_to_be_the_sites_own_may_not_be_sent_to_it(tmp_path: Path) -> None:
    """And no step is charged for asking: nothing was trained."""
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    assert wire.ask(request(arrays=WEIGHTS)) is Code.UNREADABLE
    assert wire.ask(request(arrays=WEIGHTS, stage="views", plan=PLAN.to_json())) is Code.UNREADABLE
    assert "step_intent" not in [event["kind"] for event in site.ledger.events()]


def test_a_killed_exchange_starts_from_the_own_head_of_the_one_before(tmp_path: Path) -> None:
    """Else a resumed campaign would end with other bits than one that was never killed."""

    def two_exchanges(root: Path, *, torn: bool) -> Site:
        site = hospital(root)
        wire = Wire(site)
        wire.ask(reserve_request(PLAN))
        wire.ask(request())
        if torn:
            personal.keep(site, "run-1", "reference", 2, {"2.bias": np.full(2, 9, np.float32)})
        wire.ask(request(round=2))
        return site

    whole, resumed = (
        personal.read(two_exchanges(tmp_path / name, torn=torn), "run-1", "reference")
        for name, torn in (("whole", False), ("torn", True))
    )
    assert np.array_equal(whole["2.bias"], resumed["2.bias"])


def test_an_arm_without_a_head_is_scored_with_the_sites_own(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    bias = np.array([-50, 50], np.float32)  # says ES of everything
    personal.keep(site, "run-1", "reference", 1, {"2.bias": bias})
    whole = arrays.trainable(TinyLearner("").module)
    arms = {"federated": {"2.weight": whole["2.weight"]}, "whole": {**whole, "2.bias": np.array([0, 0], np.float32)}}
    found = wire.ask(score(arms=arms, personal="reference"))
    assert found.scores["federated"]["accuracy"]["mean"] == 0.5
    assert wire.ask(score(arms=arms, stage="other", personal="")) is Code.FAILED
    assert encode(found)
