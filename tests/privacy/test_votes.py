import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cohorts.phantom.simulate import stills
from privacy.audit.bounds import Errors
from privacy.embedding import Embedding, embed
from privacy.mechanism import epsilon as charged
from privacy.randomness import SecureRandom
from privacy.reidentification import ReidentificationFilter
from privacy.votes import (
    Gate,
    VoteFilter,
    ballots,
    candidates_needed,
    catch_bound,
    everywhere,
    nearest_of,
    prevalence_factor,
    spread,
    touched,
)

TAU = 0.9


def _unit(*shape: int, rng: np.random.Generator) -> Embedding:
    rows = rng.standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _crowded(n: int, rng: np.random.Generator, d: int = 4) -> Embedding:
    """Return unit vectors, many of them near twins of an earlier one."""
    rows = _unit(n, d, rng=rng)
    rows = rows[rng.integers(0, max(1, n // 3), n)] + 0.15 * rng.standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# Known answers


@pytest.mark.parametrize(
    ("beta", "percent"), [(0.05, (13.6, 36.9, 95.3)), (0.5, (81.6, 93.2, 97.5)), (0.9, (96.3, 98.6, 99.5))]
)
def test_the_most_copies_that_any_private_filter_catches(beta: float, percent: tuple[float, ...]) -> None:
    assert [round(100 * catch_bound(e, beta), 1) for e in (1, 2, 3)] == pytest.approx(percent)


def test_five_sites_that_all_agree_keep_the_whole_factor() -> None:
    assert prevalence_factor(2.0) == pytest.approx(0.135, abs=5e-4)
    assert prevalence_factor(2.0, votes=2) == pytest.approx(math.exp(-1))
    assert candidates_needed(100, 0.5, sites=5) == 3200


def test_noise_of_the_gate_has_a_deviation_of_2_8_patients() -> None:
    assert Gate(epsilon=0.5).spread() == pytest.approx(2.8, abs=0.05)


# Laws


@settings(max_examples=50, deadline=None)
@given(epsilon=st.floats(0.1, 5), threshold=st.integers(-4, 4), votes=st.integers(1, 4))
def test_integer_noise_reaches_the_bound_at_every_threshold(epsilon: float, threshold: int, votes: int) -> None:
    sieve = VoteFilter(epsilon=epsilon, threshold=threshold, votes=votes)
    stranger, copy = sieve.acceptance(), sieve.acceptance(votes)
    assert sieve.acceptance(1) / stranger >= prevalence_factor(epsilon, votes) * (1 - 1e-9)
    assert 1 - copy <= catch_bound(epsilon, 1 - stranger) + 1e-9
    if votes == 1:
        assert 1 - copy == pytest.approx(catch_bound(epsilon, 1 - stranger), rel=1e-9)


def test_the_stated_acceptance_is_what_happens() -> None:
    for sieve in (VoteFilter(), VoteFilter(threshold=1), VoteFilter(epsilon=2.0, threshold=-1, votes=2)):
        for votes in (0, 1, 3):
            kept = sieve.accept(np.full(20_000, votes), SecureRandom()).mean()
            assert kept == pytest.approx(sieve.acceptance(votes), abs=0.02)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), strata=st.integers(1, 3))
def test_one_patient_moves_the_ballots_by_at_most_one_vote_a_stratum(seed: int, strata: int) -> None:
    rng = np.random.default_rng(seed)
    people, drawn = _crowded(60, rng), _crowded(40, rng)
    owner, candidate, stratum = rng.integers(0, 9, 60), rng.integers(0, 12, 40), rng.integers(0, strata, 60)
    whole = ballots(people, owner, drawn, candidate, tau=TAU, stratum=stratum)
    gone = owner != 4
    without = ballots(people[gone], owner[gone], drawn, candidate, tau=TAU, stratum=stratum[gone])
    assert np.abs(whole - without).sum() <= strata
    assert whole.sum() <= 9 * strata
    counts = [touched(people[mine], owner[mine], drawn, tau=TAU) for mine in (owner >= 0, gone)]
    assert 0 <= counts[0] - counts[1] <= 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_after_spreading_no_picture_of_a_patient_has_two_candidates_within_tau(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([_crowded(60, rng, d=3), np.zeros((2, 3), np.float32)])
    candidate = np.concatenate([rng.integers(0, 20, 60), [3, 20]])
    keep = spread(drawn, candidate, tau=TAU)
    assert keep[0]
    patients = _unit(2000, 3, rng=rng)
    near = patients @ drawn.T >= TAU
    for one in near:
        assert len(set(candidate[one]) & set(np.flatnonzero(keep))) <= 1


def test_a_dropped_candidate_has_an_earlier_one_too_close() -> None:
    rng = np.random.default_rng(0)
    drawn, candidate = _crowded(80, rng), np.repeat(np.arange(40), 2)
    keep = spread(drawn, candidate, tau=TAU)
    likeness = drawn @ drawn.T
    for one in np.flatnonzero(~keep):
        earlier = keep[candidate] & (candidate < one)
        assert likeness[candidate == one][:, earlier].max() >= 2 * TAU**2 - 1 - 1e-5
    assert 1 < keep.sum() < 40


def test_a_patient_votes_for_the_nearest_candidate_only_and_once_a_stratum() -> None:
    drawn = np.eye(3, dtype=np.float32)
    patient = np.array([[1, 0.1, 0], [0, 1, 0.2], [0, 0.3, 1]], np.float32)
    owner, candidate = np.zeros(3, np.int64), np.arange(3)
    np.testing.assert_array_equal(ballots(patient, owner, drawn, candidate, tau=TAU), [1, 0, 0])
    two = ballots(patient, owner, drawn, candidate, tau=TAU, stratum=np.array([0, 1, 1]))
    np.testing.assert_array_equal(two, [1, 1, 0])
    np.testing.assert_array_equal(ballots(patient, owner, drawn, candidate, tau=0.999), [0, 0, 0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30))
def test_what_stands_beside_a_picture_never_changes_its_nearest(seed: int, n: int) -> None:
    """T-F6."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n + 25, 32, 32), np.uint8)
    bank, queries = embed(pixels[:25]), embed(pixels[25:])
    together = nearest_of(queries, bank)
    alone = [nearest_of(one[None], bank) for one in queries]
    np.testing.assert_array_equal(together[0], [one[0][0] for one in alone])
    np.testing.assert_array_equal(together[1], [one[1][0] for one in alone])


# Threats


def _hole_attack(runs: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], list[NDArray[np.bool_]]]:
    """Return who was in, and of each run which of a Poisson number of draws near the patient an exact filter kept."""
    patient = _unit(1, 8, rng=rng)
    strangers = _unit(5, 8, rng=rng)
    present, kept = rng.random(runs) < 0.5, []
    for here in present:
        drawn = patient + 0.05 * _unit(rng.poisson(3), 8, rng=rng)
        members = np.concatenate([strangers, patient]) if here else strangers
        kept.append(ReidentificationFilter().screen(drawn, members, TAU))
    return present, kept


def test_holes_of_an_exact_filter_tell_who_was_there() -> None:
    """T-F3: with three draws expected near a patient, "none is left" is right whenever the patient was there."""
    present, kept = _hole_attack(4000, np.random.default_rng(3))
    empty = np.array([not k.any() for k in kept])
    assert empty[present].mean() == 1.0
    assert empty[~present].mean() == pytest.approx(math.exp(-3), abs=0.015)


@pytest.mark.parametrize("threshold", [0, 1])
def test_holes_of_voted_verdicts_tell_what_they_were_charged_for_and_no_more(
    threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-F3: 200,000 runs with a fair coin for the patient's presence; the attacker sees one verdict each.

    What they tell is ε itself, so a bound that holds 19 times in 20 may lie above it: the dice are always the same.
    """
    monkeypatch.setattr("privacy.randomness.os.urandom", np.random.default_rng(7).bytes)
    sieve, runs = VoteFilter(epsilon=1.0, threshold=threshold), 200_000
    present = np.random.default_rng(threshold).random(runs) < 0.5
    kept = sieve.accept(present.astype(np.int64), SecureRandom())
    errors = Errors(
        missed=int((kept & present).sum()),
        with_it=int(present.sum()),
        alarmed=int((~kept & ~present).sum()),
        without=int((~present).sum()),
    )
    assert 0.9 <= errors.epsilon_bound(0.0) <= 1.0
    assert charged([sieve.plan()], 1e-9) == pytest.approx(1.0, abs=1e-3)


def test_copies_lose_votes_and_strangers_hearts_stay() -> None:
    people, fresh = stills(40, seed=2, size=32), stills(40, seed=3, size=32)
    drawn = embed(np.concatenate([people.pixels[people.subject < 10], fresh.pixels[fresh.subject < 10]]))
    candidate = np.concatenate([people.subject[people.subject < 10], 10 + fresh.subject[fresh.subject < 10]])
    votes = ballots(embed(people.pixels), people.subject, drawn, candidate, tau=0.98)
    np.testing.assert_array_equal(votes, np.arange(20) < 10)
    kept = VoteFilter(epsilon=60.0, threshold=1).accept(votes, SecureRandom())
    np.testing.assert_array_equal(kept, votes == 0)


def test_only_what_every_site_keeps_is_kept() -> None:
    rng = np.random.default_rng(0)
    verdicts = list(rng.random((4, 30)) < 0.8)
    np.testing.assert_array_equal(everywhere(verdicts), np.all(verdicts, axis=0))
    with pytest.raises(ValueError, match="verdicts"):
        everywhere([])
    with pytest.raises(ValueError, match="verdicts"):
        everywhere([np.ones(3, bool), np.ones(4, bool)])


def test_nonsense_is_refused() -> None:
    rows, owner = np.eye(3, dtype=np.float32), np.arange(3)
    for bad in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="tau"):
            spread(rows, owner, tau=bad)
        with pytest.raises(ValueError, match="tau"):
            touched(rows, owner, rows, tau=bad)
    with pytest.raises(ValueError, match="epsilon"):
        VoteFilter(epsilon=float("inf"))
    with pytest.raises(ValueError, match="votes"):
        VoteFilter(votes=0)
    with pytest.raises(ValueError, match="epsilon"):
        Gate(epsilon=0.0)
    with pytest.raises(ValueError, match="beta"):
        catch_bound(1.0, 1.5)
    with pytest.raises(ValueError, match="not finite"):
        ballots(rows * np.nan, owner, rows, owner, tau=TAU)
    with pytest.raises(ValueError, match="candidate"):
        ballots(rows, owner, rows, owner[:2], tau=TAU)
    with pytest.raises(ValueError, match="acceptance"):
        candidates_needed(10, 0.0)


def test_more_noise_never_keeps_more_copies_relative_to_strangers() -> None:
    kept = [VoteFilter(epsilon=e).acceptance(1) / VoteFilter(epsilon=e).acceptance() for e in (0.5, 1, 2, 4)]
    assert all(a > b for a, b in pairwise(kept))
