import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cohorts import short_axis
from cohorts.deidentify import Pseudonyms
from cohorts.readers.acdc import OURS
from cohorts.study import CAVITY, UNLABELLED, UnreadableStudy, View

NAMES = Pseudonyms(b"the key of site a stays there")


@pytest.fixture(scope="module")
def builder():
    path = Path(__file__).parents[1] / "contracts" / "builders" / "acdc.py"
    spec = importlib.util.spec_from_file_location("builder_acdc", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(builder, tmp_path):
    return builder.build(tmp_path)


def home(config, name="patient001"):
    return Path(config.root) / name


def study_of(config, name="patient001"):
    (study,) = config.read(pseudonyms=NAMES).of(NAMES.subject(name))
    return study


def expected(builder, frame, k, z):
    return np.array(OURS, np.uint8)[builder.heart(frame, k)[1][..., z].T]


def test_every_slice_of_the_cine_comes_back_with_the_outlines_of_two_frames(builder, built):
    study = study_of(built)
    assert study.labels == {"height_cm": 170.0, "weight_kg": 70.5, "diagnosis": "DCM"}
    assert len(study.clips) == builder.SLICES
    for z, clip in enumerate(study.clips):
        assert clip.pixels.shape == (builder.FRAMES, builder.HEIGHT, builder.WIDTH)
        assert (clip.view, clip.ed_frame, clip.es_frame) == (View.SAX, 0, 3)
        assert clip.pixel_mm == pytest.approx((1.25, 1.5))
        assert np.array_equal(clip.masks[0], expected(builder, builder.ED, 0, z))
        assert np.array_equal(clip.masks[3], expected(builder, builder.ES, 0, z))
        assert (clip.masks[[1, 2, 4, 5]] == UNLABELLED).all()


def test_grey_keeps_its_order_over_slices_and_frames(builder, built):
    clips = study_of(built).clips
    ours = np.stack([clip.pixels for clip in clips], axis=1).astype(float)
    stored = np.stack([builder.heart(frame)[0].T for frame in range(1, builder.FRAMES + 1)]).astype(float)
    assert np.corrcoef(ours.ravel(), stored.ravel())[0, 1] > 0.999
    assert (ours.min(), ours.max()) == (0, 255)


def test_a_frame_time_that_no_heart_has_is_not_known(built):
    assert study_of(built).clips[0].frame_seconds is None
    assert study_of(built, "patient002").clips[0].frame_seconds == pytest.approx(0.03)


def test_without_the_cine_ed_and_es_are_the_clip(builder, built):
    clip = study_of(built, "patient003").clips[1]
    assert (len(clip.pixels), clip.ed_frame, clip.es_frame, clip.frame_seconds) == (2, 0, 1, None)
    assert np.array_equal(clip.masks[1], expected(builder, builder.ES, 2, 1))
    assert (clip.masks[0] == CAVITY).sum() > (clip.masks[1] == CAVITY).sum()


def test_training_and_testing_are_read_together_and_told_apart(builder, tmp_path):
    builder.build(tmp_path / "training")
    config = builder.build(tmp_path / "testing")
    for name in ("patient001", "patient002", "patient003"):
        (tmp_path / "testing" / name).rename(tmp_path / "testing" / name.replace("0", "1", 1))
    for path in (tmp_path / "testing").rglob("*.nii.gz"):
        path.rename(path.with_name(path.name.replace("0", "1", 1)))
    config = type(config)(root=str(tmp_path))
    assert config.recognises(tmp_path)
    cohort = config.read(pseudonyms=NAMES)
    assert len(cohort.subjects) == 6
    assert cohort.columns[NAMES.subject("patient101")] == {"diagnosis": "DCM", "split": "testing"}


def test_frames_that_nobody_outlined_are_unlabelled_and_nothing_outlined_is_no_mask(builder, built):
    (home(built) / "patient001_frame04_gt.nii.gz").unlink()
    assert (study_of(built).clips[0].masks[3] == UNLABELLED).all()
    empty = np.zeros((builder.WIDTH, builder.HEIGHT, builder.SLICES), np.uint8)
    builder.save(home(built) / "patient001_frame01_gt.nii.gz", empty)
    assert study_of(built).clips[0].masks is None


def test_nothing_of_an_examination_is_kept_after_its_last_slice(built):
    study_of(built)
    assert short_axis._unpacked.cache_info().currsize == 0


def test_a_file_that_changes_between_two_slices_is_read_again(builder, built):
    sources = [s for s in built.index().sources if s.subject == "patient003"]
    before = sources[0].load()
    path = home(built, "patient003") / "patient003_frame01.nii.gz"
    builder.save(path, builder.heart(1)[0][::-1].copy())
    assert not np.array_equal(sources[0].load().pixels, before.pixels)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ES: 4", "ES: 7", "ES is its frame 7, but it has 6"),
        ("ED: 1", "ED: 0", "ED='0' is no frame"),
        ("ED: 1\n", "", "ED='' is no frame"),
        ("NbFrame: 6", "NbFrame: 7", "NbFrame=7, but patient001_4d.nii.gz has shape (26, 22, 3, 6)"),
        ("Height: 170", "Height: 1700", "Height='1700' is not a number in 30..300"),
    ],
)
def test_an_info_that_will_not_do_is_a_problem(built, old, new, words):
    path = home(built) / "Info.cfg"
    path.write_text(path.read_text().replace(old, new))
    assert words in str(built.index().problems[0])


def test_volumes_that_do_not_fit_each_other_are_a_problem(builder, built):
    builder.save(home(built) / "patient001_frame01_gt.nii.gz", np.zeros((26, 22, 4), np.uint8))
    builder.save(home(built, "patient003") / "patient003_frame04.nii.gz", np.zeros((26, 21, 3), np.int16))
    reasons = [str(problem) for problem in built.index().problems]
    assert "frame01_gt.nii.gz: is (26, 22, 4), must be (26, 22, 3) to fit patient001_4d.nii.gz" in reasons[0]
    assert "frame04.nii.gz: is (26, 21, 3), must be (26, 22, 3)" in reasons[1]


def test_what_would_fill_the_memory_is_refused_by_its_header(built, monkeypatch):
    monkeypatch.setattr("cohorts.short_axis.VOXELS_MAX", 5000)
    assert "has 10296 voxels; at most 5000 are read" in built.index().problems[0].reason


def test_a_label_that_acdc_does_not_have_and_an_empty_picture_are_refused(builder, built):
    builder.save(home(built) / "patient001_frame01_gt.nii.gz", np.full((26, 22, 3), 4, np.uint8))
    with pytest.raises(UnreadableStudy, match=r"frame01_gt\.nii\.gz: holds mask label 4; must lie in 0\.\.3"):
        study_of(built)
    builder.save(home(built, "patient002") / "patient002_4d.nii.gz", np.zeros((26, 22, 3, 6), np.int16))
    with pytest.raises(UnreadableStudy, match=r"patient002_4d\.nii\.gz: grey window 0\.\.0 is empty"):
        study_of(built, "patient002")
