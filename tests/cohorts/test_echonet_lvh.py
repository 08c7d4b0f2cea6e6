import importlib.util
from pathlib import Path

import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.study import UnreadableStudy, View

NAMES = Pseudonyms(b"the key of site a stays there")


@pytest.fixture(scope="module")
def builder():
    path = Path(__file__).parents[1] / "contracts" / "builders" / "echonet_lvh.py"
    spec = importlib.util.spec_from_file_location("builder_echonet_lvh", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(builder, tmp_path):
    return builder.build(tmp_path)


def change(config, old, new, count=-1):
    path = Path(config.root) / "MeasurementsList.csv"
    path.write_text(path.read_text().replace(old, new, count))


def first_study(config):
    (study,) = config.read(pseudonyms=NAMES).of(NAMES.subject("0x1a"))
    return study


def test_what_was_written_comes_back(builder, built):
    study = first_study(built)
    assert study.labels == {"ivsd_cm": 0.9, "lvidd_cm": 4.6, "lvpwd_cm": 1.1, "lvids_cm": 3.1, "frame_rate_hz": 40.0}
    (clip,) = study.clips
    assert clip.pixels.shape == (builder.FRAMES, builder.SIDE, builder.SIDE)
    assert (clip.view, clip.ed_frame, clip.es_frame, clip.masks) == (View.PLAX, 1, 4, None)
    assert clip.frame_seconds == pytest.approx(1 / 40)
    assert built.read(pseudonyms=NAMES).columns[study.subject] == {"split": "train"}


def test_a_measurement_that_says_two_things_is_no_label_and_is_listed(built):
    change(built, "0x1a,IVSd,0.9", "0x1a,LVIDs,3.4")
    assert first_study(built).labels == {"lvidd_cm": 4.6, "lvpwd_cm": 1.1, "frame_rate_hz": 40.0}
    assert "LVIDs is measured as 3.1 and 3.4 cm" in str(built.index().left_out[0])


def test_a_diameter_measured_in_two_frames_names_no_phase(built):
    change(built, "0x1a,IVSd,0.9", "0x1a,LVIDs,3.1")
    clip = first_study(built).clips[0]
    assert (clip.ed_frame, clip.es_frame) == (1, None)


def test_a_video_that_nobody_measured_is_left_out(built):
    path = Path(built.root) / "Batch1" / "0x99.avi"
    path.write_bytes(b"")
    assert [problem.key for problem in built.index().left_out] == [str(path)]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("IVSd,0.9", "IVSd,46", "CalcValue='46' is not a number in 0..30"),
        ("0x1a,", "0x77,", "HashedFileName='0x77' has 0 videos"),
        ("0x1a,LVIDs,3.1,4", "0x1a,LVIDs,3.1,5", "ES is frame 5, but Frames=5"),
        ("20,5,40", "20,6,40", "Frames='5' contradicts '6'"),
        ("IVSd", "../x", "Calc='../x' is no name"),
        ("CalcValue", "Value", "has no column 'CalcValue'"),
    ],
)
def test_a_table_that_will_not_do_is_a_problem(built, old, new, words):
    change(built, old, new, 1)
    assert words in str(built.index().problems[0])


def test_one_name_in_two_batches_is_a_problem(built):
    (Path(built.root) / "Batch2" / "0x1a.avi").write_bytes(b"")
    assert "has 2 videos" in str(built.index().problems[0])


def test_a_video_of_another_length_is_refused_with_both_numbers(built):
    change(built, "20,5,40", "20,9,40")
    with pytest.raises(UnreadableStudy, match=r"holds 5 frames, MeasurementsList\.csv says 9"):
        first_study(built)
