import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.embedding import embed


def _images(n: int, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size), np.uint8)


def test_the_product_of_two_embeddings_is_their_pearson_correlation() -> None:
    images = _images(2, size=32)
    a, b = embed(images)
    expected = np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1]
    assert a @ b == pytest.approx(expected, abs=1e-5)
    assert a @ a == pytest.approx(1.0, abs=1e-5)


@given(st.integers(1, 8), st.integers(0, 1000), st.sampled_from([32, 64, 112]))
def test_an_embedding_never_depends_on_the_batch(n: int, seed: int, size: int) -> None:
    images = _images(n, size, seed)
    together = embed(images)
    alone = np.concatenate([embed(image[None]) for image in images])
    np.testing.assert_array_equal(together, alone)


def test_gain_and_offset_do_not_change_what_an_image_resembles() -> None:
    image = np.random.default_rng(1).integers(0, 100, (1, 64, 64), np.uint8)
    brighter = (2 * image + 20).astype(np.uint8)
    assert (embed(image) @ embed(brighter).T).item() == pytest.approx(1.0, abs=0.01)


def test_a_constant_image_resembles_nothing() -> None:
    flat = np.full((1, 64, 64), 77, np.uint8)
    assert not embed(flat).any()


def test_pixels_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        embed(np.zeros((1, 64, 64), np.float32))  # type: ignore[arg-type]
