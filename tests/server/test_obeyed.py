"""A certificate says whether the masks of a release have the ejection fractions that its labels say were asked for."""

import dataclasses

import numpy as np

from cohorts.study import UNLABELLED
from conf.schema import Classes
from server.evidence import obeyed_section
from synthesis.conditions import conditions


def test_masks_that_obey_say_so_and_masks_that_do_not_do_not():
    frames = conditions(Classes(), 40, seed=1, size=64)
    (found,) = obeyed_section(frames)
    assert (found.label, found.n) == ("lvef_percent", 40)
    assert 15 <= found.low < 20 < 70 < found.high <= 75
    assert found.correlation > 0.98
    assert abs(found.bias) <= found.error < 2.5
    lvef = frames.lvef_percent.reshape(40, 4)
    (wrong,) = obeyed_section(dataclasses.replace(frames, lvef_percent=np.roll(lvef, 7, axis=0).ravel()))
    assert wrong.correlation < 0.6
    assert wrong.error > 10
    (off,) = obeyed_section(dataclasses.replace(frames, lvef_percent=frames.lvef_percent - 8))
    assert abs(off.correlation - found.correlation) < 1e-6
    assert abs(off.bias - found.bias - 8) < 1e-4


def test_a_release_without_outlines_fractions_or_both_planes_says_nothing():
    frames = conditions(Classes(), 5, seed=1, size=32)
    for without in (
        dataclasses.replace(frames, masks=np.full_like(frames.masks, UNLABELLED)),
        dataclasses.replace(frames, lvef_percent=np.full_like(frames.lvef_percent, np.nan)),
        dataclasses.replace(frames, lvef_percent=np.full_like(frames.lvef_percent, 50)),
        conditions(Classes(released=("A4C",)), 5, seed=1, size=32),
        frames.select(frames.subjects[:2]),
    ):
        assert list(obeyed_section(without)) == []
