import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, rotate, shift

from cohorts.phantom.simulate import stills
from privacy.embedding import DIMENSION, POSES, embed, embed_poses, nearest


def _images(n: int, *, size: int = 64, seed: int = 0, grain: float = 3.0) -> NDArray[np.uint8]:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((n, size, size)), (0, grain, grain))
    return np.asarray(128 + 40 * (field / field.std()).clip(-3, 3), np.uint8)


def test_an_image_resembles_itself_and_no_stranger() -> None:
    embeddings = embed(stills(20, seed=3).pixels)
    similarity = embeddings @ embeddings.T
    assert np.diag(similarity) == pytest.approx(1.0, abs=0.01)
    owner = np.repeat(np.arange(20), 4)
    assert similarity[owner[:, None] != owner].max() < 0.92


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 8), seed=st.integers(0, 1000), size=st.sampled_from([32, 64, 112]))
def test_an_embedding_never_depends_on_the_batch(n: int, seed: int, size: int) -> None:
    images = _images(n, size=size, seed=seed)
    alone = np.concatenate([embed(image[None]) for image in images])
    np.testing.assert_array_equal(embed(images), alone)
    np.testing.assert_array_equal(embed_poses(images)[-1:], embed_poses(images[-1:]))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 50))
def test_a_similarity_is_exact_whatever_stands_beside_it(seed: int, n: int) -> None:
    embeddings = embed(_images(n + 1, seed=seed))
    exact = (embeddings[0].astype(np.float64) * embeddings[1:].astype(np.float64)).sum(axis=1).max()
    together = nearest(embeddings[:1], embeddings[1:])
    reverse = nearest(embeddings[:1], embeddings[:0:-1])
    assert together.item() == reverse.item() == exact


def test_gain_and_offset_do_not_change_what_an_image_resembles() -> None:
    image = np.asarray(_images(1) // 2, np.uint8)
    brighter = np.asarray(1.8 * image + 10, np.uint8)
    assert (embed(image) @ embed(brighter).T).item() > 0.97


@pytest.mark.parametrize(("degrees", "down", "right"), [(4.0, 0, 0), (-4.0, 2, 0), (0.0, -2, 2)])
def test_a_moved_copy_is_found_in_one_of_the_poses(degrees: float, down: int, right: int) -> None:
    image = _images(1, grain=2.5)
    moved = shift(rotate(image[0].astype(float), degrees, reshape=False, order=1), (down, right), order=1)
    copy = embed(np.asarray(moved, np.uint8)[None])
    poses = embed_poses(image)[0]
    assert (poses @ copy[0]).max() > 0.93
    assert (poses @ copy[0]).max() > (embed(image) @ copy.T).item() + 0.05


def test_the_first_pose_is_the_image_as_it_is() -> None:
    images = _images(3)
    assert POSES[0] == (0.0, 1.0, 0, 0)
    assert embed_poses(images).shape == (3, len(POSES), DIMENSION)
    np.testing.assert_array_equal(embed_poses(images)[:, 0], embed(images))


def test_a_constant_image_resembles_nothing() -> None:
    assert not embed(np.full((1, 64, 64), 77, np.uint8)).any()


def test_without_references_nothing_is_near() -> None:
    assert nearest(embed(_images(2)), embed(_images(1))[:0]).tolist() == [-1.0, -1.0]


def test_pixels_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        embed(np.zeros((1, 64, 64), np.float32))  # type: ignore[arg-type]


def test_no_images_have_no_poses() -> None:
    assert embed_poses(np.zeros((0, 16, 16), np.uint8)).shape == (0, len(POSES), DIMENSION)
