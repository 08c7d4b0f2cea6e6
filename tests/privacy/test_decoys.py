import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cohorts.phantom.simulate import stills
from privacy.decoys import DECOYS, Answers, Conduct, copied, hide
from privacy.embedding import embed
from privacy.planted import altered_copy
from privacy.randomness import SecureRandom
from privacy.votes import VoteFilter, ballots

PROMISE = {"catch": 0.9, "false_rejection": 0.1}


def _answers(kept: NDArray[np.bool_], candidates: int = 200) -> Answers:
    return hide(candidates, random=SecureRandom()).opened(kept)


@settings(max_examples=30, deadline=None)
@given(candidates=st.integers(0, 50), copies=st.integers(0, 20), probes=st.integers(0, 20), seed=st.integers(0, 99))
def test_opening_sorts_verdicts_by_what_they_were_about(candidates: int, copies: int, probes: int, seed: int) -> None:
    hidden = hide(candidates, copies=copies, probes=probes, random=SecureRandom())
    truth = np.random.default_rng(seed).random(candidates + copies + probes) < 0.5
    answers = hidden.opened(truth[hidden.order])
    np.testing.assert_array_equal(answers.kept, truth[:candidates])
    assert answers.caught == int((~truth[candidates : candidates + copies]).sum())
    assert answers.refused == int((~truth[candidates + copies :]).sum())


def test_where_copies_lie_is_another_secret_every_time() -> None:
    places = [np.flatnonzero(hide(200, random=SecureRandom()).order >= 200) for _ in range(200)]
    assert len({tuple(p) for p in places}) == 200
    assert np.concatenate(places).mean() == pytest.approx(149.5, abs=4)
    lots = [copied(random=SecureRandom()) for _ in range(50)]
    assert {int(lot.sum()) for lot in lots} == {DECOYS // 2}
    assert len({lot.tobytes() for lot in lots}) == 50


def test_a_site_that_accepts_everything_is_always_found_out() -> None:
    """T-F4: probability of being flagged above 0.999 with a hundred decoys, half of them copied."""
    flagged = [_answers(np.ones(300, bool)).conduct(**PROMISE) is Conduct.ACCEPTS for _ in range(2000)]
    assert np.mean(flagged) > 0.999


def test_a_site_that_refuses_everything_is_found_out_too() -> None:
    assert _answers(np.zeros(300, bool)).conduct(**PROMISE) is Conduct.REFUSES


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_no_share_refused_at_random_passes_for_screening(share: float) -> None:
    rng = np.random.default_rng(0)
    found = [_answers(rng.random(300) > share).conduct(**PROMISE) for _ in range(500)]
    assert np.mean([f in (Conduct.ACCEPTS, Conduct.REFUSES) for f in found]) > 0.995


@pytest.mark.parametrize("promise", [PROMISE, {"catch": 0.73, "false_rejection": 0.27}])
def test_an_honest_site_is_accused_less_than_twice_in_a_thousand(promise: dict[str, float]) -> None:
    rng = np.random.default_rng(1)
    caught, refused = rng.binomial(50, promise["catch"], 4000), rng.binomial(50, promise["false_rejection"], 4000)
    kept = np.ones(1, bool)
    found = [
        Answers(kept=kept, copies=50, caught=int(c), probes=50, refused=int(r)).conduct(**promise)
        for c, r in zip(caught, refused, strict=True)
    ]
    assert np.mean([f is not Conduct.HONEST for f in found]) <= 0.004


def test_two_decoys_acquit_nobody() -> None:
    few = Answers(kept=np.ones(1, bool), copies=2, caught=2, probes=50, refused=3)
    assert few.conduct(**PROMISE) is Conduct.UNDECIDED
    none = Answers(kept=np.ones(1, bool), copies=50, caught=48, probes=0, refused=0)
    assert none.conduct(**PROMISE) is Conduct.UNDECIDED


def test_a_site_that_votes_with_noise_passes_and_its_patients_are_screened_beside() -> None:
    """Decoys of phantoms among phantom patients, voted at ε = 3: honest conduct, candidates in their own order."""
    random, rng = SecureRandom(), np.random.default_rng(2)
    here, made, probe, drawn = (stills(n, seed=n, size=32).pixels[::4] for n in (150, 60, 50, 61))
    copies = np.stack([altered_copy(p, level=1, rng=rng) for p in made[:50]])
    hidden = hide(len(drawn), copies=50, probes=50, random=random)
    shown = embed(np.concatenate([drawn, copies, probe])[hidden.order])
    reference = embed(np.concatenate([here, made]))
    votes = ballots(reference, np.arange(len(reference)), shown, np.arange(len(shown)), tau=0.9)
    sieve = VoteFilter(epsilon=3.0, threshold=1)
    answers = hidden.opened(sieve.accept(votes, random))
    verdict = answers.conduct(catch=0.8 * (1 - sieve.acceptance(1)), false_rejection=1.5 * (1 - sieve.acceptance()))
    assert verdict is Conduct.HONEST
    assert answers.kept.shape == (61,)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="kept"):
        hide(5, random=SecureRandom()).opened(np.ones(4, bool))
    with pytest.raises(ValueError, match="probes"):
        hide(5, probes=-1, random=SecureRandom())
    with pytest.raises(ValueError, match="catch"):
        _answers(np.ones(300, bool)).conduct(catch=1.2, false_rejection=0.1)
