import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cohorts.phantom import motion, simulate
from cohorts.study import CAVITY, MYOCARDIUM, View
from evaluation import volumes
from synthesis import shape


def measured_ml(shapes):
    """Biplane volume of every moment by the masks alone, `(n, frames)`."""
    at = {view: shapes.views.index(view) for view in simulate.APICAL}
    moments = range(shapes.masks.shape[2])
    planes = {
        v: [volumes.cavities(shapes.masks[:, j, t], shapes.pixel_mm[:, j]) for t in moments] for v, j in at.items()
    }
    return np.stack([volumes.biplane_ml(planes[View.A4C][t], planes[View.A2C][t]) for t in moments], axis=1)


@pytest.fixture(scope="module")
def asked():
    """Hearts from failing to vigorous, of volumes from small to large, asked for independently."""
    lvef = shape.spread(48, seed=2)
    return shape.draw(lvef, seed=2, edv_ml=np.tile(np.float32([70, 110, 160, 240]), 12))


def test_hearts_have_the_fraction_that_was_asked_for(asked):
    found = measured_ml(asked)
    lvef = volumes.lvef_percent(found[:, 0], found[:, 1])
    assert np.corrcoef(lvef, asked.lvef_percent)[0, 1] > 0.99
    assert np.abs(lvef - asked.lvef_percent).mean() < 1.5


def test_hearts_have_the_volume_that_was_asked_for(asked):
    found = measured_ml(asked)
    np.testing.assert_allclose(asked.volume_ml[:, 0], np.tile([70, 110, 160, 240], 12), rtol=1e-4)
    np.testing.assert_allclose(asked.edv_ml, asked.volume_ml[:, 0], rtol=1e-5)
    assert np.abs(found / asked.volume_ml - 1).mean() < 0.03
    np.testing.assert_allclose(found, asked.volume_ml, rtol=0.15)


def test_both_planes_of_one_heart_follow_one_volume_curve():
    phase = np.linspace(0, 1, 10, endpoint=False, dtype=np.float32)
    shapes = shape.draw(np.float32([25, 45, 65]), seed=5, size=96, phase=phase)
    found = measured_ml(shapes)
    np.testing.assert_allclose(found, shapes.volume_ml, rtol=0.08)
    single = [
        np.stack([volumes.single_plane_ml(volumes.cavities(shapes.masks[:, j, t], shapes.pixel_mm[:, j]))
                  for t in range(10)], 1)
        for j in (0, 1)
    ]  # fmt: skip
    for k in range(3):
        assert stats.pearsonr(single[0][k], single[1][k])[0] > 0.97


def test_a_cycle_ends_where_it_began_and_is_emptiest_at_end_systole():
    shapes = shape.draw(np.float32([55]), seed=1, phase=np.float32([0, 0.2, 0.9, 1.0]))
    assert (shapes.masks[:, :, 0] == shapes.masks[:, :, 3]).all()
    pair = shape.draw(np.float32([55]), seed=1)
    assert pair.phase[0, 1] == pytest.approx(motion.systole(pair.heart_rate_bpm)[0])
    assert pair.volume_ml[0, 1] == pytest.approx(pair.volume_ml[0, 0] * 0.45, rel=1e-3)
    assert shapes.volume_ml.min() >= pair.volume_ml[0, 1]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31), st.integers(0, 50))
def test_a_heart_does_not_depend_on_how_many_are_drawn(n, seed, first):
    lvef = shape.spread(n, seed=seed)
    many = shape.draw(lvef, seed=seed, size=16, first=first)
    last = shape.draw(lvef[-1:], seed=seed, size=16, first=first + n - 1)
    assert (many.masks[-1] == last.masks[0]).all()
    # Processors take the powers of a long array otherwise than those of a short one, in the last bit.
    assert many.volume_ml[-1].tolist() == pytest.approx(last.volume_ml[0].tolist(), rel=1e-6)


def test_another_seed_is_another_person_and_the_same_person_may_have_another_fraction():
    one, again, sick = (shape.draw(np.float32([ef]), seed=s) for ef, s in ((60, 1), (60, 2), (20, 1)))
    assert (one.masks != again.masks).mean() > 0.01
    assert one.heart_rate_bpm[0] == sick.heart_rate_bpm[0] != again.heart_rate_bpm[0]
    assert sick.edv_ml[0] > one.edv_ml[0]


@given(st.integers(0, 2**31), st.integers(20, 300))
def test_fractions_fill_the_range_evenly_and_value_k_does_not_depend_on_n(seed, n):
    lvef = shape.spread(n, seed=seed)
    assert (lvef[: n // 2] == shape.spread(n // 2, seed=seed)).all() if n > 1 else True
    counts = np.histogram(lvef, 10, shape.LVEF_PERCENT)[0]
    assert counts.min() >= n // 10 - 2
    assert counts.max() <= n / 10 + 3


def test_the_requested_fraction_enters_by_the_draws_that_make_it():
    lvef = np.float32([7.5, 33.3, 84.0])
    np.testing.assert_allclose(shape.examinations(lvef, seed=0).who.lvef_percent, lvef, rtol=1e-5)


def test_frames_of_shapes_stand_as_the_simulators_do():
    lvef = shape.spread(3, seed=4)
    frames, stills = shape.as_frames(shape.draw(lvef, seed=4), seed=4), simulate.stills(3, seed=4)
    for column in ("view", "phase", "subject"):
        assert (getattr(frames, column) == getattr(stills, column)).all()
    assert not frames.pixels.any()
    assert (frames.lvef_percent == np.repeat(lvef, 4)).all()


def test_the_simulator_pictures_the_very_people_that_were_asked_for():
    lvef = shape.spread(18, seed=4)
    frames, few = (shape.stills(lvef[:n], seed=4, size=64) for n in (18, 2))
    assert (frames.pixels[:8] == few.pixels).all()
    assert (frames.lvef_percent[::4] == lvef).all()
    assert np.abs(volumes.biplane_lvef(frames) - lvef).mean() < 2
    assert frames.pixels[frames.masks == CAVITY].mean() < 0.8 * frames.pixels[frames.masks == MYOCARDIUM].mean()


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="lvef_percent"):
        shape.draw(np.float32([0.55]), seed=0)
    with pytest.raises(ValueError, match="edv_ml"):
        shape.draw(np.float32([55]), seed=0, edv_ml=np.float32([4]))
    with pytest.raises(ValueError, match="2 values for 1"):
        shape.draw(np.float32([55]), seed=0, edv_ml=np.float32([90, 90]))
    with pytest.raises(ValueError, match="at least 1"):
        shape.draw(np.float32([]), seed=0)
    with pytest.raises(ValueError, match="range"):
        shape.spread(3, seed=0, lvef=(70, 30))
    with pytest.raises(ValueError, match="without phase"):
        shape.as_frames(shape.draw(np.float32([55]), seed=0, phase=np.float32([0, 0.5])), seed=0)
