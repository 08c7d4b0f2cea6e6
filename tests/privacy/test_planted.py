import numpy as np
import pytest

from cohorts.phantom.simulate import stills
from privacy.embedding import embed, embed_poses
from privacy.planted import LEVELS, altered_copy


def test_level_two_copies_are_found_and_level_three_copies_are_harder() -> None:
    frames = stills(30, seed=5)
    poses = embed_poses(frames.pixels)
    found = {}
    for level in LEVELS:
        rng = np.random.default_rng(level)
        copies = embed(np.stack([altered_copy(image, level=level, rng=rng) for image in frames.pixels]))
        found[level] = float(np.mean(np.einsum("nd,npd->np", copies, poses).max(axis=1) >= 0.92))
    assert found[1] > 0.9
    assert found[2] > 0.85
    assert found[3] < found[2]


def test_a_copy_is_another_image_of_the_same_kind() -> None:
    image = stills(1, seed=5).pixels[0]
    copy = altered_copy(image, level=1, rng=np.random.default_rng(0))
    assert copy.shape == image.shape
    assert copy.dtype == np.uint8
    assert (copy != image).mean() > 0.3


def test_only_known_levels_exist() -> None:
    with pytest.raises(ValueError, match="level=4"):
        altered_copy(np.zeros((8, 8), np.uint8), level=4, rng=np.random.default_rng(0))
