import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cohorts.frames import Frames
from cohorts.study import Origin, SubjectKey, UnreadableStudy, View
from synthesis import release
from synthesis.export import LAYOUTS, Exported, export, takes_of
from synthesis.layouts import Unsuitable
from synthesis.manifest import MANIFEST, Manifest
from synthesis.release import FILE_TIME

SIZE = 16
KEY = b"k" * 32


def frames(subjects: int = 3, *, views: tuple[int, int] = (0, 1)) -> Frames:
    """Two views and two phases per subject, of noise; the last subject has neither label nor mask."""
    rng = np.random.default_rng(0)
    n = subjects * 4
    masks = rng.integers(0, 3, (n, SIZE, SIZE), dtype=np.uint8)
    lvef = np.repeat(rng.uniform(20, 70, subjects), 4).astype(np.float32)
    masks[-4:], lvef[-4:] = 255, np.nan
    return Frames(
        pixels=rng.integers(0, 256, (n, SIZE, SIZE), dtype=np.uint8),
        masks=masks,
        view=np.tile(np.repeat(np.array(views), 2), subjects),
        phase=np.tile(np.array([0, 1, 0, 1]), subjects),
        lvef_percent=lvef,
        subject=np.repeat(np.arange(subjects), 4),
        subjects=tuple(SubjectKey(f"pseudonym-of-a-patient-{i}") for i in range(subjects)),
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    release.write(tmp_path / "release", frames(), origin=Origin.SYNTHETIC)
    return tmp_path / "release"


def _edit(folder: Path, column: str, value: str) -> None:
    path = folder / "labels.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[-1][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_stills_of_one_view_are_one_clip_and_keep_their_labels(made: Path) -> None:
    takes = takes_of(made)
    assert [(take.subject, take.study) for take in takes] == [(f"synthetic{k:06d}", "1") for k in (0, 0, 1, 1, 2, 2)]
    assert [take.lvef_percent is None for take in takes] == [False] * 4 + [True] * 2
    clip = takes[1].load()
    assert (clip.view, clip.ed_frame, clip.es_frame, len(clip.pixels)) == (View.A4C, 0, 1, 2)
    assert takes[-1].load().masks is None


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "acdc"])
def test_an_export_lists_every_file_and_is_the_same_each_time(layout: str, made: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    one = export(made, tmp_path / "one", layout=layout, key=KEY, show=lambda done, of: told.append((done, of)))
    two = export(made, tmp_path / "two", layout=layout, key=KEY)
    assert one == two
    assert one.manifest == Manifest.parse((tmp_path / "one" / MANIFEST).read_bytes())
    assert not one.manifest.compare(tmp_path / "one")
    assert {path.stat().st_mtime for path in (tmp_path / "one").rglob("*")} == {FILE_TIME}
    assert told == [(k, 6) for k in range(7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "release", "two"]


def test_acdc_holds_short_axes_and_nothing_else(made: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsuitable, match="short-axis"):
        export(made, tmp_path / "out", layout="acdc", key=KEY)
    release.write(tmp_path / "short", frames(views=(3, 1)), origin=Origin.SYNTHETIC)
    done = export(tmp_path / "short", tmp_path / "out", layout="acdc", key=KEY)
    assert sum(entry.path.endswith("_gt.nii.gz") for entry in done.manifest.files) == 4
    assert "2 frames without complete masks have no _gt." in done.notes


def test_no_identifier_of_a_patient_can_be_in_an_export(made: Path, tmp_path: Path) -> None:
    export(made, tmp_path / "out", layout="dicom", key=KEY)
    for path in (tmp_path / "out").rglob("*"):
        assert "pseudonym" not in path.name
        assert path.is_dir() or b"pseudonym-of" not in path.read_bytes()


def test_what_fails_leaves_nothing_behind(made: Path, tmp_path: Path) -> None:
    def fail(folder: Path, exported: Exported) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(made, tmp_path / "out", layout="plain", key=KEY, finish=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_what_a_killed_export_left_is_not_in_the_next(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "stray").write_text("from before")
    export(made, tmp_path / "out", layout="plain", key=KEY)
    assert not (tmp_path / "out" / "stray").exists()


def test_an_export_is_not_written_over_anything(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="out exists"):
        export(made, tmp_path / "out", layout="plain", key=KEY)


def test_an_unknown_layout_is_refused_by_name(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout='bids' is unknown; known: echonet-dynamic, camus"):
        export(made, tmp_path / "out", layout="bids", key=KEY)


@pytest.mark.parametrize("origin", ["real", "phantom", ""])
def test_only_synthetic_frames_are_exported(origin: str, made: Path) -> None:
    _edit(made, "origin", origin)
    with pytest.raises(UnreadableStudy, match="origin"):
        takes_of(made)


def test_a_subject_whose_name_would_lead_out_of_the_folder_is_refused(made: Path) -> None:
    _edit(made, "patient", "../../elsewhere")
    with pytest.raises(Unsuitable, match="plain name"):
        takes_of(made)


def test_words_that_a_release_says_beyond_its_columns_are_kept(tmp_path: Path) -> None:
    one = dataclasses.replace(frames(), view=np.zeros(12, np.int64))
    release.write(tmp_path / "release", one, origin=Origin.SYNTHETIC)
    table = tmp_path / "release" / "labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},diagnosis", *(f"{line},pneumonia" for line in lines[1:])]) + "\n")
    assert {take.words["diagnosis"] for take in takes_of(tmp_path / "release")} == {"pneumonia"}
    export(tmp_path / "release", tmp_path / "out", layout="plain-npy", key=KEY)
    with (tmp_path / "out" / "labels.csv").open(newline="") as file:
        assert {row["diagnosis"] for row in csv.DictReader(file)} == {"pneumonia"}
