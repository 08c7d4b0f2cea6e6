import numpy as np
import pytest
from scipy import ndimage

from cohorts.deidentify import Pseudonyms
from cohorts.frames import VIEWS, gather
from cohorts.phantom import scanner, simulate
from cohorts.readers import READERS
from cohorts.readers.phantom import Phantom
from cohorts.study import CAVITY, Origin, View

KEY = Pseudonyms(b"a key of this site")


def test_the_reader_is_found_by_its_name():
    assert READERS["phantom"] is Phantom


def test_a_hospital_has_its_subjects_under_pseudonyms():
    cohort = Phantom(subjects=7, seed=3).read(pseudonyms=KEY)
    assert len(cohort.subjects) == 7
    assert list(cohort.subjects) == sorted(set(cohort.subjects))
    assert cohort.origin is Origin.PHANTOM
    assert cohort.subjects == Phantom(subjects=7, seed=3).read(pseudonyms=KEY).subjects
    assert not set(cohort.subjects) & set(Phantom(subjects=7, seed=4).read(pseudonyms=KEY).subjects)
    for subject in cohort.subjects:
        assert set(cohort.columns[subject]) == {"site", "sex", "age_band", "lvef_percent"}


def test_studies_clips_and_labels_are_as_many_as_asked_for():
    cohort = Phantom(subjects=2, views=("A4C", "PSAX"), clips_per_view=2, studies_per_subject=3).read(pseudonyms=KEY)
    studies = cohort.of(cohort.subjects[1])
    assert len({s.key for s in studies}) == 3
    for study in studies:
        assert study.subject == cohort.subjects[1]
        assert study.origin is Origin.PHANTOM
        assert [c.view for c in study.clips] == [View.A4C, View.A4C, View.PSAX, View.PSAX]
        assert study.labels["view_label"] == "; ".join(["apical 4-chamber"] * 2 + ["parasternal short axis"] * 2)
        assert abs(float(study.labels["lvef_percent"]) - float(studies[0].labels["lvef_percent"])) <= 3
    first = studies[0].clips
    assert (first[0].pixels != first[1].pixels).any()
    assert (first[0].pixels != studies[1].clips[0].pixels).any()


@pytest.mark.parametrize("site", [s for s in scanner.SITES if s != "wide"])
def test_a_clip_is_one_whole_cycle_with_its_largest_and_smallest_ventricle_marked(site):
    cohort = Phantom(subjects=2, site=site, frames=0, size=96, views=("A4C",)).read(pseudonyms=KEY)
    for subject in cohort.subjects:
        study = cohort.of(subject)[0]
        for clip in study.clips:
            assert clip.masks is not None
            assert clip.frame_seconds is not None
            assert clip.pixel_mm is not None
            area = (clip.masks == CAVITY).sum(axis=(1, 2)).astype(float)
            # Beside the extremes the ventricle hardly moves: less than the grid of pixels can show.
            assert area[clip.ed_frame] >= 0.99 * area.max()
            assert area[clip.es_frame] <= 1.01 * area.min()
            steps = np.abs(np.diff(np.append(area, area[0])))
            assert steps[-1] <= 1.5 * steps[:-1].max()
            beat = clip.frame_seconds * len(clip.pixels)
            assert beat == pytest.approx(60 / float(study.labels["heart_rate_bpm"]))
            assert 1 / clip.frame_seconds == pytest.approx(scanner.SITES[site].frames_per_second, rel=0.05)
            assert 0.5 < clip.pixel_mm[0] < clip.pixel_mm[1] < 6


def test_speckle_lives_on_from_frame_to_frame_but_not_from_clip_to_clip():
    cohort = Phantom(subjects=1, frames=24, views=("A4C",), clips_per_view=2).read(pseudonyms=KEY)
    one, other = (
        c.pixels - ndimage.gaussian_filter(c.pixels.astype(float), (0, 1, 1))
        for c in cohort.of(cohort.subjects[0])[0].clips
    )
    middle = (slice(None), slice(12, 40), slice(24, 40))
    within = np.corrcoef(one[:-1][middle].ravel(), one[1:][middle].ravel())[0, 1]
    between = np.corrcoef(one[middle].ravel(), other[middle].ravel())[0, 1]
    assert within > 0.3
    assert abs(between) < 0.15


def test_end_diastole_and_end_systole_alone_are_what_stills_shows():
    cohort = Phantom(subjects=3, seed=8, site="site-b", frames=2).read(pseudonyms=KEY)
    frames = gather(cohort, size=64)
    shown = simulate.stills(3, seed=8, style="site-b")
    place = [cohort.subjects.index(KEY.subject(raw)) for raw in shown.subjects]
    for k, i in enumerate(place):
        assert (frames.pixels[frames.subject == i] == shown.pixels[shown.subject == k]).all()
        assert (frames.masks[frames.subject == i] == shown.masks[shown.subject == k]).all()
    assert set(frames.view.tolist()) == {VIEWS.index(View.A2C), VIEWS.index(View.A4C)}


def test_asking_twice_gives_the_same_bytes():
    cohort = Phantom(subjects=2, frames=5).read(pseudonyms=KEY)
    one, again = (cohort.of(cohort.subjects[0])[0] for _ in range(2))
    assert [c.pixels.tobytes() for c in one.clips] == [c.pixels.tobytes() for c in again.clips]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"subjects": 0}, "subjects=0 must be at least 1"),
        ({"frames": 1}, "frames=1 must be 0 or at least 2"),
        ({"views": ("A3C",)}, "A2C, A4C"),
        ({"views": ()}, "views"),
        ({"site": "site-q"}, "site-q"),
        ({"size": 4}, "size=4"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        Phantom(**wrong)
