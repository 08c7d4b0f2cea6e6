"""Fidelity of a release: equal n, halves of different subjects, named encoders; and what it cannot see."""

import dataclasses

import numpy as np
import pytest

from cohorts.clips import films
from cohorts.phantom import simulate
from evaluation import fidelity
from evaluation.encoders import ENCODERS, over_time
from evaluation.policy import Policy


@pytest.fixture(scope="module")
def here():
    return simulate.stills(40, seed=1, style="site-a")


@pytest.fixture(scope="module")
def there():
    return simulate.stills(20, seed=2, style="site-b")


def by_name(found):
    return {(f.encoder.split()[0], f.metric): f for f in found}


def test_every_encoder_says_every_measure_at_equal_n_with_the_reference_beside(here, there):
    found = fidelity.describe(there, here, called="phantoms of site a", reads_real=False)
    assert {f.encoder.split()[0] for f in found} == set(ENCODERS)
    assert len(found) == 7 * len(ENCODERS)
    assert {f.n for f in found} == {80}
    assert all(f.beside is not None and f.against == "phantoms of site a" for f in found)


def test_another_scanner_is_further_than_the_reference_is_from_itself(here, there):
    found = by_name(fidelity.describe(there, here, called="site a", reads_real=False))
    for encoder in ENCODERS:
        assert found[encoder, "fid"].estimate > 2 * found[encoder, "fid"].beside
        assert found[encoder, "kid"].ci[0] > 0
        assert found[encoder, "coverage"].estimate < found[encoder, "coverage"].beside


def test_whoever_memorises_scores_best(here):
    """T-U4, one half: fidelity does not see a leak, so it decides nothing."""
    copied = by_name(fidelity.describe(here, here, called="site a", reads_real=False))
    for encoder in ENCODERS:
        assert copied[encoder, "fid"].estimate < copied[encoder, "fid"].beside


def test_halves_share_no_subject(here):
    first, second = fidelity._halves(here.subject, np.random.default_rng(0))
    assert not set(here.subject[first]) & set(here.subject[second])
    assert len(first) + len(second) == len(here)


def test_of_few_nothing_is_said(here, there):
    few = there.select(there.subjects[:2])
    assert fidelity.describe(few, here, called="site a", reads_real=False) == ()


def test_the_same_seed_says_the_same(here, there):
    assert fidelity.describe(there, here, called="a", reads_real=False) == fidelity.describe(
        there, here, called="a", reads_real=False
    )


def test_clips_are_compared_over_time():
    clips = films(72, phase=np.tile(np.arange(4) / 4, (72, 1)), seed=4, size=64)
    found = fidelity.describe(clips, clips, called="phantoms", reads_real=False)
    assert {f.metric for f in found} >= {"fvd"}
    assert all(f.encoder.endswith("over time") for f in found)


def test_what_pads_a_clip_counts_for_nothing_and_a_still_does_not_change():
    clips = films(2, phase=np.tile(np.arange(4) / 4, (2, 1)), seed=4, size=64)
    padded = dataclasses.replace(
        clips,
        pixels=np.concatenate([clips.pixels, np.full_like(clips.pixels, 77)], 1),
        masks=np.concatenate([clips.masks, clips.masks], 1),
        phase=np.concatenate([clips.phase, clips.phase], 1),
    )
    for encoder in ENCODERS.values():
        assert np.allclose(over_time(padded, encoder), over_time(clips, encoder), atol=1e-5)
        still = dataclasses.replace(clips, length=np.ones_like(clips.length))
        features = over_time(still, encoder)
        assert not features[:, features.shape[1] // 2 :].any()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_picture_is_seen_alone(encoder, here):
    some = here.pixels[:6]
    whole = ENCODERS[encoder](some)
    assert whole.dtype == np.float32
    assert np.allclose(np.concatenate([ENCODERS[encoder](some[k : k + 1]) for k in range(6)]), whole, atol=1e-5)
    assert ENCODERS[encoder](some[:0]).shape == (0, whole.shape[1])


def test_features_of_different_number_are_refused():
    with pytest.raises(ValueError, match="equal n"):
        list(
            fidelity.compare(
                np.ones((5, 2)), np.ones((5, 2)), np.ones((4, 2)), encoder="x", called="y", reads_real=False
            )
        )


def test_no_shipped_policy_lets_fidelity_decide(here):
    """T-U4, the other half: a copier that scores best is judged by what attacks find, and by nothing here."""
    names = {f.metric for f in fidelity.describe(here, here, called="a", reads_real=False)}
    for policy in map(Policy.load, Policy.shipped()):
        assert not names & {rule.metric for rule in policy.rules}
