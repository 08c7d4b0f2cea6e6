"""Whose scores a hospital says apart, and whom its trainings mind: never too few, never a word that is not listed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.groups import told_apart
from client.scoring import _cell
from client.site import Site
from cohorts.split import Split
from learning import arrays
from learning.fairness import Declared
from learning.messages import Code, Score
from tests.hospitals import CANARY, PLAN, SIZE, TinyLearner, Wire, hospital, reserve_request, train_request
from tests.twins import SIZES, WARDS, Twins

ARM = arrays.trainable(TinyLearner("").module)


def score(**changes: Any) -> Score:
    settings: dict[str, Any] = {
        "run": "run-1", "stage": "assess", "task": "tiny_task", "config": {}, "size": SIZE, "seed": 1, "personal": "",
        "arms": {"release": ARM}, "groups": {"ward": list(WARDS)},
    }  # fmt: skip
    return Score(**(settings | changes))


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return Twins.born(tmp_path_factory.mktemp("groups"))


def asked(twins: Twins, name: str, request: Score, **policy: Any) -> Any:
    wire = Wire(twins.site(name, **policy))
    wire.ask(reserve_request())
    return wire.ask(request)


def test_the_scores_of_groups_make_up_the_score_of_all(twins: Twins) -> None:
    reply = asked(twins, "all", score())
    for arm in ("release", "local"):
        cells = [reply.groups[arm]["ward"][word]["accuracy"] for word in WARDS]
        assert all(cell["n"] % 5 == 0 for cell in cells)
    site = Site(twins.root / "all/aurora")
    words = site.groups("ward", site.frames(Split.TEST, size=SIZE).subjects)
    share = [words.count(word) / len(words) for word in WARDS]
    means = [reply.groups["release"]["ward"][word]["accuracy"]["mean"] for word in WARDS]
    assert np.dot(share, means) == pytest.approx(reply.scores["release"]["accuracy"]["mean"], abs=2e-3)


@pytest.mark.parametrize(
    ("groups", "listed"),
    [
        ({}, {"ward": WARDS}), ({"ward": list(WARDS)}, {}), ({"referrer": [CANARY]}, {"ward": WARDS}),
        ({"ward": [CANARY]}, {"ward": WARDS}), ({"ward": ["north"]}, {"ward": ("north",)}),
    ],
    ids=["not asked", "not allowed", "another column", "another word", "nobody there"],
)  # fmt: skip
def test_groups_leave_only_where_they_are_asked_for_and_allowed_and_there(
    twins: Twins, request: pytest.FixtureRequest, groups: Any, listed: Any
) -> None:
    name = request.node.callspec.id.replace(" ", "-")
    wire = Wire(twins.site(name, groups=listed))
    wire.ask(reserve_request())
    reply = wire.ask(score(groups=groups))
    assert not any(cells for columns in reply.groups.values() for words in columns.values() for cells in words.values())
    assert not any(CANARY.encode() in part for part in wire.sent)


def test_a_word_that_is_asked_for_by_nobody_stays_although_it_is_allowed(twins: Twins) -> None:
    reply = asked(twins, "one-word", score(groups={"ward": ["west"]}))
    assert set(reply.groups["release"]["ward"]) == {"west"}


def test_asking_twice_in_other_words_tells_no_more_than_asking_once(twins: Twins) -> None:
    """With fewer than a cell of people in one ward neither ward is said, whichever of them was asked for."""
    site = twins.site("twice", min_cell=SIZES[Split.TEST] // 2 + 1)
    wire = Wire(site)
    wire.ask(reserve_request())
    for stage, words in (("one", ["west"]), ("two", ["east"]), ("three", list(WARDS))):
        reply = wire.ask(score(stage=stage, groups={"ward": words}))
        assert reply.scores["release"]["accuracy"]["n"] == SIZES[Split.TEST]
        assert not any(reply.groups["release"]["ward"].values())


def test_groups_that_are_no_lists_are_refused(twins: Twins) -> None:
    assert asked(twins, "malformed", score(groups={"ward": 3})) is Code.UNREADABLE


CELLS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30), min_size=1)


@given(sizes=CELLS, others=st.integers(0, 30), least=st.integers(2, 12))
def test_neither_a_group_nor_what_the_groups_leave_over_is_ever_less_than_a_cell(
    sizes: dict[str, int], others: int, least: int
) -> None:
    owner = np.repeat([*sizes, "-"], [*sizes.values(), others])
    values = np.linspace(0, 1, len(owner))
    found = told_apart(values, {word: owner == word for word in sizes}, least, _cell)
    said = sum(sizes[word] for word in found)
    assert all(sizes[word] >= least for word in found)
    assert len(owner) - said == 0 or len(owner) - said >= least or not found


def test_of_two_groups_one_of_which_is_too_small_none_is_said() -> None:
    """Else the whole less the large one would be the small one."""
    few = np.array([True] * 4 + [False] * 20)
    assert told_apart(np.ones(24), {"few": few, "many": ~few}, 5, _cell) == {}
    assert set(told_apart(np.ones(24), {"few": few, "many": ~few}, 4, _cell)) == {"few", "many"}


def test_labels_are_read_from_the_studies_once(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    site = twins.site("labels")
    told = site.groups("ward", site.cohort.subjects)
    assert set(told) == set(WARDS)
    again = Site(site.folder)
    monkeypatch.setattr(type(again.cohort), "of", None)
    assert again.groups("ward", site.cohort.subjects) == told


def test_a_reference_that_minds_its_groups_is_another_one(twins: Twins) -> None:
    told: dict[str, Any] = {"plan": None, "stage": "reference", "steps": 5}
    replies = []
    for name, minds in (("plain", {}), ("minded", {"by": "ward", "method": "balanced", "rate": 0.1})):
        wire = Wire(twins.site(name, allow_non_dp_reference=True))
        wire.ask(reserve_request())
        replies.append(wire.ask(train_request(**told, minds=minds)))
    assert any((replies[0].arrays[name] != replies[1].arrays[name]).any() for name in replies[0].arrays)


@pytest.mark.parametrize(
    "minds",
    [
        {"by": "ward", "method": "reweighed", "rate": 0.1}, {"by": "ward", "method": "dro", "rate": 0.1},
        {"by": "ward", "weights": {"west": 99.0}}, {"weights": {"west": 2.0}},
    ],
    ids=str,
)  # fmt: skip
def test_under_privacy_nothing_but_declared_weights_is_minded(tmp_path: Path, minds: dict[str, Any]) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(plans=[PLAN.to_json()]))
    assert wire.ask(train_request(minds=minds)) is Code.UNREADABLE
    assert [e["kind"] for e in Site(tmp_path / "aurora").ledger.events()].count("step_intent") == 0


def test_declared_weights_reach_the_private_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("learning.learner.fit_private", lambda *_, **told: seen.append(told))
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(plans=[PLAN.to_json()]))
    wire.ask(train_request(minds={"by": "ward", "weights": {"west": 2.0}}))
    assert seen[0]["declared"] == Declared(weights={"west": 2.0})
    assert set(seen[0]["words"]) == {""}
