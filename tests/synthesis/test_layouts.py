"""Every layout is read back here as the field reads it: by its own loaders' rules, not by ours."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cohorts.dicom import read_frames
from cohorts.dicom_header import read_header
from cohorts.index import Source
from cohorts.readers import READERS
from cohorts.study import UNLABELLED, Clip, View
from synthesis.export import LAYOUTS
from synthesis.layouts import Layout, Take, Unsuitable, acdc, camus, dicom, echonet_dynamic, lot, plain

KEY = b"k" * 32
LAW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ellipse(size: int, semi: tuple[float, float], value: int = 1) -> NDArray[np.uint8]:
    """A mask of an upright ellipse with semi-axes `(across, along)` in pixels, in the middle."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.where((x / semi[0]) ** 2 + (y / semi[1]) ** 2 <= 1, value, 0).astype(np.uint8)


def clip(
    *, view: View = View.A4C, size: int = 64, seed: int = 0, pixel_mm: float | None = None, labelled: bool = True
) -> Clip:
    """Two frames, ED and ES, of smooth noise, with a larger and a smaller ventricle, each in its muscle."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (2, 8, 8), dtype=np.uint8)
    pixels = np.stack([np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse])
    shapes = ((0.2, 0.35), (0.13, 0.28))
    masks = np.stack(
        [
            np.maximum(ellipse(size, (size * a, size * b)), 2 * ellipse(size, (size * (a + 0.08), size * (b + 0.08))))
            - ellipse(size, (size * a, size * b))
            for a, b in shapes
        ]
    ).astype(np.uint8)
    return Clip(
        pixels=pixels,
        masks=masks if labelled else None,
        view=view,
        ed_frame=0,
        es_frame=1,
        pixel_mm=None if pixel_mm is None else (pixel_mm, pixel_mm),
    )


def take(subject: str, made: Clip, *, study: str = "1", lvef: float | None = 55.5) -> Take:
    return Take(subject=subject, study=study, lvef_percent=lvef, load=lambda: made)


def loaded_as_published(root: Path) -> dict[str, dict[str, object]]:
    """Read a folder by the rules of the published EchoNet-Dynamic loader, written anew from its behaviour."""
    listed = pd.read_csv(root / "FileList.csv")
    listed["Split"] = listed["Split"].map(str.upper)
    assert set(listed["Split"]) <= {"TRAIN", "VAL", "TEST"}
    names = [name if "." in name else f"{name}.avi" for name in listed["FileName"]]
    assert not set(names) - {path.name for path in (root / "Videos").iterdir()}
    frames: dict[str, list[int]] = defaultdict(list)
    traces: dict[str, dict[int, list[tuple[float, ...]]]] = defaultdict(lambda: defaultdict(list))
    with (root / "VolumeTracings.csv").open() as file:
        assert file.readline().strip().split(",") == ["FileName", "X1", "Y1", "X2", "Y2", "Frame"]
        for line in file:
            name, x1, y1, x2, y2, frame = line.strip().split(",")
            if int(frame) not in traces[name]:
                frames[name].append(int(frame))
            traces[name][int(frame)].append((float(x1), float(y1), float(x2), float(y2)))
    found = {}
    for (_, row), name in zip(listed.iterrows(), names, strict=True):
        if len(frames[name]) < 2:
            continue
        video = _video(root / "Videos" / name)
        small, large = frames[name][0], frames[name][-1]
        found[name] = {
            "EF": float(np.float32(row["EF"])),
            "video": video,
            "small": (video[small], _polygon(traces[name][small]), traces[name][small]),
            "large": (video[large], _polygon(traces[name][large]), traces[name][large]),
            "row": row,
        }
    return found


def _video(path: Path) -> NDArray[np.uint8]:
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    shots = []
    for _ in range(count):
        whole, frame = capture.read()
        assert whole, f"{path.name} ends early"
        assert frame.shape == (112, 112, 3)
        shots.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    assert not capture.read()[0]
    capture.release()
    return np.stack(shots)


def _polygon(lines: list[tuple[float, ...]]) -> NDArray[np.uint8]:
    t = np.array(lines)
    x, y = (np.rint(np.concatenate((t[1:, a], t[1:, b][::-1]))) for a, b in ((0, 2), (1, 3)))
    image = Image.new("L", (112, 112))
    ImageDraw.Draw(image).polygon(list(zip(x.tolist(), y.tolist(), strict=True)), fill=1)
    return np.asarray(image)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def echonet(folder: Path, takes: Iterable[Take]) -> tuple[str, ...]:
    folder.mkdir()
    return echonet_dynamic.write(folder, takes, KEY)


def test_the_published_loader_finds_small_and_large_traces_of_every_video(tmp_path: Path) -> None:
    made = {f"synthetic{k:06d}": clip(seed=k) for k in range(3)}
    echonet(tmp_path / "echonet", [take(name, one) for name, one in made.items()])
    found = loaded_as_published(tmp_path / "echonet")
    assert set(found) == {f"{name}.avi" for name in made}
    for name, one in made.items():
        row = found[f"{name}.avi"]
        assert row["EF"] == pytest.approx(55.5)
        for which, at in (("large", 0), ("small", 1)):
            picture, filled, lines = row[which]  # type: ignore[misc]
            assert len(lines) == 21
            wanted = np.asarray(Image.fromarray(one.pixels[at]).resize((112, 112), Image.Resampling.BILINEAR))
            assert np.abs(picture.astype(int) - wanted).mean() < 2
            mask = np.asarray(Image.fromarray(one.masks[at]).resize((112, 112), 0)) == 1  # type: ignore[index]
            assert dice(filled == 1, mask) > 0.95
            assert lines[0][1] < lines[0][3], "the apex stands before the base"


def test_headers_and_extensions_are_those_of_the_data_set_to_the_letter(tmp_path: Path) -> None:
    echonet(tmp_path / "echonet", [take("synthetic000000", clip())])
    assert (tmp_path / "echonet" / "FileList.csv").read_text().splitlines()[0] == (
        "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
    )
    with (tmp_path / "echonet" / "VolumeTracings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["FileName"] for row in rows} == {"synthetic000000.avi"}
    assert [row["Frame"] for row in rows] == ["1"] * 21 + ["0"] * 21


def test_no_volume_is_stated_without_the_size_of_a_pixel(tmp_path: Path) -> None:
    notes = echonet(tmp_path / "echonet", [take("a", clip()), take("b", clip(pixel_mm=1.5))])
    listed = pd.read_csv(tmp_path / "echonet" / "FileList.csv", index_col="FileName")
    assert math.isnan(listed.loc["a", "EDV"])
    assert listed.loc["b", "EDV"] > listed.loc["b", "ESV"] > 0
    assert notes == ("1 video of unknown scale has no volumes.",)


@LAW
@given(across=st.floats(8, 25), along=st.floats(10, 30), mm=st.floats(0.2, 2))
def test_discs_of_a_spheroid_have_its_volume(across: float, along: float, mm: float) -> None:
    found = echonet_dynamic.discs(ellipse(64, (across, max(along, across + 2))))
    assert found is not None
    wanted = 4 / 3 * math.pi * across**2 * max(along, across + 2) * mm**3 / 1000
    assert found.volume_ml((mm, mm)) == pytest.approx(wanted, rel=0.1)


@LAW
@given(mask=st.integers(0, 2**32 - 1).map(lambda s: np.random.default_rng(s).integers(0, 2, (12, 12), dtype=np.uint8)))
def test_any_mask_at_all_gives_finite_lines_or_none(mask: NDArray[np.uint8]) -> None:
    found = echonet_dynamic.discs(mask)
    assert found is None or (found.lines.shape == (21, 4) and bool(np.isfinite(found.lines).all()))


def test_a_video_without_masks_is_listed_but_not_traced(tmp_path: Path) -> None:
    notes = echonet(tmp_path / "echonet", [take("a", clip(labelled=False), lvef=None)])
    assert loaded_as_published(tmp_path / "echonet") == {}
    assert "1 video has fewer than two traced frames." in notes
    assert "1 video has no ejection fraction." in notes


def test_a_release_without_a_four_chamber_view_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsuitable, match="A4C"):
        echonet(tmp_path / "echonet", [take("a", clip(view=View.A2C))])


def test_two_examinations_of_one_subject_fall_into_one_split(tmp_path: Path) -> None:
    echonet(tmp_path / "echonet", [take(f"s{k}", clip(), study=study) for k in range(12) for study in ("1", "2")])
    listed = pd.read_csv(tmp_path / "echonet" / "FileList.csv")
    listed["subject"] = listed["FileName"].str.partition("_")[0]
    assert len(listed) == 24
    assert (listed.groupby("subject")["Split"].nunique() == 1).all()


def test_lots_fall_evenly_and_do_not_depend_on_who_else_is_there() -> None:
    lots = [lot(KEY, f"synthetic{k:06d}", 8) for k in range(2000)]
    assert np.bincount(lots, minlength=8).min() > 200
    assert lots[7] == lot(KEY, "synthetic000007", 8)


def test_a_frame_that_is_not_square_keeps_its_shape(tmp_path: Path) -> None:
    made = clip(size=64)
    wide = Clip(pixels=made.pixels[:, 8:56], masks=made.masks[:, 8:56], view=View.A4C, ed_frame=0, es_frame=1)  # type: ignore[index]
    echonet(tmp_path / "echonet", [take("a", wide)])
    _, filled, _ = loaded_as_published(tmp_path / "echonet")["a.avi"]["large"]  # type: ignore[misc]
    whole = np.asarray(Image.fromarray(made.masks[0]).resize((112, 112), 0)) == 1  # type: ignore[index]
    assert dice(filled == 1, whole) > 0.95


@pytest.mark.parametrize("name", ["../a", "a b", "", "a.b", "-a", "a/b"])
def test_a_name_that_no_file_should_bear_is_refused(name: str) -> None:
    with pytest.raises(Unsuitable, match="plain name"):
        take(name, clip())


@st.composite
def clips(draw: st.DrawFn, *, views: tuple[View, ...], labels: int) -> Clip:
    """Stills or a cine of noise, any size, with or without masks, phases, pixel size and frame rate."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    moves = draw(st.booleans())
    n = draw(st.integers(3, 5)) if moves else 2
    shape = (n, draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    masks = rng.integers(0, labels, shape, dtype=np.uint8)
    masks[draw(st.lists(st.integers(0, n - 1), max_size=n))] = UNLABELLED
    ed = draw(st.integers(0, n - 2)) if moves else 0
    return Clip(
        pixels=rng.integers(0, 256, shape, dtype=np.uint8),
        masks=masks if draw(st.booleans()) else None,
        view=draw(st.sampled_from(views)),
        ed_frame=ed,
        es_frame=draw(st.integers(ed + 1, n - 1)),
        frame_seconds=draw(st.sampled_from([0.02, 0.025, 0.04])) if moves else None,
        pixel_mm=draw(st.sampled_from([None, (0.5, 0.25), (1.5, 1.5)])),
    )


def sources(name: str, root: Path, **options: object) -> list[Source]:
    """What one of our readers finds, in its order; nothing may be wrong with it."""
    index = READERS[name](root=str(root), origin="synthetic", **options).index()
    assert not index.all_problems()
    return list(index.sources)


def masks_of(made: Clip) -> NDArray[np.uint8]:
    return np.full_like(made.pixels, UNLABELLED) if made.masks is None else made.masks


def whole(masks: NDArray[np.uint8]) -> bool:
    return not (masks == UNLABELLED).any()


@LAW
@given(made=clips(views=(View.A2C, View.A4C), labels=4), lvef=st.none() | st.integers(100, 900).map(lambda n: n / 10))
def test_camus_reads_back_as_it_was_written(
    made: Clip, lvef: float | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("camus")
    camus.write(root, [take("s1", made, lvef=lvef)], KEY)
    (source,) = sources("camus", root)
    back = source.load()
    phases = [made.ed_frame or 0, made.es_frame or 0]
    kept = slice(phases[0], phases[1] + 1) if made.frame_seconds else phases
    np.testing.assert_array_equal(back.pixels, made.pixels[kept])
    assert (back.view, back.ed_frame, back.es_frame) == (made.view, 0, len(back.pixels) - 1)
    assert source.labels.get("lvef_percent") == lvef
    assert back.pixel_mm == (None if made.pixel_mm is None else pytest.approx(made.pixel_mm))
    assert back.frame_seconds == (None if made.frame_seconds is None else pytest.approx(made.frame_seconds))
    for at, was in ((0, phases[0]), (-1, phases[1])):
        given_mask = masks_of(made)[was]
        np.testing.assert_array_equal(masks_of(back)[at], given_mask if whole(given_mask) else UNLABELLED)


@LAW
@given(made=st.lists(clips(views=(View.SAX, View.PSAX), labels=3), min_size=1, max_size=1), slices=st.integers(1, 3))
def test_acdc_reads_back_slice_by_slice(
    made: list[Clip], slices: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("acdc")
    one = made[0]
    stack = [take("s1", one, study=str(k + 1)) for k in range(slices)]
    acdc.write(root, stack, KEY)
    found = sources("acdc", root)
    assert len(found) == slices
    for source in found:
        back = source.load()
        phases = [one.ed_frame or 0, one.es_frame or 0]
        assert back.view is View.SAX
        at = (back.ed_frame, back.es_frame)
        assert at == (tuple(phases) if one.frame_seconds else (0, 1))
        for here, was in zip(at, phases, strict=True):
            given_mask = masks_of(one)[was]
            np.testing.assert_array_equal(masks_of(back)[here or 0], given_mask if whole(given_mask) else UNLABELLED)


def test_acdc_numbers_labels_as_its_readers_expect(tmp_path: Path) -> None:
    import nibabel

    mask = np.array([[0, 1], [2, 4]], np.uint8)
    made = Clip(
        pixels=np.zeros((2, 2, 2), np.uint8), masks=np.stack([mask, mask]), view=View.SAX, ed_frame=0, es_frame=1
    )
    acdc.write(tmp_path, [take("s1", made)], KEY)
    image = nibabel.load(tmp_path / "patient001" / "patient001_frame01_gt.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, :, 0].T, [[0, 3], [2, 1]])
    assert "Group" not in (tmp_path / "patient001" / "Info.cfg").read_text()


def test_a_left_atrium_has_no_number_in_acdc(tmp_path: Path) -> None:
    made = Clip(
        pixels=np.zeros((2, 4, 4), np.uint8),
        masks=np.full((2, 4, 4), 3, np.uint8),
        view=View.PSAX,
        ed_frame=0,
        es_frame=1,
    )
    with pytest.raises(Unsuitable, match="label 3"):
        acdc.write(tmp_path, [take("s1", made)], KEY)


@pytest.mark.parametrize(("write", "view"), [(acdc.write, View.A4C), (camus.write, View.PSAX), (dicom.write, View.SAX)])
def test_a_layout_refuses_views_that_it_does_not_hold(write: Layout, view: View, tmp_path: Path) -> None:
    with pytest.raises(Unsuitable, match=r"view|SAX"):
        write(tmp_path, [take("s1", clip(view=view))], KEY)


@LAW
@given(made=clips(views=(View.A4C,), labels=2))
def test_echonet_dynamic_reads_back_through_our_own_reader(
    made: Clip, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("echonet")
    echonet_dynamic.write(root, [take("s1", made, lvef=41.5)], KEY)
    (source,) = sources("echonet_dynamic", root)
    back = source.load()
    assert back.pixels.shape == (len(made.pixels), 112, 112)
    assert source.labels["lvef_percent"] == 41.5
    wanted, *_ = echonet_dynamic.squared(made.pixels)
    assert np.abs(back.pixels.astype(int) - wanted).mean() < 6


@LAW
@given(made=clips(views=(View.A2C, View.PLAX), labels=4))
def test_plain_pictures_read_back_by_phase(made: Clip, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("plain")
    plain.write_stills(root, [take("s1", made)], KEY)
    with (root / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for at, row in enumerate(rows):
        np.testing.assert_array_equal(np.asarray(Image.open(root / row["image"])), made.pixels[at])
        if row["mask"]:
            np.testing.assert_array_equal(np.asarray(Image.open(root / row["mask"])), masks_of(made)[at])
        else:
            assert (masks_of(made)[at] == UNLABELLED).all()
    assert [rows[at or 0]["phase"] for at in (made.ed_frame, made.es_frame)] == ["ED", "ES"]
    assert len(sources("manifest", root, study="study")) == 1 + len(rows) - 2


@LAW
@given(made=clips(views=(View.A2C, View.SAX), labels=5))
def test_plain_arrays_read_back_exactly(made: Clip, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("arrays")
    plain.write_arrays(root, [take("s1", made)], KEY)
    with (root / "labels.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    np.testing.assert_array_equal(np.load(root / row["image"], allow_pickle=False), made.pixels)
    masks = np.load(root / row["mask"], allow_pickle=False) if row["mask"] else np.full_like(made.pixels, UNLABELLED)
    np.testing.assert_array_equal(masks, masks_of(made))
    assert (int(row["ed_frame"]), int(row["es_frame"])) == (made.ed_frame, made.es_frame)
    assert row["pixel_mm"] == ("1.5" if made.pixel_mm == (1.5, 1.5) else "")
    assert bool(row["frame_rate_hz"]) == (made.frame_seconds is not None)


@LAW
@given(made=clips(views=(View.A2C, View.A4C, View.PLAX, View.PSAX), labels=3))
def test_dicom_reads_back_and_says_that_it_is_synthetic(made: Clip, tmp_path_factory: pytest.TempPathFactory) -> None:
    import pydicom

    root = tmp_path_factory.mktemp("dicom")
    dicom.write(root, [take("s1", made)], KEY)
    read = pydicom.dcmread(root / "dicom" / "s1" / "000000.dcm")
    np.testing.assert_array_equal(read.pixel_array, made.pixels)
    assert (read.SyntheticData, read.PatientIdentityRemoved, read.BurnedInAnnotation) == ("YES", "YES", "NO")
    assert (read.StudyDate, read.PatientBirthDate, read.PatientID) == ("", "", "s1")
    assert ("FrameTime" in read) == (made.frame_seconds is not None)
    if made.pixel_mm is None:
        assert "SequenceOfUltrasoundRegions" not in read
    else:
        region = read.SequenceOfUltrasoundRegions[0]
        assert (10 * region.PhysicalDeltaY, 10 * region.PhysicalDeltaX) == pytest.approx(made.pixel_mm)
    header = read_header(root / "dicom" / "s1" / "000000.dcm")
    assert (header.view, header.subject, header.claims.identity_removed) == (made.view, "s1", True)
    np.testing.assert_array_equal(read_frames(root / "dicom" / "s1" / "000000.dcm", header).values, made.pixels)
    assert header.pixel_mm == (None if made.pixel_mm is None else pytest.approx(made.pixel_mm))
    assert header.frame_seconds == (None if made.frame_seconds is None else pytest.approx(made.frame_seconds))
    assert not [element for element in read if element.VR in ("DA", "DT", "TM") and element.value]


def test_uids_are_new_for_every_image_and_the_same_in_every_export(tmp_path: Path) -> None:
    import pydicom

    found = []
    for folder, key in (("one", KEY), ("again", KEY), ("other", b"o" * 32)):
        (tmp_path / folder).mkdir()
        dicom.write(tmp_path / folder, [take(s, clip(), study=k) for s in ("a", "b") for k in ("1", "2")], key)
        found.append([pydicom.dcmread(path).SOPInstanceUID for path in sorted((tmp_path / folder).rglob("*.dcm"))])
    assert found[0] == found[1]
    assert len({*found[0], *found[2]}) == 8
    assert all(len(uid) <= 64 and uid.is_valid for uid in found[0])


@pytest.mark.parametrize("name", LAYOUTS)
def test_equal_clips_give_equal_bytes_in_every_layout(name: str, tmp_path: Path) -> None:
    view = View.PSAX if name == "acdc" else View.A4C
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        LAYOUTS[name](folder, [take("s1", clip(view=view)), take("s2", clip(view=view, seed=1))], KEY)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        contents.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
