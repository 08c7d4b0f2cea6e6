import numpy as np
import pytest

from cohorts.phantom.simulate import stills
from privacy.embedding import POSES, WIDE, embed, embed_poses
from privacy.planted_trial import likenesses
from privacy.reidentification_search import hold_widely, search
from privacy.votes import nearest_of


@pytest.fixture(scope="module")
def people():
    return stills(12, seed=5, size=32)


def test_a_search_in_blocks_is_the_search_in_one(people) -> None:
    drawn = embed(stills(9, seed=6, size=32).pixels)
    found = search(people.pixels, drawn, poses=POSES)
    held = embed_poses(people.pixels)
    flat = held.reshape(-1, held.shape[-1])
    likeness, row = nearest_of(drawn, flat)
    np.testing.assert_array_equal(found.candidate, likeness)
    np.testing.assert_array_equal(found.patient_of, row // len(POSES))
    product = nearest_of(flat, drawn)[0].reshape(len(people), -1).max(axis=1)
    np.testing.assert_array_equal(found.patient, product)
    again = [nearest_of(drawn[[k]], held[i])[0][0] for i, k in enumerate(found.candidate_of)]
    np.testing.assert_allclose(again, found.patient, atol=1e-6)


def test_everybody_finds_the_own_copy_and_is_found(people) -> None:
    order = np.random.default_rng(0).permutation(len(people))
    found = search(people.pixels, embed(people.pixels[order]))
    np.testing.assert_array_equal(order[found.candidate_of], np.arange(len(people)))
    np.testing.assert_array_equal(found.patient_of, order)
    assert found.patient.min() > 0.999


def test_the_first_wide_pose_is_the_picture_and_the_narrow_ones_are_among_them(people) -> None:
    assert WIDE[0] == POSES[0] == (0.0, 1.0, 0, 0)
    assert set(POSES) < set(WIDE)
    np.testing.assert_array_equal(embed_poses(people.pixels[:3], WIDE)[:, 0], embed(people.pixels[:3]))
    assert embed_poses(people.pixels[:2], ((0.0, 1.0, 0, 0),)).shape == (2, 1, 256)


def test_wide_poses_find_copies_that_were_moved_as_far_as_the_third_level(people) -> None:
    asked = {"families": ("affine", "mirror"), "levels": (3,)}
    wide, narrow = likenesses(people, hold=hold_widely, **asked), likenesses(people, **asked)
    for key, values in wide.items():
        assert np.median(values) > 0.88
        assert (values >= narrow[key] - 1e-6).all()
        assert np.median(narrow[key]) < np.median(values) - 0.05


def test_a_picture_moved_into_a_pose_lies_near_that_pose(people) -> None:
    picture = stills(1, seed=5).pixels[:1]
    moved = np.roll(picture, (4, -2), axis=(1, 2))  # two and one 32nds of 64 pixels; the border is black
    likeness = embed_poses(picture, WIDE)[0] @ embed(moved)[0]
    assert WIDE[int(likeness.argmax())][2:] == (2, -1)


def test_nobody_to_compare_with_is_refused(people) -> None:
    with pytest.raises(ValueError, match="candidates is empty"):
        search(people.pixels, embed(people.pixels[:0]))
