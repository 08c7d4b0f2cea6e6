import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from cohorts.frames import VIEWS
from cohorts.phantom import motion, overlays, scanner, simulate, speckle
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM, View

PLUS = ndimage.generate_binary_structure(2, 1)
BLOCK = np.ones((3, 3), bool)


def disc_diameters(mask, pixel_mm, discs=20):
    """Diameters (mm) of discs across the axis from the middle of the mitral plane to the apex, and its length."""
    cavity = mask == CAVITY
    mitral = cavity & ndimage.binary_dilation(~cavity & (mask != MYOCARDIUM), BLOCK)
    points = np.argwhere(cavity) * pixel_mm
    base = np.argwhere(mitral) * pixel_mm
    far = np.linalg.norm(base[:, None] - base[None], axis=2)
    middle = base[list(np.unravel_index(far.argmax(), far.shape))].mean(axis=0)
    reach = np.linalg.norm(points - middle, axis=1)
    axis = (points[reach.argmax()] - middle) / reach.max()
    along = (points - middle) @ axis
    length = reach.max()
    area, _ = np.histogram(np.clip(along, 0, length - 1e-6), discs, (0, length))
    return area * np.prod(pixel_mm) / (length / discs), length


def biplane_volume(masks, pixel_mms):
    (a, one), (b, other) = (disc_diameters(m, p) for m, p in zip(masks, pixel_mms, strict=True))
    return np.pi / 4 * (a * b).sum() * max(one, other) / len(a)


@pytest.fixture(scope="module")
def sharp():
    """Twelve subjects in A2C and A4C at ED and ES: masks, pixel sizes and labels."""
    some = list(range(12))
    exam = simulate.examinations(some, seed=4, style="wide")
    phase = np.stack([np.zeros(12), motion.systole(exam.who.heart_rate_bpm)], axis=1)
    filmed = [simulate.film(exam, some, view, phase, seed=4, size=192) for view in simulate.APICAL]
    return [f[1] for f in filmed], [f[2] for f in filmed], exam.who.lvef_percent


def test_ejection_fraction_by_discs_from_the_masks_is_the_label(sharp):
    masks, millimetres, lvef = sharp
    for k in range(len(lvef)):
        ed, es = (biplane_volume([m[k, phase] for m in masks], [mm[k] for mm in millimetres]) for phase in (0, 1))
        assert 100 * (1 - es / ed) == pytest.approx(lvef[k], abs=2.0)


def test_speckle_in_a_flat_region_is_rayleigh_before_the_logarithm():
    lateral, axial = 0.7, 0.3
    noise = speckle.scatterers(np.random.default_rng(0), 600, 400)
    power = speckle.envelope_power(np.ones((600, 400), np.float32), noise, lateral=lateral, axial=axial)
    # Five lines and three depths apart no two echoes share a scatterer.
    amplitude = np.sqrt(power[3:-3:4, 4:-4:6].ravel() / speckle.energy(lateral, axial))
    assert len(amplitude) > 5000
    assert stats.kstest(amplitude, "rayleigh").pvalue > 0.01


def test_speckle_of_twice_the_scatterers_amplitude_is_twice_as_loud():
    loud = np.full((64, 64), 2.0, np.float32)
    noise = speckle.scatterers(np.random.default_rng(0), 64, 64)
    quiet = speckle.envelope_power(loud / 2, noise.copy(), lateral=0.5, axial=0.3)
    np.testing.assert_allclose(speckle.envelope_power(loud, noise, lateral=0.5, axial=0.3), 4 * quiet, rtol=1e-5)


def test_grey_values_span_the_window():
    power = np.float32([[0, 1e-9, 1, 1e9]])
    grey = speckle.compress(power, gain=0.5, dynamic_range_db=60, gamma=1, smoothing=0)
    assert grey.tolist() == [[0, 0, 128, 255]]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_person():
    one, again, other = (simulate.stills(2, seed=s) for s in (5, 5, 6))
    assert one.pixels.tobytes() == again.pixels.tobytes()
    assert one.masks.tobytes() == again.masks.tobytes()
    assert not np.isclose(one.lvef_percent, other.lvef_percent).any()
    assert (one.masks != other.masks).mean() > 0.01


def test_two_sites_of_one_seed_have_other_people():
    a, b = (simulate.examinations(range(20), seed=0, style=style).who for style in ("site-a", "site-c"))
    assert not np.isclose(a.blunt, b.blunt).any()


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 20), st.integers(0, 2**31))
def test_a_subject_does_not_depend_on_how_many_there_are(n, seed):
    few, many = simulate.stills(1, seed=seed, size=24), simulate.stills(n, seed=seed, size=24)
    assert many.pixels[:4].tobytes() == few.pixels.tobytes()
    assert many.masks[:4].tobytes() == few.masks.tobytes()
    shapes = simulate.conditions(1, seed=seed, size=24), simulate.conditions(n, seed=seed, size=24)
    assert shapes[1].masks[:1].tobytes() == shapes[0].masks.tobytes()


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("view", VIEWS)
def test_every_structure_is_one_piece_and_the_cavity_opens_at_the_valve_only(view, size):
    shapes = simulate.conditions(60, seed=7, size=size, views=(view,))
    assert shapes.masks.max() <= ATRIUM
    shown = (CAVITY, MYOCARDIUM) if view is View.PSAX else (CAVITY, MYOCARDIUM, ATRIUM)
    for mask in shapes.masks:
        for structure in shown:
            assert ndimage.label(mask == structure, BLOCK)[1] == 1
        beside = ndimage.binary_dilation(mask == CAVITY, PLUS) & (mask != CAVITY) & (mask != MYOCARDIUM)
        assert ndimage.label(beside, BLOCK)[1] == (0 if view is View.PSAX else 1)
        if view is not View.PSAX:
            assert (mask[ndimage.binary_dilation(mask == CAVITY, PLUS, iterations=2)] == ATRIUM).any()
    if view is View.PSAX:
        assert not (shapes.masks == ATRIUM).any()


def test_the_ventricle_is_larger_at_end_diastole():
    frames = simulate.stills(40, seed=2, size=48, views=VIEWS)
    area = (frames.masks == CAVITY).sum(axis=(1, 2)).reshape(-1, 2)
    assert (frames.phase == np.tile([0, 1], len(area))).all()
    assert (area[:, 0] > area[:, 1]).all()


def test_the_heart_beats_in_a_closed_cycle():
    phase, end_systole = np.linspace(0, 1, 201), np.array([[0.3], [0.45]])
    emptied = motion.contraction(phase[None], end_systole)
    assert emptied[:, 0] == pytest.approx(0)
    assert emptied[:, -1] == pytest.approx(0, abs=1e-6)
    assert phase[emptied.argmax(axis=1)] == pytest.approx([0.3, 0.45])
    assert ((emptied >= -1e-6) & (emptied <= 1 + 1e-6)).all()
    opened = motion.opening(phase[None], end_systole)
    assert opened[phase[None] <= end_systole].max() == 0
    assert opened.max() > 0.8


@pytest.mark.parametrize("style", list(scanner.SITES))
def test_nothing_but_text_and_ecg_lies_outside_the_fan(style):
    frames, styles = simulate.stills_with_style(12, seed=3, style=style)
    written = (frames.pixels * ~scanner.fan(styles, 64)).any(axis=(1, 2))
    overlay = simulate.examinations(range(12), seed=3, style=style).overlay
    assert (written == overlay[frames.subject]).all()
    assert overlay.all() if style != "wide" else 0 < overlay.sum() < 8


def test_burned_in_text_leaves_the_fan_as_it_was():
    style = scanner.style_of(np.full((1, len(scanner.KNOBS)), 0.5, np.float32), "site-b")
    inside = scanner.fan(style, 96)[0]
    picture = np.random.default_rng(0).integers(1, 255, (96, 96), dtype=np.uint8) * inside
    marked = picture.copy()
    overlays.burn_in(marked, inside, text="MI 1.3", beat=0.4)
    assert (marked[inside] == picture[inside]).all()
    assert (marked[~inside] > 0).sum() > 20


def test_the_fan_has_its_apex_at_the_top_and_its_arc_on_the_lower_edge():
    for inside in scanner.fan(scanner.style_of(np.random.default_rng(1).random((9, len(scanner.KNOBS))), "wide"), 64):
        assert inside[0, 31:33].all()
        assert not inside[0, :28].any()
        assert inside[-1, 30:34].all()
        assert inside.any(axis=0).all()


def test_styles_say_how_each_subject_was_scanned():
    frames, styles = simulate.stills_with_style(8, seed=1, size=32)
    assert styles.shape == (len(frames), len(scanner.KNOBS))
    assert styles.dtype == np.float32
    assert np.abs(styles).max() <= 1
    for k in range(8):
        assert np.ptp(styles[frames.subject == k], axis=0).max() == 0
    assert len(np.unique(styles[:, 0])) == 8


def test_conditions_have_masks_but_no_picture():
    shapes, styles = simulate.conditions_with_style(200, seed=1, size=32)
    assert not shapes.pixels.any()
    assert len(styles) == len(shapes) == len(shapes.subjects) == 200
    assert set(shapes.view.tolist()) == {VIEWS.index(View.A2C), VIEWS.index(View.A4C)}
    assert 60 < shapes.phase.sum() < 140
    assert 12 <= shapes.lvef_percent.min() < 35
    assert 60 < shapes.lvef_percent.max() <= 78


def test_unknown_styles_and_empty_populations_are_refused():
    with pytest.raises(ValueError, match="site-z"):
        simulate.stills(1, seed=0, style="site-z")
    with pytest.raises(ValueError, match="n_subjects=0"):
        simulate.stills(0, seed=0)
    with pytest.raises(ValueError, match="n=0"):
        simulate.conditions(0, seed=0)
