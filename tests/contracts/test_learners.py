"""The contract of a learner. Add one file under `learning/learners/` and it is tested here.

A learner has a module and says one loss per row of its frames; a row's loss depends on the frames of its own subject
and its own random draws alone. Its smallest config goes into `TINY`.
"""

import dataclasses

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from cohorts.frames import Frames
from learning import arrays
from learning.learner import fit
from learning.learners import LEARNERS

TINY = {
    "view_classifier": {"width": 4},
    "backmix_classifier": {"width": 4},
    "segmenter": {"width": 4, "depth": 2},
    "expert": {"width": 4, "stages": 2},
    "fused_experts": {"width": 4, "stages": 2, "hidden": (4,)},
    "ejection_fraction": {"width": 4},
    "phase_detector": {"width": 4},
    "identity_encoder": {"width": 4, "dimension": 8, "strangers": 8},
}


def _frames(n: int = 8, seed: int = 0) -> Frames:
    dice = np.random.default_rng(seed)
    return Frames(
        pixels=dice.integers(0, 256, (n, 64, 64)).astype(np.uint8),
        masks=dice.integers(0, 4, (n, 64, 64)).astype(np.uint8),
        view=np.repeat(dice.integers(0, 2, n // 2), 2),
        phase=np.arange(n) % 2,
        lvef_percent=np.repeat(dice.uniform(30, 70, n // 2), 2).astype(np.float32),
        subject=np.arange(n) // 2,
        subjects=tuple(map(str, range(n // 2))),
    )


@pytest.fixture(params=[name for name in LEARNERS if name in TINY])
def learner(request):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        return LEARNERS[request.param](**TINY[request.param]).build()


def _losses(learner, frames, rows=None):
    rows = np.arange(len(frames)) if rows is None else rows
    return learner.losses(frames, rows, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", [name for name in LEARNERS if LEARNERS[name].__module__.startswith("learning.")])
def test_the_config_is_tested_here_and_survives_yaml(name):
    config = LEARNERS[name](**TINY[name])
    text = OmegaConf.to_yaml(OmegaConf.structured(config))
    again = LEARNERS[name](**OmegaConf.to_object(OmegaConf.create(text)))
    assert dataclasses.asdict(again).keys() == dataclasses.asdict(config).keys()


def test_there_is_one_finite_loss_per_row(learner):
    losses = _losses(learner, _frames())
    assert losses.shape == (8,)
    assert torch.isfinite(losses).all()


def test_another_subject_changes_no_row_but_its_own(learner):
    frames = _frames()
    pixels, masks = frames.pixels.copy(), frames.masks.copy()
    pixels[5], masks[5] = 255 - pixels[5], 3 - masks[5]
    before, after = _losses(learner, frames), _losses(learner, dataclasses.replace(frames, pixels=pixels, masks=masks))
    same = frames.subject != frames.subject[5]
    torch.testing.assert_close(before[same], after[same])
    assert before[5] != after[5]


def test_a_row_without_a_label_is_worth_nothing(learner):
    frames = dataclasses.replace(
        _frames(),
        masks=np.full((8, 64, 64), 255, np.uint8),
        view=np.full(8, -1),
        phase=np.full(8, -1),
        lvef_percent=np.full(8, np.nan, np.float32),
    )
    gradients = torch.autograd.grad(
        _losses(learner, frames).sum(), [p for p in learner.module.parameters() if p.requires_grad], allow_unused=True
    )
    assert all(g is None or g.abs().max() < 1e-6 for g in gradients)


def test_the_same_seed_trains_to_the_same_bits(learner):
    start = arrays.state(learner.module)
    digests = []
    for seed in (3, 3, 4):
        arrays.load_state(learner.module, start)
        fit(learner, _frames(), steps=3, batch_size=4, learning_rate=1e-3, seed=seed)
        digests.append(arrays.digest(arrays.state(learner.module)))
    assert digests[0] == digests[1] != digests[2]


def test_it_learns_a_handful_of_frames_by_heart(learner):
    frames = _frames(4)
    before = _losses(learner, frames).mean().item()
    fit(learner, frames, steps=60, batch_size=8, learning_rate=1e-2, seed=0)
    assert _losses(learner, frames).mean().item() < before


def test_training_on_nothing_is_refused(learner):
    frames = _frames()
    with pytest.raises(ValueError, match="no frame"):
        fit(learner, frames.select([]), steps=1, batch_size=1, learning_rate=1e-3, seed=0)
