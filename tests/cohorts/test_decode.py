from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cohorts.decode import read_masks, read_pixels, size_of
from cohorts.study import UnreadableStudy

RAMP = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (64, 1))
LABELS = (np.arange(48, dtype=np.uint8) % 4).reshape(6, 8)


def write_video(path, codec, pixel_format, frames, *, rate=40):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = pixel_format
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))
    return path


def save(path, array, **options):
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path, **options)
    return path


def test_grey_values_of_a_png_are_those_that_were_stored(tmp_path):
    path = save(tmp_path / "a.PNG", RAMP)
    assert np.array_equal(read_pixels(path).pixels, RAMP[None])
    assert size_of(path) == (1, 64, 128)


def test_a_jpeg_is_read_within_its_own_loss(tmp_path):
    pixels = read_pixels(save(tmp_path / "a.jpg", RAMP, quality=95)).pixels
    assert np.abs(pixels[0].astype(int) - RAMP).max() <= 4


def test_colour_becomes_luma(tmp_path):
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[0], rgb[1] = (255, 0, 0), (10, 200, 30)
    assert read_pixels(save(tmp_path / "a.png", rgb)).pixels[0, :, 0].tolist() == [76, 124]


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    rgba = np.full((2, 3, 4), 255, np.uint8)
    rgba[..., :3] = 77
    assert np.all(read_pixels(save(tmp_path / "a.png", rgba)).pixels == 77)


def test_a_palette_is_looked_up_for_grey_values_and_left_alone_for_labels(tmp_path):
    image = Image.fromarray(LABELS).convert("P")
    image.putpalette([0, 0, 0, 50, 50, 50, 100, 100, 100, 150, 150, 150])
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_pixels(tmp_path / "a.png").pixels[0], LABELS * 50)
    assert np.array_equal(read_masks(tmp_path / "a.png")[0], LABELS)


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6)])
def test_an_array_is_one_frame_or_many(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for stored in (array, np.asfortranarray(array)):
        path = save(tmp_path / "a.npy", stored)
        assert np.array_equal(read_pixels(path).pixels, array.reshape(-1, 5, 6))
        assert size_of(path) == (array.size // 30, 5, 6)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "loss"),
    [
        ("a.avi", "ffv1", "gray", 0),
        ("a.avi", "mjpeg", "yuvj420p", 3),
        ("a.mp4", "mpeg4", "yuv420p", 6),
        ("a.mov", "mjpeg", "yuvj420p", 3),
        ("a.mpeg", "mpeg2video", "yuv420p", 6),
    ],
)
def test_every_frame_of_a_video_is_read_over_the_full_range(tmp_path, name, codec, pixel_format, loss):
    frames = np.stack([RAMP, RAMP[::-1], 254 - RAMP])
    rate = 25 if codec == "mpeg2video" else 40
    decoded = read_pixels(write_video(tmp_path / name, codec, pixel_format, frames, rate=rate))
    assert decoded.pixels.shape == frames.shape
    assert np.abs(decoded.pixels.astype(int) - frames).max() <= loss
    assert decoded.frame_seconds == pytest.approx(1 / rate)
    assert size_of(tmp_path / name) is None


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_labels_are_read_exactly(tmp_path, name):
    assert np.array_equal(read_masks(save(tmp_path / name, LABELS))[0], LABELS)


def refused(reason, read, path):
    with pytest.raises(UnreadableStudy, match=reason) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [4, 255])
@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_a_label_outside_0_to_3_is_refused(tmp_path, name, label):
    path = save(tmp_path / name, np.full((4, 4), label, np.uint8))
    refused(rf"holds mask label {label}; labels must lie in 0\.\.3", read_masks, path)


def test_masks_that_cannot_hold_labels_are_refused(tmp_path):
    refused("is in colour", read_masks, save(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8)))
    refused("holds float64 values", read_masks, save(tmp_path / "a.npy", np.zeros((4, 4))))
    refused("masks must be PNG or NPY", read_masks, tmp_path / "a.mp4")
    refused("holds mask label -1", read_masks, save(tmp_path / "b.npy", np.full((4, 4), -1)))


def test_grey_values_that_need_a_guess_are_refused(tmp_path):
    refused("more than 8 bits of grey", read_pixels, save(tmp_path / "a.png", np.full((4, 4), 3000, np.uint16)))
    refused("holds float64 values; grey values must be uint8", read_pixels, save(tmp_path / "a.npy", np.ones((4, 4))))
    refused("is transparent", read_pixels, save(tmp_path / "b.png", np.zeros((4, 4, 4), np.uint8)))


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.jpg").write_text("patient went home")
    (tmp_path / "c.npy").write_bytes(b"")
    refused(r"is not a PNG or JPEG \(0 bytes\)", size_of, tmp_path / "a.png")
    refused("is not a PNG or JPEG", read_pixels, tmp_path / "b.jpg")
    refused(r"\w", size_of, tmp_path / "c.npy")
    refused(r"has suffix '.gif'; known: .avi", size_of, tmp_path / "a.gif")
    refused("no such file", size_of, tmp_path / "z.png")
    refused("no such file", size_of, tmp_path / "z.avi")
    refused("no such file", read_pixels, tmp_path / "z.mp4")
    (tmp_path / "folder.png").mkdir()
    refused(r"\w", size_of, tmp_path / "folder.png")


def test_an_array_of_four_axes_is_refused(tmp_path):
    refused(r"has shape \(2, 2, 2, 2\)", size_of, save(tmp_path / "a.npy", np.zeros((2, 2, 2, 2), np.uint8)))


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[object()]]), allow_pickle=True)
    refused(r"\w", read_pixels, tmp_path / "a.npy")


def test_a_header_cannot_ask_for_more_memory_than_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("cohorts.decode.BYTES_MAX", 1000)
    frames = np.stack([RAMP] * 2)
    for path in (save(tmp_path / "a.png", RAMP), save(tmp_path / "a.npy", RAMP)):
        refused("would decode to 8192 bytes; at most 1000", size_of, path)
    refused("at most 1000", read_pixels, write_video(tmp_path / "a.avi", "ffv1", "gray", frames))


def test_a_frame_that_no_scanner_makes_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.avi", "mjpeg", "yuvj420p", np.stack([RAMP] * 2))
    monkeypatch.setattr("cohorts.decode.FRAME_PIXELS_MAX", RAMP.size - 1)
    refused("has frames of 8192 pixels; at most 8191 are read", read_pixels, path)


@pytest.mark.parametrize("codec", ["ffv1", "mjpeg"])
def test_a_truncated_video_is_refused(tmp_path, codec):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    path = write_video(tmp_path / "a.avi", codec, "gray" if codec == "ffv1" else "yuvj420p", frames)
    whole = path.read_bytes()
    for part in (0.2, 0.5, 0.8):
        path.write_bytes(whole[: int(len(whole) * part)])
        refused(r"\w", read_pixels, path)


def test_a_video_of_an_unknown_codec_is_refused(tmp_path):
    path = write_video(tmp_path / "a.avi", "mjpeg", "yuvj420p", np.stack([RAMP] * 2))
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"QQQQ"))
    refused("holds no video stream of a known codec", read_pixels, path)


def test_a_playlist_in_a_videos_clothes_opens_no_connection(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/x.ts\n#EXT-X-ENDLIST\n")
    refused("cannot be decoded", read_pixels, path)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    image = np.random.default_rng(1).integers(0, 256, (16, 16), dtype=np.uint8)
    return [save(folder / name, image).read_bytes() for name in ("a.png", "a.jpg", "a.npy")], folder


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_anything_else(noise, data):
    originals, folder = noise
    kind = data.draw(st.integers(0, 2))
    content = bytearray(originals[kind])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / ("damaged" + (".png", ".jpg", ".npy")[kind])
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for read in (size_of, read_pixels, read_masks):
        with suppress(UnreadableStudy):
            read(path)


def test_a_png_cut_anywhere_in_its_pixels_is_refused(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(2).integers(0, 256, (16, 16), dtype=np.uint8))
    whole = path.read_bytes()
    for end in range(0, len(whole) - 20, 3):
        path.write_bytes(whole[:end])
        refused(r"\w", read_pixels, path)


def test_grey_values_taken_from_their_own_plane_are_those_that_a_conversion_gives(tmp_path):
    import av

    frames = np.random.default_rng(4).integers(0, 256, (3, 35, 50), dtype=np.uint8)  # no multiple of any line
    path = write_video(tmp_path / "a.avi", "mjpeg", "yuvj420p", frames[:, :34])
    with av.open(str(path)) as container:
        converted = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
    assert np.array_equal(read_pixels(path).pixels, converted)
