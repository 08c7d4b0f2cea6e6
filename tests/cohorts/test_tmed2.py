import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.study import View

NAMES = Pseudonyms(b"the key of site a stays there")
TABLE = "DEV479/TMED2_fold0_labeledpart.csv"


@pytest.fixture(scope="module")
def builder():
    path = Path(__file__).parents[1] / "contracts" / "builders" / "tmed2.py"
    spec = importlib.util.spec_from_file_location("builder_tmed2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(builder, tmp_path):
    return builder.build(tmp_path)


def change(config, old, new):
    path = Path(config.root) / TABLE
    path.write_text(path.read_text().replace(old, new))


def test_what_was_written_comes_back_by_patient_and_study(builder, built):
    cohort = built.read(pseudonyms=NAMES)
    assert len(cohort.subjects) == 3
    first, second = cohort.of(NAMES.subject("101"))
    assert (first.labels, second.labels) == ({"diagnosis": "severe_AS"}, {"diagnosis": "moderate_AS"})
    assert [clip.view for clip in first.clips] == [View.PLAX, View.A4C]
    for k, clip in enumerate(first.clips):
        assert np.array_equal(clip.pixels, builder.picture(k)[None])
        assert (clip.masks, clip.ed_frame, clip.es_frame) == (None, None, None)


def test_what_the_table_leaves_open_is_not_known(built):
    (study,) = built.read(pseudonyms=NAMES).of(NAMES.subject("103"))
    assert study.clips[0].view is None
    assert study.labels == {}


def test_columns_are_those_that_all_pictures_of_a_person_share(built):
    columns = built.read(pseudonyms=NAMES).columns
    assert columns[NAMES.subject("101")] == {"diagnosis_classifier_split": "train"}
    assert columns[NAMES.subject("102")] == {
        "diagnosis": "no_AS",
        "view_classifier_split": "val",
        "diagnosis_classifier_split": "val",
    }


def test_a_patient_column_joins_what_file_names_keep_apart(built):
    path = Path(built.root) / TABLE
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{header},person", *(f"{row},p{k == 4}" for k, row in enumerate(rows))]))
    cohort = dataclasses.replace(built, patient="person").read(pseudonyms=NAMES)
    assert len(cohort.subjects) == 2
    assert len(cohort.of(NAMES.subject("pFalse"))) == 3


def test_a_key_may_lack_its_suffix(built):
    change(built, ".png", "")
    assert not built.index().problems


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("A2C,no_AS", "PLAXX,no_AS", "view_label='PLAXX' is no view"),
        ("102s1_0", "999s1_0", "query_key='999s1_0' has 0 pictures"),
        ("101s1_1", "101s1_0", "query_key='101s1_0' stands twice"),
        ("query_key", "key", "has 0 tables of TMED-2"),
    ],
)
def test_a_table_that_will_not_do_is_a_problem(built, old, new, words):
    change(built, old, new)
    assert words in str(built.index().problems[0])


def test_two_severities_of_one_study_contradict_each_other(built):
    change(built, "A4C,severe_AS", "A4C,no_AS")
    assert any("diagnosis=no_AS contradicts severe_AS" in str(problem) for problem in built.index().all_problems())


def test_a_name_of_another_kind_needs_columns_that_say_whose_it_is(built):
    change(built, "102s1_0", "scan-a")
    (Path(built.root) / "labeled" / "102s1_0.png").rename(Path(built.root) / "labeled" / "scan-a.png")
    assert "set patient and study" in str(built.index().problems[0])


def test_of_two_tables_or_two_pictures_one_must_be_named(built):
    path = Path(built.root) / TABLE
    (Path(built.root) / "labeled" / "again").mkdir()
    (Path(built.root) / "labeled" / "again" / "102s1_0.png").write_bytes(b"")
    assert "has 2 pictures" in str(built.index().problems[0])
    path.with_name("fold1.csv").write_text(path.read_text())
    assert "has 2 tables" in str(built.index().problems[0])
