"""The shipped embedding: copies and people are known again, on phantoms of a site that it never saw."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import ndimage

from cohorts.clips import films
from cohorts.study import View
from privacy.identity import MEASURES, embed_copy, embed_identity, shipped
from privacy.identity_training import Recipe, album
from privacy.membership import auc
from privacy.motion import clip_rarity
from privacy.planted import altered_copy
from synthesis import priors

PEOPLE = 60


@pytest.fixture(scope="module")
def people():
    """Phantoms in A4C: at ED, at ES, and at ED copied at level 2."""
    seen = album(PEOPLE, seed=314, style="site-c").pixels[:, 0, 1]
    rng = np.random.default_rng(1)
    return seen[:, 0], seen[:, 1], np.stack([altered_copy(p, level=2, rng=rng) for p in seen[:, 0]])


def apart(one, two):
    """Similarities of rows that belong together, and of all others."""
    alike = one @ two.T
    return np.diag(alike), alike[~np.eye(len(alike), dtype=bool)]


@pytest.mark.parametrize("embedding", [embed_identity, embed_copy])
def test_every_exact_copy_is_found(people, embedding):
    """T-F2."""
    right, wrong = apart(embedding(people[0]), embedding(people[0].copy()))
    assert (right > 0.99).all()
    assert wrong.max() < right.min()


def test_copies_at_level_two_are_found_by_the_copy_head(people):
    right, wrong = apart(embed_copy(people[0]), embed_copy(people[2]))
    assert auc(right, wrong).value > 0.99


def test_people_are_known_again_at_another_phase(people):
    right, wrong = apart(embed_identity(people[0]), embed_identity(people[1]))
    assert auc(right, wrong).value > 0.97


def test_a_copy_is_rarer_than_one_stranger_in_a_thousand(people):
    whole = shipped()
    together = whole.rarity(whole.look(people[0]), whole.look(people[2]))
    assert (np.diag(together) > 3).mean() > 0.9


def test_fresh_strangers_of_the_site_it_was_calibrated_on_are_as_rare_as_it_says():
    whole = shipped()
    pixels = album(PEOPLE, seed=7, style="site-b").pixels[:, :, 1, 0]
    looks = [whole.look(pixels[:, take]) for take in (0, 1)]
    for name in MEASURES:
        found = whole.rarity_by(name, apart(looks[0][name], looks[1][name])[1])
        assert 0.04 < (found > 1).mean() < 0.25
        assert 0.002 < (found > 2).mean() < 0.04


def test_the_shipped_prior_is_small_and_of_the_recipe_that_stands_in_the_code():
    assert (priors.folder() / "identity.safetensors").stat().st_size <= 450_000
    stated = json.loads((priors.folder() / "identity.json").read_text())["recipe"]
    assert stated == json.loads(json.dumps(asdict(Recipe())))


def retextured(clips):
    """The same hearts in motion, in other flesh: steady patches, new grain, another grey map; begun elsewhere."""
    rng = np.random.default_rng(3)
    grey = clips.pixels / 255.0
    patches = np.stack([ndimage.zoom(rng.standard_normal((9, 9)), 64 / 9, order=1) for _ in grey])[:, None]
    grey = grey * np.exp(0.6 * patches) * (1 + 0.2 * rng.standard_normal(grey.shape))
    return replace(clips, pixels=np.round(255 * np.roll(grey, 5, axis=1).clip(0, 1)).astype(np.uint8))


@pytest.fixture(scope="module")
def clips():
    return films(8, phase=np.tile(np.arange(12) / 12, (8, 1)), seed=5, size=64, style="site-c", views=[View.A4C])


def test_a_clip_is_known_by_its_pictures_or_by_its_motion(clips):
    still = replace(clips, pixels=np.repeat(clips.pixels[:, 3:4], clips.pixels.shape[1], axis=1))
    for copy in (retextured(clips), still):
        rare = clip_rarity(shipped(), copy, clips)
        assert (rare.argmax(1) == np.arange(8)).all()


def test_a_later_frame_that_was_copied_is_seen_as_well_as_the_first(clips):
    some, other = clips.rows(np.arange(4)), clips.rows(np.arange(4, 8))
    turned = other.pixels.copy()
    turned[:, 9] = some.pixels[:, 9]  # one of the four frames that are looked at
    rare = clip_rarity(shipped(), replace(other, pixels=turned), some)
    assert (rare.argmax(1) == np.arange(4)).all()
