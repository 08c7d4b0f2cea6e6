import dataclasses

import numpy as np
import pytest

from cohorts.clips import COLUMNS, Clips, beat_frames, films, gather, read, stills, write
from cohorts.deidentify import Pseudonyms
from cohorts.frames import resize
from cohorts.phantom import motion
from cohorts.readers.phantom import Phantom
from cohorts.study import CAVITY, Clip, Cohort, Origin, Study, View

KEY = b"a test keeps no secret either way"


@pytest.fixture(scope="module")
def two() -> Clips:
    return films(2, phase=np.tile([0.0, 0.3, 0.6], (2, 1)), seed=4, size=64)


def cohort(**changes: object) -> Cohort:
    return Phantom(**{"subjects": 2, "seed": 3, "views": ("A4C",), **changes}).read(pseudonyms=Pseudonyms(KEY))


def loop(beats: int, frames: int) -> np.ndarray:
    """Return a bright spot that goes round `beats` times, `frames` frames a beat."""
    clip = np.zeros((beats * frames, 48, 48), np.uint8)
    for k, picture in enumerate(clip):
        angle = 2 * np.pi * k / frames
        x, y = int(24 + 14 * np.cos(angle)), int(24 + 14 * np.sin(angle))
        picture[y - 5 : y + 5, x - 5 : x + 5] = 220
    return clip


def test_films_know_their_phase_and_show_every_view_of_one_heart(two):
    assert two.pixels.shape == two.masks.shape == (4, 3, 64, 64)
    assert two.subject.tolist() == [0, 0, 1, 1]
    assert two.view.tolist() == [0, 1, 0, 1]
    assert two.lvef_percent[0] == two.lvef_percent[1] != two.lvef_percent[2]
    np.testing.assert_allclose(two.phase, np.tile([0, 0.3, 0.6], (4, 1)), atol=1e-6)


def test_the_ejection_fraction_that_was_asked_is_in_the_masks():
    asked = np.array([20.0, 70.0])
    rate = films(2, phase=np.zeros((2, 1)), seed=4, size=64).heart_rate_bpm[::2]
    both = films(2, phase=np.stack([np.zeros(2), motion.systole(rate)], 1), seed=4, size=64, lvef_percent=asked)
    areas = (both.masks == CAVITY).sum((2, 3))
    emptied = 1 - areas[:, 1] / areas[:, 0]
    assert emptied[:2].max() < 0.25 < 0.4 < emptied[2:].min()


def test_a_phase_of_another_beat_is_the_same_phase():
    now, later = (films(1, phase=np.array([[p, 0.5 + p, 0.2]]), seed=4, size=64) for p in (0.0, 1.0))
    np.testing.assert_array_equal(now.masks, later.masks)


def test_selected_subjects_keep_the_order_asked_for(two):
    last, first = two.subjects[1], two.subjects[0]
    turned = two.select((last, first))
    assert turned.subjects == (last, first)
    assert turned.subject.tolist() == [1, 1, 0, 0]
    assert len(two.select((last,))) == 2
    assert len(two.select(())) == 0


def test_padding_adds_no_real_frame_and_drops_none(two):
    wide = two.pad(5)
    assert wide.real.tolist() == [[True] * 3 + [False] * 2] * 4
    assert np.all(wide.masks[:, 3:] == 255)
    assert np.isnan(wide.phase[:, 3:]).all()
    np.testing.assert_array_equal(wide.pad(3).pixels, two.pixels)
    with pytest.raises(ValueError, match="frames=2"):
        two.pad(2)


def test_a_length_beyond_the_frames_is_refused(two):
    with pytest.raises(ValueError, match="length"):
        dataclasses.replace(two, length=np.full(4, 4))
    with pytest.raises(ValueError, match="length"):
        dataclasses.replace(two, length=np.zeros(4, np.int64))


def test_one_beat_is_gathered_from_end_diastole_on():
    clips = gather(cohort(frames=12), size=64, frames=6)
    assert clips.pixels.shape == (2, 6, 64, 64)
    assert clips.length.tolist() == [6, 6]
    for row, subject in zip(range(2), cohort(frames=12).subjects, strict=True):
        clip = cohort(frames=12).of(subject)[0].clips[0]
        at = np.flatnonzero(np.isclose(clips.phase[row], 0, atol=1e-3))
        assert len(at) == 1
        assert clip.masks is not None
        assert clip.ed_frame is not None
        outlined = resize(clip.masks[clip.ed_frame], 64, nearest=True)
        np.testing.assert_array_equal(clips.masks[row, at[0]], outlined)
    assert np.isfinite(clips.heart_rate_bpm).all()
    np.testing.assert_allclose(np.sort(np.diff(np.sort(clips.phase, 1), axis=1).ravel()), 1 / 6, atol=1e-3)


def test_short_clips_are_padded_and_stills_are_left_out():
    assert gather(cohort(frames=8), size=64, frames=10).length.tolist() == [8, 8]
    assert len(gather(cohort(frames=2), size=64, frames=10)) == 0


def test_a_beat_is_found_in_pictures_alone():
    assert beat_frames(loop(3, 30), 1 / 30) == 30
    assert np.isnan(beat_frames(loop(1, 30), 1 / 30))


def test_where_no_rate_is_labelled_the_pictures_tell_the_phase_or_nobody_does():
    def study(clip: Clip) -> Cohort:
        only = Study(key="k", subject="s", clips=(clip,), origin=Origin.REAL)
        return Cohort(subjects=("s",), load=lambda _: (only,), origin=Origin.REAL)

    clip = Clip(pixels=loop(3, 30), view=View.A4C, ed_frame=5, es_frame=15, frame_seconds=1 / 30)
    told = gather(study(clip), size=32, frames=10)
    np.testing.assert_allclose(told.phase[0], np.arange(10) / 10, atol=1e-6)
    assert np.isnan(told.heart_rate_bpm[0])
    silent = gather(study(dataclasses.replace(clip, ed_frame=None, es_frame=None)), size=32, frames=10)
    assert np.isnan(silent.phase).all()
    assert silent.length.tolist() == [10]


def test_what_is_written_is_read(two, tmp_path):
    write(tmp_path / "clips.safetensors", two)
    again = read(tmp_path / "clips.safetensors")
    assert again.subjects == two.subjects
    assert all(np.array_equal(getattr(again, name), getattr(two, name)) for name in COLUMNS)


def test_what_holds_no_clips_is_refused_by_name(tmp_path):
    (tmp_path / "clips.safetensors").write_bytes(b"no clips")
    with pytest.raises(ValueError, match="holds no clips"):
        read(tmp_path / "clips.safetensors")


def test_stills_of_a_clip_stand_side_by_side_and_keep_what_is_known(two):
    found = stills(two, np.tile([0, 2], (4, 1)), np.arange(2))
    assert found.phase.tolist() == [0, 1] * 4
    assert found.view.tolist() == [0, 0, 1, 1] * 2
    assert found.subject.tolist() == [0] * 4 + [1] * 4
    assert np.array_equal(found.pixels[3], two.pixels[1, 2])
    assert np.array_equal(found.masks[4], two.masks[2, 0])
    assert found.lvef_percent[5] == two.lvef_percent[2]


def test_a_recording_is_turned_to_end_diastole_and_keeps_its_padding_behind(two):
    turned = dataclasses.replace(two, **{n: np.roll(getattr(two, n), 1, axis=1) for n in ("pixels", "masks", "phase")})
    again = turned.pad(5).from_diastole()
    assert all(np.array_equal(getattr(again, n)[:, :3], getattr(two, n)) for n in ("pixels", "masks", "phase"))
    assert np.isnan(again.phase[:, 3:]).all()
    unknown = dataclasses.replace(turned, phase=turned.phase * np.nan)
    assert np.array_equal(unknown.from_diastole().pixels, turned.pixels)
