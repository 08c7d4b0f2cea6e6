import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cohorts.phantom.simulate import stills
from privacy.embedding import embed
from privacy.reidentification import ReidentificationFilter, self_similar


def _unit(n: int, *, rng: np.random.Generator, d: int = 16) -> NDArray[np.float32]:
    rows = rng.standard_normal((n, d)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _calibrated(members: NDArray[np.float32], strangers: NDArray[np.float32], alpha: float = 0.05) -> float:
    who, whose = np.arange(len(members)), np.arange(len(strangers))
    return ReidentificationFilter(alpha=alpha).calibrate(members, who, strangers, whose)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_fresh_people_are_dropped_as_often_as_alpha_says(alpha: float) -> None:
    rng = np.random.default_rng(0)
    dropped = []
    for _ in range(200):
        members, strangers, fresh = (_unit(n, rng=rng) for n in (40, 59, 60))
        tau = _calibrated(members, strangers, alpha)
        dropped.append(1 - ReidentificationFilter(alpha=alpha).screen(fresh, members, tau).mean())
    exact = 1 - np.ceil(60 * (1 - alpha)) / 60  # of a conformal threshold from 59 strangers
    assert np.mean(dropped) == pytest.approx(exact, abs=4 * np.std(dropped) / np.sqrt(200))


def test_fresh_phantoms_are_dropped_no_more_often_than_alpha_says() -> None:
    people = stills(90, seed=1, style="site-a", size=32)
    embedding, names = embed(people.pixels), people.subject
    first, second, third = (names < 30, (names >= 30) & (names < 60), names >= 60)
    sieve = ReidentificationFilter(alpha=0.1)
    tau = sieve.calibrate(embedding[first], names[first], embedding[second], names[second])
    kept = sieve.screen(embedding[third], embedding[first], tau)
    by_subject = np.array([kept[names[third] == one].all() for one in range(60, 90)])
    assert 1 - by_subject.mean() <= 0.1 + 2.3 * np.sqrt(0.1 * 0.9 / 30)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30))
def test_an_exact_copy_is_always_dropped(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    members, strangers = _unit(n, rng=rng), _unit(25, rng=rng)
    strangers[: 1 + seed % 25] = members[0]  # members under another name among those who calibrate
    tau = _calibrated(members, strangers)
    assert not ReidentificationFilter().screen(members, members, tau).any()


def test_copies_of_phantoms_are_dropped_and_strangers_stay() -> None:
    people = stills(60, seed=2, size=32)
    embedding, names = embed(people.pixels), people.subject
    first, second = names < 30, names >= 30
    sieve = ReidentificationFilter()
    tau = sieve.calibrate(embedding[first], names[first], embedding[second], names[second])
    assert not sieve.screen(embedding[first], embedding[first], tau).any()
    assert sieve.screen(embed(stills(30, seed=3, size=32).pixels), embedding[first], tau).mean() > 0.9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40))
def test_what_stands_beside_a_candidate_never_changes_its_fate(seed: int, n: int) -> None:
    """T-F6."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n + 20, 32, 32), np.uint8)
    members, candidates = embed(pixels[:20]), embed(pixels[20:])
    tau = float(np.median(candidates @ members.T))
    sieve = ReidentificationFilter()
    together = sieve.screen(candidates, members, tau)
    alone = [bool(sieve.screen(one[None], members, tau)[0]) for one in candidates]
    order = rng.permutation(n)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(sieve.screen(candidates[order], members[rng.permutation(20)], tau), together[order])


def test_the_threshold_is_the_conformal_rank_of_one_score_per_subject() -> None:
    members = np.eye(4, dtype=np.float32)[:1]
    scores = np.linspace(0.1, 0.5, 19, dtype=np.float32)
    low = np.zeros((19, 4), np.float32)
    low[:, 0] = scores - 0.05
    high = np.zeros((19, 4), np.float32)
    high[:, 0] = scores
    frames, owner = np.concatenate([low, high]), np.tile(np.arange(19), 2)
    tau = ReidentificationFilter(alpha=0.05).calibrate(members, np.array([0]), frames, owner)
    assert tau == pytest.approx(scores[18])  # the ceil(20 · 0.95) = 19th
    assert ReidentificationFilter(alpha=0.1).calibrate(members, np.array([0]), frames, owner) == scores[17]


def test_too_few_calibration_subjects_are_refused() -> None:
    rng = np.random.default_rng(0)
    members = _unit(5, rng=rng)
    _calibrated(members, _unit(19, rng=rng))
    with pytest.raises(ValueError, match=r"18 calibration subjects.*needs at least 19"):
        _calibrated(members, _unit(18, rng=rng))


def test_nobody_to_protect_and_unmatched_rows_are_refused() -> None:
    rng = np.random.default_rng(0)
    strangers, sieve = _unit(19, rng=rng), ReidentificationFilter()
    with pytest.raises(ValueError, match="members is empty"):
        sieve.calibrate(strangers[:0], np.arange(0), strangers, np.arange(19))
    with pytest.raises(ValueError, match="calibration has 19 rows"):
        sieve.calibrate(strangers, np.arange(19), strangers, np.arange(18))
    with pytest.raises(ValueError, match="not finite"):
        sieve.calibrate(strangers * np.nan, np.arange(19), strangers, np.arange(19))
    with pytest.raises(ValueError, match="alpha"):
        ReidentificationFilter(alpha=1.0)
    with pytest.raises(ValueError, match="tau"):
        sieve.screen(strangers, strangers, float("nan"))


def test_near_twins_leave_only_the_first() -> None:
    rng = np.random.default_rng(1)
    people = _unit(50, rng=rng, d=64)
    twins = np.concatenate([people, people[10:20]])[np.r_[0:55, 55:60]]
    np.testing.assert_array_equal(self_similar(twins, threshold=0.9), np.arange(60) < 50)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.floats(0.1, 1.0))
def test_no_two_kept_candidates_are_twins_and_every_dropped_one_has_an_earlier_twin(
    seed: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    candidates = embed(rng.integers(0, 256, (30, 8, 8), np.uint8).repeat(4, 1).repeat(4, 2))
    candidates = candidates[rng.integers(0, 30, 40)]
    keep = self_similar(candidates, threshold=threshold)
    likeness = candidates @ candidates.T
    for i in range(40):
        earlier = likeness[i, :i][keep[:i]]
        assert keep[i] == (not (earlier >= threshold).any())


def test_blocks_do_not_change_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    candidates = embed(rng.integers(0, 256, (100, 32, 32), np.uint8))[rng.integers(0, 100, 300)]
    whole = self_similar(candidates, threshold=0.3)
    monkeypatch.setattr("privacy.reidentification._BLOCK", 7)
    np.testing.assert_array_equal(self_similar(candidates, threshold=0.3), whole)


def test_no_candidates_keep_nothing() -> None:
    assert self_similar(np.zeros((0, 256), np.float32), threshold=0.9).shape == (0,)


@pytest.mark.parametrize("threshold", [-1.0, 1.5, float("nan")])
def test_thresholds_are_similarities(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        self_similar(np.zeros((1, 256), np.float32), threshold=threshold)
