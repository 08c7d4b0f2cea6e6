import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import motion, simulate
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM, SubjectKey, View
from evaluation import volumes
from synthesis.landmarks import long_axis

LENGTH, ACROSS, DEEP = 86.0, 52.0, 44.0  # mm: an ellipsoid with three axes of its own


def half_ellipse(length, width, pixel_mm, *, turn=0.0, size=128, walls=True):
    """Mask of half an ellipse, flat side down on an atrium: a ventricle of which everything is known."""
    y, x = np.mgrid[:size, :size] + 0.5
    y, x = (y - 0.62 * size) * pixel_mm[0], (x - 0.5 * size) * pixel_mm[1]
    up, right = -(np.cos(turn) * y + np.sin(turn) * x), np.cos(turn) * x - np.sin(turn) * y
    mask = np.zeros((size, size), np.uint8)
    if walls:
        mask[(np.hypot(up / (length + 9), right / (width / 2 + 9)) < 1) & (up >= 0)] = MYOCARDIUM
        mask[(np.hypot(up / 30, right / (width / 2)) < 1) & (up < 0)] = ATRIUM
    mask[(np.hypot(up / length, right / (width / 2)) < 1) & (up >= 0)] = CAVITY
    return mask


def volume_ml(length, across, deep):
    return 2 / 3 * np.pi * length * across / 2 * deep / 2 / 1000


def measured(masks, pixel_mm):
    return volumes.cavities(np.stack(masks), np.tile(np.float64(pixel_mm), (len(masks), 1)))


@pytest.mark.parametrize("turn", np.deg2rad([-25, 0, 14]))
@pytest.mark.parametrize("pixel_mm", [(1.3, 1.3), (1.2, 1.7)])
def test_half_an_ellipsoid_has_the_volume_of_its_formula(turn, pixel_mm):
    four = measured([half_ellipse(LENGTH, ACROSS, pixel_mm, turn=turn)], pixel_mm)
    two = measured([half_ellipse(LENGTH, DEEP, pixel_mm, turn=-turn)], pixel_mm)
    assert four.length_mm == pytest.approx(LENGTH, rel=0.02)
    assert volumes.biplane_ml(four, two) == pytest.approx(volume_ml(LENGTH, ACROSS, DEEP), rel=0.03)


def test_one_plane_takes_disks_for_circles():
    pixel_mm = (1.0, 1.0)
    four = measured([half_ellipse(LENGTH, ACROSS, pixel_mm)], pixel_mm)
    assert volumes.single_plane_ml(four) == pytest.approx(volume_ml(LENGTH, ACROSS, ACROSS), rel=0.02)


def test_area_and_length_are_exact_for_a_whole_ellipsoid():
    y, x = np.mgrid[:160, :160] + 0.5
    mask = (np.hypot((y - 80) / 60, (x - 80) / 25) < 1).astype(np.uint8)
    whole = measured([mask], (0.5, 0.5))
    exact = 4 / 3 * np.pi * 30 * 12.5**2 / 1000
    assert volumes.area_length_ml(whole) == pytest.approx(exact, rel=0.01)
    assert volumes.single_plane_ml(whole) == pytest.approx(exact, rel=0.01)


def test_the_longer_axis_counts_where_one_plane_is_foreshortened():
    long, short = (measured([half_ellipse(length, ACROSS, (1, 1))], (1, 1)) for length in (90, 70))
    assert volumes.biplane_ml(long, short) == volumes.biplane_ml(short, long)
    assert volumes.biplane_ml(long, short) > 1.2 * volumes.single_plane_ml(short)


def test_a_picture_of_half_the_pixels_has_the_same_volume():
    fine, coarse = (
        volumes.single_plane_ml(measured([half_ellipse(LENGTH, ACROSS, (mm, mm), size=size)], (mm, mm)))
        for size, mm in ((128, 1.2), (64, 2.4))
    )
    assert coarse == pytest.approx(fine, rel=0.05)


def test_phantoms_have_the_fraction_of_their_label():
    some = list(range(8))
    exam = simulate.examinations(some, seed=9, style="wide")
    phase = np.stack([np.zeros(8), motion.systole(exam.who.heart_rate_bpm)], axis=1)
    planes = []
    for view in (View.A4C, View.A2C):
        _, masks, mm = simulate.film(exam, some, view, phase, seed=9, size=112)
        planes.append([volumes.cavities(masks[:, i], mm) for i in (0, 1)])
    ed, es = (volumes.biplane_ml(planes[0][i], planes[1][i]) for i in (0, 1))
    np.testing.assert_allclose(volumes.lvef_percent(ed, es), exam.who.lvef_percent, atol=2.5)


def test_frames_need_no_pixel_size_to_have_a_fraction_and_all_four_masks_to_have_any():
    frames = simulate.stills(6, seed=3, size=96)
    found = volumes.biplane_lvef(frames)
    np.testing.assert_allclose(found, frames.lvef_percent[::4], atol=4)
    kept = np.delete(np.arange(len(frames)), 5)
    fewer = Frames(**{c: getattr(frames, c)[kept] for c in ("pixels", "masks", "view", "phase", "lvef_percent")},
                   subject=frames.subject[kept], subjects=frames.subjects)  # fmt: skip
    assert np.isnan(volumes.biplane_lvef(fewer)).tolist() == [False, True, False, False, False, False]


def test_a_mask_without_a_cavity_has_no_volume():
    empty = measured([np.zeros((32, 32), np.uint8)], (1, 1))
    assert np.isnan(volumes.single_plane_ml(empty)).all()
    blank = np.zeros((4, 32, 32), np.uint8)
    frames = Frames(pixels=blank, masks=blank, view=np.int64([VIEWS.index(v) for v in (View.A2C, View.A4C)] * 2),
                    phase=np.int64([0, 0, 1, 1]), lvef_percent=np.full(4, np.nan, np.float32),
                    subject=np.zeros(4, np.int64), subjects=(SubjectKey("a"),))  # fmt: skip
    assert np.isnan(volumes.biplane_lvef(frames)).all()


@settings(max_examples=200, deadline=None)
@given(arrays(np.uint8, (1, 5, 6), elements=st.sampled_from([0, 1, 2, 3, 255])))
def test_whatever_a_mask_holds_its_area_is_kept(masks):
    found = measured(masks, (2.0, 3.0))
    area = found.diameters_mm.sum(axis=1) * found.length_mm / volumes.DISKS
    cavity = 6.0 * (masks == CAVITY).sum()
    assert area == pytest.approx(cavity) if cavity else np.isnan(area)


def test_a_cavity_alone_stands_on_its_lower_end():
    axis = long_axis(half_ellipse(60, 30, (1, 1), walls=False), (1, 1))
    assert axis is not None
    assert axis.direction[0] < -0.9
    assert axis.base[0] == pytest.approx(0.62 * 128, abs=3)


def test_right_is_right_of_an_axis_whose_apex_is_up():
    axis = long_axis(half_ellipse(60, 30, (1, 1)), (1, 1))
    assert axis is not None
    along, across = axis.along_and_across(axis.base + np.array([[-10.0, 5.0]]))
    assert (along[0], across[0]) == pytest.approx((10, 5), abs=1.5)


@pytest.mark.parametrize(
    ("masks", "pixel_mm"), [(np.zeros((2, 8, 8)), np.ones((1, 2))), (np.zeros((1, 8, 8)), np.zeros((1, 2)))]
)
def test_pixels_must_have_a_size_each(masks, pixel_mm):
    with pytest.raises(ValueError, match="pixel_mm"):
        volumes.cavities(masks.astype(np.uint8), pixel_mm)
