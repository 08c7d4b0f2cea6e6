import numpy as np
import pytest
import torch

from cohorts.study import CAVITY
from synthesis.video_sampling import between, clock, keys, speckle, steady


def test_a_clock_counts_beats_and_comes_round():
    phase = clock(100, heart_rate_bpm=60, frame_rate_hz=50)
    np.testing.assert_allclose(phase[:50], phase[50:], atol=1e-5)
    assert phase.min() == 0
    assert phase.max() < 1
    with pytest.raises(ValueError, match="frame_rate_hz=0"):
        clock(3, heart_rate_bpm=60, frame_rate_hz=0)


def test_keys_are_spread_over_the_circle_whatever_the_number_of_beats():
    phase = clock(200, heart_rate_bpm=75, frame_rate_hz=47, start=0.3)
    chosen = keys(phase, 16)
    assert len(chosen) == 16
    gaps = np.diff(np.append(phase[chosen], phase[chosen[0]] + 1))
    assert gaps.min() > 0.5 / 16
    assert gaps.max() < 1.5 / 16


def test_what_turns_smoothly_with_the_beat_stays_and_what_flickers_goes():
    at = ((np.arange(12) + 0.3) / 12).astype(np.float32)
    angle = torch.from_numpy(2 * np.pi * at).view(-1, 1, 1, 1)
    dice = torch.Generator().manual_seed(0)
    wall, more = torch.randn(2, 4, 8, 8, generator=dice)
    wall, more = (part - part.mean((1, 2), keepdim=True) for part in (wall, more))
    smooth = 2 + angle.cos() + wall * (3 * angle).sin() + more * (2 * angle).cos()
    torch.testing.assert_close(steady(smooth, at, harmonics=3), smooth, atol=1e-4, rtol=0)
    flicker = torch.randn(smooth.shape, generator=dice)
    left = steady(smooth + flicker, at, harmonics=3) - smooth
    assert left.square().mean() < 0.7 * flicker.square().mean()  # 7 of 12 dimensions are left
    assert left.mean((2, 3)).square().mean() < 0.4 * flicker.mean((2, 3)).square().mean()  # of brightness 3


def test_nothing_is_smoothed_where_nobody_asked_or_where_the_series_holds_it_all():
    at = np.linspace(0, 0.9, 7).astype(np.float32)
    drawn = torch.randn(7, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(steady(drawn, at, harmonics=0), drawn)
    one = drawn - drawn.mean((2, 3), keepdim=True)
    torch.testing.assert_close(steady(one, at, harmonics=3), one)


def test_few_frames_are_all_keys_in_the_order_of_their_phase():
    assert keys(np.array([0.5, 0.1, 0.9], np.float32), 16).tolist() == [1, 0, 2]
    assert len(keys(np.array([0.5, 0.5, 0.5], np.float32), 16)) == 1


def test_between_gives_back_what_was_drawn_and_closes_the_circle():
    at = np.array([0.1, 0.4, 0.8], np.float32)
    drawn = torch.tensor([[1.0], [2.0], [4.0]])
    assert between(drawn, at, at).flatten().tolist() == pytest.approx([1, 2, 4])
    assert between(drawn, at, np.array([0.6], np.float32)).item() == pytest.approx(3)
    # From 0.8 round to 0.1 is 0.3 of a beat; 0.95 is half-way, and so is 0.95 from the other side.
    assert between(drawn, at, np.array([0.95], np.float32)).item() == pytest.approx(2.5)
    before, after = (between(drawn, at, np.array([p], np.float32)).item() for p in (1 - 1e-6, 0.0))
    assert before == pytest.approx(after, abs=1e-4)


def test_one_moment_is_the_same_everywhere():
    assert between(torch.ones(1, 2), np.array([0.3], np.float32), np.array([0.3, 0.9], np.float32)).tolist() == [
        [1, 1],
        [1, 1],
    ]


def test_speckle_is_standard_normal_partly_stays_and_follows_the_base():
    masks = np.zeros((3, 64, 64), np.uint8)
    masks[:2, 10:50, 20:40] = CAVITY
    masks[2, 10:40, 20:40] = CAVITY  # the base has risen by ten rows
    noise = speckle(masks, seed=1, row=2)[:, 0].numpy()
    assert noise.std() == pytest.approx(1, abs=0.03)
    stays = np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]
    assert stays == pytest.approx(0.7, abs=0.04)
    below = np.corrcoef(noise[0, 52:].ravel(), noise[2, 42:54].ravel())[0, 1]
    assert below == pytest.approx(0.7, abs=0.06)


def test_speckle_of_a_frame_does_not_depend_on_how_many_there_are():
    masks = np.zeros((4, 16, 16), np.uint8)
    np.testing.assert_array_equal(speckle(masks, seed=1, row=0)[:2], speckle(masks[:2], seed=1, row=0))
    assert not np.array_equal(speckle(masks, seed=1, row=0), speckle(masks, seed=1, row=1))
