"""The contract of a learner of clips: what `test_learners.py` and `test_subject_gradients.py` hold learners to.

Add one file under `learning/learners/` and it is tested here; its smallest config goes into `TINY`.
"""

import dataclasses

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from cohorts.clips import Clips
from learning import arrays
from learning.learner import fit
from learning.learners import CLIP_LEARNERS
from privacy.dp_safety import unsafe_for_dp
from privacy.gradients import SubjectGradients

TINY = {"ejection_fraction_clip": {"width": 4, "stages": 2, "frames": 4}}
SIZE, SUBJECTS = 32, 3


def _clips(seed: int = 0, frames: int = 6) -> Clips:
    """Return two clips of each subject, every other one padded by its last frame."""
    dice, n = np.random.default_rng(seed), 2 * SUBJECTS
    return Clips(
        pixels=dice.integers(0, 256, (n, frames, SIZE, SIZE)).astype(np.uint8),
        masks=dice.integers(0, 4, (n, frames, SIZE, SIZE)).astype(np.uint8),
        phase=np.tile(np.linspace(0, 0.9, frames), (n, 1)).astype(np.float32),
        view=np.tile([0, 1], SUBJECTS),
        lvef_percent=dice.uniform(20, 70, n).astype(np.float32),
        heart_rate_bpm=np.full(n, 70, np.float32),
        frame_rate_hz=np.full(n, 30, np.float32),
        length=np.tile([frames, frames - 1], SUBJECTS),
        subject=np.repeat(np.arange(SUBJECTS), 2),
        subjects=tuple(map(str, range(SUBJECTS))),
    )


@pytest.fixture(params=list(TINY))
def learner(request):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        return CLIP_LEARNERS[request.param](**TINY[request.param]).build()


def _losses(learner, clips):
    return learner.losses(clips, np.arange(len(clips)), generator=torch.Generator().manual_seed(4))


def test_every_learner_of_clips_is_tested_here_and_its_config_survives_yaml():
    assert set(TINY) == set(CLIP_LEARNERS)
    for name, settings in TINY.items():
        config = CLIP_LEARNERS[name](**settings)
        assert CLIP_LEARNERS[name](**OmegaConf.to_object(OmegaConf.create(OmegaConf.to_yaml(config)))) == config


def test_there_is_one_finite_loss_per_clip(learner):
    losses = _losses(learner, _clips())
    assert losses.shape == (2 * SUBJECTS,)
    assert torch.isfinite(losses).all()


def test_another_clip_changes_no_loss_but_its_own(learner):
    clips = _clips()
    pixels = clips.pixels.copy()
    pixels[3] = 255 - pixels[3]
    before, after = _losses(learner, clips), _losses(learner, dataclasses.replace(clips, pixels=pixels))
    assert before[3] != after[3]
    torch.testing.assert_close(np.delete(before.detach().numpy(), 3), np.delete(after.detach().numpy(), 3))


def test_what_pads_a_clip_is_never_looked_at(learner):
    clips = _clips()
    pixels = clips.pixels.copy()
    pixels[~clips.real] = 200
    spoiled = dataclasses.replace(clips, pixels=pixels)
    torch.testing.assert_close(_losses(learner, clips), _losses(learner, spoiled))
    torch.testing.assert_close(_losses(learner, clips), _losses(learner, clips.pad(9)))
    assert np.array_equal(learner.predict(clips), learner.predict(spoiled))


def test_a_clip_without_a_label_is_worth_nothing(learner):
    clips = dataclasses.replace(
        _clips(),
        masks=np.full_like(_clips().masks, 255),
        view=np.full(2 * SUBJECTS, -1),
        lvef_percent=np.full(2 * SUBJECTS, np.nan, np.float32),
    )
    gradients = torch.autograd.grad(_losses(learner, clips).sum(), list(learner.module.parameters()), allow_unused=True)
    assert all(g is None or g.abs().max() < 1e-6 for g in gradients)


def test_the_same_seed_trains_to_the_same_bits_and_learns_by_heart(learner):
    start, clips = arrays.state(learner.module), _clips()
    before, digests = _losses(learner, clips).mean().item(), []
    for seed in (3, 3, 4):
        arrays.load_state(learner.module, start)
        fit(learner, clips, steps=40, batch_size=6, learning_rate=1e-2, seed=seed)
        digests.append(arrays.digest(arrays.state(learner.module)))
    assert digests[0] == digests[1] != digests[2]
    assert _losses(learner, clips).mean().item() < before


@pytest.mark.parametrize("mode", ["bookkeeping", "hooks"])
def test_each_subject_has_the_gradient_autograd_gives_it_alone(learner, mode):
    learner.module.train()
    assert unsafe_for_dp(learner.module) == []
    parameters = list(learner.module.parameters())
    means = _losses(learner, _clips()).view(SUBJECTS, 2).mean(1)
    alone = [torch.autograd.grad(mean, parameters, retain_graph=True) for mean in means]
    expected = torch.stack([torch.cat([g.flatten() for g in mine]) for mine in alone])
    with SubjectGradients(learner.module, mode) as gradients:
        found = gradients.flat(_losses(learner, _clips()), SUBJECTS)
    assert torch.linalg.vector_norm(found - expected) < 1e-5 * torch.linalg.vector_norm(expected)
