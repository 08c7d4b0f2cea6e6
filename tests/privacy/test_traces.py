from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cohorts.frames import Frames
from cohorts.phantom.simulate import stills
from cohorts.study import Origin
from privacy.traces import Trace, identifying, traces
from synthesis import release


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("1.2.840.113619.2.55.3.604688", "a DICOM identifier"),
        ("DOE^JANE", "a DICOM name"),
        ("Müller^Änne", "a DICOM name"),
        ("1957-03-02", "a date"),
        ("19570302", "a date"),
        ("2023:05:01 12:00:00", "a date"),
        ("2.3.1957", "a date"),
        ("jane.doe@hospital.example", "an e-mail address"),
        ("/home/jane/echo.avi", "a path"),
        ("C:\\echo\\1.avi", "a path"),
        ("patient 48217709", "a long number"),
        ("000123", ""),
        ("0X1A2B3C4D5E6F", ""),
        ("55.12345678", ""),
        ("synthetic-17", ""),
        ("A4C", ""),
        ("1.2.3", ""),
        ("Lavf61.7.100", ""),
    ],
)
def test_words_that_tell_who_somebody_is_are_known_by_their_kind(words: str, kind: str) -> None:
    assert identifying(words) == kind


def _film(path: Path, comment: str = "") -> None:
    """Write a film of noise, whose bytes hold every short word somewhere."""
    with av.open(str(path), "w") as film:
        film.metadata["comment"] = comment
        stream = film.add_stream("mjpeg", rate=25, width=64, height=64, pix_fmt="yuvj420p", options={"qscale": "1"})
        rng = np.random.default_rng(0)
        for _ in range(50):
            grey = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        film.mux(stream.encode())


@pytest.fixture(scope="module")
def ours() -> Frames:
    return stills(4, seed=1)


def test_a_release_of_our_own_leaves_no_trace(tmp_path: Path, ours: Frames) -> None:
    release.write(tmp_path / "release", ours, origin=Origin.SYNTHETIC)
    assert traces(tmp_path / "release") == ()


def test_traces_are_found_where_they_stay_behind_and_never_repeated(tmp_path: Path, ours: Frames) -> None:
    folder = tmp_path / "release"
    release.write(folder, ours, origin=Origin.SYNTHETIC)
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace("A4C", "DOE^JANE", 1))
    said = PngInfo()
    said.add_text("Comment", "seen 1957-03-02")
    Image.new("L", (8, 8)).save(folder / "images" / "extra.png", pnginfo=said)
    exif = Image.Exif()
    exif[0x0132] = "2023:05:01 12:00:00"
    Image.new("L", (8, 8)).save(folder / "images" / "extra.jpg", exif=exif)
    (folder / "1957-03-02.txt").write_text("")
    _film(folder / "clip.avi", comment="made from /home/jane/echo.dcm")
    found = traces(folder)
    assert set(found) == {
        Trace(kind="a DICOM name", where="labels.csv, column view"),
        Trace(kind="a date", where="images/extra.png, Comment"),
        Trace(kind="a date", where="images/extra.jpg, DateTime"),
        Trace(kind="a date", where="the name of a file"),
        Trace(kind="a path", where="clip.avi, comment"),
    }
    assert not any(word in str(found) for word in ("DOE", "1957-03-02 ", "jane"))


def test_a_broken_picture_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG not a picture")
    (tmp_path / "a.avi").write_bytes(b"RIFF not a film")
    assert traces(tmp_path) == ()


@pytest.mark.parametrize("kind", ["avi", "mp4"])
def test_the_pixels_of_a_film_say_nothing(kind: str, tmp_path: Path) -> None:
    for n in range(20):
        _film(tmp_path / f"{n}.{kind}")
    assert traces(tmp_path) == ()
