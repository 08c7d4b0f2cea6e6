"""Frozen experts inside one learner say what they say outside it, and only the heads between them ever move."""

import dataclasses

import numpy as np
import pytest
import torch

from cohorts.frames import Frames
from cohorts.phantom.simulate import stills
from cohorts.study import View
from learning import arrays
from learning.experts import FrozenExpert, Reference, freeze, observe
from learning.learner import fit, fit_private
from learning.learners.expert import Expert
from learning.learners.fused_experts import FusedExperts, FusedLearner, put_in, shared_words
from learning.ontology import from_json
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

CLASSES = ("A2C", "A4C", "PLAX", "PSAX")
WORDS = (("site-a", ("A2C", "A4C")), ("site-b", ("A4C", "PLAX")))
PLAN = DpPlan(purpose="test", sampling_rate=1.0, noise_multiplier=1.0, clip_norm=0.5, steps=2, draws=2)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return stills(6, seed=1, size=32, views=(View.A2C, View.A4C, View.PLAX, View.PSAX))


def _seeded(config, seed: int):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return config.build()


def _experts(frames: Frames) -> list[FrozenExpert]:
    maps = from_json(shared_words(CLASSES, WORDS))
    found = [_seeded(Expert(classes=2, width=4, stages=2), k) for k in range(2)]
    return [
        freeze(learner, words, frames.pixels, reference=Reference.PHANTOM, private=True)
        for learner, words in zip(found, maps, strict=True)
    ]


def _fused(experts: list[FrozenExpert], **changes) -> FusedLearner:
    config = FusedExperts(maps=shared_words(CLASSES, WORDS), width=4, stages=2, hidden=(4,), **changes)
    learner = _seeded(config, 3)
    put_in(learner, experts)
    for parameter in learner.module.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(5))
    return learner


@pytest.mark.parametrize("attention", ["nothing", "features", "discrepancy"])
def test_experts_see_inside_the_learner_what_they_see_outside_it(frames, attention):
    experts = _experts(frames)
    learner = _fused(experts, attention=attention)
    named, weights = learner.predict(frames.pixels)
    with torch.no_grad():
        seen = observe(experts, frames.pixels)
        assert np.array_equal(named, learner.net.fusion(seen).argmax(1).numpy())
        np.testing.assert_allclose(weights, learner.net.fusion.weights(seen).numpy(), atol=1e-5)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("private", [True, False])
def test_training_moves_the_heads_and_no_byte_of_an_expert(frames, private):
    experts = _experts(frames)
    learner = _fused(experts)
    frozen, heads = arrays.digest(arrays.frozen(learner.module)), arrays.digest(arrays.trainable(learner.module))
    if private:
        fit_private(learner, frames, PLAN, steps=2, public_subjects=6, learning_rate=0.5, random=SecureRandom())
    else:
        fit(learner, frames, steps=2, batch_size=8, learning_rate=1e-2, seed=0)
    assert arrays.digest(arrays.frozen(learner.module)) == frozen
    assert arrays.digest(arrays.trainable(learner.module)) != heads


def test_what_no_expert_has_a_word_for_is_worth_nothing(frames):
    learner, rows = _fused(_experts(frames)), np.arange(len(frames))
    losses = learner.losses(frames, rows, generator=torch.Generator().manual_seed(0))
    assert torch.equal(losses == 0, torch.from_numpy(frames.view == CLASSES.index("PSAX")))


def test_nothing_is_predicted_of_nothing(frames):
    named, weights = _fused(_experts(frames)).predict(frames.pixels[:0])
    assert named.shape == (0,)
    assert weights.shape == (0, 2)


def test_an_expert_learns_its_own_words_from_classes_that_all_sites_share(frames):
    config = Expert(classes=2, width=4, stages=2)
    shared, own = (_seeded(dataclasses.replace(config, places=places), 1) for places in ((2, 0), ()))
    rows = np.arange(len(frames))
    its_own = dataclasses.replace(frames, view=np.select([frames.view == 2, frames.view == 0], [0, 1], -1))
    losses = [
        learner.losses(f, rows, generator=torch.Generator().manual_seed(0))
        for learner, f in ((shared, frames), (own, its_own))
    ]
    torch.testing.assert_close(*losses)
    assert torch.equal(losses[0] == 0, torch.from_numpy(np.isin(frames.view, (1, 3))))
    unknown = dataclasses.replace(frames, view=np.full(len(frames), -1))
    assert shared.losses(unknown, rows, generator=torch.Generator()).eq(0).all()


def test_an_expert_may_be_trained_in_part(frames):
    learner = _seeded(Expert(classes=2, width=4, stages=2, places=(0, 1), tune=r"^head\."), 1)
    assert set(arrays.trainable(learner.module)) == {"head.weight", "head.bias"}
    before = arrays.digest(arrays.frozen(learner.module))
    fit_private(learner, frames, PLAN, steps=2, public_subjects=6, learning_rate=0.5, random=SecureRandom())
    assert arrays.digest(arrays.frozen(learner.module)) == before


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"places": (0,)}, "places"), ({"places": (0, 0)}, "places"), ({"places": (-1, 0)}, "places"),
    ],
)  # fmt: skip
def test_outputs_without_a_class_of_their_own_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        Expert(classes=2, **wrong)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"attention": "hope"}, "attention"), ({"hidden": (0,)}, "hidden"), ({"width": 0}, "width"),
        ({"maps": "{}"}, "maps"),
    ],
)  # fmt: skip
def test_a_fusion_that_cannot_be_is_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        FusedExperts(**wrong)
