"""The learned embedding, after two steps: each picture alone, no writing, and where it came from."""

import json

import numpy as np
import pytest
import torch

from cohorts.frames import resize
from cohorts.phantom import overlays, simulate
from privacy.embedding import embed
from privacy.estimate import clopper_pearson
from privacy.identity import CALIBRATED, DIMENSION, HEADS, MEASURES, RARITIES, SIDE, prepared, shipped
from privacy.identity_training import Recipe, altered, train, write
from privacy.membership import auc
from privacy.reidentification import ReidentificationFilter

TINY = Recipe(people=(("wide", 4), ("site-a", 4)), steps=2, batch_size=4, strangers=("site-b", 5))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("priors")
    told = []
    write(folder, TINY, lambda *step: told.append(step))
    return folder, told


@pytest.fixture(scope="module")
def whole(made):
    return shipped(made[0])


@pytest.fixture(scope="module")
def pixels():
    return simulate.stills(3, seed=314, style="site-c").pixels


@pytest.mark.parametrize("head", HEADS)
def test_a_picture_keeps_its_bytes_whatever_is_embedded_with_it(whole, pixels, head):
    """T-F6."""
    found = whole.embed(pixels, head)
    np.testing.assert_array_equal(whole.embed(pixels[5:6], head), found[5:6])
    np.testing.assert_array_equal(whole.embed(pixels[::-1], head)[::-1], found)
    brighter = np.concatenate([pixels[:3], np.full((1, SIDE, SIDE), 255, np.uint8)])
    np.testing.assert_array_equal(whole.embed(brighter, head)[:3], found[:3])


def test_a_score_keeps_its_bytes_whatever_is_scored_with_it(whole, pixels):
    """T-F6."""
    looks = whole.look(pixels)
    some = whole.rarity({n: e[4:5] for n, e in looks.items()}, {n: e[2:4] for n, e in looks.items()})
    np.testing.assert_array_equal(some, whole.rarity(looks, looks)[4:5, 2:4])


@pytest.mark.parametrize("side", [48, 64, 112, 224])
@pytest.mark.parametrize("head", HEADS)
def test_grey_pictures_of_any_size_are_embedded_on_the_unit_sphere(whole, head, side):
    found = whole.embed(simulate.stills(1, seed=2, size=side).pixels, head)
    assert found.dtype == np.float32
    assert found.shape == (4, DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=0.01)


def test_an_empty_picture_resembles_nothing_and_none_are_no_rows(whole):
    assert not whole.embed(np.full((1, 64, 64), 40, np.uint8), "copy").any()
    assert whole.embed(np.zeros((0, 64, 64), np.uint8), "identity").shape == (0, DIMENSION)


@pytest.mark.parametrize("wrong", [np.zeros((64, 64), np.uint8), np.zeros((1, 64, 64), np.float32)])
def test_what_is_no_stack_of_grey_pictures_is_refused(whole, wrong):
    with pytest.raises(ValueError, match="pixels must be uint8"):
        whole.embed(wrong, "identity")


def test_an_unknown_head_is_refused(whole):
    with pytest.raises(ValueError, match="head='face'"):
        whole.embed(np.zeros((1, 64, 64), np.uint8), "face")


def test_the_rarest_of_three_is_what_the_measure_says_that_says_most(whole, pixels):
    looks = whole.look(pixels)
    alone = [whole.rarity_by(name, looks[name] @ looks[name].T) for name in MEASURES]
    np.testing.assert_array_equal(whole.rarity(looks, looks), np.maximum.reduce(alone))
    np.testing.assert_array_equal(looks["handmade"], embed(pixels))


def test_a_rarity_grows_with_similarity_and_beyond_what_was_measured(whole):
    for name in CALIBRATED:
        found = whole.rarity_by(name, np.linspace(-1, 1.01, 400, dtype=np.float32))
        assert (np.diff(found) >= 0).all()
        assert found[0] == 0
        assert found[-1] > RARITIES[-1]


def test_writing_beside_the_sector_is_taken_away_most_of_an_ecg_below_it_too_and_the_sector_is_kept():
    plain = simulate.stills(6, seed=21, size=112).pixels
    burned = plain.copy()
    for k, picture in enumerate(burned):
        overlays.burn_in(picture, np.asarray(picture > 0), text=f"NAME {k}", beat=0.3)
    kept, clean = prepared(burned), prepared(plain)
    np.testing.assert_array_equal(kept[:, : SIDE // 2], clean[:, : SIDE // 2])
    small, written = (np.stack([resize(p, SIDE, nearest=False) for p in some]).astype(int) for some in (plain, burned))
    assert np.abs(kept.astype(int) - clean).sum() < 0.35 * np.abs(written - small).sum()
    assert clean.sum() > 0.97 * small.sum()


def test_an_alteration_of_no_strength_only_blurs_some(pixels):
    x = torch.from_numpy(pixels.astype(np.float32) / 255)[:, None]
    y = altered(x, torch.Generator().manual_seed(1), 0.0)
    assert y.shape == x.shape
    assert ((y - x).abs().amax((1, 2, 3)) < 1e-3).any()


def test_a_random_embedding_tells_nothing_and_catches_as_many_copies_as_strangers():
    """T-F1."""
    rng = np.random.default_rng(4)
    unit = [rng.standard_normal((600, 32)).astype(np.float32) for _ in range(4)]
    members, copies, calibration, fresh = (u / np.linalg.norm(u, axis=1, keepdims=True) for u in unit)
    alike = members @ copies.T
    spread = auc(np.diag(alike), alike[np.arange(600), np.arange(600) - 1])
    assert spread.low <= 0.5 <= spread.high
    each = np.arange(600)
    rule = ReidentificationFilter()
    tau = rule.calibrate(members, each, calibration, each)
    caught, rejected = (
        clopper_pearson(int((~rule.screen(c, members, tau)).sum()), 600, 0.999) for c in (copies, fresh)
    )
    assert caught.low <= rejected.high
    assert rejected.low <= caught.high


def test_training_is_named_by_its_seed(made):
    again = shipped(made[0]).weights
    once = train(TINY, lambda *_: None)
    assert all(torch.equal(once[name].half().float(), again[name]) for name in once)


def test_a_prior_says_what_it_was_made_from_and_is_not_read_where_it_was_changed(made, tmp_path):
    folder, told = made
    record = json.loads((folder / "identity.json").read_text())
    assert record["command"] == "pericard prior identity"
    assert "no patient" in record["data"]
    assert record["recipe"]["steps"] == 2
    assert told[-1] == ("embedding", 2, 2)
    (tmp_path / "identity.json").write_text(json.dumps(record))
    (tmp_path / "identity.safetensors").write_bytes((folder / "identity.safetensors").read_bytes() + b" ")
    with pytest.raises(ValueError, match="its provenance states"):
        shipped(tmp_path)


def test_a_missing_prior_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError, match="pericard prior identity"):
        shipped(tmp_path)
