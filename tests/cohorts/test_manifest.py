import csv
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from cohorts import partition
from cohorts.deidentify import Pseudonyms
from cohorts.frames import gather
from cohorts.partition import Partition
from cohorts.readers.manifest import Manifest
from cohorts.study import UNLABELLED, Origin, UnreadableStudy, View

PSEUDONYMS = Pseudonyms(b"the key of site a stays there")
COLUMNS = ("patient", "view", "phase", "image", "mask", "ef_reported", "quality")


def draw(path, level, *, size=(10, 8), mask=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full(size, level, np.uint8)
    if not mask:
        array[0, 0] = 255 - level
    Image.fromarray(array).save(path)


def write_table(root, rows, *, columns=COLUMNS, name="labels.csv"):
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path):
    """Four patients in the layout of CAMUS, each pixel of a frame worth 10 * patient + its place among the four."""
    rows = []
    for patient in range(1, 5):
        for at, (view, phase) in enumerate((v, p) for v in ("2CH", "4CH") for p in ("ED", "ES")):
            image, mask = f"p{patient}/{view}_{phase}.png", f"p{patient}/{view}_{phase}_gt.png"
            draw(tmp_path / image, 10 * patient + at)
            draw(tmp_path / mask, at, mask=True)
            values = (f"p{patient}", view, phase, image, mask, 40 + patient, "Good" if patient < 3 else "Poor")
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    write_table(tmp_path, rows)
    return tmp_path, rows


def read(root, **fields):
    return Manifest(root=str(root), **fields).read(pseudonyms=PSEUDONYMS)


def study_of(cohort, raw="p1"):
    (study,) = cohort.of(PSEUDONYMS.subject(raw))
    return study


def refused(root, reason, **fields):
    with pytest.raises(UnreadableStudy, match=reason) as caught:
        read(root, **fields)
    assert "\n" not in str(caught.value)
    return caught.value


# What is read


def test_the_phases_of_one_view_become_one_clip_of_two_frames(folder):
    study = study_of(read(folder[0]))
    assert study.labels == {"lvef_percent": 41.0}
    assert study.origin is Origin.REAL
    assert [clip.view for clip in study.clips] == [View.A2C, View.A4C]
    for at, clip in enumerate(study.clips):
        assert (clip.ed_frame, clip.es_frame, clip.frame_seconds, clip.pixel_mm) == (0, 1, None, None)
        assert clip.pixels[:, 1, 1].tolist() == [10 + 2 * at, 11 + 2 * at]
        assert clip.masks[:, 1, 1].tolist() == [2 * at, 2 * at + 1]


def test_rows_may_come_in_any_order(folder):
    root, rows = folder
    straight = study_of(read(root))
    write_table(root, rows[::-1])
    clips = {clip.view: clip for clip in study_of(read(root)).clips}
    for clip in straight.clips:
        assert np.array_equal(clips[clip.view].pixels, clip.pixels)
        assert (clips[clip.view].ed_frame, clips[clip.view].es_frame) == (0, 1)


def test_no_raw_identifier_is_in_the_cohort(folder):
    cohort = read(folder[0], keep=("quality",))
    names = {*cohort.subjects, *(study_of(cohort, f"p{i}").key for i in range(1, 5))}
    assert len(names) == 8
    assert not any("p1" in name or "p4" in name for name in names)


def test_kept_columns_are_known_without_opening_a_file(folder):
    cohort = read(folder[0], keep=("quality", "ef_reported"))
    assert cohort.columns[PSEUDONYMS.subject("p1")] == {"quality": "Good", "ef_reported": "41"}
    assert set(cohort.columns) == set(cohort.subjects)


def test_pixels_are_decoded_when_a_subject_is_asked_for_and_anew_each_time(folder):
    root, _ = folder
    cohort = read(root)
    draw(root / "p1/2CH_ED.png", 99)
    assert study_of(cohort).clips[0].pixels[0, 1, 1] == 99


def test_records_of_one_person_are_one_subject_with_two_studies(folder):
    cohort = read(folder[0], same_subject=(["p3", "p2"],), keep=("quality",))
    assert len(cohort.subjects) == 3
    studies = cohort.of(PSEUDONYMS.subject("p2"))
    assert [study.labels["lvef_percent"] for study in studies] == [42.0, 43.0]
    assert {study.subject for study in studies} == {PSEUDONYMS.subject("p2")}
    assert len({study.key for study in studies}) == 2
    assert cohort.columns[PSEUDONYMS.subject("p2")] == {"quality": "Good"}
    assert PSEUDONYMS.subject("p3") not in cohort.subjects
    assert len(gather(cohort, size=8)) == 16


def test_a_person_keeps_the_pseudonym_where_only_the_other_record_is(folder):
    root, rows = folder
    write_table(root, [row for row in rows if row["patient"] == "p3"])
    assert read(root, same_subject=(["p3", "p2"],)).subjects == (PSEUDONYMS.subject("p2"),)


def test_a_site_reads_its_own_subjects_and_does_not_look_at_the_others(folder, tmp_path_factory):
    root, _ = folder
    (root / "p4/2CH_ED.png").unlink()
    manifest = Manifest(root=str(root), keep=("quality",))
    sites = partition.by_column(manifest.index().raw_columns(), "quality", same_subject=(["p2", "p3"],))
    assert sites.sites == {"Good": ("p1", "p2", "p3"), "Poor": ("p4",)}
    path = tmp_path_factory.mktemp("site") / "subjects.json"
    sites.only("Good").write(path)
    cohort = read(root, subjects_file=str(path), site="Good")
    assert set(cohort.subjects) == {PSEUDONYMS.subject(raw) for raw in ("p1", "p2", "p3")}


def test_a_table_without_masks_phases_views_and_labels_is_enough(folder):
    root, _ = folder
    write_table(root, [{"id": 7, "file": "p1/2CH_ED.png"}, {"id": 7, "file": "p1/2CH_ES.png"}], columns=("id", "file"))
    cohort = read(root, subject="id", image="file", view="", phase="", mask="", lvef="")
    study = study_of(cohort, "7")
    assert study.labels == {}
    assert [(c.view, c.masks, c.ed_frame, len(c.pixels)) for c in study.clips] == [(None, None, None, 1)] * 2


def test_a_cell_may_be_a_part_of_the_path(folder):
    root, rows = folder
    bare = [row | {"image": row["image"][:-4], "mask": row["mask"][3:-4]} for row in rows[:4]]
    write_table(root, bare)
    study = study_of(read(root, image_path="{}.png", mask_path="p1/{}.png"))
    assert study.clips[1].masks[1, 1, 1] == 3
    refused(root, r"line 2: image='p1/2CH_ED' leads out of the root", image_path="../../{}.png")


def test_blank_cells_are_unknown_and_never_guessed(folder):
    root, rows = folder
    rows[0] |= {"mask": "", "ef_reported": ""}
    rows[2] |= {"view": "", "phase": ""}
    write_table(root, rows)
    study = study_of(read(root))
    assert study.labels == {"lvef_percent": 41.0}
    pair, unknown, alone = study.clips
    assert np.all(pair.masks[0] == UNLABELLED)
    assert np.all(pair.masks[1] == 1)
    assert (unknown.view, unknown.ed_frame, unknown.es_frame) == (None, None, None)
    assert (alone.view, alone.ed_frame, alone.es_frame, len(alone.pixels)) == (View.A4C, None, 0, 1)


def test_the_studies_of_a_subject_are_told_apart_by_their_column(folder):
    root, rows = folder
    for row in rows[4:8]:
        row |= {"patient": "p1"}
    rows = [row | {"visit": row["image"][:2]} for row in rows]
    write_table(root, rows, columns=(*COLUMNS, "visit"))
    studies = read(root, study="visit").of(PSEUDONYMS.subject("p1"))
    assert [study.labels["lvef_percent"] for study in studies] == [41.0, 42.0]
    refused(root, r"ejection fraction 42.0 contradicts 41.0 in .*labels.csv line 2")


@pytest.mark.parametrize("suffix", [".npy", ".avi"])
def test_a_video_becomes_a_clip_of_its_frames(tmp_path, suffix):
    frames = np.random.default_rng(0).integers(0, 256, (7, 16, 24), dtype=np.uint8)
    masks = frames % 4
    np.save(tmp_path / "masks.npy", masks)
    if suffix == ".npy":
        np.save(tmp_path / "clip.npy", frames)
    else:
        write_avi(tmp_path / "clip.avi", frames)
    row = {"name": "x", "file": f"clip{suffix}", "m": "masks.npy", "ed": 1, "es": 5, "fps": 50, "mm": 0.4, "v": "A4C"}
    write_table(tmp_path, [row], columns=tuple(row), name="t.csv")
    fields = {"table": "t.csv", "subject": "name", "image": "file", "mask": "m", "view": "v", "phase": "", "lvef": ""}
    units = {"frame_rate_hz": "fps", "pixel_mm": "mm", "ed_frame": "ed", "es_frame": "es"}
    (clip,) = study_of(read(tmp_path, **fields, **units), "x").clips
    assert np.array_equal(clip.pixels, frames)
    assert np.array_equal(clip.masks, masks)
    assert (clip.view, clip.ed_frame, clip.es_frame) == (View.A4C, 1, 5)
    assert (clip.frame_seconds, clip.pixel_mm) == (0.02, (0.4, 0.4))
    (clip,) = study_of(read(tmp_path, **fields), "x").clips
    assert clip.frame_seconds == (None if suffix == ".npy" else pytest.approx(1 / 40))


def write_avi(path, frames):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=40)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "gray"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))


def test_words_of_the_table_are_mapped_and_spreadsheets_habits_forgiven(folder):
    root, rows = folder
    lines = [";".join(COLUMNS), *(";".join(f" {row[c]} " for c in COLUMNS) for row in rows[:2])]
    text = "\r\n".join(lines).replace("2CH ", "zwei Kammern ").replace(" ED ", " ed ")
    (root / "labels.csv").write_text("\ufeff" + text, encoding="utf-8")
    study = study_of(read(root, separator=";", view_names={"zwei Kammern": "A2C"}))
    assert (study.clips[0].view, len(study.clips[0].pixels)) == (View.A2C, 2)


# What is refused


def test_a_missing_root_is_refused(tmp_path):
    assert "gone" in str(refused(tmp_path / "gone", "is not a folder"))
    with pytest.raises(UnreadableStudy, match="root='': is not a folder"):
        Manifest().read(pseudonyms=PSEUDONYMS)


def test_a_missing_table_is_refused(folder):
    assert "tabelle.csv" in str(refused(folder[0], "no such table", table="tabelle.csv"))


def test_a_missing_column_is_refused_with_those_there_are(folder):
    refused(
        folder[0], r"has no column 'ansicht', 'sex'; it has: patient, view, .*quality", view="ansicht", keep=("sex",)
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no column 'patient', "),
        ("patient,view,phase,image,mask,ef_reported\n", "has a header but no rows"),
        ("patient,view,phase,image,mask,ef_reported,view\n", "has column 'view' 2 times"),
        ("patient,view,phase,image,mask,ef_reported\np1,2CH\n", "line 2: has 2 cells, the header has 6"),
        ("patient,view,phase,image,mask,ef_reported\np1,2CH,ED,a,b,1,2\n", "line 2: has 7 cells"),
        ('patient,view,phase,image,mask,ef_reported\n"p1', "is not a CSV in UTF-8: unexpected end of data"),
        ("patient,view,phase,image,mask,ef_reported\nM\xfcller,,,,,\n", "is not a CSV in UTF-8: .*codec can't decode"),
    ],
)
def test_a_broken_table_is_refused(tmp_path, text, reason):
    (tmp_path / "labels.csv").write_bytes(text.encode("latin-1"))
    assert "labels.csv" in str(refused(tmp_path, reason))


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("patient", " ", "labels.csv line 2: column 'patient' is empty"),
        ("image", "", "labels.csv line 2: column 'image' is empty"),
        ("view", "PLAXX", "labels.csv line 2: view='PLAXX' is no view; known: 2CH, 4CH, A2C, A4C, PLAX, PSAX"),
        ("phase", "mid", "labels.csv line 2: phase='MID' is no phase; known: ED, ES"),
        ("ef_reported", "101", r"labels.csv line 2: ef_reported='101' is not a number in 0\.\.100"),
        ("ef_reported", "-1", r"labels.csv line 2: ef_reported='-1' is not a number in 0\.\.100"),
        ("ef_reported", "nan", r"labels.csv line 2: ef_reported='nan' is not a number in 0\.\.100"),
        ("ef_reported", "good", r"labels.csv line 2: ef_reported='good' is not a number in 0\.\.100"),
        ("image", "../p1/2CH_ED.png", r"line 2: image='\.\./p1/2CH_ED.png' leads out of the root"),
        ("image", "/etc/passwd", "line 2: image='/etc/passwd' leads out of the root"),
        ("mask", "p1/../../x.png", r"line 2: mask='p1/\.\./\.\./x.png' leads out of the root"),
        ("image", "p1/gone.png", r"gone.png: no such file$"),
        ("image", "p1/\0.png", r"line 2: image='p1/.x00.png' is no path: embedded null byte"),
        ("image", "labels.csv", r"labels.csv: has suffix '.csv'; known: "),
        ("image", "p1/" + "x" * 300 + ".png", "File name too long"),
        ("image", "p2/2CH_ED.png", r"2CH_ED.png of subject 'p2' contradicts 'p1' in .*labels.csv line 2"),
        (
            "phase",
            "ES",
            "labels.csv line 3: a second ES frame of view A2C contradicts the first in .*labels.csv line 2",
        ),
    ],
)
def test_a_bad_cell_is_refused_with_file_line_value_and_bound(folder, column, value, reason):
    root, rows = folder
    rows[0] |= {column: value}
    write_table(root, rows)
    refused(root, reason)


def test_a_link_out_of_the_root_is_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.png"
    draw(outside, 5)
    path = folder[0] / "p1/2CH_ED.png"
    path.unlink()
    path.symlink_to(outside)
    refused(folder[0], "leads out of the root")


def test_a_root_that_is_itself_a_link_is_fine(folder, tmp_path_factory):
    link = tmp_path_factory.mktemp("link") / "root"
    link.symlink_to(folder[0])
    assert len(read(link).subjects) == 4


def test_an_unreadable_image_is_refused_before_training_starts(folder):
    (folder[0] / "p2/2CH_ES.png").write_bytes(b"not a picture")
    refused(folder[0], r"p2/2CH_ES.png: is not a PNG or JPEG \(13 bytes\)$")


def test_a_truncated_image_is_refused_when_it_is_decoded(folder):
    path = folder[0] / "p1/2CH_ES.png"
    path.write_bytes(path.read_bytes()[:-30])
    cohort = read(folder[0])
    with pytest.raises(UnreadableStudy, match=r"p1/2CH_ES.png: .*truncated"):
        study_of(cohort)
    assert study_of(cohort, "p2")


def test_a_mask_of_another_size_is_refused(folder):
    draw(folder[0] / "p1/2CH_ED_gt.png", 1, size=(10, 9), mask=True)
    refused(folder[0], r"p1/2CH_ED_gt.png: mask of 9x10 for an image of 8x10$")


def test_phases_of_two_sizes_are_refused(folder):
    for name in ("p1/2CH_ES.png", "p1/2CH_ES_gt.png"):
        draw(folder[0] / name, 1, size=(12, 8), mask=True)
    refused(folder[0], r"p1/2CH_ES.png: is 8x12, the other phase of its view 8x10$")


def test_a_mask_with_a_foreign_label_is_refused_when_it_is_decoded(folder):
    draw(folder[0] / "p1/2CH_ED_gt.png", 255, mask=True)
    with pytest.raises(UnreadableStudy, match=r"p1/2CH_ED_gt.png: holds mask label 255; labels must lie in 0\.\.3"):
        study_of(read(folder[0]))


def test_a_phase_for_a_whole_video_is_refused(folder):
    root, rows = folder
    np.save(root / "p1/clip.npy", np.zeros((5, 10, 8), np.uint8))
    rows[0] |= {"image": "p1/clip.npy", "mask": ""}
    write_table(root, rows)
    refused(root, r"line 2: phase ED names one frame, but clip.npy is 5 frames$")
    write_avi(root / "p1/clip.avi", np.zeros((3, 10, 8), np.uint8))
    rows[0] |= {"image": "p1/clip.avi"}
    write_table(root, rows)
    refused(root, r"line 2: phase ED names one frame, but clip.avi is a video$")


def test_frames_outside_a_clip_and_masks_of_another_length_are_refused(tmp_path):
    np.save(tmp_path / "c.npy", np.zeros((5, 4, 4), np.uint8))
    write_avi(tmp_path / "c.avi", np.zeros((5, 16, 16), np.uint8))
    np.save(tmp_path / "m.npy", np.zeros((4, 16, 16), np.uint8))
    fields = {"subject": "s", "image": "i", "mask": "m", "view": "", "phase": "", "lvef": "", "ed_frame": "ed"}
    write_table(tmp_path, [{"s": 1, "i": "c.npy", "m": "", "ed": 5}], columns=("s", "i", "m", "ed"))
    with pytest.raises(UnreadableStudy, match=r"c.npy: ed_frame=5 lies outside 0\.\.4"):
        study_of(read(tmp_path, **fields), "1")
    write_table(tmp_path, [{"s": 1, "i": "c.avi", "m": "m.npy", "ed": 0}], columns=("s", "i", "m", "ed"))
    with pytest.raises(UnreadableStudy, match=r"c.avi: masks are uint8 \(4, 16, 16\), must be uint8 \(5, 16, 16\)"):
        study_of(read(tmp_path, **fields), "1")
    write_table(tmp_path, [{"s": 1, "i": "c.npy", "m": "", "ed": "1.5"}], columns=("s", "i", "m", "ed"))
    refused(tmp_path, "line 2: ed='1.5' is not a whole number from 0", **fields)


def test_a_kept_column_must_be_constant_in_a_subject(folder):
    root, rows = folder
    rows[3] |= {"quality": "Poor"}
    write_table(root, rows)
    assert len(read(root).subjects) == 4
    refused(root, r"labels.csv line 5: quality='Poor' contradicts 'Good' in .*labels.csv line 2$", keep=("quality",))


def test_fractions_in_place_of_percent_are_refused(folder):
    root, rows = folder
    for row in rows:
        row |= {"ef_reported": row["ef_reported"] / 100}
    write_table(root, rows)
    refused(root, "no ejection fraction of the table exceeds 1; they must be in percent")


def test_the_first_problem_is_named_and_the_others_are_counted(folder):
    root, rows = folder
    rows[5] |= {"view": "5CH"}
    rows[9] |= {"ef_reported": "200"}
    (root / "p1/2CH_ED.png").unlink()
    write_table(root, rows)
    refused(root, r"line 7: view='5CH' is no view; .* \(and 2 more\)$")
    problems = Manifest(root=str(root)).index().problems
    assert [type(problem) for problem in problems] == [UnreadableStudy] * 3
    assert problems[2].reason == "no such file"
    shutil.rmtree(root)
    assert [problem.reason for problem in Manifest(root=str(root)).index().problems] == [
        "is not a folder; set it to where the studies are"
    ]


def test_a_sound_cohort_has_no_problems(folder):
    assert Manifest(root=str(folder[0])).index().problems == ()


def test_a_partition_of_another_table_is_refused(folder):
    path = folder[0] / "subjects.json"
    Partition(sites={"a": ("p1", "p9")}).write(path)
    refused(folder[0], r"subjects.json: names 'p9', which labels.csv does not", subjects_file=str(path), site="a")
    refused(folder[0], "no such partition file", subjects_file=str(path) + "x", site="a")
    with pytest.raises(ValueError, match="unknown site 'b'; the partition has: a"):
        read(folder[0], subjects_file=str(path), site="b")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subject": ""}, "subject is empty"),
        ({"image": ""}, "image is empty"),
        ({"image_path": "Videos"}, "image_path='Videos' must hold {}, where the cell goes"),
        ({"separator": ", "}, "separator=', ' must be one character"),
        ({"view_names": {"2CH": "A2X"}}, r"view_names\['2CH'\]='A2X' is no view; known: A2C, A4C, PLAX, PSAX"),
        ({"origin": "dream"}, "origin='dream' is unknown; known: real, phantom, synthetic"),
        ({"site": "a"}, "subjects_file='' and site='a' need each other"),
        ({"same_subject": (["a", "b"], ["c", "b"])}, "same_subject has 'b' in two groups"),
    ],
)
def test_a_wrong_field_is_refused_when_the_config_is_made(fields, reason):
    with pytest.raises(ValueError, match=reason):
        Manifest(**fields)


WORDS = st.lists(st.text("abc-_ 0123é", max_size=3), max_size=3)


@settings(max_examples=25, deadline=None)
@given(groups=st.lists(WORDS, max_size=3), keep=WORDS)
def test_the_config_survives_yaml(groups, keep):
    groups = [group for at, group in enumerate(groups) if not set(group) & {raw for g in groups[:at] for raw in g}]
    config = OmegaConf.structured(Manifest(same_subject=tuple(groups), keep=tuple(keep), view_names={"v": "PSAX"}))
    again = OmegaConf.to_object(OmegaConf.create(OmegaConf.to_yaml(config)))
    assert Manifest(**again) == Manifest(same_subject=tuple(groups), keep=tuple(keep), view_names={"v": "PSAX"})
