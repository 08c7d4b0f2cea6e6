import dataclasses

import numpy as np
import pytest
import torch

from cohorts.frames import partners
from cohorts.phantom import simulate
from learning.learner import fit
from learning.learners.ejection_fraction import EjectionFraction


@pytest.fixture(scope="module")
def phantoms():
    return simulate.stills(8, seed=3)


def test_the_two_phases_of_a_clip_are_partners_and_nobody_else(phantoms):
    other = partners(phantoms)
    assert (partners(phantoms)[other] == np.arange(len(phantoms))).all()
    assert (phantoms.subject[other] == phantoms.subject).all()
    assert (phantoms.view[other] == phantoms.view).all()
    assert (phantoms.phase[other] == 1 - phantoms.phase).all()


def test_a_frame_without_its_other_phase_has_no_partner_and_no_fraction(phantoms):
    alone = dataclasses.replace(
        phantoms,
        **{
            name: getattr(phantoms, name)[::2]
            for name in ("pixels", "masks", "view", "phase", "lvef_percent", "subject")
        },
    )
    assert (partners(alone) == -1).all()
    learner = EjectionFraction(width=4).build()
    assert np.isnan(learner.predict(alone)).all()
    losses = learner.losses(alone, np.arange(4), generator=torch.Generator().manual_seed(0))
    assert losses.tolist() == [0, 0, 0, 0]


def test_both_phases_of_a_clip_have_one_prediction(phantoms):
    found = EjectionFraction(width=4).build().predict(phantoms)
    assert np.array_equal(found, found[partners(phantoms)])
    assert ((found >= 0) & (found <= 100)).all()


@pytest.mark.slow
def test_it_measures_people_it_has_never_seen():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        learner = EjectionFraction().build()
    fit(learner, simulate.stills(400, seed=1), steps=400, batch_size=32, learning_rate=2e-3, seed=0)
    others = simulate.stills(100, seed=2)
    found = learner.predict(others)
    assert np.corrcoef(found, others.lvef_percent)[0, 1] > 0.8
    assert np.abs(found - others.lvef_percent).mean() < 8
