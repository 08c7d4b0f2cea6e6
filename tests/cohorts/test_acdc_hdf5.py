import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.readers.acdc_hdf5 import AcdcHdf5
from cohorts.study import CAVITY, MYOCARDIUM, RIGHT_VENTRICLE, UnreadableStudy, View

HERE = Path(__file__).parent
REAL = HERE.parents[1].parent / "shared" / "data" / "acdc_h5"
NAMES = Pseudonyms(b"the key of site a stays there")


@pytest.fixture
def built(tmp_path):
    spec = importlib.util.spec_from_file_location("builder", HERE.parent / "contracts" / "builders" / "acdc_hdf5.py")
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    return builder.build(tmp_path)


def test_what_was_written_comes_back(built):
    cohort = built.read(pseudonyms=NAMES)
    (study,) = cohort.of(NAMES.subject("patient001"))
    assert study.labels == {"lvef_percent": 41.0, "diagnosis": "DCM"}
    assert len(study.clips) == 3
    clip = study.clips[1]
    assert (clip.view, clip.ed_frame, clip.es_frame, clip.pixels.shape) == (View.SAX, 0, 1, (2, 24, 24))
    assert clip.masks[0, 12, 12] == CAVITY
    assert clip.masks[0, 12, 20] == MYOCARDIUM
    assert clip.masks[0, 20, 2] == RIGHT_VENTRICLE
    assert [int(clip.pixels[0, 12, 12]), int(clip.pixels[0, 0, 0])] == [255, 26]
    assert (clip.masks[0] == CAVITY).sum() > (clip.masks[1] == CAVITY).sum()


def damage(config, change):
    with h5py.File(Path(config.root) / "patient002_frame01.h5", "r+") as file:
        change(file)


def replaced(name, array):
    def change(file):
        del file[name]
        file[name] = array

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.pop("label"), "has no dataset 'label'"),
        (replaced("image", np.zeros((3, 24, 25), np.float32)), "both must be (slices, height, width)"),
        (replaced("image", np.zeros((3, 24, 24), np.int16)), "must be floating point"),
        (replaced("image", h5py.ExternalLink("/etc/passwd", "/image")), "of its own"),
        (lambda file: file.move("image", "elsewhere") or file.create_group("image"), "is no dataset"),
    ],
    ids=["no labels", "other shape", "integers", "a link out", "a group"],
)
def test_a_volume_that_will_not_do_is_named_before_any_pixel_is_read(built, change, words):
    damage(built, change)
    (problem,) = built.index().problems
    assert problem.key.endswith("patient002_frame01.h5")
    assert words in problem.reason


def test_a_shape_that_would_fill_the_memory_is_refused_by_its_header(built):
    def huge(file):
        del file["image"], file["label"]
        for name, kind in (("image", "f4"), ("label", "u1")):
            file.create_dataset(name, (4000, 4000, 4000), kind, chunks=(1, 64, 64))

    damage(built, huge)
    assert "at most" in built.index().problems[0].reason


def test_a_chunk_that_would_fill_the_memory_is_refused_however_little_lies_in_it(built):
    def huge(file):
        del file["image"]
        file.create_dataset(
            "image", (3, 24, 24), "f4", maxshape=(None,) * 3, chunks=(9, 9000, 9000), compression="gzip"
        )

    damage(built, huge)
    assert "would decode to 2916000000 bytes; at most" in built.index().problems[0].reason


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("image", np.nan, "outside 0..1"), ("image", 1.5, "outside 0..1"), ("label", 9, "label outside 0..3")],
)
def test_values_out_of_bounds_are_refused_with_their_slice(built, name, value, words):
    def change(file):
        file[name][1, 3, 3] = value

    damage(built, change)
    with pytest.raises(UnreadableStudy, match=rf"patient002_frame01\.h5: slice 1 holds .*{words}"):
        built.read(pseudonyms=NAMES).of(NAMES.subject("patient002"))


def test_two_volumes_of_one_phase_are_refused(built):
    table = Path(built.root) / "labels.csv"
    table.write_text(table.read_text().replace("ES,DCM", "ED,DCM"))
    assert "has a second ED" in built.index().problems[0].reason


@pytest.mark.skipif(not REAL.is_dir(), reason="no real studies in ../shared/data")
def test_the_real_volumes_are_read_as_they_are():
    config = AcdcHdf5(root=str(REAL))
    assert AcdcHdf5.recognises(REAL)
    index = config.index()
    assert (len(index.problems), len(index.sources)) == (0, 178)
    cohort = config.read(pseudonyms=NAMES)
    assert len(cohort.subjects) == 20
    (study,) = cohort.of(NAMES.subject("patient005"))
    assert study.labels == {"lvef_percent": 22.94, "diagnosis": "DCM"}
    voxels = [sum(int((clip.masks[at] == CAVITY).sum()) for clip in study.clips) for at in (0, 1)]
    assert voxels == [14705, 11332]
    assert 100 * (1 - voxels[1] / voxels[0]) == pytest.approx(22.94, abs=0.01)
