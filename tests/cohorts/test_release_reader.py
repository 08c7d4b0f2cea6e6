import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohorts.deidentify import Pseudonyms
from cohorts.frames import gather
from cohorts.readers import READERS
from cohorts.study import Origin, UnreadableStudy
from synthesis import release

NAMES = Pseudonyms(b"the key of site a stays there")


@pytest.fixture(scope="module")
def builder():
    path = Path(__file__).parents[1] / "contracts" / "builders" / "release.py"
    spec = importlib.util.spec_from_file_location("builder_release", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(builder, tmp_path):
    return builder.build(tmp_path)


def by_content(pixels):
    return sorted(range(len(pixels)), key=lambda k: pixels[k].tobytes())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), subjects=st.integers(1, 4))
def test_reading_gives_back_what_was_written(builder, tmp_path_factory, seed, subjects):
    written, folder = builder.frames(subjects, seed), tmp_path_factory.mktemp("release")
    release.write(folder / "release", written, origin=Origin.SYNTHETIC)
    cohort = READERS["release"](root=str(folder / "release")).read(pseudonyms=NAMES)
    assert (cohort.origin, len(cohort.subjects)) == (Origin.SYNTHETIC, subjects)
    back = gather(cohort, size=builder.SIZE)
    order = by_content(back.pixels), by_content(written.pixels)
    for name in ("pixels", "masks", "view", "phase", "lvef_percent"):
        np.testing.assert_array_equal(getattr(back, name)[order[0]], getattr(written, name)[order[1]])


def test_classes_other_than_views_come_back_as_a_label(builder, tmp_path):
    written = dataclasses.replace(builder.frames(2), view=np.repeat([0, 1], 4))
    release.write(tmp_path / "r", written, origin=Origin.SYNTHETIC, of="diagnosis", names=("DCM", "NOR"))
    cohort = READERS["release"](root=str(tmp_path / "r")).read(pseudonyms=NAMES)
    labels = [study.labels["diagnosis"] for subject in cohort.subjects for study in cohort.of(subject)]
    assert set(labels) == {"DCM", "NOR"}


def problems(config):
    return [str(problem) for problem in config.index().problems]


def test_a_changed_file_is_named_with_both_digests(built):
    path = Path(built.root) / "release" / "images" / "000003.png"
    path.write_bytes((path.parent / "000004.png").read_bytes())
    (problem,) = problems(built)
    assert "images/000003.png: has SHA-256 " in problem
    assert "manifest.json says " in problem


def test_a_changed_table_is_named(built):
    path = Path(built.root) / "release" / "labels.csv"
    path.write_text(path.read_text().replace("4", "5"))
    assert any("labels.csv: has SHA-256 " in problem for problem in problems(built))


def test_a_missing_and_an_added_file_are_named(built):
    folder = Path(built.root) / "release"
    (folder / "masks" / "000000.png").rename(folder / "masks" / "patients.png")
    assert any("000000.png: is in manifest.json, but not there" in problem for problem in problems(built))
    assert any("patients.png: is not in manifest.json" in problem for problem in problems(built))


def test_a_link_is_no_file_of_a_release(built):
    folder = Path(built.root) / "release"
    (folder / "images" / "000000.png").rename(Path(built.root) / "elsewhere.png")
    (folder / "images" / "000000.png").symlink_to(Path(built.root) / "elsewhere.png")
    assert any("000000.png: is not a plain file" in problem for problem in problems(built))


def test_frames_of_another_origin_are_refused_even_where_their_digest_is_right(built):
    with pytest.raises(UnreadableStudy, match=r"origin='synthetic', must be 'real' \(and 11 more\)"):
        dataclasses.replace(built, origin="real").read(pseudonyms=NAMES)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": [1]}', '{"files": [{"path": "a"}]}', "[" * 5000])
def test_what_is_no_manifest_is_refused(built, text):
    (Path(built.root) / "release" / "manifest.json").write_text(text)
    assert "is no manifest" in problems(built)[0]


def test_an_entry_that_leads_out_of_the_release_is_never_opened(built):
    path = Path(built.root) / "release" / "manifest.json"
    document = json.loads(path.read_text())
    document["files"][0]["path"] = "../../../etc/hostname"
    path.write_text(json.dumps(document))
    assert any("hostname: is in manifest.json, but not there" in problem for problem in problems(built))
