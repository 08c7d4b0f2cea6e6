import numpy as np
import pytest
import torch

from learning.motion import likeness, motion_curve, roughness, warp
from learning.phases import cyclic_difference, key_frames

FRAMES, SIDE = 24, 48
DOWN, ACROSS = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2


def beating(phase, wall=(6, 18)):
    """Fields of a ring whose radius shrinks by a fifth and widens again as `phase`, 0..1 at each frame, goes round."""
    radius = 1 - 0.1 * (1 - np.cos(2 * np.pi * phase))
    moved = (radius / np.roll(radius, -1) - 1)[:, None, None]  # a shrinking ring came from further out
    far = np.hypot(DOWN, ACROSS)
    ring = (far > wall[0]) & (far < wall[1])
    return np.stack([moved * ACROSS * ring, moved * DOWN * ring], axis=1)


CYCLE = np.arange(FRAMES) / FRAMES


def test_the_curve_is_negative_while_the_heart_contracts_and_positive_while_it_fills():
    curve = motion_curve(beating(CYCLE))
    assert curve.shape == (FRAMES,)
    assert (np.abs(curve) <= 1).all()
    assert (curve[1 : FRAMES // 2 - 1] < -0.9).all()
    assert (curve[FRAMES // 2 + 1 : -1] > 0.9).all()


def test_end_diastole_and_end_systole_are_found_within_a_frame():
    ed, _, es, _, _ = key_frames(motion_curve(beating(CYCLE)))
    assert (cyclic_difference([ed, es], [0, FRAMES // 2], FRAMES) <= 1).all()


@pytest.mark.parametrize("k", [1, 7, 16])
def test_the_curve_turns_with_the_cycle(k):
    fields = beating(CYCLE)
    np.testing.assert_allclose(motion_curve(np.roll(fields, k, 0)), np.roll(motion_curve(fields), k), atol=0.02)


def test_a_heart_shown_backwards_fills_where_it_contracted():
    forwards, backwards = motion_curve(beating(CYCLE**1.5)), motion_curve(beating(CYCLE[::-1] ** 1.5))
    assert np.corrcoef(forwards, -np.roll(backwards[::-1], -1))[0, 1] > 0.95


def test_a_heart_aside_from_the_middle_has_the_same_curve():
    aside = np.roll(beating(CYCLE, wall=(4, 14)), (5, -4), (2, 3))
    assert np.abs(motion_curve(aside) - motion_curve(beating(CYCLE, wall=(4, 14)))).max() < 0.1


def test_how_large_a_pixel_is_does_not_matter():
    np.testing.assert_allclose(motion_curve(5 * beating(CYCLE)), motion_curve(beating(CYCLE)), atol=1e-6)


def test_an_atrium_below_does_not_turn_the_curve_where_it_is_said_where_the_ventricle_lies():
    ventricle, atrium = beating(CYCLE, wall=(3, 10)), beating(np.roll(CYCLE, FRAMES // 2), wall=(5, 12))
    both = np.roll(ventricle, -11, 2) + np.roll(atrium, 12, 2)
    alone = motion_curve(np.roll(ventricle, -11, 2), focus=(0.3, 0.5))
    assert np.corrcoef(motion_curve(both, focus=(0.3, 0.5)), alone)[0, 1] > 0.9


def test_a_focus_outside_the_picture_is_refused():
    with pytest.raises(ValueError, match="focus"):
        motion_curve(beating(CYCLE), focus=(1.2, 0.5))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (np.zeros((9, 2, 8, 8)), "nothing that moves"),
        (np.ones((3, 2, 8, 8)), "4 frames or more"),
        (np.ones((9, 3, 8, 8)), "shape"),
        (np.full((9, 2, 8, 8), np.nan), "finite"),
    ],
)
def test_what_shows_no_heart_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        motion_curve(fields)


def test_a_field_says_where_in_the_other_picture_a_place_was():
    x = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    field = torch.zeros(1, 2, 12, 12)
    torch.testing.assert_close(warp(x, field), x)
    field[:, 0], field[:, 1] = 2, -1
    torch.testing.assert_close(warp(x, field)[..., 1:, :-2], x[..., :-1, 2:])


def test_likeness_knows_no_gain_and_smoothness_no_shift():
    coarse = 2 * torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    x = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert (likeness(x, 0.5 * x - 0.2) > 0.9).all()
    assert (likeness(x, -x) < -0.9).all()
    assert likeness(x, x.flip(0)).abs().max() < 0.3
    assert (roughness(torch.ones(2, 2, 8, 8)) == 0).all()
