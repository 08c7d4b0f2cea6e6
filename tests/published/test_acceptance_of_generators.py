"""What drawn hearts must reach at the size of a test, measured on the priors that are shipped, of 64 px.

The numbers are those of the plan for runs of this size; `benchmarks/obedience.py` and `benchmarks/video.py` hold the
larger ones. Every request is answered once. Measured are pictures, never the masks that were asked for. The filter is
tried at 32 px. Where the measure itself falls short on phantoms, its test says that it holds drawings against them.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import instrument
from benchmarks.obedience import features, judge_of_views, overlaps
from cohorts.clips import films
from cohorts.frames import VIEWS, Frames
from cohorts.phantom import simulate
from evaluation.volumes import biplane_lvef, biplane_ml, cavities
from privacy.embedding import embed, embed_poses
from privacy.reidentification import ReidentificationFilter
from synthesis import shape
from synthesis.generators.latent_flow import LatentFlow
from synthesis.generators.latent_video_flow import LatentVideoFlow
from synthesis.video_sampling import clock

ALPHA = 0.05


@pytest.fixture(scope="module")
def people() -> Frames:
    """Members, people who calibrate and strangers, 120 each; ED and ES in one view."""
    return simulate.stills(360, seed=41, size=32, views=(VIEWS[1],))


def test_planted_copies_are_rejected_and_fresh_people_are_not(people):
    members, calibration, fresh = (people.select(people.subjects[k : k + 120]) for k in (0, 120, 240))
    near, sieve = embed(members.pixels), ReidentificationFilter(alpha=ALPHA)
    tau = sieve.calibrate(near, members.subject, embed(calibration.pixels), calibration.subject)
    assert 1 - sieve.screen(near, near, tau).mean() >= 0.99
    assert 1 - sieve.screen(embed(fresh.pixels), near, tau).mean() <= 2 * ALPHA


def test_a_moved_copy_is_rejected_where_members_are_held_in_all_poses(people):
    members, calibration = (people.select(people.subjects[k : k + 40]) for k in (0, 120))
    posed = embed_poses(members.pixels)
    near, owner = posed.reshape(-1, posed.shape[-1]), np.repeat(members.subject, posed.shape[1])
    sieve = ReidentificationFilter(alpha=ALPHA)
    tau = sieve.calibrate(near, owner, embed(calibration.pixels), calibration.subject)
    moved = np.roll(members.pixels, 1, axis=2)
    assert 1 - sieve.screen(embed(moved), near, tau).mean() >= 0.9


@pytest.fixture(scope="module")
def in_four_views() -> tuple[Frames, Callable[[np.ndarray], float]]:
    """Return 32 hearts in four views, and which share of their pictures lies nearest to the centroid of its view.

    Centroids are of phantoms of other people, in the features of the public view classifier.
    """
    judge, taught = judge_of_views(), simulate.stills(60, seed=44, views=VIEWS)
    seen = features(judge, taught.pixels)
    mean, spread = seen.mean(0), seen.std(0) + 1e-3
    centroids = np.stack([((seen - mean) / spread)[taught.view == v].mean(0) for v in range(len(VIEWS))])
    asked = shape.stills(shape.spread(32, seed=43), seed=43, views=VIEWS)

    def accuracy(pixels: np.ndarray) -> float:
        shown = (features(judge, pixels) - mean) / spread
        return float((np.square(shown[:, None] - centroids).sum(2).argmin(1) == asked.view).mean())

    return asked, accuracy


@pytest.mark.slow
def test_guided_by_its_view_a_picture_lies_nearest_to_the_centroid_that_was_asked(in_four_views):
    asked, accuracy = in_four_views
    assert accuracy(LatentFlow(view_guidance=2.0).build().sample(asked, seed=43)) >= 0.9


@pytest.mark.slow
def test_without_guidance_pictures_fall_at_most_a_tenth_short_of_phantoms_at_the_centroid_that_was_asked(in_four_views):
    """Relative to phantoms, of whom the public judge misses some too: alone it does not reach the plan's 0.9."""
    asked, accuracy = in_four_views
    assert accuracy(LatentFlow().build().sample(asked, seed=43)) >= accuracy(asked.pixels) - 0.1


@pytest.mark.slow
def test_structures_and_ejection_fractions_of_pictures_are_those_that_were_asked():
    asked = shape.stills(shape.spread(48, seed=43), seed=43)
    drawn = LatentFlow().build().sample(asked, seed=43)
    found = instrument.segmenter().predict(drawn)
    assert min(overlaps(found, asked.masks)) >= 0.6
    r, _, _, known = instrument.agreement(
        biplane_lvef(dataclasses.replace(asked, masks=found)), asked.lvef_percent[::4].astype(np.float64)
    )
    assert known == 48
    assert r >= 0.8


def test_hearts_have_the_volume_that_was_asked_and_end_as_they_began():
    """What the plan asks of meshes: volumes within 5 %, a beat closed to 1 %. Hearts are masks here, in two planes."""
    asked = np.linspace(80, 200, 12)
    hearts = shape.draw(shape.spread(12, seed=47), seed=47, size=112, edv_ml=asked, phase=np.array([0.0, 0.4, 1.0]))
    two, four = (cavities(hearts.masks[:, v, 0], hearts.pixel_mm[:, v]) for v in (0, 1))
    assert np.abs(biplane_ml(four, two) / asked - 1).mean() <= 0.05
    np.testing.assert_allclose(hearts.volume_ml[:, 2], hearts.volume_ml[:, 0], rtol=0.01)
    np.testing.assert_array_equal(hearts.masks[:, :, 2], hearts.masks[:, :, 0])
    assert (hearts.masks[:, :, 1] != hearts.masks[:, :, 0]).any()


@pytest.mark.slow
def test_where_one_beat_meets_the_next_a_clip_changes_no_more_than_elsewhere():
    phase = clock(48, heart_rate_bpm=150, frame_rate_hz=50, start=0.05)
    asked = films(1, phase=phase[None], seed=46, size=64, views=simulate.APICAL[:1])
    drawn = LatentVideoFlow().build().sample(asked, seed=1)[0].astype(np.float64)
    change, wraps = np.abs(np.diff(drawn, axis=0)).mean((1, 2)), np.diff(phase) < 0
    beside = (np.roll(wraps, 1) | np.roll(wraps, -1)) & ~wraps  # at phases alike: hearts do not move evenly
    assert wraps.sum() >= 2
    assert change[wraps].mean() / change[beside].mean() <= 1.5
