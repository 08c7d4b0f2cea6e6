"""Public hearts drawn again by what hospitals say of theirs: nearer to them, and still what was asked for."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import simulate
from cohorts.study import UNLABELLED, View
from conf.schema import Classes
from evaluation import volumes
from privacy import moments
from privacy.mechanism import calibrate
from privacy.randomness import SecureRandom
from synthesis import likeness, shape
from synthesis.conditions import conditions
from synthesis.likeness import MODES, Likeness

EXACT = likeness.plan(0.0)
PUBLIC = Likeness(centre=np.zeros(MODES), covariance=np.eye(MODES))


def hearts(n: int, *, seed: int, **changes) -> Frames:
    shapes = shape.draw(shape.spread(n, seed=seed), seed=seed, size=64, **changes)
    return shape.as_frames(shapes, seed=seed)


def where(frames: Frames) -> np.ndarray:
    return likeness.coefficients(frames.masks.reshape(len(frames.subjects), 4, *frames.masks.shape[1:]))


def moved(frames: Frames, down: int, right: int) -> Frames:
    """Hold the probe elsewhere: every heart lies so many pixels lower and further to the right."""
    return dataclasses.replace(frames, masks=np.roll(frames.masks, (down, right), axis=(1, 2)))


@pytest.fixture(scope="module")
def hospital() -> Frames:
    return moved(hearts(300, seed=11), 3, -4)


def test_public_hearts_lie_where_the_modes_say_and_the_size_of_the_picture_hardly_matters():
    x = where(hearts(300, seed=5))
    assert np.abs(x.mean(axis=0)).max() < 0.3
    assert np.abs(x.std(axis=0) - 1).max() < 0.3
    asked = shape.spread(12, seed=5)
    small, large = (where(shape.as_frames(shape.draw(asked, seed=5, size=s), seed=5)) for s in (32, 112))
    assert np.abs(small - large).mean() < 0.15


def test_hearts_drawn_again_lie_nearer_to_those_of_the_hospital(hospital, monkeypatch):
    monkeypatch.setattr("privacy.randomness.os.urandom", np.random.default_rng(7).bytes)  # 0.67 ± 0.07 at ε of 1
    asked = shape.spread(120, seed=3)
    own, public = where(hospital).mean(axis=0), where(hearts(120, seed=3)).mean(axis=0)
    for plan in (EXACT, calibrate(likeness.plan(1.0), epsilon=1.0, delta=1e-5)):
        like = likeness.fitted([likeness.told(hospital, plan, random=SecureRandom())], plan)
        chosen = likeness.chosen(like, asked, seed=3)
        again = where(shape.as_frames(shape.draw(asked, seed=3, people=chosen), seed=3)).mean(axis=0)
        assert np.linalg.norm(again - own) < 0.75 * np.linalg.norm(public - own)


def test_what_is_drawn_again_has_the_fraction_and_the_views_that_were_asked_for(hospital):
    like = likeness.fitted([likeness.told(hospital, EXACT, random=SecureRandom())], EXACT)
    frames = conditions(Classes(), 24, seed=2, size=64, like=like)
    asked = shape.spread(24, seed=2)
    assert (frames.lvef_percent[::4] == asked).all()
    assert np.abs(volumes.biplane_lvef(frames) - asked).mean() < 2.5
    assert frames.view[:4].tolist() == [VIEWS.index(v) for v in (View.A2C, View.A2C, View.A4C, View.A4C)]
    pictured = conditions(Classes(), 24, seed=2, size=64, like=like, pictures=True)
    assert (pictured.masks == frames.masks).all()


def test_both_planes_of_a_heart_drawn_again_show_one_ventricle(hospital):
    like = likeness.fitted([likeness.told(hospital, EXACT, random=SecureRandom())], EXACT)
    asked = shape.spread(24, seed=2)
    drawn = shape.draw(asked, seed=2, size=96, people=likeness.chosen(like, asked, seed=2))
    single = []
    for view in (0, 1):
        ed, es = (volumes.single_plane_ml(volumes.cavities(drawn.masks[:, view, t], drawn.pixel_mm[:, view]))
                  for t in (0, 1))  # fmt: skip
        single.append((ed, volumes.lvef_percent(ed, es)))
    assert stats.pearsonr(single[0][1], single[1][1])[0] > 0.97  # each plane alone tells nearly the same fraction
    assert stats.pearsonr(single[0][0], single[1][0])[0] > 0.8


def test_a_choice_does_not_depend_on_how_many_are_asked_for():
    asked = shape.spread(6, seed=1)
    whole = likeness.chosen(PUBLIC, asked, seed=1)
    assert likeness.chosen(PUBLIC, asked[4:], seed=1, first=4) == whole[4:]
    assert [number // likeness.CANDIDATES for number in whole] == list(range(6))


def test_who_lacks_a_mask_says_nothing(hospital):
    few = hospital.select(hospital.subjects[:3])
    for row, wrong in ((0, "masks"), (5, "phase"), (10, "view")):
        column = getattr(few, wrong).copy()
        column[row] = UNLABELLED if wrong == "masks" else -1
        few = dataclasses.replace(few, **{wrong: column})
    assert not likeness.told(few, EXACT, random=SecureRandom()).any()
    none = hospital.select(())
    assert not likeness.told(none, EXACT, random=SecureRandom()).any()
    like = likeness.fitted([likeness.told(none, EXACT, random=SecureRandom())], EXACT)
    assert not like.centre.any()
    assert (like.covariance == np.eye(MODES)).all()


def test_what_is_said_is_the_clipped_row_of_each_by_a_computation_of_its_own(hospital):
    said = likeness.told(hospital, EXACT, random=SecureRandom())
    reach, wanted = likeness.RADIUS, np.zeros(moments.numbers(MODES))
    for x in where(hospital):
        outer = [x[i] * x[j] / reach * (1 if i == j else math.sqrt(2)) for i in range(MODES) for j in range(i, MODES)]
        row = np.array([reach / 2, *x, *outer])
        wanted += row * min(1, EXACT.clip_norm / np.linalg.norm(row))
    np.testing.assert_allclose(said, wanted, rtol=1e-4, atol=1e-3)


def test_the_noise_has_the_scale_that_the_plan_pays_for(hospital):
    plan = likeness.plan(3.0)
    few = hospital.select(hospital.subjects[:5])
    exact = likeness.told(few, EXACT, random=SecureRandom())
    noise = np.stack([likeness.told(few, plan, random=SecureRandom()) - exact for _ in range(60)])
    assert stats.kstest(noise.ravel(), "norm", args=(0, 3.0 * plan.clip_norm)).pvalue > 1e-6
    assert noise.std() == pytest.approx(3.0 * plan.clip_norm, rel=0.08)


@pytest.mark.parametrize("loud", [0.0, 1e3, 1e12])
def test_whatever_a_site_says_hearts_are_drawn(loud):
    said = loud * np.random.default_rng(0).standard_normal(moments.numbers(MODES))
    like = likeness.fitted([said], likeness.plan(1.0))
    assert len(likeness.chosen(like, np.float32([20, 50]), seed=0)) == 2


def test_sums_that_are_none_are_refused():
    for said in ([], [np.zeros(3)], [np.full(moments.numbers(MODES), np.nan)]):
        with pytest.raises(ValueError, match="must be"):
            likeness.fitted(said, EXACT)
    with pytest.raises(ValueError, match="modes"):
        Likeness(centre=np.zeros(3), covariance=np.eye(3))


def test_phantoms_of_another_scanner_count_as_another_hospital():
    """The simulator's own sites differ in scanner and people; their masks are read as those of any hospital."""
    members = simulate.stills(20, seed=4, style="site-a")
    assert np.isfinite(likeness.told(members, EXACT, random=SecureRandom())).all()
