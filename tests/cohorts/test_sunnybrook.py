"""Sunnybrook Cardiac Data (Radau et al. 2009, hdl:10380/3070), built small and as it lies in `../shared/data`."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cohorts.contours import filled, read_contour
from cohorts.deidentify import Pseudonyms
from cohorts.readers.sunnybrook import Sunnybrook
from cohorts.study import UnreadableStudy, View

ROOT = Path(__file__).parents[2].parent / "shared" / "data" / "scd_cine_dicom"
BUILDER = Path(__file__).parents[1] / "contracts" / "builders" / "sunnybrook.py"
KEY = b"the key of site a stays there"

real = pytest.mark.skipif(not (ROOT / "link.csv").is_file(), reason="no Sunnybrook data in ../shared/data")


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("sunnybrook_builder", BUILDER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(builder, tmp_path):
    return builder.build(tmp_path)


def clips(layout):
    cohort = layout.read(pseudonyms=Pseudonyms(KEY))
    return [[clip for study in cohort.of(subject) for clip in study.clips] for subject in cohort.subjects]


def problems(layout):
    return [str(problem) for problem in layout.index().problems]


def contour_of(layout, patient, kind="i", n=1):
    return (
        Path(layout.root) / "contourfiles" / patient / f"{kind}-contours" / f"IM-0001-{n:04d}-{kind}contour-manual.txt"
    )


@pytest.mark.parametrize("radius", [3.0, 7.25, 10.0])
def test_a_filled_circle_has_the_area_of_its_polygon(builder, radius):
    points = builder.circle(radius, at=11.6)
    assert filled(points, 24, 24).sum() == pytest.approx(np.pi * radius**2, rel=0.1)


def test_a_square_holds_the_pixels_whose_centres_lie_inside_and_no_others():
    inside = filled(np.array([(1.5, 0.5), (4.5, 0.5), (4.5, 3.5), (1.5, 3.5)]), 6, 7)
    assert inside.sum() == 9
    assert inside[1:4, 2:5].all()


def test_a_polygon_that_leaves_the_image_is_cut_off_there():
    assert filled(np.array([(-9.0, -9.0), (90.0, -9.0), (90.0, 90.0), (-9.0, 90.0)]), 5, 6).all()


def test_what_was_written_comes_back(built, builder):
    for slices in clips(built):
        assert len(slices) == builder.SLICES
        for clip in slices:
            assert clip.view is View.SAX
            assert clip.pixels.shape == (builder.PHASES, builder.SIDE, builder.SIDE)
            assert (clip.ed_frame, clip.es_frame) == (0, 2)
            assert clip.frame_seconds == pytest.approx(0.04)
            assert clip.pixel_mm == (1.5, 1.25)
            assert set(np.unique(clip.masks[0])) == {0, 1, 2}
            assert set(np.unique(clip.masks[2])) == {1, 255}
            assert set(np.unique(clip.masks[1])) == {255}
            assert clip.pixels[0][clip.masks[0] == 1].min() > clip.pixels[0][clip.masks[0] == 0].max()


def test_a_slice_with_only_the_two_outlined_phases_is_a_pair(built, builder):
    for name in builder.SUBJECTS:
        for n in (2, 4):
            (Path(built.root) / "dicoms" / name / f"{n}.dcm").unlink()
    for first, _ in clips(built):
        assert (len(first.pixels), first.ed_frame, first.es_frame, first.frame_seconds) == (2, 0, 1, None)


def test_three_outlined_phases_have_no_end_diastole(built, builder):
    for original in builder.SUBJECTS.values():
        builder.outline(contour_of(built, original).parent, 2, "i", builder.circle(6.5))
    cohort = replace(built).index()
    assert {(clip.ed_frame, clip.es_frame) for clip in (s.load() for s in cohort.sources)} == {(None, None)}


def test_a_contour_that_is_another_patients_byte_for_byte_is_found(built):
    one, other = contour_of(built, "SC-HF-I-1", "o"), contour_of(built, "SC-N-2", "o")
    other.write_bytes(one.read_bytes())
    assert any(str(one) in said and str(other) in said for said in problems(built))
    with pytest.raises(UnreadableStudy, match="byte for byte"):
        built.read(pseudonyms=Pseudonyms(KEY))


def test_a_contour_of_an_image_that_is_not_there_is_a_problem(built):
    (Path(built.root) / "dicoms" / "SCD0000101" / "1.dcm").unlink()
    assert "outlines image 1" in problems(built)[0]


def test_every_problem_is_found_at_once(built):
    contour_of(built, "SC-HF-I-1").write_text("1 2\n3 4\n")
    contour_of(built, "SC-N-2").write_text("1 2 3\n")
    (Path(built.root) / "dicoms" / "SCD0000301" / "1.dcm").write_bytes(b"no")
    assert len(problems(built)) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 points"),
        (b"1 1\n2 2\n3 3\n", "encloses nothing"),
        (b"1 1\nnan 2\n3 9\n", "finite"),
        (b"1 1\n2 1e300\n3 9\n", "finite"),
        (b"\xff\xfe1 1\n", "two numbers"),
        (b"1 1\n" * 2**19, "bytes"),
    ],
)
def test_a_hostile_contour_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "c.txt"
    path.write_bytes(content)
    with pytest.raises(UnreadableStudy, match=reason) as caught:
        read_contour(path)
    assert "\n" not in str(caught.value)


def test_a_table_cannot_lead_out_of_its_root(built):
    (Path(built.root) / "link.csv").write_text("patient_id,original_id\n../../../etc,SC-N-2\n")
    assert "leads out of the root" in problems(built)[0]


@real
def test_the_real_folder_is_read_whole():
    layout = Sunnybrook(root=str(ROOT))
    assert not layout.index().problems
    slices = [clip for clips_of_one in clips(layout) for clip in clips_of_one]
    assert len(slices) == 28
    assert sum(len(clip.pixels) for clip in slices) == 164
    assert sum(int((clip.masks == 1).any(axis=(1, 2)).sum()) for clip in slices) == 56
    assert sum(int((clip.masks == 2).any(axis=(1, 2)).sum()) for clip in slices) == 28
    assert all((clip.masks[clip.ed_frame] == 1).sum() > (clip.masks[clip.es_frame] == 1).sum() for clip in slices)


@real
def test_blood_is_brighter_than_muscle_in_the_real_images():
    for clips_of_one in clips(Sunnybrook(root=str(ROOT))):
        for clip in clips_of_one:
            shot, mask = clip.pixels[clip.ed_frame], clip.masks[clip.ed_frame]
            assert shot[mask == 1].mean() > shot[mask == 2].mean()
