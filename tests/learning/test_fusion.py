"""Fusion starts from what the experts say, learns who is to be believed, and says so."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from cohorts.frames import Frames
from cohorts.phantom.simulate import stills
from learning import arrays
from learning.experts import ByProducts, FrozenExpert, Reference, freeze, max_logit, observe
from learning.fusion import (
    Attention,
    Fusion,
    FusionNet,
    SiteFrames,
    SiteFusion,
    augmented,
    decide,
    federate,
    fit_released,
)
from learning.learner import fit_private
from learning.learners.expert import Expert
from learning.ontology import Ontology, SiteLabelMap
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

VIEWS = Ontology(names=("A2C", "A4C", "PLAX", "PSAX"))
WORDS = {"a": ("A2C", "A4C"), "b": ("A4C", "PLAX"), "c": ("PLAX", "A2C")}


@pytest.fixture(scope="module")
def frames() -> Frames:
    return stills(6, seed=1, size=32)


def _experts(sites: str = "abc") -> list[FrozenExpert]:
    return [_expert(site) for site in sites]


def _expert(site: str) -> FrozenExpert:
    means = WORDS[site]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(ord(site))
        learner = Expert(classes=len(means), width=4, stages=2).build()
    pixels = np.random.default_rng(ord(site)).integers(0, 256, (6, 32, 32)).astype(np.uint8)
    words = SiteLabelMap(site=site, labels=tuple(map(str.lower, means)), means=means, ontology=VIEWS)
    return freeze(learner, words, pixels, reference=Reference.PHANTOM, private=True)


def _net(experts, attention: Attention = Attention.DISCREPANCY, *, random: bool = True) -> FusionNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        net = Fusion(attention=attention, hidden=(8, 4)).build(experts)
        for parameter in net.parameters():
            if random and parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.5)
    return net


@pytest.mark.parametrize("attention", Attention)
def test_one_expert_alone_is_itself(attention, frames):
    experts = _experts("b")
    seen = observe(experts, frames.pixels)
    torch.testing.assert_close(_net(experts, attention)(seen), max_logit(seen, [experts[0].label_map]))


def test_score_fusion_starts_from_pooled_logits(frames):
    experts = _experts()
    seen = observe(experts, frames.pixels)
    net = _net(experts, Attention.NOTHING, random=False)
    torch.testing.assert_close(net(seen), max_logit(seen, [e.label_map for e in experts]))


@pytest.mark.parametrize("attention", Attention)
def test_weights_are_shares_and_the_same_for_every_site(attention, frames):
    experts = _experts()
    net, seen = _net(experts, attention), observe(experts, frames.pixels)
    a = net.weights(seen)
    assert a.shape == (len(frames), 3)
    torch.testing.assert_close(a.sum(1), torch.ones(len(frames)))
    factors = torch.ones_like(a) if attention is Attention.NOTHING else a
    for j, scores in enumerate(net.scores(seen)):
        by_hand = sum(factors[:, [i]] * net.heads[f"{j}_{i}"](seen.features[i]) for i in range(3))
        torch.testing.assert_close(scores, by_hand)


def test_other_orders_of_experts_give_the_same_weights_in_that_order(frames):
    experts, order = _experts(), (2, 0, 1)
    moved = [experts[i] for i in order]
    net, other = _net(experts), _net(moved)
    for j, old_j in enumerate(order):
        for i, old_i in enumerate(order):
            other.heads[f"{j}_{i}"].load_state_dict(net.heads[f"{old_j}_{old_i}"].state_dict())
    other.weigh.load_state_dict(net.weigh.state_dict())
    parts = net.weigh[0].weight.split([len(e.mean) for e in experts], 1)
    with torch.no_grad():
        other.weigh[0].weight.copy_(torch.cat([parts[i] for i in order], 1))
        other.weigh[-1].weight.copy_(net.weigh[-1].weight[list(order)])
        other.weigh[-1].bias.copy_(net.weigh[-1].bias[list(order)])
    seen, again = observe(experts, frames.pixels), observe(moved, frames.pixels)
    torch.testing.assert_close(other.weights(again), net.weights(seen)[:, list(order)])
    torch.testing.assert_close(other(again), net(seen))


def test_the_published_heads_have_the_published_size():
    published, sizes = Ontology(names=tuple(map(str, range(15)))), {"b": range(4, 12), "n": (4, 6)}
    sizes |= {"m": range(4, 15), "s": range(4)}
    experts = []
    for site, places in sizes.items():
        names = tuple(map(str, places))
        config = Expert(classes=len(names), width=64, stages=4)
        empty = np.zeros(3904, np.float32)
        head = {"head.weight": np.zeros((len(names), 512), np.float32), "head.bias": np.zeros(len(names), np.float32)}
        words = SiteLabelMap(site=site, labels=names, means=names, ontology=published)
        experts.append(FrozenExpert(label_map=words, config=config, arrays=head, mean=empty, spread=empty + 1))
    counts = {
        kind: sum(p.numel() for p in Fusion(attention=kind).build(experts).parameters() if p.requires_grad)
        for kind in Attention
    }
    assert counts == {Attention.NOTHING: 38_475, Attention.FEATURES: 170_719, Attention.DISCREPANCY: 1_039_071}


def _seen_at(experts, parts):
    return {site: SiteFrames(frames=own, seen=observe(experts, own.pixels)) for site, own in parts.items()}


@pytest.mark.parametrize("attention", Attention)
def test_federation_learns_and_leaves_the_experts_alone(attention, frames):
    experts = _experts()
    digests = [e.digest for e in experts]
    net = _net(experts, attention, random=False)
    own_heads = [arrays.digest(arrays.state(net.heads[f"{k}_{k}"])) for k in range(3)]
    parts = {"b": frames.select(frames.subjects[:3]), "a": frames.select(frames.subjects[3:])}
    sites = _seen_at(experts, parts)
    before = _loss(net, sites["a"].seen, parts["a"])
    moved = federate(net, sites, rounds=20, steps=2, batch_size=8, learning_rate=1e-2, seed=0)
    assert _loss(net, sites["a"].seen, parts["a"]) < before
    assert moved == 20 * 2 * 2 * 4 * sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert [e.digest for e in experts] == digests
    assert [arrays.digest(arrays.state(net.heads[f"{k}_{k}"])) for k in range(3)] == own_heads


def _loss(net: FusionNet, seen: ByProducts, frames: Frames) -> float:
    rows = np.arange(len(frames))
    with torch.no_grad():
        return float(SiteFusion(net, seen).losses(frames, rows, generator=torch.Generator()).mean())


def test_the_same_seed_gives_the_same_bits_whatever_the_order_of_the_sites(frames):
    experts = _experts("ab")
    sites = _seen_at(experts, {s: frames.select(frames.subjects[k::2]) for k, s in enumerate("ab")})
    digests = []
    for order in ("ab", "ba"):
        net = _net(experts)
        federate(net, {s: sites[s] for s in order}, rounds=2, steps=2, batch_size=4, learning_rate=1e-2, seed=7)
        digests.append(arrays.digest(arrays.trainable(net)))
    assert digests[0] == digests[1]


def test_a_row_sees_only_itself_and_what_nobody_names_is_worth_nothing(frames):
    experts = _experts()
    net, seen = _net(experts), observe(experts, frames.pixels)
    learner, rows = SiteFusion(net, seen), np.arange(len(frames))
    whole = learner.losses(frames, rows, generator=torch.Generator())
    torch.testing.assert_close(whole[[3]], learner.losses(frames, np.array([3]), generator=torch.Generator()))
    foreign = dataclasses.replace(frames, view=np.where(frames.view == 0, 3, -1))
    losses = learner.losses(foreign, rows, generator=torch.Generator())
    assert losses.eq(0).all()
    with pytest.raises(ValueError, match="pictures"):
        learner.losses(frames.select(frames.subjects[:1]), rows, generator=torch.Generator())


def test_the_heads_train_under_patient_level_privacy(frames):
    experts = _experts("ab")
    net = _net(experts)
    before = arrays.digest(arrays.trainable(net))
    plan = DpPlan(purpose="test", sampling_rate=1.0, noise_multiplier=1.0, clip_norm=0.5, steps=2, draws=2)
    learner = SiteFusion(net, observe(experts, frames.pixels))
    fit_private(learner, frames, plan, steps=2, public_subjects=6, learning_rate=0.1, random=SecureRandom())
    assert arrays.digest(arrays.trainable(net)) != before


def test_heads_may_be_trained_on_a_release_instead(frames):
    experts = _experts()
    net, seen = _net(experts, random=False), observe(experts, frames.pixels)
    before = _loss(net, seen, frames)
    fit_released(net, experts, frames, steps=40, batch_size=16, learning_rate=1e-2, seed=0)
    assert _loss(net, seen, frames) < before


def test_varied_copies_belong_to_the_same_subjects(frames):
    more = augmented(frames, 2, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(more.pixels[: len(frames)], frames.pixels)
    assert np.array_equal(more.subject, np.tile(frames.subject, 3))
    assert np.array_equal(more.view, np.tile(frames.view, 3))
    assert not np.array_equal(more.pixels[len(frames) :][: len(frames)], more.pixels[2 * len(frames) :])


def test_a_prediction_says_whom_it_rests_on(frames):
    experts = _experts()
    decisions = decide(_net(experts), observe(experts, frames.pixels))
    assert len(decisions) == len(frames)
    assert sum(decisions[0].weights.values()) == pytest.approx(1)
    assert re.fullmatch(r"(A2C|A4C|PLAX), decided (0\.\d\d|1\.00) by the expert of [abc]", str(decisions[0]))
    with pytest.raises(ValueError, match="no site"):
        federate(_net(experts), {}, rounds=1, steps=1, batch_size=1, learning_rate=1e-3, seed=0)
