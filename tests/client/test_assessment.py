"""What a hospital measures on its own people: rounded or noised, once, and nothing about one of them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.assessment import as_frames
from client.site import Site
from cohorts.frames import Frames
from cohorts.split import Split
from learning import arrays
from learning.messages import Attack, Code, Counts, Refusal, Score, encode
from tests.hospitals import SIZE, TinyAttack, TinyLearner, Wire, hospital, images, reserve_request, train_request

RELEASE = arrays.trainable(TinyLearner("").module)


def score(**changes: Any) -> Score:
    settings: dict[str, Any] = {
        "run": "run-1", "stage": "assess", "task": "tiny_task", "config": {}, "size": SIZE, "seed": 1, "personal": "",
        "arms": {"release": RELEASE, "zero": {n: np.zeros_like(a) for n, a in RELEASE.items()}},
    }  # fmt: skip
    return Score(**(settings | changes))


def attack(**changes: Any) -> Attack:
    settings: dict[str, Any] = {
        "run": "run-1", "stage": "attack", "name": "tiny_attack", "config": {}, "formal": True, "released": images(),
    }  # fmt: skip
    return Attack(**(settings | changes))


def admitted(tmp_path: Path, *plans: Any, **changes: Any) -> Wire:
    wire = Wire(hospital(tmp_path, **changes))
    wire.ask(reserve_request(*plans))
    return wire


def test_scores_are_rounded_means_of_test_subjects_beside_a_local_model(tmp_path: Path) -> None:
    reply = admitted(tmp_path).ask(score())
    assert set(reply.scores) == {"release", "zero", "local", "trivial"}
    assert reply.scores["zero"]["accuracy"]["mean"] == 0.5
    assert reply.scores["zero"]["accuracy"]["standard_error"] == 0.0
    assert reply.scores["local"]["accuracy"]["mean"] > 0.5
    for cell in (found["accuracy"] for found in reply.scores.values()):
        assert cell["n"] % 5 == 0
        assert cell["mean"] == round(cell["mean"], 3)
    assert reply.scores["zero"].get("unknown") is None
    gained = reply.differences["local"]["zero"]["accuracy"]["mean"]
    assert gained == pytest.approx(reply.scores["local"]["accuracy"]["mean"] - 0.5, abs=1e-3)


def test_fewer_subjects_than_the_policy_asks_for_make_no_score(tmp_path: Path) -> None:
    reply = admitted(tmp_path, min_cell=30).ask(score())
    assert reply.scores == {"release": {}, "zero": {}, "local": {}, "trivial": {}}
    assert (reply.kept, reply.turned) == ({"zero": {}, "local": {}}, {})


def test_what_all_subjects_say_together_is_said_of_enough_of_them_and_paired_between_arms(tmp_path: Path) -> None:
    reply = admitted(tmp_path).ask(score())
    cell = reply.scores["zero"]["recall"]
    assert (cell["mean"], cell["n"] % 5) == (0.5, 0)
    assert reply.differences["local"]["zero"]["recall"]["standard_error"] == 0  # the same subjects in every draw


def test_a_quarter_of_what_real_studies_give_over_looking_at_nothing_may_be_lost(tmp_path: Path) -> None:
    reply = admitted(tmp_path).ask(score())
    release, local, trivial = (reply.scores[arm]["accuracy"]["mean"] for arm in ("release", "local", "trivial"))
    assert reply.kept["local"]["accuracy"]["mean"] == pytest.approx(release - 0.75 * local - 0.25 * trivial, abs=2e-3)


def test_members_are_joined_by_the_release_and_their_model_is_tried_on_it(tmp_path: Path) -> None:
    reply = admitted(tmp_path).ask(
        score(released={**images(), "phase": (np.arange(len(images()["phase"])) % 2).astype(np.uint8)})
    )
    assert reply.scores["joined"]["accuracy"]["mean"] > 0.5
    assert 0 <= reply.turned["accuracy"]["mean"] <= 1
    assert "joined" not in admitted(tmp_path / "other").ask(score()).scores


@pytest.mark.parametrize("arm", ["local", "joined", "trivial"])
def test_the_arms_of_the_site_come_from_nobody_else(tmp_path: Path, arm: str) -> None:
    assert admitted(tmp_path).ask(score(arms={arm: RELEASE})) is Code.UNREADABLE


def test_images_are_released_for_tasks_of_frames(tmp_path: Path) -> None:
    assert admitted(tmp_path).ask(score(released=images(), frames=4)) is Code.UNREADABLE


@pytest.fixture
def no_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the lot give the site nobody to train on, as it does where a handful of patients is all there is."""
    of = Site.frames

    def frames(self: Site, *splits: Split, size: int) -> Frames:
        found = of(self, *splits, size=size)
        return found.select([]) if splits == (Split.MEMBERS,) else found

    monkeypatch.setattr(Site, "frames", frames)


@pytest.mark.usefixtures("no_members")
def test_a_site_without_members_tests_the_models_of_others_and_has_none_of_its_own(tmp_path: Path) -> None:
    reply = admitted(tmp_path).ask(score())
    assert reply.scores["zero"]["accuracy"]["mean"] == 0.5
    assert reply.scores["local"] == {}
    assert reply.differences["local"]["zero"] == {}


@pytest.mark.usefixtures("no_members")
def test_a_site_without_members_leaves_the_reference_as_it_came(tmp_path: Path) -> None:
    wire = admitted(tmp_path, allow_non_dp_reference=True)
    reply = wire.ask(train_request(plan=None, stage="reference"))
    assert all(not change.any() for change in reply.arrays.values())


def test_a_task_is_scored_once(tmp_path: Path) -> None:
    wire = admitted(tmp_path)
    first = wire.ask(score())
    assert encode(wire.ask(score())).object_id == encode(first).object_id
    assert wire.ask(score(seed=2)) is Code.REFUSED_POLICY


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"task": "other"}, Code.REFUSED_POLICY), ({"run": "other"}, Code.REFUSED_POLICY),
        ({"arms": {"local": RELEASE}}, Code.UNREADABLE),
        ({"arms": {"release": {"w": np.zeros(1, np.float32)}}}, Code.FAILED), ({"config": {"x": 1}}, Code.FAILED),
    ],
    ids=["another task", "another run", "weights for an arm of the site", "foreign weights", "a foreign setting"],
)  # fmt: skip
def test_a_score_that_was_not_agreed_is_refused(tmp_path: Path, change: dict[str, Any], code: Code) -> None:
    assert admitted(tmp_path).ask(score(**change)) is code


def test_a_hospital_may_keep_its_scores(tmp_path: Path) -> None:
    assert admitted(tmp_path, allow_scores=False).ask(score()) is Code.REFUSED_POLICY


def test_a_formal_attack_is_charged_and_its_counts_are_noised(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    wire = Wire(site)
    wire.ask(reserve_request(plans=[plan.to_json() for plan in TinyAttack().plans()]))
    reply = wire.ask(attack())
    assert isinstance(reply, Counts)
    assert set(reply.counts) == {"members", "near", "by_share"}
    assert [e["payload"]["purpose"] for e in site.ledger.events() if e["kind"] == "step_intent"] == ["tiny_attack"]
    assert encode(wire.ask(attack())).object_id == encode(reply).object_id


def test_a_formal_attack_that_was_not_reserved_is_refused(tmp_path: Path) -> None:
    assert admitted(tmp_path).ask(attack()) is Code.REFUSED_BUDGET


def test_exact_counts_need_the_hospitals_word(tmp_path: Path) -> None:
    assert isinstance(admitted(tmp_path / "a").ask(attack(formal=False)), Counts)
    assert admitted(tmp_path / "b", allow_empirical=False).ask(attack(formal=False)) is Code.REFUSED_POLICY
    assert admitted(tmp_path / "c", attacks=()).ask(attack(formal=False)) is Code.REFUSED_POLICY


def test_an_attack_cannot_send_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Wordy:
        nearest: str = "patient-7"

    monkeypatch.setattr(TinyAttack, "count", lambda *_, **__: Wordy())
    wire = admitted(tmp_path)
    assert wire.ask(attack(formal=False)) is Code.FAILED
    assert not any(b"patient-7" in part for part in wire.sent)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": np.zeros((4, 8, 9), np.uint8)}, {"pixels": np.zeros((4, 8), np.uint8)},
        {"view": np.zeros(3, np.uint8)},
        {"masks": np.zeros((4, 8, 8), np.uint8)}, {"names": np.zeros(4, np.uint8)},
        {"pixels": np.zeros((0, 16, 16), np.uint8)},
    ],
    ids=["oblong", "flat", "short", "other size", "foreign", "none"],
)  # fmt: skip
def test_images_of_another_form_are_refused(wrong: dict[str, NDArray[np.uint8]]) -> None:
    with pytest.raises(Refusal) as refusal:
        as_frames({**images(), **wrong})
    assert refusal.value.code is Code.UNREADABLE


def test_images_become_frames_of_nobody() -> None:
    frames = as_frames(images())
    assert (frames.view == -1).all()
    assert np.isnan(frames.lvef_percent).all()
    assert len(set(frames.subjects)) == 4
