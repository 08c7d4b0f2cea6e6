"""Hearts that could be none are told from hearts that could: known answers, and phantoms beside their own ruins."""

import dataclasses

import numpy as np
import pytest

from cohorts.clips import films
from cohorts.phantom import simulate
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM
from evaluation import measures, plausibility
from evaluation.volumes import area_length_ml, cavities, lvef_percent, single_plane_ml


@pytest.fixture(scope="module")
def hearts():
    return simulate.stills(8, seed=5, style="site-a")


def ellipse(a, b, *, turned=0.0, size=220):
    down, right = np.mgrid[:size, :size] - size / 2 + 0.5
    along, across = np.cos(turned) * down + np.sin(turned) * right, np.cos(turned) * right - np.sin(turned) * down
    return np.where((along / a) ** 2 + (across / b) ** 2 <= 1, CAVITY, 0).astype(np.uint8)


def test_two_ellipses_eject_what_geometry_says_even_if_one_is_turned():
    """T-U1: a, b = (80, 40) and (70, 30): 1 - a₂b₂² / (a₁b₁²) = 0.5078, the second turned by 0.4 rad."""
    masks = np.stack([ellipse(80, 40), ellipse(70, 30, turned=0.4)])
    found = cavities(masks, np.ones((2, 2)))
    for volume in (single_plane_ml, area_length_ml):
        assert lvef_percent(*volume(found)) == pytest.approx(50.78, abs=0.5)
    exact = 1 - 70 * 30**2 / (80 * 40**2)
    assert round(exact, 4) == 0.5078


def test_hearts_of_the_simulator_are_hearts(hearts):
    for name, passed in plausibility.anatomy(hearts.masks).items():
        assert passed.mean() > 0.9, name


def fallen_apart(masks):
    out = masks.copy()
    out[:, 0, 0] = CAVITY
    return out


def upside_down(masks):
    return masks[:, ::-1].copy()


def unwalled(masks):
    out = np.where(masks == MYOCARDIUM, 0, masks)
    out[:, 60:62, 60:62] = MYOCARDIUM
    return out.astype(np.uint8)


@pytest.mark.parametrize(
    ("ruin", "name"),
    [(fallen_apart, "one_component"), (upside_down, "atrium_below"), (unwalled, "cavity_walled")],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_a_ruin_fails_by_its_own_fault(hearts, ruin, name):
    assert not plausibility.anatomy(ruin(hearts.masks))[name].any()


def test_a_mask_of_nothing_is_no_objection():
    assert all(passed.all() for passed in plausibility.anatomy(np.zeros((2, 20, 20), np.uint8)).values())


def test_areas_outside_those_of_the_public_are_counted_by_subject(hearts):
    swollen = hearts.masks.copy()
    first = np.flatnonzero(hearts.subject == 0)[0]
    swollen[first] = CAVITY
    found = said(
        plausibility.describe(dataclasses.replace(hearts, masks=swollen), hearts, called="p", reads_real=False)
    )
    whole = said(plausibility.describe(hearts, hearts, called="p", reads_real=False))
    assert found["area_usual"].n == 8
    assert found["area_usual"].beside == whole["area_usual"].estimate
    ranges = plausibility.usual(hearts)
    assert ranges[int(hearts.view[first]), CAVITY][1] < 1
    assert ranges[int(hearts.view[first]), ATRIUM][0] >= 0


def said(records):
    return {r.metric: r for r in records}


def test_the_fraction_in_the_masks_is_held_against_the_one_that_was_asked_for(hearts):
    found = said(plausibility.describe(hearts, hearts, called="p", reads_real=False))
    assert abs(found["lvef_bias_points"].estimate) < 2
    assert found["lvef_icc"].estimate > 0.95
    asked = dataclasses.replace(hearts, lvef_percent=hearts.lvef_percent + 10)
    shifted = said(plausibility.describe(asked, hearts, called="p", reads_real=False))
    assert shifted["lvef_bias_points"].estimate == pytest.approx(found["lvef_bias_points"].estimate - 10, abs=1e-4)
    assert shifted["lvef_icc"].estimate < found["lvef_icc"].estimate
    assert shifted["lvef_bias_points"].beside == found["lvef_bias_points"].estimate


def test_a_heart_that_grows_in_systole_is_noticed(hearts):
    backwards = dataclasses.replace(
        hearts,
        masks=np.where((hearts.phase == 1)[:, None, None], np.roll(hearts.masks, 1, 0), np.roll(hearts.masks, -1, 0)),
    )
    found = said(plausibility.describe(backwards, hearts, called="p", reads_real=False))
    assert found["volume_shrinks"].estimate == 0
    assert found["volume_shrinks"].beside == 1


@pytest.fixture(scope="module")
def beats():
    return films(6, phase=np.tile(np.arange(12) / 12, (6, 1)), seed=3, size=48)


def test_a_beat_of_the_simulator_closes_and_has_one_systole(beats):
    found = said(plausibility.describe(beats, beats, called="p", reads_real=False))
    assert found["one_beat"].estimate == 1
    assert found["closure"].estimate == pytest.approx(1, abs=0.3)


def test_a_stitched_beat_does_not_close_and_a_trembling_one_is_rough(beats):
    pixels, masks = beats.pixels[0], beats.masks[0]
    whole = plausibility.beat(pixels, masks)
    half = plausibility.beat(pixels[:6], masks[:6])
    assert half.closure > 1.5 * whole.closure
    order = np.array([0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11])
    shuffled = plausibility.beat(pixels[order], masks[order])
    assert shuffled.jitter > 2 * whole.jitter
    assert not shuffled.once
    assert plausibility.beat(pixels[:3], masks[:3]) is None
    assert plausibility.beat(pixels, np.zeros_like(masks)) is None


def test_of_few_hearts_or_without_outlines_nothing_is_said(hearts):
    few = hearts.select(hearts.subjects[:3])
    assert plausibility.describe(few, hearts, called="p", reads_real=False) == ()
    blank = dataclasses.replace(hearts, masks=np.full_like(hearts.masks, 255))
    assert plausibility.describe(blank, hearts, called="p", reads_real=False) == ()


def test_frames_are_not_held_against_clips(hearts, beats):
    with pytest.raises(TypeError, match="cannot be held against"):
        plausibility.describe(hearts, beats, called="p", reads_real=False)


def test_limits_of_agreement_are_of_the_hearts(hearts):
    found = said(plausibility.describe(hearts, hearts, called="p", reads_real=False))
    low, bias, high = (found[f"lvef_{m}_points"].estimate for m in ("agreement_low", "bias", "agreement_high"))
    assert low < bias < high
    assert high - bias == pytest.approx(bias - low)
    assert measures.agreement(np.zeros(3), np.zeros(3)) == (0, 0, 0)
