"""How the latent flow draws: image k is the same to the bit whatever is drawn beside it, by every solver there is."""

import dataclasses

import numpy as np
import pytest
import torch

from cohorts.phantom import simulate
from synthesis.generators.latent_flow import LatentFlow

TINY = LatentFlow(prior=False, width=16, depth=1, heads=2, autoencoder_width=8, sample_steps=2, tune=".")
SAMPLERS = {
    "Euler": {"sample_solver": "euler"},
    "midpoint": {"sample_solver": "midpoint"},
    "Heun": {},
    "jumps": {"sample_solver": "jump"},
    "guided": {"guidance": 2.0},
    "bfloat16": {"precision": "bf16"},
}


@pytest.fixture(scope="module")
def conditions():
    return simulate.conditions(10, seed=3)


def _generator(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        built = dataclasses.replace(TINY, **changes).build()
        for parameter in built.module.parameters():  # zero-initialised outputs would hide every mistake
            parameter.data = torch.randn_like(parameter) * 0.1
    return built


@pytest.mark.parametrize("changes", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_not_one_bit_of_an_image_depends_on_its_batch(conditions, changes):
    generator = _generator(**changes)
    together = generator.sample(conditions, seed=5, batch_size=4)
    alone = generator.sample(conditions.select(conditions.subjects[:1]), seed=5, batch_size=4)
    assert np.array_equal(together[:1], alone)


def test_drawing_in_parts_gives_what_drawing_at_once_gives(conditions):
    generator = _generator()
    rest = conditions.select(conditions.subjects[4:])
    whole = generator.sample(conditions, seed=5, batch_size=4)
    assert np.array_equal(whole[4:], generator.sample(rest, seed=5, offset=4, batch_size=4))
    assert not np.array_equal(whole[4:], generator.sample(rest, seed=5, batch_size=4))


def test_every_sampler_draws_something_of_its_own(conditions):
    images = {name: _generator(**changes).sample(conditions, seed=5).tobytes() for name, changes in SAMPLERS.items()}
    assert len(set(images.values())) == len(images)


def test_bfloat16_changes_little(conditions):
    one, two = (_generator(precision=p).sample(conditions, seed=5).astype(int) for p in ("fp32", "bf16"))
    assert 0 < np.abs(one - two).mean() < 2


def test_structures_that_are_computed_once_are_those_of_each_step(conditions):
    generator = _generator()
    masks = torch.from_numpy(conditions.masks)
    told = {"view": torch.from_numpy(conditions.view), "phase": torch.from_numpy(conditions.phase), "masks": masks}
    z, t = torch.randn(10, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((10,), 0.5)
    once = generator.module(z, t, **told, drawn=generator.module.structures_of(masks))
    torch.testing.assert_close(generator.module(z, t, **told), once)


def test_the_loss_of_a_student_reaches_what_tells_it_the_interval(conditions):
    student = _generator(sample_solver="jump")
    student.losses(conditions, np.arange(4), generator=torch.Generator().manual_seed(0)).sum().backward()
    assert student.module.interval.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sample_solver": "rk45"}, "sample_solver='rk45' must be one of euler, midpoint, heun, jump"),
        ({"precision": "fp8"}, "precision='fp8' must be one of auto, bf16, fp32"),
        ({"sample_solver": "jump", "guidance": 2.0}, "guidance=2.0 must be 1"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(TINY, **changes)
