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

from cohorts.study import Clip, View
from synthesis.layouts import Take, Unsuitable, echonet_dynamic, lot

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
    assert notes == ("1 video without pixel size has no ESV, EDV.",)


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
