"""The contract of a generator: add a file under `synthesis/generators/`, its smallest config to `TINY`, be tested.

A generator is a learner (see `test_learners.py` and `test_subject_gradients.py`) that draws one image per row of its
conditions, deterministically, each row alone. A generator of clips is held to the same, clip by clip, and draws
nothing where a clip is padded.
"""

import dataclasses

import numpy as np
import pytest
import torch

from cohorts.clips import Clips
from cohorts.frames import Frames
from privacy.gradients import SubjectGradients
from synthesis.generators import CLIP_GENERATORS, GENERATORS

TINY = {
    "latent_flow": {"prior": False, "width": 16, "depth": 1, "heads": 2, "autoencoder_width": 8, "sample_steps": 2},
    "semantic_diffusion": {
        "prior": False, "width": 8, "hidden": 8, "multiples": (1, 2), "autoencoder_width": 8, "sample_steps": 2,
    },
}  # fmt: skip


TINY_MOVING = {
    "latent_video_flow": {
        "prior": False, "width": 16, "depth": 1, "heads": 2, "autoencoder_width": 8, "size": 32, "sample_steps": 2,
        "phases": 4, "precision": "fp32",
    },
    "latent_video_edm": {
        "prior": False, "width": 16, "depth": 1, "heads": 2, "autoencoder_width": 8, "size": 32, "sample_steps": 3,
        "phases": 4, "precision": "fp32",
    },
}  # fmt: skip
LOOKS_AT_NO_MASK = {"latent_video_edm"}
BACKBONES = {name: [{}, {"backbone": "unet"}] for name in ("latent_flow", "latent_video_flow")}
HOUSE = [name for name in GENERATORS if GENERATORS[name].__module__.startswith("synthesis.")]
HOUSE_MOVING = [name for name in CLIP_GENERATORS if CLIP_GENERATORS[name].__module__.startswith("synthesis.")]


@pytest.fixture(
    params=[(name, more) for name in HOUSE for more in BACKBONES.get(name, [{}])],
    ids=lambda param: "-".join((param[0], *map(str, param[1].values()))),
)
def generator(request):
    name, more = request.param
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        built = GENERATORS[name](**TINY[name], **more, tune=".").build()
        for parameter in built.module.parameters():  # zero-initialised outputs would hide every mistake
            parameter.data = torch.randn_like(parameter) * 0.1
    return built


@pytest.fixture(scope="module")
def conditions() -> Frames:
    dice = np.random.default_rng(3)
    n = 6
    return Frames(
        pixels=np.zeros((n, 64, 64), np.uint8),
        masks=dice.integers(0, 4, (n, 64, 64)).astype(np.uint8),
        view=np.array([0, 1] * 3),
        phase=np.array([0, 1] * 3),
        lvef_percent=np.full(n, 55, np.float32),
        subject=np.arange(n),
        subjects=tuple(map(str, range(n))),
    )


def _first(frames, n):
    return frames.select(frames.subjects[:n])


def test_every_registered_generator_has_a_tiny_config():
    assert set(TINY) == set(HOUSE)


def test_a_seed_gives_the_same_images_and_another_seed_gives_others(generator, conditions):
    first = generator.sample(conditions, seed=5)
    assert first.shape == (6, 64, 64)
    assert first.dtype == np.uint8
    assert np.array_equal(first, generator.sample(conditions, seed=5))
    assert not np.array_equal(first, generator.sample(conditions, seed=6))


def test_an_image_does_not_depend_on_its_batch(generator, conditions):
    together = generator.sample(conditions, seed=5)
    alone = generator.sample(_first(conditions, 1), seed=5)
    # The same sum in another order: a grey value may round the other way, never more.
    assert np.abs(together[:1].astype(int) - alone).max() <= 1


def test_the_pixels_of_the_conditions_are_never_looked_at(generator, conditions):
    noisy = dataclasses.replace(conditions, pixels=np.full_like(conditions.pixels, 200))
    assert np.array_equal(generator.sample(conditions, seed=5), generator.sample(noisy, seed=5))


def test_masks_views_and_phases_matter(generator, conditions):
    first = generator.sample(conditions, seed=5)
    for change in (
        {"masks": np.zeros_like(conditions.masks)},
        {"view": 1 - conditions.view},
        {"phase": 1 - conditions.phase},
    ):
        assert not np.array_equal(first, generator.sample(dataclasses.replace(conditions, **change), seed=5))


def test_the_null_condition_is_learned_and_used(generator, conditions):
    unlabelled = dataclasses.replace(
        conditions, masks=np.full_like(conditions.masks, 255), view=np.full(6, -1), phase=np.full(6, -1)
    )
    generator.losses(unlabelled, np.arange(6), generator=torch.Generator().manual_seed(0)).sum().backward()
    for embedding in (generator.module.view, generator.module.phase, generator.module.mask_known):
        assert embedding.weight.grad[0].abs().sum() > 0
        assert embedding.weight.grad[1:].abs().sum() == 0


def test_no_conditions_give_no_images(generator, conditions):
    assert generator.sample(_first(conditions, 0), seed=5).shape == (0, 64, 64)


def test_an_expression_that_tunes_nothing_is_refused():
    with pytest.raises(ValueError, match="matches no parameter"):
        GENERATORS["latent_flow"](**TINY["latent_flow"], tune="heart").build()


@pytest.fixture(
    params=[(name, more) for name in HOUSE_MOVING for more in BACKBONES.get(name, [{}])],
    ids=lambda param: "-".join((param[0], *map(str, param[1].values()))),
)
def moving(request):
    name, more = request.param
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        built = CLIP_GENERATORS[name](**TINY_MOVING[name], **more, tune=".").build()
        for parameter in built.module.parameters():
            parameter.data = torch.randn_like(parameter) * 0.1
    return built


@pytest.fixture(scope="module")
def asked() -> Clips:
    """Return clips of six frames, the last of which is padding in every other clip."""
    dice = np.random.default_rng(3)
    n, frames = 4, 6
    return Clips(
        pixels=dice.integers(0, 256, (n, frames, 32, 32)).astype(np.uint8),
        masks=dice.integers(0, 4, (n, frames, 32, 32)).astype(np.uint8),
        phase=(np.arange(frames) / 5 % 1 + 0.03 * np.arange(n)[:, None]).astype(np.float32),
        view=np.array([0, 1] * 2),
        lvef_percent=np.array([30, 60, 45, 70], np.float32),
        heart_rate_bpm=np.array([60, 90, 75, 50], np.float32),
        frame_rate_hz=np.full(n, 50, np.float32),
        length=np.array([6, 5] * 2),
        subject=np.arange(n),
        subjects=tuple(map(str, range(n))),
    )


def test_every_registered_generator_of_clips_has_a_tiny_config():
    assert set(TINY_MOVING) == set(HOUSE_MOVING)


def test_a_seed_gives_the_same_clips_and_another_seed_gives_others(moving, asked):
    first = moving.sample(asked, seed=5)
    assert first.shape == asked.pixels.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, moving.sample(asked, seed=5))
    assert not np.array_equal(first, moving.sample(asked, seed=6))


def test_a_clip_depends_neither_on_its_batch_nor_on_its_padding(moving, asked):
    together = moving.sample(asked, seed=5)
    alone = moving.sample(_first(asked, 1), seed=5)
    assert np.abs(together[:1].astype(int) - alone).max() <= 1
    wide = moving.sample(asked.pad(9), seed=5)
    assert np.abs(wide[:, :6].astype(int) - together).max() <= 1


def test_clips_can_be_drawn_part_by_part(moving, asked):
    some = asked.rows(np.arange(2, 4))
    whole, rest = moving.sample(asked, seed=5), moving.sample(some, seed=5, offset=2)
    assert np.abs(whole[2:].astype(int) - rest).max() <= 1
    assert np.abs(moving.sample(some, seed=5).astype(int) - rest).max() > 1


def test_nothing_is_drawn_where_a_clip_is_padded(moving, asked):
    drawn = moving.sample(asked.pad(8), seed=5)
    assert drawn[~asked.pad(8).real].max() == 0
    assert drawn[asked.pad(8).real].max() > 0


def test_of_the_conditions_of_clips_no_pixel_is_looked_at(moving, asked):
    noisy = dataclasses.replace(asked, pixels=np.full_like(asked.pixels, 200))
    assert np.array_equal(moving.sample(asked, seed=5), moving.sample(noisy, seed=5))


def test_every_condition_of_a_clip_matters(moving, asked):
    first = moving.sample(asked, seed=5)
    by_masks = moving.sample(dataclasses.replace(asked, masks=np.zeros_like(asked.masks)), seed=5)
    assert np.array_equal(first, by_masks) == (
        type(moving.config) in {CLIP_GENERATORS[name] for name in LOOKS_AT_NO_MASK}
    )
    for change in (
        {"view": 1 - asked.view},
        {"phase": (asked.phase + 0.4) % 1},
        {"lvef_percent": asked.lvef_percent - 20},
        {"heart_rate_bpm": asked.heart_rate_bpm + 30},
        {"frame_rate_hz": asked.frame_rate_hz * 2},
    ):
        assert not np.array_equal(first, moving.sample(dataclasses.replace(asked, **change), seed=5))
    assert not np.array_equal(first, moving.sample(asked, seed=5, first=asked.pixels[:, 0]))


def test_the_loss_of_a_clip_is_the_same_however_much_it_is_padded(moving, asked):
    # The noise is drawn for all frames, so that of the shorter clip is laid into that of the longer one.
    def losses(clips):
        pieces = [torch.zeros(len(clips), clips.phase.shape[1], 4, 4, 4)]
        pieces[0][:, :6] = torch.randn((len(clips), 6, 4, 4, 4), generator=torch.Generator().manual_seed(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn", lambda *_, **__: pieces[0])
            return moving.losses(clips, np.arange(4), generator=torch.Generator().manual_seed(2))

    torch.testing.assert_close(losses(asked.pad(9)), losses(asked), rtol=1e-4, atol=1e-5)


def test_what_pads_a_clip_is_never_its_first_frame(moving, asked):
    one = dataclasses.replace(asked, length=np.ones(4, np.int64))
    spoiled = dataclasses.replace(one, pixels=one.pixels.copy(), masks=one.masks.copy())
    spoiled.pixels[:, 1:], spoiled.masks[:, 1:] = 255, 255
    for seed in range(4):
        before, after = (
            moving.losses(c, np.arange(4), generator=torch.Generator().manual_seed(seed)) for c in (one, spoiled)
        )
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


def test_unknown_conditions_of_a_clip_use_their_learned_nulls(moving, asked):
    unknown = dataclasses.replace(
        asked,
        masks=np.full_like(asked.masks, 255),
        view=np.full(4, -1),
        **{k: np.full(4, np.nan, np.float32) for k in ("lvef_percent", "heart_rate_bpm", "frame_rate_hz")},
    )
    moving.losses(unknown, np.arange(4), generator=torch.Generator().manual_seed(0)).sum().backward()
    module = moving.module
    for embedding in (module.view, module.mask_known, *module.known.values()):
        assert embedding.weight.grad[0].abs().sum() > 0
        assert embedding.weight.grad[1:].abs().sum() == 0
    assert (module.first_known.weight.grad.abs().sum(1) > 0).all()  # half of the clips are told a frame


@pytest.mark.parametrize("mode", ["bookkeeping", "hooks"])
def test_each_subject_of_clips_has_the_gradient_autograd_gives_it_alone(moving, asked, mode):
    moving.module.train()

    def losses():
        return moving.losses(asked, np.arange(4), generator=torch.Generator().manual_seed(0))

    used = torch.autograd.grad(losses().sum(), list(moving.module.parameters()), allow_unused=True)
    for parameter, gradient in zip(moving.module.parameters(), used, strict=True):
        parameter.requires_grad_(gradient is not None)
    parameters = [p for p in moving.module.parameters() if p.requires_grad]
    alone = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses().view(2, 2).mean(1)]
    expected = torch.stack([torch.cat([g.flatten() for g in mine]) for mine in alone])
    with SubjectGradients(moving.module, mode) as gradients:
        found = gradients.flat(losses(), 2)
    assert torch.linalg.vector_norm(found - expected) < 1e-4 * torch.linalg.vector_norm(expected)


def test_no_conditions_give_no_clips(moving, asked):
    assert moving.sample(_first(asked, 0), seed=5).shape == (0, 6, 32, 32)
