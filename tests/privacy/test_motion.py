"""Motion that was copied under another texture is found, and what stands still has no motion."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cohorts.clips import Clips, films
from cohorts.study import View
from privacy.motion import GRID, HARMONICS, motion_signature, motion_similarity

PEOPLE = 24


@pytest.fixture(scope="module")
def clips() -> Clips:
    return films(
        PEOPLE, phase=np.tile(np.arange(12) / 12, (PEOPLE, 1)), seed=5, size=64, style="site-c", views=[View.A4C]
    )


def retextured(clips: Clips) -> Clips:
    """The same hearts in motion, in other flesh: steady patches, new grain, another grey map; begun elsewhere."""
    rng = np.random.default_rng(3)
    grey = clips.pixels / 255.0
    patches = np.stack([ndimage.zoom(rng.standard_normal((9, 9)), 64 / 9, order=1) for _ in grey])[:, None]
    grey = grey * np.exp(0.6 * patches) * (1 + 0.2 * rng.standard_normal(grey.shape))
    grey = np.roll(grey.clip(0, 1) ** rng.uniform(0.6, 1.5, (len(grey), 1, 1, 1)), 5, axis=1)
    unknown = np.full_like(clips.phase, np.nan)
    return replace(clips, pixels=np.round(255 * grey.clip(0, 1)).astype(np.uint8), phase=unknown)


def test_a_copied_motion_under_a_new_texture_is_found(clips: Clips) -> None:
    alike = motion_similarity(motion_signature(retextured(clips)), motion_signature(clips))
    strangers = alike[~np.eye(PEOPLE, dtype=bool)]
    assert (alike.argmax(1) == np.arange(PEOPLE)).all()
    assert np.diag(alike).min() > strangers.max()


def test_a_motion_played_backwards_is_the_same_motion(clips: Clips) -> None:
    backwards = replace(clips, pixels=clips.pixels[:, ::-1])
    alike = motion_similarity(motion_signature(backwards), motion_signature(clips))
    np.testing.assert_allclose(np.diag(alike), 1, atol=0.02)


def test_a_picture_that_stands_still_moves_like_nobody(clips: Clips) -> None:
    still = replace(clips, pixels=np.repeat(clips.pixels[:, :1], clips.pixels.shape[1], axis=1))
    assert not motion_signature(still).any()
    assert not motion_signature(replace(clips, length=np.full(PEOPLE, 2))).any()


def test_a_signature_depends_on_its_own_clip_alone(clips: Clips) -> None:
    whole = motion_signature(clips)
    assert whole.shape == (PEOPLE, HARMONICS, GRID * GRID)
    np.testing.assert_array_equal(motion_signature(clips.rows(np.array([7]))), whole[[7]])
    np.testing.assert_allclose(np.linalg.norm(whole.reshape(PEOPLE, -1), axis=1), 1, rtol=1e-6)


def test_frames_that_only_pad_a_clip_do_not_count(clips: Clips) -> None:
    np.testing.assert_array_equal(motion_signature(clips.pad(20)), motion_signature(clips))


def test_nothing_resembles_nothing(clips: Clips) -> None:
    none = motion_signature(clips.rows(np.arange(0)))
    assert motion_similarity(none, motion_signature(clips)).shape == (0, PEOPLE)
