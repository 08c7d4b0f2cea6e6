"""Experts are frozen, show what they saw, and are heard without training."""

import numpy as np
import pytest
import torch

from cohorts.phantom.simulate import stills
from learning import arrays
from learning.experts import (
    HEAD,
    Reference,
    freeze,
    max_logit,
    max_probability,
    most_confident,
    observe,
    warm_start,
)
from learning.learner import fit, fit_private
from learning.learners.expert import Expert
from learning.ontology import Ontology, SiteLabelMap
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

VIEWS = Ontology(names=("A2C", "A4C", "PLAX"))
TINY = {"width": 4, "stages": 2}


def _map(site: str, *means: str) -> SiteLabelMap:
    return SiteLabelMap(site=site, labels=tuple(m.lower() for m in means), means=means, ontology=VIEWS)


def _learner(seed: int = 0, classes: int = 2):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Expert(classes=classes, **TINY).build()


def _pixels(n: int = 6, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32)).astype(np.uint8)


def _freeze(seed: int, site: str, *means: str):
    return freeze(_learner(seed, len(means)), _map(site, *means), _pixels(), reference=Reference.PHANTOM, private=True)


def test_the_published_size_is_one_config_away():
    learner = Expert(classes=8, width=64, stages=4, blocks=2, stride=1).build()
    features, means = learner.net.observe(torch.zeros(1, 1, 32, 32))
    assert features.shape == (1, 512)
    assert means.shape == (1, 3904)  # 64 + 4*64 + 4*128 + 4*256 + 4*512
    assert sum(p.numel() for p in learner.module.parameters()) == pytest.approx(11.17e6, rel=0.01)


def test_the_mean_discrepancy_on_the_reference_is_zero():
    expert = _freeze(0, "a", "A2C", "A4C")
    (discrepancy,) = observe([expert], _pixels()).discrepancy
    assert discrepancy.mean(0).abs().max() < 1e-4
    assert observe([expert], 255 - _pixels() // 8).discrepancy[0].abs().mean() > 1


def test_a_private_expert_takes_no_mean_of_its_patients():
    with pytest.raises(ValueError, match="phantom"):
        freeze(_learner(), _map("a", "A2C", "A4C"), _pixels(), reference=Reference.OWN, private=True)


def test_an_expert_sees_the_same_however_many_stand_beside_it():
    a, b = _freeze(0, "a", "A2C", "A4C"), _freeze(1, "b", "A4C", "PLAX")
    alone, both = observe([a], _pixels()), observe([a, b], _pixels())
    assert torch.equal(alone.logits[0], both.logits[0])
    joined = alone.beside(observe([b], _pixels()))
    assert all(torch.equal(x, y) for x, y in zip(joined.discrepancy, both.discrepancy, strict=True))
    with pytest.raises(ValueError, match="pictures"):
        alone.beside(observe([b], _pixels(2)))
    assert torch.equal(both.rows(np.array([3])).features[1], both.features[1][3:4])
    torch.testing.assert_close(alone.logits[0].softmax(1), torch.from_numpy(a.build().predict(_pixels())))


def test_a_new_site_starts_from_the_base_and_leaves_its_bytes_alone():
    base = _freeze(0, "a", "A2C", "A4C")
    before = base.digest
    newcomer = _learner(1, 3)
    warm_start(newcomer, base)
    for name, array in arrays.state(newcomer.module).items():
        assert name.startswith(HEAD) or np.array_equal(array, base.arrays[name])
    frames = stills(4, seed=1, size=32)
    fit(newcomer, frames, steps=2, batch_size=4, learning_rate=1e-2, seed=0)
    freeze(newcomer, _map("b", "A2C", "A4C", "PLAX"), _pixels(), reference=Reference.OWN, private=False)
    assert base.digest == before
    with pytest.raises(ValueError, match="shape"):
        warm_start(Expert(classes=2, width=8, stages=2).build(), base)


def test_an_expert_trains_under_patient_level_privacy():
    learner = _learner()
    before = arrays.digest(arrays.state(learner.module))
    plan = DpPlan(purpose="test", sampling_rate=1.0, noise_multiplier=1.0, clip_norm=0.5, steps=1, draws=2)
    fit_private(
        learner,
        stills(4, seed=1, size=32),
        plan,
        steps=1,
        public_subjects=4,
        learning_rate=0.1,
        random=SecureRandom(),
    )
    assert arrays.digest(arrays.state(learner.module)) != before


def test_one_expert_alone_is_heard_as_it_is():
    seen = observe([expert := _freeze(0, "a", "A4C", "A2C")], _pixels())
    for heard in (max_logit, max_probability, most_confident):
        pooled = heard(seen, [expert.label_map])
        assert torch.isinf(pooled[:, 2]).all()
        assert torch.equal(pooled[:, :2].argmax(1), 1 - seen.logits[0].argmax(1))


def test_the_most_confident_expert_is_heard_alone():
    experts = [_freeze(0, "a", "A2C", "A4C"), _freeze(1, "b", "A4C", "PLAX")]
    seen = observe(experts, _pixels(20))
    pooled = most_confident(seen, [e.label_map for e in experts])
    beliefs = [z.softmax(1).amax(1) for z in seen.logits]
    first = beliefs[0] >= beliefs[1]
    assert torch.equal(torch.isinf(pooled[:, 2]), first)
    assert torch.equal(pooled.amax(1), torch.maximum(*beliefs))


def test_labels_that_are_not_the_outputs_are_refused():
    with pytest.raises(ValueError, match="labels"):
        freeze(_learner(), _map("a", "A2C"), _pixels(), reference=Reference.PHANTOM, private=True)
    with pytest.raises(ValueError, match="at least one"):
        freeze(_learner(), _map("a", "A2C", "A4C"), _pixels(0), reference=Reference.PHANTOM, private=True)
    with pytest.raises(ValueError, match="no expert"):
        observe([], _pixels())
    with pytest.raises(ValueError, match="width"):
        Expert(width=0)
