import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.study import CAVITY, UNLABELLED, UnreadableStudy, View

NAMES = Pseudonyms(b"the key of site a stays there")
FIRST = f"0X{0:016X}"


@pytest.fixture(scope="module")
def builder():
    path = Path(__file__).parents[1] / "contracts" / "builders" / "echonet_dynamic.py"
    spec = importlib.util.spec_from_file_location("builder_echonet_dynamic", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(builder, tmp_path):
    return builder.build(tmp_path)


def change(config, table, old, new, count=-1):
    path = Path(config.root) / table
    path.write_text(path.read_text().replace(old, new, count))


def first_clip(config):
    (study,) = config.read(pseudonyms=NAMES).of(NAMES.subject(FIRST))
    return study.clips[0]


def test_what_was_written_comes_back(builder, built):
    cohort = built.read(pseudonyms=NAMES)
    (study,) = cohort.of(NAMES.subject(FIRST))
    assert study.labels == {"lvef_percent": 55.5, "esv_ml": 40.0, "edv_ml": 90.0, "frame_rate_hz": 50.0}
    (clip,) = study.clips
    assert (clip.view, clip.ed_frame, clip.es_frame) == (View.A4C, builder.ED, builder.ES)
    assert clip.pixels.shape == (builder.FRAMES, builder.SIDE, builder.SIDE)
    assert clip.frame_seconds == pytest.approx(1 / 50)
    assert cohort.columns[NAMES.subject(FIRST)] == {"split": "TRAIN"}


def test_the_cavity_lies_inside_its_outline_and_nothing_else_is_labelled(builder, built):
    clip = first_clip(built)
    for at in (builder.ED, builder.ES):
        assert set(np.unique(clip.masks[at])) == {CAVITY, UNLABELLED}
        across, along = builder.radii(0, at)
        assert (clip.masks[at] == CAVITY).sum() == pytest.approx(np.pi * across * along, rel=0.08)
        assert clip.pixels[at][clip.masks[at] == CAVITY].mean() < 60
    others = [at for at in range(builder.FRAMES) if at not in (builder.ED, builder.ES)]
    assert (clip.masks[others] == UNLABELLED).all()


def test_names_may_have_their_suffix_or_not_and_be_written_in_any_case(built):
    change(built, "FileList.csv", f"{FIRST},", f"{FIRST.lower()}.AVI,")
    change(built, "VolumeTracings.csv", f"{FIRST}.avi", FIRST)
    assert first_clip(built).ed_frame is not None


def test_a_video_that_nobody_outlined_is_used_without_masks(built):
    path = Path(built.root) / "VolumeTracings.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if FIRST not in line))
    clip = first_clip(built)
    assert (clip.masks, clip.ed_frame, clip.es_frame) == (None, None, None)


def test_one_outlined_frame_is_neither_of_the_two_phases(builder, built):
    path = Path(built.root) / "VolumeTracings.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.rstrip().endswith(f",{builder.ES}")))
    clip = first_clip(built)
    assert (clip.ed_frame, clip.es_frame) == (None, None)
    assert (clip.masks[builder.ED] == CAVITY).any()


def test_videos_of_one_patient_are_one_subject_where_the_table_says_so(built):
    path = Path(built.root) / "FileList.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text(
        "\n".join([f"{header},PatientID", f"{rows[0]},p", f"{rows[1]},q".replace("VAL", "TEST"), f"{rows[2]},q"])
    )
    cohort = built.read(pseudonyms=NAMES)
    assert len(cohort.subjects) == 2
    assert len(cohort.of(NAMES.subject("q"))) == 2


def test_a_patient_in_two_splits_is_refused(built):
    path = Path(built.root) / "FileList.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{header},PatientID", *(f"{row},p" for row in rows)]))
    with pytest.raises(UnreadableStudy, match="split='VAL' contradicts 'TRAIN'"):
        built.read(pseudonyms=NAMES)


def test_pediatric_tables_bring_sex_age_folds_and_contours(builder, tmp_path):
    config = builder.build(tmp_path)
    (tmp_path / "FileList.csv").write_text(f"FileName,EF,Sex,Age,Weight,Height,Split\n{FIRST}.avi,61.2,F,7,25,122,3\n")
    points = "".join(f"{FIRST}.avi,{x},{y},2\n" for x, y in ((10, 10), (30, 10), (30, 30), (10, 30)))
    (tmp_path / "VolumeTracings.csv").write_text(f"FileName,X,Y,Frame\n{points}{FIRST}.avi,,,No Systolic\n")
    config = dataclasses.replace(config, view="PSAX")
    cohort = config.read(pseudonyms=NAMES)
    (study,) = cohort.of(NAMES.subject(FIRST))
    assert study.labels == {
        "lvef_percent": 61.2,
        "sex": "female",
        "age_years": 7.0,
        "weight_kg": 25.0,
        "height_cm": 122.0,
    }
    assert cohort.columns[study.subject] == {"split": "3", "sex": "female"}
    assert study.clips[0].view is View.PSAX
    assert (study.clips[0].masks[2] == CAVITY).sum() == 400
    assert len(cohort.left_out) == 2


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        ("FileList.csv", ",55.5,", ",155.5,", "EF='155.5' is not a number in 0..100"),
        ("FileList.csv", f"{FIRST},", "0XGONE,", "FileName='0XGONE' has no video"),
        ("FileList.csv", f"0X{1:016X},", f"{FIRST},", "stands twice"),
        ("FileList.csv", ",6,TRAIN", ",4,TRAIN", "frame 4 is outlined"),
        ("FileList.csv", "EF", "Ef", "has no column 'EF'"),
        ("VolumeTracings.csv", "X1", "A1", "has the header"),
    ],
)
def test_what_will_not_do_is_a_problem_before_a_video_is_opened(built, table, old, new, words):
    change(built, table, old, new, 1)
    assert any(words in str(problem) for problem in built.index().problems)


def test_a_video_of_another_length_is_refused_with_both_numbers(built):
    change(built, "FileList.csv", ",6,TRAIN", ",7,TRAIN")
    with pytest.raises(UnreadableStudy, match=r"holds 6 frames, FileList\.csv says 7"):
        first_clip(built)


def test_an_outline_outside_the_picture_is_refused(built):
    path = Path(built.root) / "VolumeTracings.csv"
    header, *lines = path.read_text().splitlines()
    moved = [
        ",".join([name, *(str(float(c) + 500) for c in cells), at])
        for name, *cells, at in (i.split(",") for i in lines)
    ]
    path.write_text("\n".join([header, *moved]))
    with pytest.raises(UnreadableStudy, match="encloses no pixel"):
        first_clip(built)


def test_the_view_is_one_that_these_layouts_have(built):
    with pytest.raises(ValueError, match="view='PLAX' must be A4C, PSAX or A2C"):
        dataclasses.replace(built, view="PLAX")
