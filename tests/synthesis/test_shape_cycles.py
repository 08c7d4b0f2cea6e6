import dataclasses

import numpy as np
import pytest

from cohorts.clips import Clips, films
from cohorts.phantom import motion
from cohorts.study import UNLABELLED
from evaluation.volumes import biplane_ml, cavities, lvef_percent
from synthesis.shape_cycles import completed

ASKED = np.array([20.0, 35.0, 50.0, 65.0])


@pytest.fixture(scope="module")
def bare() -> Clips:
    """Return requests without a mask, in A2C and A4C, whose second frame is at end systole."""
    rate = films(4, phase=np.zeros((4, 1)), seed=5, size=16).heart_rate_bpm[::2]
    phase = np.stack([np.zeros(4), motion.systole(rate.astype(float))], 1)
    clips = films(4, phase=phase, seed=5, size=64, lvef_percent=ASKED)
    return dataclasses.replace(clips, masks=np.full_like(clips.masks, UNLABELLED))


def test_hearts_asked_for_by_a_number_alone_get_masks_that_eject_it(bare):
    masks, unit = completed(bare, seed=1).masks, np.ones((4, 2))
    ed, es = (biplane_ml(cavities(masks[1::2, t], unit), cavities(masks[::2, t], unit)) for t in (0, 1))
    np.testing.assert_allclose(lvef_percent(ed, es), ASKED, atol=4)


def test_what_is_outlined_unknown_or_padded_is_left_alone(bare):
    masks = bare.masks.copy()
    masks[0, 1, 3, 3] = 1
    lvef, phase = bare.lvef_percent.copy(), bare.phase.copy()
    lvef[1], phase[2, 1] = np.nan, np.nan
    view = bare.view.copy()
    view[3] = -1
    asked = dataclasses.replace(bare, masks=masks, lvef_percent=lvef, phase=phase, view=view).pad(4)
    made = completed(asked, seed=1)
    np.testing.assert_array_equal(made.masks[:4], asked.masks[:4])
    np.testing.assert_array_equal(made.masks[4:, :2], completed(bare, seed=1).masks[4:])
    assert (made.masks[4:, 2:] == UNLABELLED).all()


def test_a_row_does_not_depend_on_the_others_and_another_seed_gives_others(bare):
    together, alone = completed(bare, seed=1), completed(bare.rows(np.array([5])), seed=1)
    np.testing.assert_array_equal(together.masks[5:6], alone.masks)
    assert not np.array_equal(completed(bare, seed=2).masks, together.masks)


def test_a_heart_rate_that_is_not_known_becomes_the_synthetic_person_s(bare):
    asked = dataclasses.replace(bare, heart_rate_bpm=np.full(8, np.nan, np.float32))
    rate = completed(asked, seed=1).heart_rate_bpm
    assert np.isfinite(rate).all()
    np.testing.assert_array_equal(rate[::2], rate[1::2])


def test_an_impossible_fraction_is_refused(bare):
    with pytest.raises(ValueError, match="lvef_percent from 99"):
        completed(dataclasses.replace(bare, lvef_percent=np.full(8, 99, np.float32)), seed=1)
