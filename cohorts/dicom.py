"""Pixels of one DICOM file as grey values, frame by frame, of every transfer syntax that scanners of hearts write.

Uncompressed and RLE data, JPEG baseline and JPEG 2000 are decoded by pydicom (the latter two through Pillow), JPEG
lossless by FFmpeg. Before a frame is decoded its own size is held against the header's, so that neither can ask for
more memory than `BYTES_MAX`.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cohorts.decode import BYTES_MAX
from cohorts.dicom_elements import reasons
from cohorts.dicom_header import FRAME_PIXELS_MAX, Header
from cohorts.grey import PERCENTILES
from cohorts.study import UnreadableStudy

RLE = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})
NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
COLOUR_STEPS, COLOUR_SHARE = 32, 1e-3  # lossy grey wanders by a few steps; a colour bar alone covers more than that
SAMPLES = 2**24  # pixels of a series that its grey range is taken from
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_KINDS = frozenset({"MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Frames of one file: `(frames, rows, columns)`, uint8 of ultrasound, as stored of everything else.

    Attributes:
        values: cropped to the region where the header knows one.
        colour: red, green and blue differ in some frame.
    """

    values: NDArray[Any]
    colour: bool = False


def read_frames(path: Path, header: Header, *, only: Sequence[int] | None = None, whole: bool = False) -> Frames:
    """Decode frames of `path`.

    Args:
        path: the file.
        header: what `read_header` said of it.
        only: indices of frames; all of them where `None`.
        whole: do not crop to the region.

    Raises:
        UnreadableStudy: a damaged or unsupported file, or one that would need a guess.
    """
    with reasons(path), path.open("rb") as file:
        frames, rows, columns = _checked(header, path)
        top, left, bottom, right = header.region if header.region and not whole else (0, 0, rows, columns)
        wanted = range(frames) if only is None else only
        out: NDArray[Any] | None = None
        colour = False
        for at, (frame, kind) in enumerate(_decoded(file, header, wanted)):
            grey, coloured = _grey(frame[top:bottom, left:right], kind)
            if header.depth["bits_allocated"] == 8:
                grey = grey.astype(np.uint8, copy=False)
            if out is None:
                out = np.empty((len(wanted), *grey.shape), grey.dtype)
            out[at] = grey
            colour |= coloured
        if out is None:
            raise ValueError("holds no frame")
        return Frames(values=out, colour=colour)


def read_scaled(path: Path, header: Header) -> NDArray[np.float32]:
    """Decode a file of magnetic resonance to `(frames, rows, columns)` in the units of its rescale slope and intercept.

    Raises:
        UnreadableStudy: as `read_frames`.
    """
    values = read_frames(path, header).values.astype(np.float32)
    with reasons(path), np.errstate(all="ignore"):
        values *= np.float32(header.scale[0])
        values += np.float32(header.scale[1])
        if not np.isfinite(values).all():
            raise ValueError("holds grey values that are not finite")
        return values


def grey_range(images: Sequence[tuple[Path, Header]]) -> tuple[float, float]:
    """Return the grey values that become 0 and 255 in every image of a series: its `PERCENTILES`, by `SAMPLES` of them.

    Raises:
        UnreadableStudy: as `read_frames`, or a series of one grey value.
    """
    step = max(1, sum(int(np.prod(header.shape)) for _, header in images) // SAMPLES)
    values = np.concatenate([read_scaled(path, header).ravel()[::step] for path, header in images])
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if not low < high:  # a few bright pixels on an empty ground
        low, high = float(values.min()), float(values.max())
    if not low < high < np.inf:
        raise UnreadableStudy(str(images[0][0]), "belongs to a series of one grey value")
    return low, high


def unsupported(header: Header) -> str:
    """Return why no file with this header can be decoded here, "" where one can."""
    bits, kind = header.depth["bits_allocated"], header.depth["photometric_interpretation"]
    if header.pixels_at is None:
        return "holds no image"
    if header.syntax not in NATIVE | JPEG | JPEG_LOSSLESS | {RLE}:
        return f"has transfer syntax {header.syntax[:64]!r}, which is not read"
    if kind not in _KINDS:
        return f"has photometric interpretation {kind[:16]!r}; known: {', '.join(sorted(_KINDS))}"
    if bits not in (8, 16) or (bits == 16 and header.modality != "MR"):
        return f"has {bits} bits a value; ultrasound must have 8, magnetic resonance 8 or 16"
    return ""


def _checked(header: Header, path: Path) -> tuple[int, int, int]:
    """Return the promised shape, or refuse it before any of it is decoded."""
    if why := unsupported(header):
        raise ValueError(why)
    frames, rows, columns = header.shape
    width = header.depth["bits_allocated"] // 8
    if rows * columns > FRAME_PIXELS_MAX or frames * rows * columns * width > BYTES_MAX:
        raise ValueError(f"would decode to {frames} x {rows} x {columns} values; at most {BYTES_MAX} bytes are read")
    stored = frames * rows * columns * header.depth["samples_per_pixel"] * width
    halved = "422" in header.depth["photometric_interpretation"]  # the decoder counts those itself
    if header.syntax in NATIVE and not halved and path.stat().st_size - (header.pixels_at or 0) < stored:
        raise ValueError(f"ends before its {stored} bytes of pixels")
    return header.shape


def _decoded(file: BinaryIO, header: Header, wanted: Sequence[int]) -> Iterator[tuple[NDArray[Any], str]]:
    """Yield the wanted frames, `(rows, columns)` or `(rows, columns, samples)`, and what their samples mean."""
    _find_pixels(file, header)
    kind = str(header.depth["photometric_interpretation"])
    if header.syntax in NATIVE:
        from pydicom.pixels.decoders.base import get_decoder

        options = {**header.depth, "number_of_frames": header.shape[0], "rows": header.shape[1]}
        options |= {"columns": header.shape[2], "pixel_keyword": "PixelData", "pixel_vr": "OW"}
        found = get_decoder(header.syntax).iter_array(file, indices=wanted, raw=True, **options)
        for frame, said in found:
            yield frame, str(said["photometric_interpretation"])
        return
    for encoded in _encapsulated(file, header, wanted):
        if header.syntax == RLE:
            yield _run_lengths(encoded, header), kind
        elif header.syntax in JPEG_LOSSLESS:
            _require_size(encoded, header)
            yield _lossless(encoded), "RGB" if header.depth["samples_per_pixel"] == 3 else kind
        else:
            _require_size(encoded, header)
            yield _pillow(encoded, kind)


def _find_pixels(file: BinaryIO, header: Header) -> None:
    """Leave `file` at the first byte after the head of the pixel data element."""
    file.seek(header.pixels_at or 0)
    big = header.syntax == "1.2.840.10008.1.2.2"
    head = file.read(8)
    if head[:4] != (b"\x7f\xe0\x00\x10" if big else b"\xe0\x7f\x10\x00"):
        raise ValueError("holds no pixels")
    if header.syntax != "1.2.840.10008.1.2" and head[4:6] in (b"OB", b"OW", b"UN"):
        file.read(4)


def _encapsulated(file: BinaryIO, header: Header, wanted: Sequence[int]) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    chosen = frozenset(wanted)
    most = 2 * FRAME_PIXELS_MAX
    for at, encoded in enumerate(generate_frames(file, number_of_frames=header.shape[0])):
        if len(encoded) > most:
            raise ValueError(f"frame {at} has {len(encoded)} encoded bytes; at most {most} are read")
        if at in chosen:
            yield encoded
        if at >= max(chosen):
            return
    raise ValueError(f"ends before frame {max(chosen)}")


def _require_size(encoded: bytes, header: Header) -> None:
    """Refuse a frame whose own size is not the header's, before anything is decoded."""
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "JPEG2000")) as image:
        if image.size != (header.shape[2], header.shape[1]):
            raise ValueError(f"holds a frame of {image.height} x {image.width}, promised {header.shape[1:]}")


def _pillow(encoded: bytes, kind: str) -> tuple[NDArray[Any], str]:
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "JPEG2000")) as image:
        if image.mode == "L":
            return np.asarray(image), kind if kind.startswith("MONO") else "MONOCHROME2"
        if image.mode == "RGB":
            return np.asarray(image), "RGB"
        if image.mode == "I;16":
            return np.asarray(image), kind
        raise ValueError(f"holds a frame of mode {image.mode}, which is not read")


def _lossless(encoded: bytes) -> NDArray[Any]:
    import av

    try:
        context = av.CodecContext.create("mjpeg", "r")
        frames = context.decode(av.Packet(encoded)) or context.decode(None)
    except av.FFmpegError as error:
        raise ValueError(f"holds a damaged frame: {error.strerror}") from None
    if not frames:
        raise ValueError("holds a frame that cannot be decoded")
    frame = frames[0]
    return np.asarray(frame.to_ndarray(format=None if frame.format.name.startswith("gray") else "rgb24"))


def _run_lengths(encoded: bytes, header: Header) -> NDArray[Any]:
    """Undo PS3.5 annex G: byte planes, the most significant first, each packed by runs; never more than is promised."""
    _, rows, columns = header.shape
    samples, width = header.depth["samples_per_pixel"], header.depth["bits_allocated"] // 8
    starts = np.frombuffer(encoded[:64], "<u4")
    if len(starts) < 16 or starts[0] != samples * width:
        raise ValueError(f"has {starts[0] if len(starts) else 0} run-length segments, must have {samples * width}")
    edges = [*map(int, starts[1 : 1 + samples * width]), len(encoded)]
    planes = [_unpacked(encoded[one:other], rows * columns) for one, other in pairwise(edges)]
    stacked = np.stack(planes).reshape(samples, width, rows, columns)
    values = stacked[:, 0] if width == 1 else (stacked[:, 0].astype(np.uint16) << 8 | stacked[:, 1])
    if width == 2 and header.depth["pixel_representation"]:
        values = values.view(np.int16)
    return values[0] if samples == 1 else np.moveaxis(values, 0, -1)


def _unpacked(packed: bytes, n: int) -> NDArray[np.uint8]:
    out = bytearray()
    at = 0
    while len(out) < n and at + 1 < len(packed):
        head = packed[at]
        if head < 128:
            out += packed[at + 1 : at + 2 + head]
            at += 2 + head
        else:
            out += packed[at + 1 : at + 2] * (257 - head if head > 128 else 0)
            at += 2 if head > 128 else 1
    if len(out) < n:
        raise ValueError(f"has {len(out)} of {n} bytes in a run-length segment")
    return np.frombuffer(bytes(out[:n]), np.uint8)


def _grey(frame: NDArray[Any], kind: str) -> tuple[NDArray[Any], bool]:
    """Return luma, and whether the frame is in colour."""
    if frame.ndim == 2:
        return (_inverted(frame) if kind == "MONOCHROME1" else frame), False
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(
            f"holds frames of shape {frame.shape} and type {frame.dtype}; colour must be 3 samples of 8 bits"
        )
    if kind.startswith("YBR_FULL"):
        chroma = np.abs(frame[..., 1:].astype(np.int16) - 128).max(axis=2)
        return frame[..., 0], bool((chroma > COLOUR_STEPS // 2).mean() > COLOUR_SHARE)
    spread = frame.max(axis=2) - frame.min(axis=2)
    return np.rint(frame @ _LUMA).astype(np.uint8), bool((spread > COLOUR_STEPS).mean() > COLOUR_SHARE)


def _inverted(frame: NDArray[Any]) -> NDArray[Any]:
    info = np.iinfo(frame.dtype)
    return (info.max - frame) if info.min == 0 else -1 - frame
