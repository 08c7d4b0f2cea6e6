import numpy as np
import pytest

from cohorts.phantom.simulate import stills
from privacy.embedding import DIMENSION, embed
from privacy.planted_families import Pixels
from privacy.planted_trial import by_family, caught, likenesses
from privacy.reidentification_threshold import calibrate


@pytest.fixture(scope="module")
def people():
    return stills(30, seed=4, size=32)


def test_a_copy_of_a_patient_hangs_on_that_patient_alone(people) -> None:
    some = people.select(people.subjects[5:12])
    asked = {"families": ("affine", "speckle", "codec"), "levels": (2,)}
    for key, values in likenesses(people, **asked).items():
        np.testing.assert_array_equal(values[5:12], likenesses(some, **asked)[key])


def test_higher_levels_are_caught_less_and_the_picture_itself_always(people) -> None:
    found = likenesses(people, families=("codec", "elastic", "gaussian"), levels=range(1, 6))
    rows = {(c.family, c.level): c for c in caught(found, 0.92)}
    assert rows["codec", 1].caught == rows["codec", 1].n == 30
    assert rows["codec", 1].lcb95 == pytest.approx(0.05 ** (1 / 30))
    for family in ("elastic", "gaussian"):
        shares = [rows[family, level].caught for level in (1, 2, 3, 4, 5)]
        assert shares == sorted(shares, reverse=True)


def test_random_features_catch_copies_as_often_as_strangers(people) -> None:
    """T-F1: a copy that the features cannot see is anybody's picture."""
    rng = np.random.default_rng(0)

    def noise(pixels: Pixels) -> np.ndarray:
        rows = rng.standard_normal((len(pixels), 8)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    many = stills(150, seed=6, size=16)
    found = likenesses(many, families=("codec",), levels=(1,), look=noise, hold=noise)
    members = noise(many.pixels)[:4]
    strangers = (noise(many.pixels) @ members.T).max(axis=1)  # four pictures, as each patient has
    assert caught(found, 0.5)[0].caught / 150 == pytest.approx((strangers >= 0.5).mean(), abs=0.15)


def test_exact_copies_are_caught_by_features_that_keep_everything(people) -> None:
    """T-F2."""

    def whole(pixels: Pixels) -> np.ndarray:
        rows = pixels.reshape(len(pixels), -1).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    found = likenesses(people, families=("codec",), levels=(1,), look=whole, hold=whole)
    assert caught(found, 1 - 1e-6)[0].caught == 30


def test_the_worst_level_of_a_family_sets_its_threshold(people) -> None:
    found = likenesses(people, families=("gaussian", "gain"), levels=(1, 2, 3))
    worst = by_family(found)
    assert list(worst) == ["gaussian", "gain"]
    np.testing.assert_array_equal(worst["gain"], np.min([found["gain", level] for level in (1, 2, 3)], axis=0))
    assert not calibrate(np.full(100, 0.3), worst).adequate  # 30 patients are too few for any bound


def test_pictures_of_others_and_round_trips_are_handed_in(people) -> None:
    others = stills(5, seed=9, size=32).pixels
    seen: list[tuple[int, float]] = []

    def back(pixels: Pixels, strength: float) -> Pixels:
        seen.append((len(pixels), strength))
        return pixels

    found = likenesses(people, families=("blend", "round trip"), levels=(2, 5), others=others, round_trip=back)
    assert seen == [(30, 0.1), (30, 0.5)]
    assert found["round trip", 5].min() > 0.99
    assert found["blend", 5].mean() < found["blend", 2].mean()


def test_someone_without_a_picture_cannot_be_copied(people) -> None:
    nobody = people.select((*people.subjects[:3], "nobody"))
    with pytest.raises(ValueError, match="1 of 4 patients"):
        likenesses(nobody)


def test_one_pose_or_many_are_held_alike(people) -> None:
    flat = likenesses(people, families=("speckle",), levels=(1,), hold=embed)
    posed = likenesses(people, families=("speckle",), levels=(1,), hold=lambda p: embed(p).reshape(-1, 1, DIMENSION))
    np.testing.assert_array_equal(flat["speckle", 1], posed["speckle", 1])
