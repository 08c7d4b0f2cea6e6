"""Semantic diffusion draws by every prediction, solver and space, index by index, and never mirrors."""

import dataclasses

import numpy as np
import pytest
import torch

from cohorts.frames import Frames
from conf.compose import compose, from_json, to_json
from learning.blocks import to_signal
from learning.learner import fit
from pericard.simulate import groups
from synthesis import priors
from synthesis.generators.semantic_diffusion import SOLVERS, SemanticDiffusion

TINY = {"prior": False, "size": 16, "width": 8, "hidden": 8, "multiples": (1, 2), "autoencoder_width": 8,
        "sample_steps": 3}  # fmt: skip
WAYS = [(prediction, solver) for prediction, solvers in SOLVERS.items() for solver in solvers]


def _frames(n=4, size=16) -> Frames:
    """Return pictures that are bright where the mask is, which is at the left."""
    pixels, masks = np.full((n, size, size), 40, np.uint8), np.zeros((n, size, size), np.uint8)
    pixels[:, 4:12, 1:6], masks[:, 4:12, 1:6] = 220, 1
    return Frames(
        pixels=pixels, masks=masks, view=np.arange(n) % 2, phase=np.arange(n) % 2,
        lvef_percent=np.full(n, 55, np.float32), subject=np.arange(n), subjects=tuple(map(str, range(n))),
    )  # fmt: skip


def _built(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        return SemanticDiffusion(**{**TINY, **changes}).build()


@pytest.mark.parametrize("space", ["pixels", "gamma"])
@pytest.mark.parametrize(("prediction", "solver"), WAYS)
def test_every_way_draws_each_image_alone(prediction, solver, space):
    churn = 10.0 if prediction == "edm" else 0.0
    generator = _built(space=space, prediction=prediction, sample_solver=solver, churn=churn)
    for parameter in generator.module.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    asked = _frames()
    whole = generator.sample(asked, seed=5)
    assert whole.shape == (4, 16, 16)
    assert whole.dtype == np.uint8
    rest = generator.sample(asked.select(asked.subjects[2:]), seed=5, offset=2, batch_size=3)
    assert np.abs(rest.astype(int) - whole[2:]).max() <= 1


@pytest.mark.parametrize("prediction", SOLVERS)
def test_it_learns_the_side_on_which_things_are_and_never_mirrors(prediction):
    generator = _built(space="pixels", prediction=prediction, sample_solver=SOLVERS[prediction][0], sample_steps=10)
    frames = _frames()
    fit(generator, frames, steps=150, batch_size=8, learning_rate=5e-3, seed=0)
    drawn = generator.sample(frames, seed=1).astype(float)
    inside, mirrored = drawn[:, 4:12, 1:6].mean(), drawn[:, 4:12, 10:15].mean()
    assert inside > mirrored + 60


def test_pictures_and_masks_reach_the_network_as_they_are():
    generator, frames, told = _built(space="pixels"), _frames(), []
    assert torch.equal(generator._latents(frames), to_signal(torch.from_numpy(frames.pixels)))
    generator.module.register_forward_pre_hook(lambda _, __, kwargs: told.append(kwargs["masks"]), with_kwargs=True)
    for seed in range(8):
        generator.losses(frames, np.arange(4), generator=torch.Generator().manual_seed(seed))
    assert all(torch.equal(masks, torch.from_numpy(frames.masks)) for masks in told)


@pytest.mark.parametrize("prediction", SOLVERS)
def test_the_loss_of_a_network_that_knows_nothing_is_the_spread_of_its_target(prediction):
    # The last layer starts at zero. Noise has spread one; so has EDM's target where data have spread 1/2.
    generator = _built(space="pixels", prediction=prediction, sample_solver=SOLVERS[prediction][0])
    frames = _frames(64)
    losses = generator.losses(frames, np.arange(64), generator=torch.Generator().manual_seed(0))
    assert losses.shape == (64,)
    assert losses.mean().item() == pytest.approx(1, abs=0.35)


def test_progress_is_told():
    told = []
    _built().sample(_frames(5), seed=1, batch_size=2, progress=lambda *done: told.append(done))
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "fourier"}, "space='fourier' must be one of pixels, gamma, avae"),
        ({"prediction": "x0"}, "prediction='x0' must be one of ddpm, v, edm"),
        ({"prediction": "v"}, "sample_solver='heun' must be ddim or ancestral for prediction='v'"),
        ({"sample_steps": 201}, "sample_steps=201 must be from 1 to 200"),
        ({"churn": -1.0}, "churn=-1.0 must be at least 0"),
        ({"size": 20}, "size=20 must be a multiple of 8"),
        ({"tune": "heart"}, "tune='heart' matches no parameter"),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        _built(**changes)


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match="size=16"):
        _built().sample(_frames(size=32), seed=1)


def test_the_public_autoencoders_are_there_for_whoever_asks():
    for space, names in (("gamma", ("gamma",)), ("avae", ("autoencoder",)), ("pixels", ())):
        config = SemanticDiffusion(space=space, sample_steps=1)
        assert config.stands_on == names
        assert config.build().sample(_frames(2, size=64), seed=1).shape == (2, 64, 64)
    assert priors.provenance("gamma")["digests"]["gamma"]


def test_a_campaign_may_ask_for_it():
    asked = ["generator=semantic_diffusion", "generator.space=pixels", "generator.prediction=v",
             "generator.sample_solver=ddim", "generator.multiples=[1,2]"]  # fmt: skip
    experiment, _ = compose(asked, groups=groups())
    assert experiment.generator == SemanticDiffusion(space="pixels", prediction="v", sample_solver="ddim",
                                                     multiples=(1, 2))  # fmt: skip
    assert from_json(to_json(experiment, groups=groups()), groups=groups()) == experiment
    assert dataclasses.replace(experiment.generator, prior=False).stands_on == ()
