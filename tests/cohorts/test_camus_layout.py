import importlib.util
from pathlib import Path

import nibabel
import numpy as np
import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.readers.camus import Camus
from cohorts.study import UNLABELLED, UnreadableStudy, View

NAMES = Pseudonyms(b"the key of site a stays there")


@pytest.fixture(scope="module")
def builder():
    path = Path(__file__).parents[1] / "contracts" / "builders" / "camus.py"
    spec = importlib.util.spec_from_file_location("builder_camus", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(builder, tmp_path):
    return builder.build(tmp_path)


def home(config, name="patient0001"):
    return Path(config.root) / "database_nifti" / name


def study_of(config, name="patient0001"):
    (study,) = config.read(pseudonyms=NAMES).of(NAMES.subject(name))
    return study


def test_what_was_written_comes_back_upright(builder, built):
    study = study_of(built)
    assert [clip.view for clip in study.clips] == [View.A2C, View.A4C]
    assert study.labels == {
        "lvef_percent": 55.0,
        "age_years": 60.0,
        "sex": "female",
        "image_quality_2ch": "Good",
        "image_quality_4ch": "Poor",
    }
    clip = study.clips[0]
    assert clip.pixels.shape == (builder.FRAMES, builder.HEIGHT, builder.WIDTH)
    for at in range(builder.FRAMES):
        grey, mask = builder.heart(at)
        assert np.array_equal(clip.pixels[at], grey)
        assert np.array_equal(clip.masks[at], mask)
    assert (clip.ed_frame, clip.es_frame, clip.frame_seconds) == (0, 4, 0.02)
    assert clip.pixel_mm == pytest.approx((0.15, 0.3))
    assert (clip.pixels[0, :3] == 250).all()


def test_columns_are_those_that_partitions_of_camus_go_by(built):
    cohort = built.read(pseudonyms=NAMES)
    assert cohort.columns[NAMES.subject("patient0001")] == {
        "image_quality_2ch": "Good",
        "frame_rate_hz_2ch": "50.0",
        "image_quality_4ch": "Poor",
        "frame_rate_hz_4ch": "50.0",
    }


def test_the_official_split_is_a_column_where_its_files_are_there(built):
    folder = Path(built.root) / "database_split"
    folder.mkdir()
    (folder / "subgroup_training.txt").write_text("patient0001\npatient0002\n")
    cohort = built.read(pseudonyms=NAMES)
    assert cohort.columns[NAMES.subject("patient0001")]["split"] == "training"
    assert "split" not in cohort.columns[NAMES.subject("patient0003")]


def test_without_a_sequence_the_two_stills_are_the_clip(builder, built):
    clip = study_of(built, "patient0003").clips[1]
    assert (clip.pixels.shape[0], clip.ed_frame, clip.es_frame, clip.frame_seconds) == (2, 0, 1, None)
    assert np.array_equal(clip.masks[1], builder.heart(4, 2)[1])


def test_a_sequence_without_outlines_of_its_own_takes_those_of_the_stills(builder, built):
    (home(built) / "patient0001_2CH_half_sequence_gt.nii.gz").unlink()
    clip = study_of(built).clips[0]
    assert np.array_equal(clip.masks[0], builder.heart(0)[1])
    assert np.array_equal(clip.masks[4], builder.heart(4)[1])
    assert (clip.masks[1:4] == UNLABELLED).all()


def test_what_nobody_outlined_has_no_masks(built):
    for path in home(built).glob("*_gt.nii.gz"):
        path.unlink()
    assert study_of(built).clips[0].masks is None


def test_the_info_says_which_frames_are_which_counting_from_one(built):
    path = home(built) / "Info_2CH.cfg"
    path.write_text(path.read_text().replace("ED: 1", "ED: 5").replace("ES: 5", "ES: 2"))
    clip = study_of(built).clips[0]
    assert (clip.ed_frame, clip.es_frame) == (4, 1)


def test_without_an_info_a_half_sequence_goes_from_ed_to_es_and_nothing_else_is_known(built):
    for path in home(built).glob("Info_*.cfg"):
        path.unlink()
    study = study_of(built)
    assert study.labels == {}
    assert (study.clips[0].ed_frame, study.clips[0].es_frame, study.clips[0].frame_seconds) == (0, 4, None)


def test_the_older_copy_in_metaimage_is_the_same(builder, built, tmp_path):
    old = tmp_path / "old" / "training" / "patient0001"
    old.mkdir(parents=True)
    for path in home(built).glob("*.nii.gz"):
        stem = path.name.removesuffix(".nii.gz").replace("half_sequence", "sequence")
        array = np.asarray(nibabel.load(path).dataobj)
        (old / f"{stem}.raw").write_bytes(array.tobytes(order="F"))
        (old / f"{stem}.mhd").write_text(
            f"NDims = {array.ndim}\nDimSize = {' '.join(map(str, array.shape))}\nElementType = MET_UCHAR\n"
            f"ElementSpacing = {' '.join(['0.3', '0.15', '1'][: array.ndim])}\nElementDataFile = {stem}.raw\n"
        )
    info = "ED: 1\nES: 5\nNbFrame: 5\nLVedv: 94.1\nLVesv: 43.6\nLVef: 54\n"
    for view in ("2CH", "4CH"):
        (old / f"Info_{view}.cfg").write_text(info)
    older, newer = study_of(Camus(root=str(tmp_path / "old"))), study_of(built)
    assert older.labels == {"lvef_percent": 54.0, "edv_ml": 94.1, "esv_ml": 43.6}
    for one, other in zip(older.clips, newer.clips, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.masks, other.masks)
        assert one.pixel_mm == pytest.approx(other.pixel_mm)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("NbFrame: 5", "NbFrame: 6", "NbFrame=6, but the sequence has 5 frames"),
        ("ES: 5", "ES: 9", "ES=9 lies outside 1..5"),
        ("EF: 55", "EF: 155", "EF='155' is not a number in 0..100"),
        ("EF: 55", "EF: 54", "lvef_percent=55.0 contradicts 54.0"),
        ("Age: 60", "Age", "has a line without a colon"),
        ("ED: 1", "ED: one", "ED='one' is not a whole number"),
    ],
)
def test_an_info_that_will_not_do_is_a_problem(built, old, new, words):
    path = home(built) / "Info_2CH.cfg"
    path.write_text(path.read_text().replace(old, new))
    assert any(words in str(problem) for problem in built.index().all_problems())


def test_files_that_do_not_fit_each_other_are_a_problem(builder, built):
    builder.save(home(built) / "patient0001_2CH_ED_gt.nii.gz", np.zeros((builder.HEIGHT, builder.WIDTH + 1), np.uint8))
    builder.save(
        home(built, "patient0002") / "patient0002_4CH_half_sequence_gt.nii.gz", np.zeros((4, 40, 30), np.uint8)
    )
    (home(built) / "patient0001_2CH_half_sequence_gt.nii.gz").unlink()
    reasons = [str(problem) for problem in built.index().problems]
    assert len(reasons) == 2
    assert "patient0001_2CH_ED_gt.nii.gz: is (31, 40, 1), must be (30, 40, 1)" in reasons[0]
    assert "patient0002_4CH_half_sequence_gt.nii.gz: is (30, 40, 4), must be (30, 40, 5)" in reasons[1]


def test_a_label_that_camus_does_not_have_is_refused(builder, built):
    builder.save(home(built) / "patient0001_2CH_half_sequence_gt.nii.gz", np.full((5, 40, 30), 4, np.uint8))
    with pytest.raises(UnreadableStudy, match=r"half_sequence_gt\.nii\.gz: holds mask label 4; must lie in 0\.\.3"):
        study_of(built)


def test_a_patient_without_an_image_is_a_problem(built):
    (home(built) / "../patient0099").mkdir()
    assert "holds no image of 2CH or 4CH" in built.index().problems[0].reason
