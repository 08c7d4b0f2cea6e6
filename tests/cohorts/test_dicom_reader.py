import importlib.util
import json
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from cohorts import dicom_cache
from cohorts.deidentify import Pseudonyms
from cohorts.readers import dicom as reader
from cohorts.readers.dicom import Dicom
from cohorts.study import UnreadableStudy, View

BUILDER = Path(__file__).parents[1] / "contracts" / "builders" / "dicom.py"
DATA = Path(__file__).parents[2].parent / "shared" / "data"
KEY, OTHER = b"the key of site a stays there", b"the key of site b stays there"

_spec = importlib.util.spec_from_file_location("dicom_builder", BUILDER)
builder = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(builder)

real = pytest.mark.skipif(not (DATA / "us_dicom").is_dir(), reason="no real DICOM in ../shared/data")


@pytest.fixture
def built(tmp_path):
    return builder.build(tmp_path)


@pytest.fixture
def reads(monkeypatch):
    """Count the headers and the frames that are read."""
    seen = {"headers": 0, "frames": 0}

    def counted(name, function):
        def count(*args, **words):
            seen[name] += 1
            return function(*args, **words)

        return count

    monkeypatch.setattr(reader, "read_header", counted("headers", reader.read_header))
    monkeypatch.setattr(reader, "read_frames", counted("frames", reader.read_frames))
    return seen


def written_on(frames, words="SMITH JOHN"):
    out = []
    for frame in frames:
        image = Image.fromarray(frame).resize((224, 192), Image.Resampling.BICUBIC)
        ImageDraw.Draw(image).text((60, 6), words, fill=230, font=ImageFont.load_default(size=14))
        out.append(np.asarray(image))
    return np.stack(out)


def burned(folder, name="SMITH", **tags):
    """Write an echo of `name` with writing in it, and a clean one of the same study."""
    words = {"PatientName": "SMITH^JOHN", "AccessionNumber": "Q77311", "InstitutionName": "Mercy Ward", **tags}
    place = folder / "export" / "smith_john" / "q77311-mercy"
    builder.save(builder.ultrasound(written_on(builder.sector()), name=name, n=1, **words), place / "JOHN-1.dcm")
    builder.save(builder.ultrasound(builder.sector(seed=5), name=name, n=2, **words), place / "2.dcm")


def cohort(layout, key=KEY):
    return layout.read(pseudonyms=Pseudonyms(key))


def clips(layout):
    read = cohort(layout)
    return [clip for subject in read.subjects for study in read.of(subject) for clip in study.clips]


def said(layout, **words):
    index = layout.index(**words)
    return [str(each) for each in (*index.problems, *index.left_out)] + [source.where for source in index.sources]


def test_a_folder_becomes_studies_of_its_people(built):
    read = cohort(built)
    assert len(read.subjects) == 3
    for subject in read.subjects:
        echo, cine = sorted(read.of(subject), key=lambda study: study.clips[0].view)
        assert [len(clip.pixels) for clip in echo.clips] == [3, 1]
        assert [clip.view for clip in echo.clips] == [View.A4C, None]
        assert [clip.frame_seconds for clip in echo.clips] == [0.025, None]
        assert [(len(clip.pixels), clip.view) for clip in cine.clips] == [(3, View.SAX)] * 2
        assert cine.clips[0].frame_seconds == pytest.approx(0.03)
        assert read.columns[subject] == {"vendor": "Phantom Works"}


def test_images_of_a_slice_are_sorted_by_time_and_slices_by_place(built):
    sources = [s for s in built.index().sources if "cine" in s.where]
    assert [Path(source.where).name for source in sources[:2]] == ["0.dcm", "3.dcm"]


def test_a_series_that_does_not_call_itself_a_short_axis_is_not_one(tmp_path):
    for n in range(2):
        soft = 400 + 300 * np.sin(np.mgrid[:24, :24][0] / 9 + n)
        tags = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0], "TriggerTime": n}
        builder.save(builder.image(soft, name="a", n=n, SeriesDescription="2CH SAXON", **tags), tmp_path / f"{n}.dcm")
    assert clips(Dicom(root=str(tmp_path)))[0].view is None


def test_frames_of_a_series_stay_comparable(tmp_path):
    for n, level in enumerate((100, 500)):
        flat = np.full((16, 16), level) + np.arange(16)
        tags = {
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0, 0, 9.0 * n],
            "TriggerTime": 0,
        }
        builder.save(builder.image(flat, name="a", n=n, **tags), tmp_path / f"{n}.dcm")
    dark, bright = (clip.pixels for clip in clips(Dicom(root=str(tmp_path))))
    assert dark.max() < bright.min()


def test_an_empty_series_is_indexed_and_refused_when_it_is_read(tmp_path):
    turned = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0]}
    builder.save(builder.image(np.zeros((16, 16)), name="a", n=1, **turned), tmp_path / "0.dcm")
    with pytest.raises(UnreadableStudy, match="one grey value"):
        clips(Dicom(root=str(tmp_path)))


def test_a_study_with_burned_in_writing_is_listed_and_not_used(built, tmp_path):
    before = len(built.index().sources)
    burned(tmp_path)
    index = built.index()
    assert len(index.sources) == before
    reasons = sorted(problem.reason for problem in index.left_out)
    assert reasons == ["belongs to a study that is blocked", "looks as if writing was burned in inside the region"]


def test_no_identifier_of_a_blocked_study_reaches_a_message(built, tmp_path):
    burned(tmp_path)
    (tmp_path / "export" / "smith_john" / "q77311-mercy" / "SMITH.txt").write_text("no DICOM")
    (tmp_path / "export" / "smith_john" / "q77311-mercy" / "john.dcm").write_bytes(b"\0" * 128 + b"DICM\xff\xff\xff")
    everything = "\n".join(said(built)).lower().replace(str(tmp_path).lower(), "")
    for word in ("smith", "john", "q77311", "mercy"):
        assert word not in everything
    assert "…" in everything


def test_writing_outside_the_region_blocks_or_is_cropped_away(tmp_path):
    dataset = builder.ultrasound(written_on(builder.sector()), name="a", n=1)
    dataset.SequenceOfUltrasoundRegions[0].RegionLocationMinY0 = 40
    builder.save(dataset, tmp_path / "a.dcm")
    layout = Dicom(root=str(tmp_path))
    assert not layout.index().sources
    with pytest.raises(UnreadableStudy, match="outside the region"):
        cohort(layout)
    [clip] = clips(replace(layout, text="mask"))
    assert clip.pixels.shape[1] == 151


def test_a_file_of_nobody_and_a_file_without_an_image_are_left_out_with_a_reason(built, tmp_path):
    dataset = builder.ultrasound(builder.sector(), name="x", n=1)
    del dataset.PatientID
    builder.save(dataset, tmp_path / "nobody.dcm")
    report = builder.image(np.zeros((2, 2)), name="one", n=1, Modality="SR")
    del report.PixelData, report.Rows
    builder.save(report, tmp_path / "report.dcm")
    (tmp_path / "notes.txt").write_text("hello")
    index = built.index()
    assert not index.problems
    assert len(index.left_out) == 3
    assert all(problem.reason for problem in index.left_out)


def test_the_same_number_of_two_issuers_is_two_people(tmp_path):
    for issuer in ("north", "south"):
        tags = {"IssuerOfPatientID": issuer, "StudyInstanceUID": f"1.2.{len(issuer)}{ord(issuer[0])}"}
        builder.save(builder.ultrasound(builder.sector(), name="7", n=1, **tags), tmp_path / f"{issuer}.dcm")
    assert len(cohort(Dicom(root=str(tmp_path))).subjects) == 2


def test_one_study_of_two_people_is_a_problem(tmp_path):
    for name in ("a", "b"):
        dataset = builder.ultrasound(builder.sector(), name=name, n=1, StudyInstanceUID="1.2.3")
        builder.save(dataset, tmp_path / f"{name}.dcm")
    with pytest.raises(UnreadableStudy, match="belongs to another subject"):
        cohort(Dicom(root=str(tmp_path)))


def test_a_damaged_file_is_a_problem_and_every_other_one_is_named_too(built, tmp_path):
    whole = (tmp_path / "export0" / "IM1").read_bytes()
    (tmp_path / "export0" / "IM1").write_bytes(whole[:-900])
    (tmp_path / "export1" / "IM1").write_bytes(whole[:900])
    assert len(built.index().problems) + len(built.index().left_out) == 2
    with pytest.raises(UnreadableStudy, match="ends before"):
        cohort(built)


def test_a_link_out_of_the_folder_is_not_followed(built, tmp_path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    builder.save(builder.ultrasound(builder.sector(), name="out", n=1), outside / "o.dcm")
    (tmp_path / "link.dcm").symlink_to(outside / "o.dcm")
    (tmp_path / "folder").symlink_to(outside)
    assert len(cohort(built).subjects) == 3


def test_a_second_opening_reads_no_header_and_no_pixel(built, tmp_path_factory, reads):
    layout = replace(built, index_file=str(tmp_path_factory.mktemp("cache") / "index.json"))
    first = cohort(layout)
    assert reads["headers"] == 24
    reads.update(headers=0, frames=0)
    second = cohort(layout)
    assert reads == {"headers": 0, "frames": 0}
    assert first.subjects == second.subjects == cohort(built).subjects
    assert first.columns == second.columns
    for subject in first.subjects:
        for one, other in zip(first.of(subject), second.of(subject), strict=True):
            assert one.key == other.key
            for clip, same in zip(one.clips, other.clips, strict=True):
                assert np.array_equal(clip.pixels, same.pixels)
                assert (clip.view, clip.frame_seconds, clip.pixel_mm) == (same.view, same.frame_seconds, same.pixel_mm)


def test_the_cache_holds_no_identifier_and_of_a_blocked_study_nothing_but_a_reason(built, tmp_path, tmp_path_factory):
    burned(tmp_path)
    path = tmp_path_factory.mktemp("cache") / "index.json"
    cohort(replace(built, index_file=str(path)))
    text = path.read_text().lower()
    for word in ("smith", "john", "q77311", "mercy", "export", "1.2.826", "phantom", ".dcm"):
        assert word not in text
    blocked = [entry for entry in json.loads(text).values() if isinstance(entry, dict)]
    assert len(blocked) == 2
    assert all(set(entry) == {"blocked"} for entry in blocked)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_what_is_blocked_stays_blocked_and_redacted_in_the_second_opening(built, tmp_path, tmp_path_factory, reads):
    burned(tmp_path)
    layout = replace(built, index_file=str(tmp_path_factory.mktemp("cache") / "index.json"))
    first = said(layout, pseudonyms=Pseudonyms(KEY))
    reads.update(headers=0, frames=0)
    assert said(layout, pseudonyms=Pseudonyms(KEY)) == first
    assert reads == {"headers": 2, "frames": 0}


def test_a_changed_file_another_policy_and_another_key_are_looked_at_anew(built, tmp_path, tmp_path_factory, reads):
    layout = replace(built, index_file=str(tmp_path_factory.mktemp("cache") / "index.json"))
    cohort(layout)
    changed = builder.ultrasound(written_on(builder.sector()), name="one", n=1)
    builder.save(changed, tmp_path / "export0" / "IM1")
    assert any("burned in" in each.reason for each in cohort(layout).left_out)
    for other, key in ((replace(layout, text="mask"), KEY), (layout, OTHER)):
        reads.update(headers=0, frames=0)
        cohort(other, key)
        assert reads["headers"] == 24


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b"[" * 5000, b"\xff\xfe"])
def test_a_damaged_cache_is_as_good_as_none(built, tmp_path_factory, content):
    path = tmp_path_factory.mktemp("cache") / "index.json"
    path.write_bytes(content)
    assert cohort(replace(built, index_file=str(path))).subjects == cohort(built).subjects


def test_entries_of_a_cache_that_were_swapped_open_nothing(built, tmp_path_factory, reads):
    path = tmp_path_factory.mktemp("cache") / "index.json"
    layout = replace(built, index_file=str(path))
    cohort(layout)
    entries = json.loads(path.read_text())
    names = list(entries)
    path.write_text(json.dumps(dict(zip(names, [*list(entries.values())[1:], entries[names[0]]], strict=True))))
    reads.update(headers=0, frames=0)
    cohort(layout)
    assert reads["headers"] == 24


def test_without_a_key_no_cache_is_read_or_written(built, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "index.json"
    assert replace(built, index_file=str(path)).index().sources
    assert not path.exists()


def test_a_cache_inside_the_folder_is_not_taken_for_a_file_of_it(built, tmp_path):
    layout = replace(built, index_file=str(tmp_path / "index.json"))
    assert cohort(layout).left_out == cohort(layout).left_out == ()


def test_a_cache_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "index.json").mkdir()
    with pytest.raises(OSError, match=r"index\.json"):
        dicom_cache.save(tmp_path / "index.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="known: block, mask"):
        Dicom(text="allow")


@real
def test_real_files_with_writing_are_left_out_and_nobody_is_named():
    index = Dicom(root=str(DATA / "us_dicom")).index()
    assert not index.problems
    assert not index.sources
    assert "zzzdowntime" not in "\n".join(map(str, index.left_out)).lower()
    assert sum("burned in" in problem.reason for problem in index.left_out) == 6


@real
def test_a_real_cine_is_grouped_by_slice():
    index = Dicom(root=str(DATA / "scd_cine_dicom" / "dicoms")).index()
    assert not index.problems
    lengths = sorted(len(source.load().pixels) for source in index.sources)
    assert lengths == [2] * 22 + [20] * 6
