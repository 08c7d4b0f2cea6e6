"""Made-up patients show whether a site looks at pictures at all: honest ones, deaf ones, and ones that refuse all."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cohorts.phantom.simulate import stills
from privacy.embedding import embed, embed_poses
from privacy.randomness import SecureRandom
from privacy.votes import VoteFilter, ballots
from server.decoys import Decoys, plant
from synthesis.candidates import by_subject

VOTES: dict[str, Any] = {"votes": {"epsilon": 1.0, "threshold": 1, "votes": 1}, "tau": 0.92}
EXACT: dict[str, Any] = {"exact": {"alpha": 0.05}}


@pytest.fixture(autouse=True)
def fixed_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an honest site is accused one time in a thousand, that time is not today."""
    monkeypatch.setattr("privacy.randomness.os.urandom", np.random.default_rng(7).bytes)


@pytest.fixture(scope="module")
def candidates() -> NDArray[np.uint8]:
    return by_subject(stills(160, seed=11, size=64))


def honest(candidates: NDArray[np.uint8], decoys: Decoys, rule: dict[str, Any]) -> NDArray[np.bool_]:
    """Answer as a site without patients does: decoys are all that votes, or is kept away from."""
    posed = embed_poses(decoys.pixels)
    near, owner = posed.reshape(-1, posed.shape[-1]), np.repeat(np.arange(len(posed)), posed.shape[1])
    images, image = embed(candidates.reshape(-1, 64, 64)), np.repeat(np.arange(len(candidates)), candidates.shape[1])
    if "votes" in rule:
        votes = ballots(near, owner, images, image, tau=rule["tau"])
        return VoteFilter(**rule["votes"]).accept(votes, SecureRandom())
    alike = (images @ near.T).max(1).reshape(len(candidates), -1).max(1)
    return alike < 0.92


@pytest.mark.parametrize("rule", [VOTES, EXACT], ids=["votes", "exact"])
def test_an_honest_site_refuses_copies_of_decoys_and_is_taken_for_honest(
    candidates: NDArray[np.uint8], rule: dict[str, Any]
) -> None:
    decoys = plant(candidates, 80, rule, random=SecureRandom())
    said = decoys.answers(honest(candidates, decoys, rule), rule)
    assert (said["n"], said["probes"]) == (40, 120)
    assert said["honest"] is True
    assert said["caught"] / said["n"] > said["refused"] / said["probes"] + 0.2


@pytest.mark.parametrize("rule", [VOTES, EXACT], ids=["votes", "exact"])
@pytest.mark.parametrize("kept", [True, False], ids=["accepts all", "rejects all"])
def test_a_site_that_does_not_look_is_seen(candidates: NDArray[np.uint8], rule: dict[str, Any], kept: bool) -> None:
    """T-F4, in a campaign."""
    decoys = plant(candidates, 80, rule, random=SecureRandom())
    assert decoys.answers(np.full(len(candidates), kept), rule)["honest"] is False


def test_a_site_that_only_tosses_the_coins_of_the_vote_is_seen(candidates: NDArray[np.uint8]) -> None:
    decoys = plant(candidates, 80, VOTES, random=SecureRandom())
    tossed = VoteFilter(**VOTES["votes"]).accept(np.zeros(len(candidates), np.int64), SecureRandom())
    assert decoys.answers(tossed, VOTES)["honest"] is not True or decoys.catch < 0.5


def test_without_decoys_nothing_is_given_up(candidates: NDArray[np.uint8]) -> None:
    none = plant(candidates, 0, VOTES, random=SecureRandom())
    assert none.pixels.shape == (0, 64, 64)
    assert not len(none.marked)


def test_few_candidates_are_not_all_given_up(candidates: NDArray[np.uint8]) -> None:
    assert len(plant(candidates[:8], 100, VOTES, random=SecureRandom()).marked) <= 2
