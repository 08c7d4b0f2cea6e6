"""How the latent flow draws: image k is the same to the bit whatever is drawn beside it, by every solver there is."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch

from cohorts.phantom import simulate
from cohorts.study import UNLABELLED
from learning import arrays
from learning.learners.view_classifier import ViewClassifier
from synthesis import priors
from synthesis.generators.latent_flow import LatentFlow

TINY = LatentFlow(prior=False, width=16, depth=1, heads=2, autoencoder_width=8, sample_steps=2, tune=".")
SAMPLERS = {
    "Euler": {"sample_solver": "euler"},
    "midpoint": {"sample_solver": "midpoint"},
    "Heun": {},
    "jumps": {"sample_solver": "jump"},
    "guided": {"guidance": 2.0},
    "guided to the view": {"view_guidance": 2.0},
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


UNKNOWN = {"masks": UNLABELLED, "view": -1, "phase": -1, "lvef_percent": np.nan}


def _without(conditions, *names):
    """Return conditions that do not tell what is named."""
    return dataclasses.replace(
        conditions, **{name: np.full_like(getattr(conditions, name), UNKNOWN[name]) for name in names}
    )


@pytest.mark.parametrize("backbone", ["transformer", "unet"])
def test_an_unknown_ejection_fraction_is_learned_from_and_a_known_one_leaves_it_alone(conditions, backbone):
    generator = _generator(backbone=backbone)
    for asked, used, idle in ((conditions, 1, 0), (_without(conditions, "lvef_percent"), 0, 1)):
        generator.module.zero_grad()
        generator.losses(asked, np.arange(10), generator=torch.Generator().manual_seed(0)).sum().backward()
        gradient = generator.module.known["lvef"].weight.grad
        assert gradient[used].abs().sum() > 0
        assert gradient[idle].abs().sum() == 0


@pytest.mark.parametrize("backbone", ["transformer", "unet"])
def test_an_ejection_fraction_changes_its_own_velocity_only(conditions, backbone):
    generator, z, t = _generator(backbone=backbone), torch.ones(10, 4, 8, 8), torch.full((10,), 0.5)
    other = conditions.lvef_percent.copy()
    other[3] = 20.0
    before, after = (
        generator.field(dataclasses.replace(conditions, lvef_percent=x), np.arange(10), at_sites=True)(z, t)
        for x in (conditions.lvef_percent, other)
    )
    assert (before != after).flatten(1).any(1).nonzero().flatten().tolist() == [3]


@cache
def _public():
    return LatentFlow(sample_steps=2).build()


def test_guidance_to_the_view_brings_the_view_that_was_asked_for():
    judge = ViewClassifier().build()
    arrays.load_state(judge.module, priors.load("view_classifier"))
    asked = simulate.stills(24, seed=5)
    right = [
        (judge.predict(dataclasses.replace(_public().config, view_guidance=w).build().sample(asked, seed=1)).argmax(1)
         == asked.view).mean()
        for w in (1.0, 2.0)
    ]  # fmt: skip
    assert right[1] >= max(0.95, right[0])


@pytest.mark.parametrize("known", [(), *[(name,) for name in UNKNOWN], tuple(UNKNOWN)], ids=" and ".join)
def test_the_public_prior_draws_from_any_one_condition_alone(conditions, known):
    asked = _without(conditions, *(name for name in UNKNOWN if name not in known))
    drawn = _public().sample(asked, seed=1)
    assert drawn.std((1, 2)).min() > 10
    if known:
        assert not np.array_equal(drawn, _public().sample(_without(conditions, *UNKNOWN), seed=1))


def test_without_a_mask_the_ejection_fraction_moves_the_end_of_systole_more_than_of_diastole():
    asked = _without(simulate.stills(32, seed=4), "masks")
    low, high = (
        _public().sample(dataclasses.replace(asked, lvef_percent=np.full(len(asked), x, np.float32)), seed=1)
        for x in (20, 75)
    )
    moved = np.abs(low.astype(int) - high).mean((1, 2))
    assert moved[asked.phase == 1].mean() > 1.5 * moved[asked.phase == 0].mean()


def test_pictures_of_one_heart_begin_with_one_noise_and_have_speckle_of_their_own(conditions):
    generator = _generator()
    alike = dataclasses.replace(
        conditions, **{name: getattr(conditions, name)[[0] * 10] for name in ("masks", "view", "phase", "lvef_percent")}
    )
    drawn = generator.sample(alike, seed=5, of_one_heart=2).astype(int)
    apart = np.abs(drawn[:, None] - drawn).mean((2, 3))
    assert 0 < apart[0, 1] < apart[0, 2]
    assert np.array_equal(drawn[4:], generator.sample(_from(alike, 4), seed=5, offset=4, of_one_heart=2))


def _from(frames, first):
    return frames.select(frames.subjects[first:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "mamba"}, "backbone='mamba' must be one of transformer, unet"),
        ({"backbone": "unet", "prior": True}, "there is no public unet"),
        ({"sample_solver": "rk45"}, "sample_solver='rk45' must be one of euler, midpoint, heun, jump"),
        ({"precision": "fp8"}, "precision='fp8' must be one of auto, bf16, fp32"),
        ({"sample_solver": "jump", "guidance": 2.0}, "guidance=2.0 must be 1"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(TINY, **changes)
