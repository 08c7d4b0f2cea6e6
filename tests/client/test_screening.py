"""A site screens candidates once, draws them again by itself, and says one bit for each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client import screening
from client.outbox import Outbox
from client.site import Site
from cohorts.split import Split
from learning.messages import Code, Kept, encode
from privacy.embedding import embed
from privacy.ledger import PrivacyLedger
from privacy.votes import Gate, VoteFilter, ballots
from synthesis.candidates import TOLERANCE
from tests.copies import EACH, EXACT, VOTES, screen_request, strangers
from tests.hospitals import SIZE, Wire, hospital, reserve_request

PLANS = [VoteFilter(**VOTES["votes"]).plan(), Gate(epsilon=VOTES["gate_epsilon"]).plan()]
COMMITTED = screen_request(strangers(3)).committed
Patch = pytest.MonkeyPatch


def line(root: Path, *plans: Any, **changes: Any) -> tuple[Site, Wire]:
    site = hospital(root, **({"generators": ("copier",), "drawn_again": 1.0} | changes))
    wire = Wire(site)
    wire.ask(reserve_request(plans=[plan.to_json() for plan in plans]))
    return site, wire


def kept(reply: Kept, n: int) -> list[bool]:
    return np.unpackbits(np.frombuffer(reply.bits, np.uint8), count=n).astype(bool).tolist()


def with_members(site: Site, n: int = 11) -> NDArray[np.uint8]:
    """Return strangers, the first three of whom have one picture of a member each."""
    members, pixels = site.frames(Split.MEMBERS, size=SIZE), strangers(n)
    pixels[[0, 1, 2], [0, 1, 3]] = members.pixels[[0, 7, 11]]
    return pixels


def test_whoever_has_one_picture_of_a_member_is_dropped_whole_and_strangers_are_kept(tmp_path: Path) -> None:
    site, wire = line(tmp_path)
    rule = {**EXACT, "exact": {"alpha": 0.1}}
    verdicts = kept(wire.ask(screen_request(with_members(site), rule)), 11)
    assert verdicts[:3] == [False] * 3
    assert sum(verdicts[3:]) >= 4


def test_screening_against_patients_needs_the_hospitals_word(tmp_path: Path) -> None:
    assert line(tmp_path, allow_empirical=False)[1].ask(screen_request(strangers(3))) is Code.REFUSED_POLICY


def test_a_generator_that_is_not_allowed_is_not_drawn_from(tmp_path: Path) -> None:
    assert line(tmp_path, generators=())[1].ask(screen_request(strangers(3))) is Code.REFUSED_POLICY


# One bit a candidate, once


def test_a_repeated_request_gets_the_same_bytes(tmp_path: Path) -> None:
    _, wire = line(tmp_path, *PLANS)
    request = screen_request(strangers(9), VOTES)
    assert encode(wire.ask(request)).object_id == encode(wire.ask(request)).object_id


@pytest.mark.parametrize(
    "again",
    [
        lambda drawn: screen_request(drawn, {**EXACT, "exact": {"alpha": 0.3}}),
        lambda drawn: screen_request(drawn[:3]),
        lambda drawn: screen_request(drawn, stage="screen-2"),
        lambda drawn: screen_request(drawn, {**EXACT, "exact": {"alpha": 0.3}}, stage="screen-2"),
        lambda drawn: screen_request(strangers(8, seed=9), stage="screen-2"),
        lambda drawn: screen_request(drawn, run="run-2"),
        lambda drawn: screen_request(drawn, {**EXACT, "exact": {"alpha": 0.3}}, run="run-2"),
    ],
    ids=["threshold", "fewer", "stage", "threshold and stage", "other generator", "run", "threshold and run"],
)
def test_whoever_asks_again_in_other_words_is_refused(tmp_path: Path, again: Callable[[Any], Any]) -> None:
    """A server that could ask twice would find a patient by bisection (privacy.md 2.3)."""
    drawn, (_, wire) = strangers(8), line(tmp_path)
    wire.ask(reserve_request(run="run-2"))
    assert isinstance(wire.ask(screen_request(drawn)), Kept)
    assert wire.ask(again(drawn)) is Code.REFUSED_POLICY


def test_a_screening_that_was_refused_is_not_asked_for_again_with_other_pictures(tmp_path: Path) -> None:
    _, wire = line(tmp_path)
    drawn = strangers(8)
    assert wire.ask(screen_request(strangers(8, seed=1), drawn=drawn)) is Code.REFUSED_FOREIGN
    assert wire.ask(screen_request(drawn)) is Code.REFUSED_POLICY


def test_slightly_different_generators_are_screened_exactly_a_few_times_in_a_sites_life(tmp_path: Path) -> None:
    _, wire = line(tmp_path, exact_screenings=2)
    for k, due in enumerate([Kept, Kept, Code]):
        wire.ask(reserve_request(run=f"again-{k}"))
        assert isinstance(wire.ask(screen_request(strangers(8, seed=k), run=f"again-{k}")), due)


def test_what_was_asked_is_on_disk_before_anybody_is_looked_at(tmp_path: Path, monkeypatch: Patch) -> None:
    site, wire = line(tmp_path)

    def die(*_: object, **__: object) -> None:
        raise RuntimeError("died")

    with monkeypatch.context() as patch:
        patch.setattr(Site, "frames", die)
        assert wire.ask(screen_request(strangers(8))) is Code.FAILED
    (noted,) = (site.folder / screening.ASKED).glob("*.json")
    assert json.loads(noted.read_text())["committed"] == screen_request(strangers(8)).committed
    other = screen_request(strangers(8), {**EXACT, "exact": {"alpha": 0.3}})
    assert wire.ask(other) is Code.REFUSED_POLICY


def test_the_length_of_an_answer_says_nothing(tmp_path: Path) -> None:
    lengths = set()
    for k, rule in enumerate([EXACT, VOTES] * 2):
        site, wire = line(tmp_path / str(k), *PLANS)
        lengths.add(len(wire.ask(screen_request(with_members(site) if k < 2 else strangers(11), rule)).bits))
    assert lengths == {2}


# T-F5: whatever the generator does not draw is refused


@pytest.mark.parametrize("rule", [EXACT, VOTES], ids=["exact", "votes"])
def test_a_candidate_that_its_seed_does_not_draw_is_refused_before_anybody_is_looked_at(
    tmp_path: Path, monkeypatch: Patch, rule: dict[str, Any]
) -> None:
    site, wire = line(tmp_path, *PLANS)
    drawn = strangers(20)
    probe = drawn.copy()
    probe[13, 2] = site.frames(Split.MEMBERS, size=SIZE).pixels[3]
    monkeypatch.setattr(Site, "frames", lambda *_, **__: pytest.fail("opened a record"))
    assert wire.ask(screen_request(probe, rule, drawn=drawn)) is Code.REFUSED_FOREIGN
    assert not [e for e in site.ledger.events() if e["kind"] == "step_intent"]


def test_a_spot_check_finds_what_is_foreign_where_it_looks_and_looks_there_again(tmp_path: Path) -> None:
    site, wire = line(tmp_path, drawn_again=0.05)
    drawn = strangers(100)
    looked = screening._part(site, screen_request(drawn), 100)
    assert len(looked) == 5
    for _ in range(2):
        assert wire.ask(screen_request(255 - drawn, drawn=drawn)) is Code.REFUSED_FOREIGN


def test_where_a_spot_check_looks_is_not_foreseen_and_each_candidate_may_be_looked_at(tmp_path: Path) -> None:
    requests = [screen_request(strangers(12, seed=k)) for k in range(60)]
    site, other = (hospital(tmp_path / name, name) for name in ("aurora", "borealis"))
    parts = [screening._part(site, request, 12) for request in requests]
    assert {k for part in parts for k in part} == set(range(12))
    assert parts != [screening._part(other, request, 12) for request in requests]


def test_another_kernel_rounds_otherwise_and_is_no_stranger(tmp_path: Path) -> None:
    drawn = strangers(8).clip(1, 254)
    dice = np.random.default_rng(1)
    near = (drawn + dice.integers(-1, 2, drawn.shape)).astype(np.uint8)
    assert np.abs(near.astype(int) - drawn).mean() < TOLERANCE
    assert isinstance(line(tmp_path)[1].ask(screen_request(near, drawn=drawn)), Kept)


def test_a_part_of_what_was_drawn_can_be_asked_about_by_its_numbers(tmp_path: Path) -> None:
    drawn, some = strangers(30), [0, 1, 9, 25, 29]
    _, wire = line(tmp_path)
    weights = {"pictures": drawn.reshape(-1, SIZE, SIZE).astype(np.float32)}
    whole = screen_request(drawn)
    told = {"recipe": whole.recipe, "weights": weights, "committed": whole.committed, "numbers": {"of": some}}
    assert isinstance(wire.ask(screen_request(drawn[some], **told)), Kept)
    swapped = {**told, "numbers": {"of": [0, 1, 9, 25, 28]}}
    assert line(tmp_path / "b")[1].ask(screen_request(drawn[some], **swapped)) is Code.REFUSED_FOREIGN


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"committed": "0" * 64}, Code.REFUSED_FOREIGN),
        ({"rule": {**EXACT, "exact": {"alpha": 0.5}}, "committed": COMMITTED}, Code.REFUSED_FOREIGN),
        ({"rule": {**EXACT, "embedding": "0" * 64}}, Code.REFUSED_CODE),
        ({"recipe": {}}, Code.UNREADABLE), ({"numbers": {"of": [0, 1]}}, Code.UNREADABLE),
        ({"numbers": {"of": [0, 0, 1]}}, Code.UNREADABLE), ({"numbers": {"of": [0, 1, 3]}}, Code.UNREADABLE),
        ({"numbers": {}}, Code.UNREADABLE), ({"candidates": {}}, Code.UNREADABLE),
        ({"candidates": {"pixels": np.zeros((3, SIZE, SIZE), np.uint8)}}, Code.UNREADABLE),
        ({"candidates": {"pixels": np.zeros((3, 2, SIZE, SIZE), np.uint8)}}, Code.REFUSED_FOREIGN),
        ({"run": "other"}, Code.REFUSED_POLICY),
    ],
    ids=str,
)  # fmt: skip
def test_what_was_not_committed_or_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], code: Code) -> None:
    assert line(tmp_path)[1].ask(screen_request(strangers(3), **change)) is code


# Votes: charged, noised


def test_votes_are_charged_before_they_are_counted(tmp_path: Path) -> None:
    site, wire = line(tmp_path, *PLANS)
    reply = wire.ask(screen_request(with_members(site), VOTES))
    assert set(reply.counts) == {"members", "controls"}
    assert purposes(site) == ["filter.votes", "gate.touched"]


@pytest.mark.parametrize("plans", [(), PLANS[:1], PLANS[1:]], ids=["nothing", "no gate", "no votes"])
def test_votes_that_were_not_reserved_are_refused(tmp_path: Path, plans: list[Any]) -> None:
    assert line(tmp_path, *plans)[1].ask(screen_request(strangers(3), VOTES)) is Code.REFUSED_BUDGET


def test_votes_of_another_price_are_refused(tmp_path: Path) -> None:
    cheaper = {**VOTES, "votes": {**VOTES["votes"], "epsilon": 4.0}}
    assert line(tmp_path, *PLANS)[1].ask(screen_request(strangers(3), cheaper)) is Code.REFUSED_BUDGET


def test_decoys_add_their_own_votes_and_move_nobody_elses(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    candidates = with_members(site, 12)
    images, image = embed(candidates.reshape(-1, SIZE, SIZE)), np.repeat(np.arange(12), EACH)
    near, owner = screening._posed(site, Split.MEMBERS, size=SIZE)
    alone = ballots(near, owner, images, image, tau=0.9)
    joined = screening._joined(near, owner, candidates[[5, 6], 0])
    assert (ballots(*joined, images, image, tau=0.9) - alone).tolist() == [0] * 5 + [1, 1] + [0] * 5


@pytest.mark.parametrize("rule", [EXACT, VOTES], ids=["exact", "votes"])
def test_decoys_of_another_form_are_refused(tmp_path: Path, rule: dict[str, Any]) -> None:
    wrong = {"pixels": np.zeros((3, SIZE, SIZE - 1), np.uint8)}
    assert line(tmp_path, *PLANS)[1].ask(screen_request(strangers(3), rule, decoys=wrong)) is Code.UNREADABLE


def test_the_exact_filter_drops_the_copy_of_a_decoy(tmp_path: Path) -> None:
    drawn = strangers(9)
    _, wire = line(tmp_path)
    verdicts = kept(wire.ask(screen_request(drawn, decoys={"pixels": drawn[[2, 4], 1]})), 9)
    assert not any(verdicts[k] for k in (2, 4))
    assert any(verdicts)


# Mutants: each law above, broken in the code that runs, is seen


def purposes(site: Site) -> list[str]:
    return [e["payload"]["purpose"] for e in site.ledger.events() if e["kind"] == "step_intent"]


def answers_twice(root: Path) -> bool:
    _, wire = line(root)
    wire.ask(screen_request(strangers(8)))
    other = screen_request(strangers(8), {**EXACT, "exact": {"alpha": 0.5}}, stage="screen-2")
    return isinstance(wire.ask(other), Kept)


def uncharged(root: Path) -> bool:
    site, wire = line(root, *PLANS)
    wire.ask(screen_request(strangers(8), VOTES))
    return purposes(site) != ["filter.votes", "gate.touched"]


def noiseless(root: Path) -> bool:
    """Say whether strangers, against whom nobody votes, are all kept: of 200 with noise one time in 10¹¹."""
    _, wire = line(root, *PLANS)
    return all(kept(wire.ask(screen_request(strangers(200), VOTES)), 200))


def foreign(root: Path) -> bool:
    return isinstance(line(root)[1].ask(screen_request(strangers(8), drawn=strangers(8, seed=1))), Kept)


def no_memory(patch: Patch) -> None:
    patch.setattr(screening, "_once", lambda *_: None)
    patch.setattr(Outbox, "answer", lambda self, request, run, key, kind, compute: compute())


def no_charge(patch: Patch) -> None:
    patch.setattr(PrivacyLedger, "intend", lambda *_, **__: None)


def no_noise(patch: Patch) -> None:
    patch.setattr("privacy.randomness.SecureRandom.discrete_laplace", lambda *_, **__: 0)


def no_second_drawing(patch: Patch) -> None:
    patch.setattr(screening, "_own", lambda *_: None)


@pytest.mark.parametrize(
    ("seen", "mutant"),
    [(answers_twice, no_memory), (uncharged, no_charge), (noiseless, no_noise), (foreign, no_second_drawing)],
    ids=lambda f: f.__name__,
)
def test_a_site_that_breaks_a_law_is_seen(
    tmp_path: Path, monkeypatch: Patch, seen: Callable[[Path], bool], mutant: Callable[[Patch], None]
) -> None:
    assert not seen(tmp_path / "honest")
    with monkeypatch.context() as patch:
        mutant(patch)
        assert seen(tmp_path / "mutant")


def test_each_synthetic_subject_has_the_pictures_that_the_copier_holds() -> None:
    assert screen_request(strangers(3)).candidates["pixels"].shape[1] == EACH
