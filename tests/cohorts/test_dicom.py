"""DICOM headers and pixels: written by pydicom, by Pillow and by hand, and those of real scanners where they lie."""

import importlib.util
import io
import logging
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from cohorts.dicom import grey_range, read_frames, read_scaled
from cohorts.dicom_elements import HEADER_BYTES_MAX
from cohorts.dicom_header import read_header
from cohorts.study import UnreadableStudy, View

BUILDER = Path(__file__).parents[1] / "contracts" / "builders" / "dicom.py"
ROOT = Path(__file__).parents[2].parent / "shared" / "data"
REAL = sorted((ROOT / "us_dicom").glob("*.dcm"))

_spec = importlib.util.spec_from_file_location("dicom_builder", BUILDER)
builder = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(builder)

real = pytest.mark.skipif(not REAL, reason="no real DICOM in ../shared/data")
GREY = builder.sector(3, 40, 48)


def echo(path, frames=GREY, **tags):
    return builder.save(builder.ultrasound(frames, name="one", n=1, **tags), path / "a.dcm")


def coloured(path, rgb, **tags):
    dataset = builder.ultrasound(rgb[..., 0], name="one", n=1, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    dataset.PlanarConfiguration = 0
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = (np.moveaxis(rgb, -1, 1) if dataset.PlanarConfiguration else rgb).tobytes()
    return builder.save(dataset, path / "a.dcm")


def compressed(path, frames, syntax, encode, **tags):
    dataset = builder.ultrasound(frames, name="one", n=1, **tags)
    dataset.PixelData = encapsulate([encode(frame) for frame in frames])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    return builder.save(dataset, path / "a.dcm")


def by_pillow(kind, **options):
    def encode(frame):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, kind, **options)
        return file.getvalue()

    return encode


def read(path, **options):
    return read_frames(path, read_header(path), **options)


def test_uncompressed_frames_come_back_cropped_to_their_region(tmp_path):
    path = echo(tmp_path)
    assert np.array_equal(read(path).values, GREY[:, 1:-1, 2:-2])
    assert np.array_equal(read(path, whole=True).values, GREY)
    assert np.array_equal(read(path, whole=True, only=[2]).values, GREY[2:])


def test_the_header_says_how_large_a_pixel_is_and_how_long_a_frame_lasts(tmp_path):
    header = read_header(echo(tmp_path))
    assert header.pixel_mm == pytest.approx((0.4, 0.3))
    assert header.frame_seconds == 0.025
    assert header.shape == GREY.shape
    assert header.region == (1, 2, 39, 46)
    assert header.vendor == "Phantom Works"


def test_a_region_of_an_image_that_was_resized_since_is_not_believed(tmp_path):
    dataset = builder.ultrasound(GREY, name="one", n=1)
    dataset.SequenceOfUltrasoundRegions[0].RegionLocationMaxX1 = 48
    header = read_header(builder.save(dataset, tmp_path / "a.dcm"))
    assert (header.region, header.pixel_mm) == (None, None)


def test_a_doppler_spectrum_is_no_region(tmp_path):
    dataset = builder.ultrasound(GREY, name="one", n=1)
    dataset.SequenceOfUltrasoundRegions[0].RegionSpatialFormat = 3
    assert read_header(builder.save(dataset, tmp_path / "a.dcm")).region is None


@pytest.mark.parametrize(
    ("tags", "seconds"),
    [
        ({"FrameTime": 20.0}, 0.02),
        ({"FrameTime": None, "FrameTimeVector": [0, 20, 21]}, 0.0205),
        ({"FrameTime": None, "FrameTimeVector": [0, 20, 90]}, None),
        ({"FrameTime": 0, "CineRate": 50}, 0.02),
        ({"FrameTime": None, "RecommendedDisplayFrameRate": 25}, 0.04),
        ({"FrameTime": None}, None),
    ],
)
def test_a_frame_time_is_read_or_absent(tmp_path, tags, seconds):
    found = read_header(echo(tmp_path, **tags)).frame_seconds
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("code", "view"), [("399232001", View.A2C), ("G-A19C", View.A4C), ("399036006", View.PSAX), ("399339008", None)]
)
def test_a_view_is_what_its_code_says_and_never_guessed(tmp_path, code, view):
    assert read_header(echo(tmp_path, ViewCodeSequence=builder.view(code))).view is view
    assert read_header(echo(tmp_path)).view is None


def test_two_view_codes_that_contradict_each_other_are_none(tmp_path):
    two = builder.view("399232001") + builder.view("399214001")
    assert read_header(echo(tmp_path, ViewCodeSequence=two)).view is None


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_becomes_luma_and_is_said(tmp_path, planar):
    rgb = np.repeat(GREY[..., None], 3, axis=-1)
    assert not read(coloured(tmp_path, rgb, PlanarConfiguration=planar)).colour
    rgb[:, 10:20, 10:20] = (255, 0, 0)
    found = read(coloured(tmp_path, rgb, PlanarConfiguration=planar), whole=True)
    assert found.colour
    assert np.all(found.values[:, 10:20, 10:20] == 76)
    assert np.array_equal(found.values[:, 25:], GREY[:, 25:])


def test_an_inverted_grey_scale_is_turned_back(tmp_path):
    assert np.array_equal(
        read(echo(tmp_path, 255 - GREY, PhotometricInterpretation="MONOCHROME1"), whole=True).values, GREY
    )


def test_run_lengths_come_back(tmp_path):
    dataset = builder.ultrasound(GREY, name="one", n=1)
    dataset.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(read(builder.save(dataset, tmp_path / "a.dcm"), whole=True).values, GREY)


def test_jpeg_2000_comes_back_and_jpeg_within_its_loss(tmp_path):
    path = compressed(tmp_path, GREY, JPEG2000Lossless, by_pillow("JPEG2000", no_jp2=True))
    assert np.array_equal(read(path, whole=True).values, GREY)
    path = compressed(tmp_path, GREY, JPEGBaseline8Bit, by_pillow("JPEG", quality=95))
    assert np.abs(read(path, whole=True, only=[0, 2]).values.astype(int) - GREY[[0, 2]]).max() < 40


def test_magnetic_resonance_keeps_its_units(tmp_path):
    values = np.arange(-300, 300).reshape(20, 30)
    path = builder.save(builder.image(values, name="a", n=1, RescaleSlope=2, RescaleIntercept=5), tmp_path / "a.dcm")
    header = read_header(path)
    assert np.array_equal(read_scaled(path, header)[0], 2 * values + 5)
    low, high = grey_range([(path, header)])
    assert -595 <= low < high <= 603


def test_what_the_header_has_no_list_for_is_not_read(tmp_path):
    header = read_header(echo(tmp_path, PatientName="SMITH^JOHN", PatientComments="lives next door"))
    assert "next door" not in repr(header) + str(header.identifiers)
    assert "SMITH" not in repr(header)
    assert any("SMITH" in identifier for identifier in header.identifiers)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"Rows": 4000, "Columns": 6000}, "at most"),
        ({"NumberOfFrames": 999_999, "Rows": 1000, "Columns": 1000}, "at most"),
        ({"NumberOfFrames": 9}, "ends before"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "photometric"),
        ({"BitsAllocated": 16}, "bits"),
        ({"BitsAllocated": 12}, "bits"),
        ({"Rows": 0}, "no image"),
    ],
)
def test_a_header_that_promises_nonsense_is_refused_in_one_line(tmp_path, change, says):
    path = echo(tmp_path, **change)
    with pytest.raises(UnreadableStudy, match=says) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("milliseconds", ["1e-300", 9e9])
def test_a_frame_time_that_no_scanner_has_is_refused(tmp_path, milliseconds):
    with pytest.raises(UnreadableStudy, match=r"states a frame time of .*, outside"):
        read_header(echo(tmp_path, FrameTime=milliseconds))


def test_a_pixel_that_no_scanner_has_is_refused(tmp_path):
    dataset = builder.ultrasound(GREY, name="one", n=1)
    dataset.SequenceOfUltrasoundRegions[0].PhysicalDeltaX = 1e9
    with pytest.raises(UnreadableStudy, match=r"states a pixel size of .*, outside"):
        read_header(builder.save(dataset, tmp_path / "a.dcm"))


def test_units_that_overflow_are_refused(tmp_path):
    path = builder.save(builder.image(GREY[0], name="a", n=1, RescaleSlope="1e300"), tmp_path / "a.dcm")
    with pytest.raises(UnreadableStudy, match="not finite"):
        read_scaled(path, read_header(path))


def test_a_frame_larger_than_its_header_is_not_decoded(tmp_path):
    bomb = by_pillow("JPEG")(np.zeros((3000, 3000), np.uint8))
    path = compressed(tmp_path, GREY, JPEGBaseline8Bit, lambda frame: bomb)
    with pytest.raises(UnreadableStudy, match="promised"):
        read(path)


def test_a_run_that_unpacks_to_more_than_its_frame_stops_there(tmp_path):
    head = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    path = compressed(tmp_path, GREY, RLELossless, lambda frame: head + b"\x81\x07" * 50_000)
    assert np.all(read(path, whole=True).values == 7)


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path):
    dataset = builder.ultrasound(GREY, name="one", n=1)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(UnreadableStudy, match="deflated"):
        read_header(builder.save(dataset, tmp_path / "a.dcm"))


def test_an_identifier_of_megabytes_is_refused(tmp_path):
    dataset = builder.ultrasound(GREY, name="one", n=1)
    dataset.add_new("SequenceOfUltrasoundRegions", "SQ", [])
    path = builder.save(dataset, tmp_path / "a.dcm")
    content = path.read_bytes()
    long = (HEADER_BYTES_MAX + 2).to_bytes(4, "little")
    at = content.index(b"\x18\x00\x11\x60")
    path.write_bytes(
        content[:at] + b"\x18\x00\x11\x60UN\0\0" + long + b" " * (HEADER_BYTES_MAX + 2) + content[at + 12 :]
    )
    with pytest.raises(UnreadableStudy, match="header of more than"):
        read_header(path)


def test_sequences_that_nest_without_end_are_refused(tmp_path):
    head = echo(tmp_path).read_bytes()
    at = head.index(b"\x18\x00\x11\x60")
    nest = b"\x18\x00\x11\x60SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 30_000
    (tmp_path / "b.dcm").write_bytes(head[:at] + nest)
    with pytest.raises(UnreadableStudy, match="damaged"):
        read_header(tmp_path / "b.dcm")


def test_a_strange_header_value_reaches_no_log_and_no_warning(tmp_path, caplog):
    dataset = builder.ultrasound(GREY, name="one", n=1)
    path = builder.save(dataset, tmp_path / "a.dcm")
    content = path.read_bytes().replace(b"Phantom Works ", b"Phantom\x1b$Z Wo").replace(b"US", b"uS")
    path.write_bytes(content)
    with caplog.at_level(logging.DEBUG), suppress(UnreadableStudy):
        read_header(path)
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"no", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 99])
def test_what_is_no_dicom_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(UnreadableStudy) as caught:
        read(path)
    assert "\n" not in str(caught.value)


_samples_made: list[bytes] = []


def _samples(folder):
    compress = builder.ultrasound(GREY, name="one", n=1)
    compress.compress(RLELossless, generate_instance_uid=False)
    builder.save(compress, folder / "rle.dcm")
    builder.save(builder.ultrasound(GREY, name="one", n=1), folder / "plain.dcm")
    compressed(folder / "jpeg", GREY, JPEGBaseline8Bit, by_pillow("JPEG"))
    return [path.read_bytes() for path in sorted(folder.rglob("*.dcm"))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 2), at=st.integers(0, 2**14), new=st.binary(min_size=1, max_size=6), cut=st.booleans())
def test_damaged_files_are_read_or_refused(tmp_path_factory, which, at, new, cut):
    if not _samples_made:
        _samples_made.extend(_samples(tmp_path_factory.mktemp("samples")))
    content = _samples_made[which]
    at %= len(content)
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    path.write_bytes(content[:at] if cut else content[:at] + new + content[at + len(new) :])
    with suppress(UnreadableStudy):
        assert read(path).values.dtype == np.uint8


@real
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_every_real_file_is_decoded(path):
    header = read_header(path)
    values = read(path, whole=True).values
    assert values.shape == header.shape
    assert values.dtype == np.uint8
    assert values.max() > values.min() + 100


@real
def test_one_picture_in_four_encodings_is_one_picture():
    plain, rle, lossless, lossy = (
        read(ROOT / "us_dicom" / f"us1_{name}.dcm").values.astype(int)
        for name in ("uncompressed", "rle", "j2k_lossless", "j2k_lossy")
    )
    assert np.abs(plain - lossless).max() <= 1
    assert np.abs(plain - lossy).mean() < 5
    assert np.corrcoef(plain.ravel(), rle.ravel())[0, 1] > 0.99


@real
def test_planar_and_interleaved_colour_are_one_picture():
    one, other = (ROOT / "us_dicom" / f"echo_tee_colordoppler_rgb_{name}.dcm" for name in ("pixel", "planar"))
    assert np.array_equal(read(one).values, read(other).values)
    assert read(one).colour


@real
def test_a_strange_character_set_does_not_matter():
    path = ROOT / "itkpocus_devices" / "sonoque_anechoic-3mm-3mm.dcm"
    assert read(path).values.shape == (1, 1455, 2083)
