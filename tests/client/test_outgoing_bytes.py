"""Two hospitals that differ in one person, the same requests, the same dice: what leaves differs only where it may."""

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest

from client.site import Site
from cohorts.split import Split
from learning.messages import REQUESTS, Code, Guess
from privacy import coverage
from tests.hospitals import CANARY, WEIGHTS, train_request
from tests.oracle import (
    KINDS,
    LESS,
    MAY_DIFFER,
    SAYS,
    differing,
    foreign,
    gradients,
    leaves,
    same,
    silent,
    unlike_a_heart,
    unlike_a_person,
)
from tests.twins import AGAIN, HALVES, PLAN, RATE, SIZES, STRICT, Replies, Twins, requests, serve

SEEDS = range(6)
BEFORE_GUESSES = ("query.reserve", "train", "train again", "query.guess")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return Twins.born(tmp_path_factory.mktemp("twins"))


@pytest.fixture(scope="module")
def whole(twins: Twins) -> Replies:
    site = twins.site("whole")
    return serve(site, requests(twins, site))


@pytest.fixture(scope="module")
def without(twins: Twins, whole: Replies) -> dict[Split, Replies]:
    told = {split: twins.site(f"without-{split}", less=split) for split in Split}
    return {split: serve(site, requests(twins, site)) for split, site in told.items()}


@pytest.fixture(scope="module")
def otherwise(twins: Twins, whole: Replies) -> list[Replies]:
    noised = ("query.reserve", "train", "train again", "query.measure", "query.attack", "query.screen")
    return [
        serve(site, {case: requests(twins, site)[case] for case in noised}, seed=seed)
        for seed in SEEDS[1:]
        for site in [twins.site(f"dice-{seed}")]
    ]


def test_every_message_type_has_a_case_and_every_case_a_shape() -> None:
    assert {KINDS.get(case, case) for case in SAYS} == set(REQUESTS)
    assert {case for case, _ in MAY_DIFFER} <= set(SAYS)


def test_the_steps_that_allow_a_difference_stand_in_the_coverage_table() -> None:
    steps = {step: coverage.STEPS[step] for step in MAY_DIFFER.values()}
    assert {step for step, row in steps.items() if row.cost is coverage.Cost.FREE} == set()
    assert {step for step, row in steps.items() if row.cost is coverage.Cost.CHARGED} == {
        "train.views", "shapes.moments", "attack.disclosure", "screening.votes", "screening.gate",
    }  # fmt: skip
    assert set().union(*LESS.values()) == set(steps)


@pytest.mark.parametrize("case", SAYS)
def test_a_reply_says_what_it_is_there_to_say_and_not_a_byte_more(whole: Replies, case: str) -> None:
    assert foreign(case, whole[case]) == []


@pytest.mark.parametrize("less", Split)
@pytest.mark.parametrize("case", SAYS)
def test_without_one_person_the_same_bytes_leave_but_for_what_is_covered(
    whole: Replies, without: dict[Split, Replies], case: str, less: Split
) -> None:
    assert foreign(case, without[less][case]) == []
    assert differing(case, whole[case], without[less][case], LESS[less]) == []


@pytest.mark.parametrize(("case", "field"), MAY_DIFFER)
def test_whatever_may_differ_does(whole: Replies, without: dict[Split, Replies], case: str, field: str) -> None:
    """The requests are such that the person shows wherever one can: an oracle that sees nothing would see this."""

    def said(replies: Replies) -> list[Any]:
        return [value for path, value in leaves(replies[case].plain()) if fnmatchcase(path, field)]

    twin = [said(replies) for replies in without.values()]
    assert any(not same(a, b) for other in twin for a, b in zip(said(whole), other, strict=True))


@pytest.mark.parametrize("case", ["train", "train again"])
def test_noised_arrays_differ_by_the_clipped_gradient_of_that_person(
    twins: Twins, whole: Replies, without: dict[Split, Replies], case: str
) -> None:
    at = AGAIN if case == "train again" else WEIGHTS
    person = twins.last(Split.MEMBERS)
    assert unlike_a_person(case, whole[case], without[Split.MEMBERS][case], person, at) == []
    assert all(np.linalg.norm(g) > PLAN.clip_norm for g in gradients(person, at))  # so that the clip had work to do


def test_noised_moments_differ_by_the_clipped_row_of_that_person(
    twins: Twins, whole: Replies, without: dict[Split, Replies]
) -> None:
    person, case = twins.last(Split.MEMBERS), "query.measure"
    assert unlike_a_heart(case, whole[case], without[Split.MEMBERS][case], person) == []


def test_noised_counts_differ_by_one_at_most(whole: Replies, without: dict[Split, Replies]) -> None:
    counts = whole["query.attack"].plain()["counts"]
    for replies in without.values():
        other = replies["query.attack"].plain()["counts"]
        assert all(abs(counts[name] - other[name]) <= 1 for name in counts)


def test_the_votes_of_one_person_fall_on_one_candidate(whole: Replies, without: dict[Split, Replies]) -> None:
    """Under the same dice, at most one verdict of all hangs on one member, and none on anybody else."""
    verdicts = {
        split: np.unpackbits(np.frombuffer(replies["query.screen"].plain()["bits"], np.uint8))
        for split, replies in {None: whole, **without}.items()
    }
    moved = {split: int((verdicts[split] != verdicts[None]).sum()) for split in Split}
    assert moved == {Split.MEMBERS: 1, Split.CALIBRATION: 0, Split.TEST: 0}


@pytest.mark.parametrize("case", ["train", "train again", "query.measure", "query.attack", "query.screen"])
def test_every_noised_number_has_noise(whole: Replies, otherwise: list[Replies], case: str) -> None:
    assert silent(case, [whole[case], *(replies[case] for replies in otherwise)]) == []


def test_nothing_that_leaves_names_a_person_or_a_place(twins: Twins, whole: Replies) -> None:
    site = Site(twins.root / "whole/aurora")
    sent = [part for reply in whole.values() for part in reply.sent]
    for word in (CANARY, str(twins.root), *site.cohort.subjects):
        assert not any(word.encode() in part for part in sent)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_canaries_prove_depends_on_coins_and_noise_alone(twins: Twins, seed: int) -> None:
    """Half of all are drawn in each step, over two exchanges, and the one who is away would have been drawn first."""
    told: dict[str, Any] = {"stage": "halves", "plan": HALVES.to_json(), "steps": 3, "learning_rate": RATE}
    asked = {
        "one": lambda: train_request(**told),
        "two": lambda: train_request(**told, round=2),
        "guess": lambda: Guess(run="run-1", stage="halves", rounds=2),
    }
    said = []
    for less in (None, Split.MEMBERS):
        site = twins.site(f"halves-{seed}-{less}", less=less, first=True)
        said.append(serve(site, {"reserve": requests(twins, site)["query.reserve"], **asked}, seed=seed))
    assert said[0]["guess"].sent == said[1]["guess"].sent
    assert said[0]["guess"].code is None
    assert any(said[0][case].sent != said[1][case].sent for case in ("one", "two"))  # for the person was drawn


def test_other_coins_give_other_guesses(twins: Twins, whole: Replies) -> None:
    site = twins.site("guesses")
    asked = {case: make for case, make in requests(twins, site).items() if case in BEFORE_GUESSES}
    assert serve(site, asked, seed=1)["query.guess"].sent != whole["query.guess"].sent


@pytest.mark.parametrize("case", ["reference", "evaluate", "exact attack", "exact screen"])
def test_what_no_charge_covers_is_refused_in_the_same_bytes_unless_the_hospital_allows_it(
    twins: Twins, case: str
) -> None:
    refused = []
    for less in (None, *Split):
        site = twins.site(f"strict-{case.replace(' ', '-')}-{less}", less=less, **STRICT)
        asked = requests(twins, site)
        refused.append(serve(site, {c: asked[c] for c in ("query.reserve", "reserve exact", case)})[case])
    assert {reply.code for reply in refused} == {Code.REFUSED_POLICY}
    assert {reply.sent for reply in refused} == {refused[0].sent}


def test_a_score_of_too_few_vanishes_with_the_person_as_a_score_may(twins: Twins) -> None:
    """The threshold is no noise: whoever counts cells sees the one who made the number full (NOT_DP, `scores.test`)."""
    said = []
    for less in (None, Split.TEST):
        site = twins.site(f"full-{less}", less=less, min_cell=SIZES[Split.TEST])
        asked = requests(twins, site)
        said.append(serve(site, {c: asked[c] for c in ("query.reserve", "evaluate")})["evaluate"].plain()["scores"])
    assert (bool(said[0]["release"]), bool(said[1]["release"])) == (True, False)
    assert coverage.STEPS["scores.test"].cost is coverage.Cost.NOT_DP
