"""The contract of a generator: add a file under `synthesis/generators/`, its smallest config to `TINY`, be tested.

A generator is a learner (see `test_learners.py` and `test_subject_gradients.py`) that draws one image per row of its
conditions, deterministically, each row alone.
"""

import dataclasses

import numpy as np
import pytest
import torch

from cohorts.frames import Frames
from synthesis.generators import GENERATORS

TINY = {"latent_flow": {"prior": False, "width": 16, "depth": 1, "heads": 2, "autoencoder_width": 8, "sample_steps": 2}}


HOUSE = [name for name in GENERATORS if GENERATORS[name].__module__.startswith("synthesis.")]


@pytest.fixture(params=HOUSE)
def generator(request):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        built = GENERATORS[request.param](**TINY[request.param], tune=".").build()
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


def _first(frames: Frames, n: int) -> Frames:
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
