"""Local training: members only, charged first, answered once, and never without noise unless the hospital says so."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import training
from client.site import Site
from cohorts.split import Split
from learning.learner import fit_private
from learning.messages import Code, Guess, Trained, encode
from privacy.audit.layer import CANARIES, AuditLayer
from tests.hospitals import CANARY, PLAN, SIZE, Wire, hospital, reserve_request, train_request


def intents(site: Site) -> list[dict[str, Any]]:
    return [event["payload"] for event in site.ledger.events() if event["kind"] == "step_intent"]


def test_a_reply_is_the_noised_change_and_nothing_else(tmp_path: Path) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    request = train_request()
    reply = wire.ask(request)
    assert isinstance(reply, Trained)
    assert {n: a.shape for n, a in reply.arrays.items()} == {n: a.shape for n, a in request.arrays.items()}
    assert all(a.dtype == np.float32 and a.any() for a in reply.arrays.values())


def test_a_repeated_request_gets_the_same_bytes_and_no_new_charge(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    request = train_request()
    first = wire.ask(request)
    before = intents(site)
    again = Wire(site).ask(request)
    assert encode(first).object_id == encode(again).object_id
    assert intents(site) == before
    assert len(before) == 1


def test_another_request_for_the_same_round_is_refused(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    wire.ask(train_request())
    moved = {name: array + 1 for name, array in train_request().arrays.items()}
    assert wire.ask(train_request(arrays=moved)) is Code.REFUSED_POLICY
    assert len(intents(site)) == 1


def test_the_charge_is_on_disk_before_the_first_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    seen: list[int] = []

    def spy(*_: Any, **__: Any) -> None:
        seen.append(len(intents(site)))
        raise RuntimeError("killed here")

    monkeypatch.setattr("learning.learner.fit_private", spy)
    assert wire.ask(train_request()) is Code.FAILED
    assert seen == [1]
    monkeypatch.setattr("learning.learner.fit_private", fit_private)
    assert isinstance(wire.ask(train_request()), Trained)
    assert len(intents(site)) == 1


def test_more_steps_than_were_charged_are_refused(tmp_path: Path) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    replies = [wire.ask(train_request(round=k, steps=3)) for k in (1, 2, 3)]
    assert [isinstance(reply, Trained) for reply in replies] == [True, True, False]
    assert replies[2] is Code.REFUSED_BUDGET


def test_a_round_that_died_and_is_asked_in_other_words_costs_another_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    with monkeypatch.context() as dying:
        dying.setattr(training, "_fit", lambda *_: 1 / 0)
        wire.ask(train_request())
    wire.ask(train_request(learning_rate=0.25))
    assert [intent["steps"] for intent in intents(site)] == [2, 2]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"run": "run-2"}, Code.REFUSED_POLICY),
        ({"name": "segmenter"}, Code.REFUSED_POLICY),
        ({"kind": "generator"}, Code.REFUSED_POLICY),
        ({"kind": "clip_learner"}, Code.UNREADABLE),
        ({"frames": 4}, Code.UNREADABLE),
        ({"steps": 101}, Code.REFUSED_POLICY),
        ({"plan": {**PLAN.to_json(), "noise_multiplier": 0.1}}, Code.REFUSED_BUDGET),
        ({"plan": {**PLAN.to_json(), "clip_norm": 9.0}}, Code.REFUSED_BUDGET),
        ({"plan": None}, Code.REFUSED_POLICY),
        ({"config": {"depth": 3}}, Code.FAILED),
        ({"prior": "nothing"}, Code.FAILED),
        ({"arrays": {"w": np.zeros(3, np.float32)}}, Code.FAILED),
    ],
    ids=str,
)
def test_what_was_not_agreed_is_not_trained(tmp_path: Path, change: dict[str, Any], code: Code) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    assert wire.ask(train_request(**change)) is code
    assert not list((site.folder / "outbox").rglob("*.safetensors"))


def test_the_reference_arm_needs_the_hospitals_word(tmp_path: Path) -> None:
    reference = train_request(plan=None, stage="reference")
    for name, allowed in (("aurora", True), ("borealis", False)):
        wire = Wire(hospital(tmp_path, name, allow_non_dp_reference=allowed))
        wire.ask(reserve_request())
        assert isinstance(wire.ask(reference), Trained) is allowed
    assert wire.ask(train_request(plan=None, stage="views")) is Code.REFUSED_POLICY


def test_the_reference_arm_gives_the_same_bits_at_a_site_and_others_at_another(tmp_path: Path) -> None:
    reference = train_request(plan=None, stage="reference")
    replies = []
    for root, name in (("a", "aurora"), ("b", "aurora"), ("c", "borealis")):
        site = hospital(tmp_path / root, name, cohort={"reader": "canary"})
        for key in ("split.key", "pseudonym.key"):
            (site.folder / "secrets" / key).write_bytes(bytes(32))
        wire = Wire(site)
        wire.ask(reserve_request())
        replies.append(encode(wire.ask(reference)).object_id)
    assert replies[0] == replies[1] != replies[2]


def test_only_members_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr("learning.learner.fit_private", lambda _, frames, *__, **___: seen.append(frames.subjects))
    wire.ask(train_request())
    assert seen == [site.frames(Split.MEMBERS, size=SIZE).subjects]


def test_noise_differs_from_site_to_site_and_from_run_to_run(tmp_path: Path) -> None:
    """The recorded seed decides nothing that differential privacy rests on."""
    replies = []
    for name in ("aurora", "borealis"):
        wire = Wire(hospital(tmp_path, name, cohort={"reader": "canary", "subjects": 1}))
        wire.ask(reserve_request(PLAN))
        replies.append(wire.ask(train_request()).arrays["2.weight"])
    assert not np.array_equal(replies[0], replies[1])


def test_no_identifier_and_no_pseudonym_leaves(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    wire.ask(train_request())
    for word in (CANARY, str(tmp_path), *site.cohort.subjects):
        assert not any(word.encode() in part for part in wire.sent)


def test_threads_are_given_back(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    with training.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_canaries_ride_along_from_exchange_to_exchange_and_only_counts_of_them_leave(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    wire = Wire(site)
    wire.ask(reserve_request(PLAN))
    for number in (1, 2, 3):
        wire.ask(train_request(round=number))
    guessed = wire.ask(Guess(run="run-1", stage="views", rounds=3))
    for found in guessed.guesses.values():
        assert set(found) == {"canaries", "guessed", "right"}
        assert found["canaries"] == CANARIES
        assert abs(found["right"] - found["guessed"] / 2) < found["guessed"] / 2
    last = AuditLayer.from_bytes((site.folder / "canaries" / "run-1" / "views.3.safetensors").read_bytes())
    assert last.steps == 3 * train_request().steps
    assert wire.ask(Guess(run="run-1", stage="views", rounds=3)) == guessed


def test_an_exchange_that_is_answered_twice_is_scored_once(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    wire = Wire(site)
    wire.ask(reserve_request(PLAN))
    for _ in range(2):
        wire.ask(train_request(round=1))
    kept = AuditLayer.from_bytes((site.folder / "canaries" / "run-1" / "views.1.safetensors").read_bytes())
    assert kept.steps == train_request().steps


@pytest.mark.parametrize(("stage", "rounds"), [("views", 4), ("generator", 1)])
def test_a_training_whose_canaries_are_lost_is_not_vouched_for(tmp_path: Path, stage: str, rounds: int) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    wire.ask(train_request(round=1))
    assert wire.ask(Guess(run="run-1", stage=stage, rounds=rounds)) is Code.UNREADABLE


def test_a_training_loads_nothing_of_scipy_that_it_does_not_call() -> None:
    heavy = ("scipy.signal", "scipy.stats", "scipy.spatial", "scipy.optimize")
    look = (
        "import sys, client.app, client.training, synthesis.parts, learning.learner, cohorts.readers; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
