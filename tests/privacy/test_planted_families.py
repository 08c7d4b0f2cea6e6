import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohorts.phantom.simulate import stills
from privacy.embedding import embed, embed_poses
from privacy.planted_families import FAMILIES, LEVELS, STANDARD, Pixels, planted

STILLS = [family for family in FAMILIES if family not in {"temporal", "codec"}]
ALL = [(family, level) for family in FAMILIES for level in LEVELS]


def _clip(frames: int = 6, side: int = 32) -> Pixels:
    return stills(frames, seed=7, size=side).pixels[:frames]


def _copy(clip: Pixels, family: str, level: int, seed: int = 0) -> Pixels:
    return planted(
        clip,
        family=family,
        level=level,
        rng=np.random.default_rng(seed),
        other=clip[::-1],
        round_trip=lambda frames, strength: (frames * (1 - strength)).astype(np.uint8),
    )


@pytest.mark.parametrize(("family", "level"), ALL)
def test_a_copy_is_a_clip_of_the_same_shape_and_leaves_its_source_alone(family: str, level: int) -> None:
    clip = _clip(side=30)
    before = clip.copy()
    copy = _copy(clip, family, level)
    assert (copy.shape, copy.dtype) == (clip.shape, clip.dtype)
    assert not np.shares_memory(copy, clip)
    np.testing.assert_array_equal(clip, before)


@pytest.mark.parametrize(("family", "level"), ALL)
def test_the_same_draw_gives_the_same_copy(family: str, level: int) -> None:
    np.testing.assert_array_equal(_copy(_clip(), family, level), _copy(_clip(), family, level))


@pytest.mark.parametrize(("family", "nothing"), [("codec", 1), ("mirror", 1), ("round trip", 1)])
def test_the_least_level_of_some_families_is_the_picture_itself(family: str, nothing: int) -> None:
    np.testing.assert_array_equal(_copy(_clip(), family, nothing), _clip())


@pytest.mark.parametrize("family", ["gaussian", "speckle", "affine", "elastic", "blend", "round trip"])
def test_a_higher_level_lies_farther_away(family: str) -> None:
    clip = _clip(12).astype(float)
    away = [np.abs(_copy(_clip(12), family, level) - clip).mean() for level in LEVELS]
    assert away == sorted(away)
    assert away[-1] > away[0]


def test_sizes_are_what_the_table_says() -> None:
    flat = np.full((1, 200, 200), 128, np.uint8)
    for level, size in enumerate((0.01, 0.02, 0.05, 0.1, 0.2), 1):
        noise = (_copy(flat, "gaussian", level) - 128.0) / 255
        assert noise.std() == pytest.approx(size, rel=0.05)
    for level, size in enumerate((0.05, 0.1, 0.2, 0.3), 1):
        assert (_copy(flat, "speckle", level) / 128.0).std() == pytest.approx(size, rel=0.05)
    blended = planted(flat, family="blend", level=3, rng=np.random.default_rng(0), other=flat * 0)
    assert blended.mean() == pytest.approx(0.7 * 128, abs=1)


def test_gain_takes_the_values_of_another_at_last_and_keeps_the_order() -> None:
    clip = _clip(1)
    other = (255 - _clip(2)[1:]) // 3
    copy = planted(clip, family="gain", level=5, rng=np.random.default_rng(0), other=other)
    assert abs(float(np.median(copy)) - float(np.median(other))) <= 2
    order = np.argsort(clip.ravel(), kind="stable")
    assert (np.diff(copy.ravel()[order].astype(int)) >= 0).all()


def test_mirroring_is_left_for_right() -> None:
    np.testing.assert_array_equal(_copy(_clip(), "mirror", 4), _clip()[:, :, ::-1])


def test_time_is_shifted_slowed_reversed_and_stopped() -> None:
    clip = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    told = {level: _copy(clip, "temporal", level)[:, 0, 0].tolist() for level in LEVELS}
    assert told[1] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert told[2] == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    assert told[3] == [0, 1, 2, 2, 3, 4, 5, 6, 6, 7]
    assert told[4] == list(range(9, -1, -1))
    assert len(set(told[5])) == 1


def test_a_film_codec_loses_little_and_more_at_a_higher_factor() -> None:
    clip = _clip(8, side=64)
    lost = [np.abs(_copy(clip, "codec", level).astype(float) - clip).mean() for level in (1, 2, 3)]
    assert lost[0] == 0 < lost[1] < lost[2] < 25


@settings(max_examples=20, deadline=None)
@given(family=st.sampled_from(STILLS), level=st.sampled_from(LEVELS), seed=st.integers(0, 1000))
def test_every_frame_of_a_clip_is_altered_alike_in_space(family: str, level: int, seed: int) -> None:
    frame = _clip(1)
    clip = np.repeat(frame, 3, axis=0)
    copy = _copy(clip, family, level, seed)
    if family not in {"gaussian", "speckle"}:
        np.testing.assert_array_equal(copy[0], copy[2])


def test_the_house_embedding_sees_the_first_level_of_every_standard_family() -> None:
    pictures = stills(25, seed=5).pixels
    poses = embed_poses(pictures)
    for family in STANDARD:
        copies = np.concatenate([_copy(p[None], family, 1, seed) for seed, p in enumerate(pictures)])
        likeness = np.einsum("nd,npd->np", embed(copies), poses).max(axis=1)
        assert (likeness >= 0.92).mean() > 0.85, family


def test_what_is_missing_or_unknown_is_refused() -> None:
    clip, rng = _clip(2), np.random.default_rng(0)
    with pytest.raises(ValueError, match="family='jpeg'"):
        planted(clip, family="jpeg", level=1, rng=rng)
    with pytest.raises(ValueError, match="level=6"):
        planted(clip, family="gaussian", level=6, rng=rng)
    with pytest.raises(ValueError, match="other is None"):
        planted(clip, family="blend", level=1, rng=rng)
    with pytest.raises(ValueError, match="other is None"):
        planted(clip, family="gain", level=5, rng=rng)
    with pytest.raises(ValueError, match="round_trip is None"):
        planted(clip, family="round trip", level=1, rng=rng)
    with pytest.raises(ValueError, match="needs a clip"):
        planted(clip[:1], family="temporal", level=1, rng=rng)
    with pytest.raises(ValueError, match="must have the shape"):
        planted(clip, family="blend", level=1, rng=rng, other=clip[:1])
    with pytest.raises(ValueError, match="clip must be uint8"):
        planted(clip[0], family="gaussian", level=1, rng=rng)
