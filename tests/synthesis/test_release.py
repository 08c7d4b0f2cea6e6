import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cohorts.clips import films, stills
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames, gather, resize
from cohorts.readers import READERS
from cohorts.study import UNLABELLED, Origin, SubjectKey
from synthesis import release
from synthesis.manifest import MANIFEST, Manifest

SIZE = 16


def frames(subjects: int = 3, seed: int = 0) -> Frames:
    """Two views and two phases per subject, of noise; the last subject has no label."""
    rng = np.random.default_rng(seed)
    n = subjects * 4
    masks = rng.integers(0, 4, (n, SIZE, SIZE), dtype=np.uint8)
    lvef = np.repeat(rng.uniform(20, 70, subjects), 4).astype(np.float32)
    masks[-4:], lvef[-4:] = UNLABELLED, np.nan
    return Frames(
        pixels=rng.integers(0, 256, (n, SIZE, SIZE), dtype=np.uint8),
        masks=masks,
        view=np.tile(np.array([0, 0, 1, 1]), subjects),
        phase=np.tile(np.array([0, 1, 0, 1]), subjects),
        lvef_percent=lvef,
        subject=np.repeat(np.arange(subjects), 4),
        subjects=tuple(SubjectKey(f"pseudonym-of-a-patient-{i}") for i in range(subjects)),
    )


def test_a_release_reads_back_through_the_manifest_reader(tmp_path: Path) -> None:
    written = frames()
    release.write(tmp_path / "release", written, origin=Origin.SYNTHETIC)
    reader = READERS["manifest"](root=str(tmp_path / "release"), study="study", origin="synthetic")
    cohort = reader.read(pseudonyms=Pseudonyms(b"k" * 32))
    assert (cohort.origin, len(cohort.subjects)) == (Origin.SYNTHETIC, 3)
    back = gather(cohort, size=SIZE)
    order = _by_content(back.pixels), _by_content(written.pixels)
    for name in ("pixels", "masks", "view", "phase"):
        np.testing.assert_array_equal(getattr(back, name)[order[0]], getattr(written, name)[order[1]])
    np.testing.assert_allclose(back.lvef_percent[order[0]], written.lvef_percent[order[1]], atol=0.05)


def _by_content(pixels: np.ndarray) -> list[int]:
    return sorted(range(len(pixels)), key=lambda k: pixels[k].tobytes())


def test_several_frames_of_one_view_and_phase_are_told_apart(tmp_path: Path) -> None:
    one = frames(1)
    twice = dataclasses.replace(one, view=np.zeros(4, np.int64), phase=np.array([0, 0, 1, 1]))
    release.write(tmp_path / "release", twice, origin=Origin.SYNTHETIC)
    reader = READERS["manifest"](root=str(tmp_path / "release"), study="study", origin="synthetic")
    cohort = reader.read(pseudonyms=Pseudonyms(b"k" * 32))
    assert len(gather(cohort, size=SIZE)) == 4


def test_equal_frames_give_equal_bytes_and_times(tmp_path: Path) -> None:
    one = release.write(tmp_path / "one", frames(), origin=Origin.SYNTHETIC)
    two = release.write(tmp_path / "two", frames(), origin=Origin.SYNTHETIC)
    other = release.write(tmp_path / "other", frames(seed=1), origin=Origin.SYNTHETIC)
    assert one == two == Manifest.parse((tmp_path / "one" / MANIFEST).read_bytes())
    assert one.root != other.root
    assert {path.stat().st_mtime for path in (tmp_path / "one").rglob("*")} == {release.FILE_TIME}


def test_pictures_are_plain_grey_and_say_nothing_else(tmp_path: Path) -> None:
    release.write(tmp_path / "release", frames(), origin=Origin.SYNTHETIC)
    pictures = sorted((tmp_path / "release").rglob("*.png"))
    assert len(pictures) == 12 + 8
    for path in pictures:
        with Image.open(path) as picture:
            assert (picture.mode, picture.size, picture.info, dict(picture.getexif())) == ("L", (SIZE, SIZE), {}, {})
        raw = path.read_bytes()
        assert [raw[i + 4 : i + 8] for i in _chunks(raw)] == [b"IHDR", b"IDAT", b"IEND"]


def _chunks(raw: bytes) -> list[int]:
    starts = [8]
    while (after := starts[-1] + 12 + int.from_bytes(raw[starts[-1] : starts[-1] + 4], "big")) < len(raw):
        starts.append(after)
    return starts


def test_no_pseudonym_reaches_a_release(tmp_path: Path) -> None:
    release.write(tmp_path / "release", frames(), origin=Origin.SYNTHETIC)
    everything = b"".join(
        p.read_bytes() + str(p.name).encode() for p in (tmp_path / "release").rglob("*") if p.is_file()
    )
    assert b"pseudonym" not in everything
    with (tmp_path / "release" / release.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["patient"] for row in rows} == {"synthetic000000", "synthetic000001", "synthetic000002"}
    assert {row["origin"] for row in rows} == {"synthetic"}
    assert [row["mask"] == "" and row["ef_reported"] == "" for row in rows] == [False] * 8 + [True] * 4


@pytest.mark.parametrize("origin", [Origin.REAL, Origin.PHANTOM])
def test_only_synthetic_frames_are_released(tmp_path: Path, origin: Origin) -> None:
    with pytest.raises(ValueError, match="cannot be released"):
        release.write(tmp_path / "release", frames(), origin=origin)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to release"):
        release.write(tmp_path / "release", frames().select(()), origin=Origin.SYNTHETIC)


def test_a_killed_run_is_taken_up_and_another_release_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "release.partial" / "images").mkdir(parents=True)
    (tmp_path / "release.partial" / "images" / "half.png").write_bytes(b"half")
    first = release.write(tmp_path / "release", frames(), origin=Origin.SYNTHETIC)
    assert Manifest.of(tmp_path / "release") == first
    assert release.write(tmp_path / "release", frames(), origin=Origin.SYNTHETIC) == first
    with pytest.raises(ValueError, match="release holds another release already"):
        release.write(tmp_path / "release", frames(seed=1), origin=Origin.SYNTHETIC)
    assert [p.name for p in tmp_path.iterdir()] == ["release"]


def test_hearts_that_move_are_read_back_from_the_layout_of_echonet_dynamic(tmp_path):
    phase = np.tile(np.arange(6) / 6, (3, 1))
    clips = films(3, phase=phase, seed=8, size=64, lvef_percent=np.array([30.0, 45.0, 60.0]))
    frames = stills(clips, np.tile([0, 2], (6, 1)), np.arange(2))
    manifest = release.write(tmp_path / "release", frames, origin=Origin.SYNTHETIC, clips=clips)
    names = {entry.path for entry in manifest.files}
    assert {f"{view}/{name}" for view in ("A2C", "A4C") for name in ("FileList.csv", "VolumeTracings.csv")} <= names
    for view in ("A2C", "A4C"):
        cohort = READERS["echonet_dynamic"](root=str(tmp_path / "release" / view), view=view).read(
            pseudonyms=Pseudonyms(b"0123456789abcdef")
        )
        found = [study for subject in cohort.subjects for study in cohort.of(subject)]
        assert sorted(study.labels["lvef_percent"] for study in found) == [30, 45, 60]
        at = {30: 0, 45: 1, 60: 2}
        for study in found:
            (clip,) = study.clips
            row = 2 * at[study.labels["lvef_percent"]] + (view == "A4C")
            assert (len(clip.pixels), clip.ed_frame) == (6, 0)
            assert 60 / clips.heart_rate_bpm[row] == pytest.approx(6 * clip.frame_seconds, rel=1e-3)
            small = np.stack([resize(p, 64, nearest=False) for p in clip.pixels])
            assert np.corrcoef(small.ravel(), clips.pixels[row].ravel())[0, 1] > 0.98


def test_the_same_clips_are_released_as_the_same_bytes(tmp_path):
    clips = films(2, phase=np.tile([0.0, 0.3, 0.6], (2, 1)), seed=8, size=32)
    frames = stills(clips, np.tile([0, 1], (4, 1)), np.arange(2))
    one, two = (release.write(tmp_path / n, frames, origin=Origin.SYNTHETIC, clips=clips) for n in "ab")
    assert one == two
