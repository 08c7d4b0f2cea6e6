"""Threats to what a site says of its members' hearts: charged first, said once, and only under the plan for it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import Site
from learning.messages import Code, Measure, Measured, encode
from privacy import moments
from synthesis import likeness
from tests.hospitals import PLAN, SIZE, Wire, hospital, reserve_request

SHAPES = likeness.plan(2.0)


def site_of(tmp_path: Path, **changes: Any) -> Site:
    cohort = {"reader": "phantom", "site": "site-a", "subjects": 30, "size": SIZE}
    return hospital(tmp_path, cohort=cohort, **{"max_sampling_rate": 1.0, "max_clip_norm": 5.0, **changes})


def measure(**changes: Any) -> Measure:
    return Measure(**{"run": "run-1", "stage": "shapes", "size": SIZE, "plan": SHAPES.to_json(), **changes})


def intents(site: Site) -> list[dict[str, Any]]:
    return [event["payload"] for event in site.ledger.events() if event["kind"] == "step_intent"]


def test_a_site_says_one_noised_sum(tmp_path: Path) -> None:
    wire = Wire(site := site_of(tmp_path))
    wire.ask(reserve_request(SHAPES))
    reply = wire.ask(measure())
    assert isinstance(reply, Measured)
    assert {n: (a.shape, a.dtype) for n, a in reply.arrays.items()} == {
        "moments": ((moments.numbers(likeness.MODES),), np.float32)
    }
    assert intents(site) == [{"purpose": "shapes", "steps": 1}]


def test_a_replayed_request_gets_the_same_bytes_and_no_new_charge(tmp_path: Path) -> None:
    wire = Wire(site := site_of(tmp_path))
    wire.ask(reserve_request(SHAPES))
    first = wire.ask(measure())
    before = intents(site), site.ledger.spent()
    assert encode(first).object_id == encode(Wire(site).ask(measure())).object_id
    assert (intents(site), site.ledger.spent()) == before


def test_the_same_in_other_words_is_refused_for_it_would_be_a_second_draw_of_the_noise(tmp_path: Path) -> None:
    wire = Wire(site := site_of(tmp_path))
    wire.ask(reserve_request(SHAPES))
    wire.ask(measure())
    assert wire.ask(measure(stage="again")) is Code.REFUSED_BUDGET
    assert wire.ask(measure(size=2 * SIZE)) is Code.REFUSED_POLICY
    assert len(intents(site)) == 1


def test_the_charge_is_on_disk_before_the_sum_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(site := site_of(tmp_path))
    wire.ask(reserve_request(SHAPES))
    seen: list[int] = []

    def spy(*_: Any, **__: Any) -> None:
        seen.append(len(intents(site)))
        raise RuntimeError("killed here")

    with monkeypatch.context() as dying:
        dying.setattr(likeness, "told", spy)
        assert wire.ask(measure()) is Code.FAILED
    assert seen == [1]
    assert isinstance(wire.ask(measure()), Measured)
    assert len(intents(site)) == 1


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (dataclasses.replace(SHAPES, noise_multiplier=1.0), Code.REFUSED_BUDGET),  # not as reserved
        (PLAN, Code.REFUSED_POLICY),  # reserved, for a training
        (dataclasses.replace(SHAPES, purpose="other"), Code.REFUSED_POLICY),
        (dataclasses.replace(SHAPES, purpose="wide", clip_norm=1.0), Code.REFUSED_POLICY),
    ],
)
def test_another_plan_than_that_of_moments_is_refused_before_anything_is_charged(
    tmp_path: Path, plan: Any, code: Code
) -> None:
    wire = Wire(site := site_of(tmp_path, epsilon_cap=100.0))
    others = [dataclasses.replace(SHAPES, purpose="other"), dataclasses.replace(SHAPES, purpose="wide", clip_norm=1.0)]
    wire.ask(reserve_request(SHAPES, PLAN, *others))
    assert wire.ask(measure(plan=plan.to_json())) is code
    assert intents(site) == []


def test_a_hospital_that_does_not_allow_it_refuses_what_it_has_reserved(tmp_path: Path) -> None:
    wire = Wire(site := site_of(tmp_path, allow_shapes=False))
    wire.ask(reserve_request(SHAPES))
    assert wire.ask(measure()) is Code.REFUSED_POLICY
    assert intents(site) == []


def test_a_run_that_reserved_nothing_is_refused(tmp_path: Path) -> None:
    wire = Wire(site_of(tmp_path))
    assert isinstance(wire.ask(measure()), Code)
