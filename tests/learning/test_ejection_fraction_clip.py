"""Ejection fraction from clips: the published size is one config away, and phantoms teach it what a beat ejects."""

import numpy as np
import pytest
import torch

from cohorts.clips import films
from learning.learner import fit
from learning.learners.ejection_fraction_clip import EjectionFractionClip, SpaceTime


def test_a_pair_of_convolutions_has_as_many_weights_as_one_in_space_and_time():
    pair = SpaceTime(64, 64, 1)
    weights = sum(p.numel() for p in (*pair.space.parameters(), *pair.time.parameters()))
    assert weights == pytest.approx(27 * 64 * 64, rel=0.02)
    assert pair.space.out_channels == 144  # M of their section 3.5


def test_the_published_size_is_one_config_away():
    with torch.device("meta"):
        net = EjectionFractionClip(width=64, stages=4, blocks=2, frames=32, stride=1).build().module
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(33.3e6, rel=0.01)  # as Tran et al. have it


@pytest.mark.parametrize("wrong", [{"width": 0}, {"frames": 3}], ids=str)
def test_a_size_out_of_bounds_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EjectionFractionClip(**wrong)


@pytest.mark.slow
def test_it_learns_from_phantoms_what_a_beat_ejects():
    beat = np.arange(16) / 16

    def people(n: int, seed: int):
        asked = np.random.default_rng(seed).uniform(20, 75, n)
        return films(n, phase=np.tile(beat, (n, 1)), seed=seed, size=64, lvef_percent=asked)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        learner = EjectionFractionClip().build()
    fit(learner, people(200, 1), steps=250, batch_size=16, learning_rate=3e-3, seed=0)
    test = people(60, 2)
    found = learner.predict(test)
    assert np.corrcoef(found, test.lvef_percent)[0, 1] > 0.45
    guess = np.abs(test.lvef_percent - np.median(test.lvef_percent)).mean()
    assert np.abs(found - test.lvef_percent).mean() < 0.9 * guess
