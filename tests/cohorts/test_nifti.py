import gzip
import zlib
from contextlib import suppress

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohorts.nifti import grid_of, read_values, whole
from cohorts.study import UnreadableStudy

VALUES = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3)


def save(path, values=VALUES, *, mm=(1.5, 2.5, 10.0), seconds=None, units=("mm", "sec"), dtype=None):
    image = nibabel.Nifti1Image(values, np.diag([*mm, 1.0]), dtype=dtype or values.dtype)
    if seconds:
        image.header.set_zooms((*mm, seconds))
    image.header.set_xyzt_units(*units)
    nibabel.save(image, path)
    return path


def metaimage(folder, values=VALUES, *, squeeze=False, **said):
    content = values.tobytes(order="F")
    (folder / "a.raw").write_bytes(zlib.compress(content) if squeeze else content)
    head = {
        "ObjectType": "Image",
        "NDims": values.ndim,
        "DimSize": " ".join(map(str, values.shape)),
        "ElementType": {"int16": "MET_SHORT", "uint8": "MET_UCHAR"}[str(values.dtype)],
        "ElementSpacing": "1.5 2.5 1",
        "CompressedData": squeeze,
        "ElementDataFile": "a.raw",
    }
    (folder / "a.mhd").write_text("".join(f"{key} = {value}\n" for key, value in {**head, **said}.items()))
    return folder / "a.mhd"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_nifti_is_read_as_its_own_library_wrote_it(tmp_path, name, dtype):
    path = save(tmp_path / name, VALUES.astype(dtype))
    assert np.array_equal(read_values(path), VALUES)
    assert read_values(path).dtype == dtype
    assert grid_of(path).mm == (1.5, 2.5, 10.0)


def test_both_byte_orders_are_read(tmp_path):
    image = nibabel.Nifti1Image(VALUES, np.eye(4), header=nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    assert np.array_equal(read_values(tmp_path / "a.nii"), VALUES)


def test_slope_and_intercept_are_applied(tmp_path):
    path = save(tmp_path / "a.nii.gz", VALUES.astype(np.float32) * 0.25 - 3, dtype=np.int16)
    assert grid_of(path).scale is not None
    assert np.allclose(read_values(path), nibabel.load(path).get_fdata(), atol=1e-4)


@pytest.mark.parametrize(
    ("seconds", "unit", "known"),
    [(0.04, "sec", 0.04), (40, "msec", 0.04), (1.0, "sec", None), (0.04, "unknown", None)],
)
def test_a_frame_time_is_known_where_the_header_gives_one_that_a_heart_can_have(tmp_path, seconds, unit, known):
    path = save(tmp_path / "a.nii", VALUES[..., None].repeat(2, 3), seconds=seconds, units=("mm", unit))
    assert grid_of(path).frame_seconds == (known if known is None else pytest.approx(known))


def test_lengths_without_a_unit_are_not_known(tmp_path):
    assert grid_of(save(tmp_path / "a.nii", units=("unknown", "unknown"))).mm is None
    assert grid_of(save(tmp_path / "b.nii", units=("meter", "sec"))).mm == (1500.0, 2500.0, 10000.0)


@pytest.mark.parametrize("squeeze", [False, True])
def test_metaimage_is_read_packed_or_not(tmp_path, squeeze):
    path = metaimage(tmp_path, squeeze=squeeze)
    assert np.array_equal(read_values(path), VALUES)
    assert grid_of(path).mm == (1.5, 2.5, 1.0)


def test_metaimage_of_the_other_byte_order_is_read(tmp_path):
    path = metaimage(tmp_path, VALUES.byteswap(), BinaryDataByteOrderMSB=True)
    assert np.array_equal(read_values(path), VALUES)


def refused(path, words):
    with pytest.raises(UnreadableStudy, match=words) as caught:
        read_values(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../a.raw", "/etc/hostname", "LOCAL", "LIST", "a%d.raw", ".."])
def test_a_metaimage_names_no_file_outside_its_folder(tmp_path, name):
    refused(metaimage(tmp_path, ElementDataFile=name), "must be one file beside it")


def test_metaimages_that_will_not_do_are_refused(tmp_path):
    refused(metaimage(tmp_path, DimSize="5 4 4"), "ends after 120 of 160 bytes")
    refused(metaimage(tmp_path, DimSize="5 4 2"), "goes on after the 80 bytes")
    refused(metaimage(tmp_path, DimSize="5 x"), "invalid literal")
    refused(metaimage(tmp_path, DimSize="0 4 2"), "has shape")
    refused(metaimage(tmp_path, ElementType="MET_LONG_LONG"), "ElementType=MET_LONG_LONG")
    refused(metaimage(tmp_path, ElementDataFile=""), "it has no ElementDataFile")
    with pytest.raises(UnreadableStudy, match=r"gone\.raw: no such file"):
        grid_of(metaimage(tmp_path, ElementDataFile="gone.raw"))


def edited(path, at, content):
    """Overwrite bytes of a NIfTI file, packed or not."""
    packed = path.suffix == ".gz"
    whole_file = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    whole_file[at : at + len(content)] = content
    path.write_bytes(gzip.compress(bytes(whole_file)) if packed else bytes(whole_file))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("at", "content", "words"),
    [
        (0, b"\x1c\2\0\0", "its header has another size"),
        (344, b"ni1\0", "is not a NIfTI-1 file with its voxels in it"),
        (42, b"\xff\x7f\xff\x7f\xff\x7f", "would decode to"),
        (42, b"\0\0", "has shape"),
        (70, b"\x20\0", "type 32"),
        (108, np.float32(2e9).tobytes(), "begin at byte 2e"),
        (108, np.float32(np.nan).tobytes(), "begin at byte nan"),
        (108, np.float32(400).tobytes(), "ends after"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, name, at, content, words):
    refused(edited(save(tmp_path / name), at, content), words)


def test_a_bomb_is_not_unpacked_beyond_what_its_header_promises(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    head = gzip.decompress(path.read_bytes())
    with gzip.open(path, "wb") as file:
        file.write(head + bytes(2**26))
    refused(path, "goes on after the 120 bytes")
    bomb = metaimage(tmp_path, squeeze=True)
    (tmp_path / "a.raw").write_bytes(zlib.compress(bytes(2**26)))
    refused(bomb, "goes on after the 120 bytes")


def test_what_follows_a_packed_metaimage_is_not_read(tmp_path):
    path = metaimage(tmp_path, squeeze=True)
    with (tmp_path / "a.raw").open("ab") as file:
        file.write(bytes(2**20))
    assert np.array_equal(read_values(path), VALUES)


def test_values_that_are_not_finite_are_refused(tmp_path):
    refused(save(tmp_path / "a.nii", np.full((2, 2, 2), np.nan, np.float32)), "not finite")


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 999, (6, 6, 6), dtype=np.int16))
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        refused(path, r"\w")


def test_whole_numbers_are_taken_whatever_type_stores_them():
    assert whole(np.array([0.0, 3.0]), 0, 3, "label").dtype == np.uint8
    for value, words in ((4, "label 4; must lie in"), (-1, "label -1"), (1.5, "label 1.5, which is no whole number")):
        with pytest.raises(ValueError, match=words):
            whole(np.array([0, value], np.float64), 0, 3, "label")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    return folder, save(folder / "a.nii").read_bytes(), save(folder / "a.nii.gz").read_bytes()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_volume_is_read_or_refused_but_never_anything_else(originals, data):
    folder, *contents = originals
    kind = data.draw(st.integers(0, 1))
    content = bytearray(contents[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / ("damaged.nii", "damaged.nii.gz")[kind]
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(UnreadableStudy):
        read_values(path)
