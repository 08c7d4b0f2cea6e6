import dataclasses

import numpy as np
import pytest
import torch

from cohorts.clips import films
from cohorts.study import UNLABELLED
from synthesis.generators.latent_video_flow import LatentVideoFlow
from synthesis.video_sampling import clock
from synthesis.video_windows import drawn_in_windows, starts, weights

SHAPES = [(5, 8, 4), (8, 8, 4), (9, 8, 4), (20, 8, 4), (20, 8, 0), (21, 7, 3), (1, 4, 2)]


@pytest.mark.parametrize(("frames", "window", "overlap"), SHAPES)
def test_what_windows_say_of_a_frame_adds_up_to_one(frames, window, overlap):
    at = starts(frames, window, overlap)
    share = weights(torch.tensor([frames, 1]), at, window, overlap)
    total = torch.zeros(2, at[-1] + window)
    for k, begin in enumerate(at):
        total[:, begin : begin + window] += share[:, k]
    torch.testing.assert_close(total[0, :frames], torch.ones(frames))
    assert total[1, 0] == 1
    assert share[1, 1:].abs().sum() == 0  # where a clip has ended no further window has a say


@pytest.mark.parametrize(("frames", "window", "overlap"), SHAPES)
def test_a_field_that_looks_at_each_frame_alone_is_not_changed_by_windows(frames, window, overlap):
    z, t = torch.randn(2, frames, 4, 2, 2), torch.tensor([0.3, 0.6])
    told = {"real": torch.arange(frames) < torch.tensor([[frames], [1]]), "phase": torch.rand(2, frames)}

    def field(x, t, told):
        return x * t.view(-1, 1, 1, 1, 1) + told["phase"][..., None, None, None]

    found = drawn_in_windows(field, z, t, told, window, overlap)
    expected = field(z, t, told)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1, :1], expected[1, :1])


@pytest.fixture(scope="module")
def generator():
    config = LatentVideoFlow(
        prior=False, width=16, depth=1, heads=2, autoencoder_width=8, size=32, sample_steps=2, tune=".",
        precision="fp32", window=8, overlap=4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        built = config.build()
        for parameter in built.module.parameters():
            parameter.data = torch.randn_like(parameter) * 0.25
    return built


@pytest.fixture(scope="module")
def long():
    phase = clock(21, heart_rate_bpm=150, frame_rate_hz=25)
    return films(1, phase=phase[None], seed=2, size=32)


def test_a_clip_in_windows_depends_neither_on_its_batch_nor_on_its_padding(generator, long):
    short = dataclasses.replace(long, length=np.array([21, 10]))
    together, alone = generator.sample(short, seed=3), generator.sample(short.rows(np.array([0])), seed=3)
    assert np.abs(together[:1].astype(int) - alone).max() <= 1
    wide = generator.sample(short.pad(30), seed=3)
    assert np.abs(wide[:, :21].astype(int) - together).max() <= 1
    cut = dataclasses.replace(short, masks=short.masks.copy())
    cut.masks[1, 10:] = 3
    assert np.abs(generator.sample(cut, seed=3).astype(int) - together).max() <= 1
    assert together[1, 10:].max() == 0


def test_frames_of_unknown_phase_are_drawn_in_windows(generator, long):
    drawn = generator.sample(dataclasses.replace(long, phase=long.phase * np.nan), seed=3)
    assert drawn.std() > 0


def test_a_short_clip_in_one_window_is_what_its_frames_drawn_together_are(generator, long):
    few = dataclasses.replace(long, length=np.array([6, 6]))
    as_drawn = {"window": 0, "overlap": 0, "phases": 6, "harmonics": 0}
    whole = LatentVideoFlow(**{**dataclasses.asdict(generator.config), **as_drawn}).build()
    whole.module, whole.autoencoder = generator.module, generator.autoencoder
    order = np.argsort(few.phase[0, :6])
    assert (np.diff(order) == 1).all()  # so that noise falls on the same frames
    assert np.abs(generator.sample(few, seed=3).astype(int) - whole.sample(few, seed=3)).max() <= 1


@pytest.mark.parametrize("change", [{"window": -1}, {"window": 8, "overlap": 5}, {"overlap": -1}])
def test_windows_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError, match="overlap"):
        LatentVideoFlow(**{"prior": False, **change})


@pytest.mark.slow
def test_windows_meet_as_smoothly_as_frames_follow_each_other():
    phase = clock(48, heart_rate_bpm=75, frame_rate_hz=30)
    asked = films(2, phase=np.tile(phase, (2, 1)), seed=4, size=64)
    blind = dataclasses.replace(asked, masks=np.full_like(asked.masks, UNLABELLED))
    drawn = LatentVideoFlow(window=16, overlap=8).build().sample(blind, seed=1).astype(float)
    change = np.abs(np.diff(drawn, axis=1)).mean((0, 2, 3))
    seams = np.isin(np.arange(1, 48), [8, 16, 24, 32, 40])
    assert change[seams].mean() / change[~seams].mean() <= 1.5
