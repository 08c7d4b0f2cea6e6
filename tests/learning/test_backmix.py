"""BackMix: what is inside a sector stays, what is outside comes from nobody else."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cohorts.frames import VIEWS
from cohorts.phantom.simulate import stills
from learning import finder
from learning.backmix import OwnDonors, PhantomDonors, backgrounds, has_mask, mix, name_of, weights, write_beside
from learning.blocks import to_pixels, to_signal
from learning.learner import fit_private
from learning.learners import LEARNERS
from learning.learners.view_classifier import ViewLearner
from learning.sector import sectors
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom
from synthesis.parts import build

DONORS = PhantomDonors(n=16)


def _dice(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def frames():
    return stills(4, seed=3, style="site-a", views=VIEWS)


@pytest.fixture(scope="module")
def inside(frames):
    return sectors(frames.pixels)


def _learner(**config):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        return LEARNERS["backmix_classifier"](width=4, **config).build()


def _mixed(frames, inside, donors, seed=0):
    return mix(to_signal(torch.from_numpy(frames.pixels)), torch.from_numpy(inside), donors, generator=_dice(seed))


@pytest.mark.parametrize("kind", ["phantom", "own"])
def test_the_sector_stays_bit_for_bit(frames, inside, kind):
    donors = DONORS if kind == "phantom" else OwnDonors(frames=frames, rows=np.arange(len(frames)))
    mixed = _mixed(frames, inside, donors)[:, 0]
    before = to_signal(torch.from_numpy(frames.pixels))[:, 0]
    assert torch.equal(mixed[torch.from_numpy(inside)], before[torch.from_numpy(inside)])


def test_outside_is_the_donors_background_or_black(frames, inside):
    mixed = to_pixels(_mixed(frames, inside, DONORS)).numpy()
    donor, theirs = backgrounds(DONORS, len(frames), generator=_dice())
    outside = ~inside
    assert np.array_equal(mixed[outside & ~theirs], donor[outside & ~theirs])
    assert not mixed[outside & theirs].any()
    assert mixed[outside].any()


def test_the_same_seed_mixes_the_same_way_and_another_does_not(frames, inside):
    first, again, other = (_mixed(frames, inside, DONORS, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_own_donors_are_of_the_same_subject_alone(frames):
    stranger = frames.pixels.copy()
    stranger[frames.subject != 1] = 255
    rows = np.flatnonzero(frames.subject == 1)
    for one in (frames, dataclasses.replace(frames, pixels=stranger)):
        donor, _ = backgrounds(OwnDonors(frames=one, rows=rows), len(rows), generator=_dice())
        assert all((frames.pixels[rows] == d).all(axis=(1, 2)).any() for d in donor)


def test_frames_of_other_subjects_are_no_donors(frames):
    for donors in (frames, frames.pixels, None):
        with pytest.raises(TypeError, match="public phantoms or a subject's own"):
            backgrounds(donors, 2, generator=_dice())


def test_a_row_needs_a_donor_and_a_recipe_a_phantom(frames):
    with pytest.raises(ValueError, match="2 rows have donors, 3 are mixed"):
        backgrounds(OwnDonors(frames=frames, rows=np.arange(2)), 3, generator=_dice())
    with pytest.raises(ValueError, match="n=0"):
        PhantomDonors(n=0)


@given(masked=st.integers(0, 200), others=st.integers(0, 200), strength=st.floats(0, 1))
def test_weights_are_one_on_average(masked, others, strength):
    known = np.arange(masked + others + 1) < masked
    share = float(known.mean())
    worth = weights(known, share=share, strength=strength / max(share, 0.01))
    assert (worth >= 0).all()
    assert worth.mean() == pytest.approx(1, abs=1e-7)


def test_the_papers_weights_are_these():
    known = np.array([True, False])
    np.testing.assert_allclose(weights(known, share=0.05, strength=1), [1.95, 0.95])
    np.testing.assert_allclose(weights(known, share=0.05, strength=2), [2.90, 0.90])


def test_a_negative_weight_is_refused():
    for share, strength in ((0.5, 2.1), (0.5, -1), (1.5, 0)):
        with pytest.raises(ValueError, match=r"share=|strength="):
            weights(np.ones(1, np.bool_), share=share, strength=strength)


def test_who_is_masked_depends_on_nobody_else():
    names = tuple(f"subject-{i}" for i in range(2000))
    known = has_mask(names, share=0.05, seed=1)
    assert 0.03 < known.mean() < 0.07
    assert np.array_equal(has_mask(names[::-1], share=0.05, seed=1)[::-1], known)
    assert has_mask(names, share=1.0, seed=1).all()
    assert not has_mask(names, share=0.0, seed=1).any()


def test_what_is_written_beside_leaves_the_sector_alone(frames, inside):
    written = write_beside(frames.pixels, inside, ["A4C", ""] * (len(frames) // 2))
    assert np.array_equal(written[inside], frames.pixels[inside])
    outside = np.where(inside, 0, written).any(axis=(1, 2))
    assert outside[::2].all()
    assert not outside[1::2].any()


def test_large_letters_are_larger_and_leave_the_sector_alone(frames, inside):
    lines = ["A4C"] * len(frames)
    plain, large = (write_beside(frames.pixels, inside, lines, letters=[k] * len(lines)) for k in (1, 2))
    assert np.array_equal(large[inside], plain[inside])
    upper = slice(None, frames.pixels.shape[-1] // 2)
    rows = [[picture[upper].any(axis=1).sum() for picture in np.where(inside, 0, p)] for p in (plain, large)]
    assert (np.array(rows[1]) > np.array(rows[0])).all()
    assert np.array_equal(large[:, upper.stop :], plain[:, upper.stop :])


def test_frames_without_a_mask_can_be_mixed_by_what_a_network_finds(frames, inside):
    losses = []
    for line in ("", "APICAL 4CH"):
        told = dataclasses.replace(frames, pixels=write_beside(frames.pixels, inside, [line] * len(frames)))
        learner = _learner(masked_share=0.0, others="learnt")
        known = {p.tobytes(): m for p, m in zip(told.pixels, inside, strict=True)}
        learner.guess = lambda pixels, known=known: known[pixels.tobytes()]
        losses.append(learner.losses(told, np.arange(len(told)), generator=_dice()))
    assert torch.equal(*losses)


def test_what_is_written_beside_a_mixed_frame_reaches_no_loss(frames, inside):
    losses = []
    for line in ("", "APICAL 4CH"):
        told = dataclasses.replace(frames, pixels=write_beside(frames.pixels, inside, [line] * len(frames)))
        learner = _learner()
        known = {p.tobytes(): m for p, m in zip(told.pixels, inside, strict=True)}
        learner.find = lambda pixels, known=known: known[pixels.tobytes()]
        losses.append(learner.losses(told, np.arange(len(told)), generator=_dice()))
    assert torch.equal(*losses)
    assert losses[0].std() > 0


def test_frames_without_a_mask_weigh_less(frames):
    rows = np.arange(len(frames))
    even, weighted = (
        _learner(masked_share=0.5, weight=w, seed=1).losses(frames, rows, generator=_dice()) for w in (0.0, 1.0)
    )
    masked = has_mask([name_of(p) for p in frames.pixels], share=0.5, seed=1)
    assert 0 < masked.mean() < 1
    torch.testing.assert_close(weighted, even * torch.from_numpy(np.where(masked, 1.5, 0.5)).float())


@pytest.mark.parametrize("donors", ["own", "phantom"])
@pytest.mark.parametrize("others", ["unmixed", "learnt"])
def test_it_trains_under_differential_privacy(frames, donors, others, monkeypatch):
    monkeypatch.setattr(finder, "taught_by_phantoms", partial(finder.taught_by_phantoms, steps=2))
    learner = _learner(donors=donors, masked_share=0.5, weight=1.0, others=others)
    before = [p.detach().clone() for p in learner.module.parameters()]
    plan = DpPlan(purpose="views", sampling_rate=0.9, noise_multiplier=1.0, clip_norm=1.0, steps=2, draws=2)
    fit_private(learner, frames, plan, steps=2, public_subjects=4, learning_rate=0.1, random=SecureRandom())
    assert all(torch.isfinite(p).all() for p in learner.module.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, learner.module.parameters(), strict=True))


def test_a_config_asks_for_no_other_donors():
    with pytest.raises(ValueError, match="donors='all'"):
        LEARNERS["backmix_classifier"](donors="all")
    with pytest.raises(ValueError, match="others='drawn'"):
        LEARNERS["backmix_classifier"](others="drawn")
    with pytest.raises(ValueError, match="strength"):
        LEARNERS["backmix_classifier"](masked_share=0.5, weight=3.0)


def test_a_campaign_may_take_it_for_its_classifier_of_views_and_start_it_from_the_public_prior():
    """The stage that screens candidates asks for a `ViewLearner`; the prior is that of the plain classifier."""
    mixed, plain = (
        build("learner", name, {"width": 16, "tune": r"^13\."}, seed=0, prior="view_classifier")
        for name in ("backmix_classifier", "view_classifier")
    )
    assert isinstance(mixed, ViewLearner)
    pixels = stills(2, seed=0).pixels
    assert np.array_equal(mixed.predict(pixels), plain.predict(pixels))
