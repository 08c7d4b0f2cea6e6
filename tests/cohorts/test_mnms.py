import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.readers.mnms import OURS
from cohorts.study import UNLABELLED, View

NAMES = Pseudonyms(b"the key of site a stays there")


@pytest.fixture(scope="module")
def builder():
    path = Path(__file__).parents[1] / "contracts" / "builders" / "mnms.py"
    spec = importlib.util.spec_from_file_location("builder_mnms", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(builder, tmp_path):
    return builder.build(tmp_path)


def study_of(config, name):
    (study,) = config.read(pseudonyms=NAMES).of(NAMES.subject(name))
    return study


def drawn(builder, at):
    return np.array(OURS, np.uint8)[builder.heart(at)[1][..., 0].T]


def test_a_cine_comes_back_with_the_outlines_of_two_frames(builder, built):
    study = study_of(built, "A0S9V9")
    assert study.labels == {"diagnosis": "HCM", "age_years": 50.0, "sex": "female"}
    assert len(study.clips) == builder.SLICES
    clip = study.clips[0]
    assert clip.pixels.shape == (builder.FRAMES, builder.HEIGHT, builder.WIDTH)
    assert (clip.view, clip.ed_frame, clip.es_frame) == (View.SAX, builder.ED, builder.ES)
    assert clip.pixel_mm == pytest.approx((1.2, 1.4))
    for at in (builder.ED, builder.ES):
        assert np.array_equal(clip.masks[at], drawn(builder, at))
    assert (clip.masks[[0, 2, 4]] == UNLABELLED).all()


def test_vendor_centre_and_pathology_are_columns(built):
    cohort = built.read(pseudonyms=NAMES)
    assert cohort.columns[NAMES.subject("B1K2L3")] == {"vendor": "B", "centre": "2", "pathology": "NOR"}


def test_the_unlabelled_part_has_no_masks(built):
    study = study_of(built, "C9")
    assert study.clips[0].masks is None
    assert study.labels == {"age_years": 52.0}


def test_the_second_challenge_comes_as_its_two_frames(builder, tmp_path):
    config = builder.build_second(tmp_path)
    assert config.recognises(tmp_path)
    cohort = config.read(pseudonyms=NAMES)
    assert len(cohort.subjects) == 2
    assert cohort.columns[NAMES.subject("001")] == {
        "vendor": "SIEMENS",
        "pathology": "LV",
        "scanner": "Avanto",
        "field": "1.5",
    }
    clip = study_of(config, "001").clips[1]
    assert (len(clip.pixels), clip.ed_frame, clip.es_frame) == (2, 0, 1)
    assert np.array_equal(clip.masks[1], drawn(builder, builder.ES))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("A0S9V9", "B1K2L3", "subject 'B1K2L3' stands twice"),
        ("A0S9V9", "Z", "subject 'Z' has no folder"),
        (",1,3,50,", ",1,5,50,", "ES is its frame 6, but it has 5"),
        (",1,3,50,", ",1,x,50,", "ES='x' is not a whole number"),
        ("Centre", "Center", "has 0 tables of M&Ms"),
    ],
)
def test_a_table_that_will_not_do_is_a_problem(built, old, new, words):
    path = Path(built.root) / "information.csv"
    path.write_text(path.read_text().replace(old, new))
    assert words in str(built.index().problems[0])


def test_of_two_tables_the_right_one_must_be_named(built):
    path = Path(built.root) / "information.csv"
    path.with_name("copy.csv").write_text(path.read_text())
    assert "has 2 tables" in str(built.index().problems[0])
    assert not dataclasses.replace(built, table="copy.csv").index().problems


def test_a_subject_without_its_volume_is_a_problem(built):
    (path,) = Path(built.root).rglob("B1K2L3_sa.nii.gz")
    path.unlink()
    assert "B1K2L3_sa.nii.gz: no such file" in str(built.index().problems[0])


def test_a_subject_with_two_folders_is_a_problem(built):
    (Path(built.root) / "Testing" / "B1K2L3").mkdir(parents=True)
    assert "subject 'B1K2L3' has 2 folders" in str(built.index().problems[0])
