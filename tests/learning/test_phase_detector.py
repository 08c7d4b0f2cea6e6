import dataclasses

import numpy as np
import pytest
import torch

from cohorts.deidentify import Pseudonyms
from cohorts.frames import partners
from cohorts.phantom import simulate
from cohorts.readers.phantom import Phantom
from learning.learner import fit, fit_private
from learning.learners.phase_detector import PhaseDetector, moments, successors
from learning.phases import cyclic_difference
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom


def cohort(subjects, *, seed, frames=8):
    views = ("A4C", "PLAX")
    return Phantom(subjects=subjects, seed=seed, views=views, frames=frames).read(pseudonyms=Pseudonyms(bytes(32)))


def learner(**config):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return PhaseDetector(**config).build()


def test_every_moment_of_a_clip_is_followed_by_the_next_and_the_last_by_the_first():
    frames = moments(cohort(2, seed=1), frames=8)
    assert (frames.phase == -1).all()
    assert np.array_equal(successors(frames), np.arange(32).reshape(4, 8)[:, [1, 2, 3, 4, 5, 6, 7, 0]].ravel())


def test_where_only_end_diastole_and_end_systole_are_held_they_follow_each_other():
    frames = simulate.stills(3, seed=1)
    assert np.array_equal(successors(frames), partners(frames))


def test_two_clips_of_one_view_are_not_taken_for_one():
    frames = dataclasses.replace(simulate.stills(2, seed=1), view=np.zeros(8, np.int64))
    assert np.array_equal(successors(frames), partners(frames))


def test_a_frame_alone_or_of_unknown_view_has_no_successor():
    frames = simulate.stills(1, seed=1)
    assert (successors(dataclasses.replace(frames, view=np.full(4, -1))) == -1).all()
    assert (successors(dataclasses.replace(frames, view=np.array([0, 1, 2, 3]))) == -1).all()


def test_a_clip_shown_backwards_moves_the_other_way():
    clip = cohort(1, seed=3).of(cohort(1, seed=3).subjects[0])[0].clips[0].pixels
    found = learner(width=4)
    forwards, backwards = found.fields(clip), found.fields(clip[::-1].copy())
    np.testing.assert_allclose(forwards, -np.roll(backwards[::-1], -1, axis=0), atol=1e-5)


def test_it_is_refused_a_clip_that_stands_still():
    with pytest.raises(ValueError, match="nothing that moves"):
        learner(width=4).detect(np.full((8, 64, 64), 90, np.uint8))


@pytest.mark.parametrize("config", [{"smoothness": -1.0}, {"focus_height": 1.5}])
def test_a_config_out_of_bounds_is_refused(config):
    with pytest.raises(ValueError, match=next(iter(config))):
        PhaseDetector(**config)


def test_no_label_is_read():
    frames = moments(cohort(2, seed=1), frames=8)
    other = dataclasses.replace(
        frames, masks=np.zeros_like(frames.masks), lvef_percent=np.full(len(frames), np.nan, np.float32)
    )
    one, two = (
        learner(width=4).losses(f, np.arange(32), generator=torch.Generator().manual_seed(0)) for f in (frames, other)
    )
    assert torch.equal(one, two)


def test_it_takes_steps_under_privacy_on_pairs_of_moments():
    found = learner(width=4)
    before = [p.detach().clone() for p in found.module.parameters()]
    plan = DpPlan(purpose="phases", sampling_rate=1.0, noise_multiplier=1.0, clip_norm=0.1, steps=2, draws=2)
    fit_private(
        found,
        moments(cohort(3, seed=1), frames=8),
        plan,
        steps=2,
        public_subjects=3,
        learning_rate=1e-3,
        random=SecureRandom(),
    )
    after = list(found.module.parameters())
    assert all(torch.isfinite(p).all() and not torch.equal(p, q) for p, q in zip(after, before, strict=True))


@pytest.mark.slow
def test_it_finds_end_diastole_and_end_systole_of_people_it_has_never_seen():
    found = learner()
    fit(found, moments(cohort(24, seed=1, frames=24), frames=24), steps=300, batch_size=32, learning_rate=3e-3, seed=0)
    others = cohort(8, seed=2, frames=24)
    clips = [clip for who in others.subjects for study in others.of(who) for clip in study.clips]
    apart = [cyclic_difference(np.array(found.detect(c.pixels))[[0, 2]], [c.ed_frame, c.es_frame], 24) for c in clips]
    assert np.mean(apart) < 2  # by chance 6
