"""Grey frames and label masks out of PNG, JPEG, NPY, AVI, MP4, MOV and MPEG files, or a reason why not.

Grey values are taken as stored: 8 bit, no stretching, no windowing; colour becomes luma (ITU-R BT.601). What would need
a guess is refused: 16-bit and floating-point grey without a window, transparency, masks with other labels.
A file is hostile until decoded: nothing is unpickled, a playlist in a video's clothes opens no connection, and a header
cannot ask for more than `BYTES_MAX` of memory.
"""

import struct
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cohorts.study import ATRIUM, UnreadableStudy

STILLS = frozenset({".png", ".jpg", ".jpeg"})
ARRAYS = frozenset({".npy"})
VIDEOS = frozenset({".avi", ".mp4", ".mov", ".mpg", ".mpeg"})
SUFFIXES = STILLS | ARRAYS | VIDEOS
BYTES_MAX = 2**28  # of one decoded file: with the copies that decoding makes, less than 1 GB
FRAME_PIXELS_MAX = 2**26  # of a video: its decoder holds several frames of several bytes a pixel

_GREY_MODES = frozenset({"L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "YCbCr"})  # the 8-bit modes of Pillow
_LABEL_MODES = frozenset({"L", "P", "1", "I;16", "I"})  # those whose stored values are labels
CAUSES = (  # what decoders raise over damaged bytes, found by damaging them
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    OverflowError,
    TypeError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    Image.DecompressionBombError,
)
_CONTAINERS = "avi,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo"  # no playlist among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Frames as stored: uint8 `(frames, height, width)`, and the container's frame time in seconds if it states one."""

    pixels: NDArray[np.uint8]
    frame_seconds: float | None = None


def size_of(path: Path) -> tuple[int, int, int] | None:
    """Return `(frames, height, width)` from the header alone; `None` for a video, whose header is not to be trusted.

    Raises:
        UnreadableStudy: the file is missing, of an unknown kind, or its header does not parse.
    """
    suffix = _suffix(path)
    with reasons(path):
        if suffix in ARRAYS:
            frames, height, width = _stack(_memory_map(path)).shape
            return frames, height, width
        if suffix in STILLS:
            with _open_still(path) as image:
                return 1, image.height, image.width
    return None


def read_pixels(path: Path) -> Decoded:
    """Decode every frame of `path` to grey.

    Raises:
        UnreadableStudy: the file cannot be decoded to the end, or its grey values would need a guess.
    """
    suffix = _suffix(path)
    with reasons(path):
        if suffix in VIDEOS:
            return _read_video(path)
        if suffix in ARRAYS:
            array = _memory_map(path)
            if array.dtype != np.uint8:
                raise ValueError(f"holds {array.dtype} values; grey values must be uint8, 0..255")
            return Decoded(pixels=np.array(_stack(array), order="C"))
        return Decoded(pixels=_read_still(path)[None])


def read_masks(path: Path) -> NDArray[np.uint8]:
    """Decode label masks, uint8 `(frames, height, width)`: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium.

    Raises:
        UnreadableStudy: the file cannot be decoded, or holds a label outside 0..3.
    """
    if _suffix(path) in VIDEOS:
        raise UnreadableStudy(str(path), f"is a {path.suffix} video; masks must be PNG or NPY, which keep labels exact")
    with reasons(path):
        labels = _stack(_memory_map(path)) if _suffix(path) in ARRAYS else _read_labels(path)[None]
        if labels.dtype.kind not in "bui":
            raise ValueError(f"holds {labels.dtype} values; mask labels must be integers 0..{ATRIUM}")
        strange = np.unique(labels[(labels < 0) | (labels > ATRIUM)])
        if strange.size:
            raise ValueError(f"holds mask label {strange[0]}; labels must lie in 0..{ATRIUM}")
        return np.asarray(labels, dtype=np.uint8)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UnreadableStudy(str(path), f"has suffix {path.suffix!r}; known: {' '.join(sorted(SUFFIXES))}")
    return suffix


@contextmanager
def reasons(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises over the bytes of `path` into an `UnreadableStudy` of one line."""
    try:
        path.stat()
        yield
    except FileNotFoundError:
        raise UnreadableStudy(str(path), "no such file") from None
    except UnreadableStudy:
        raise
    except CAUSES as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = " ".join(said.replace(str(path), "").split()) or type(error).__name__
        raise UnreadableStudy(str(path), reason) from error


@contextmanager
def _open_still(path: Path) -> Iterator[Image.Image]:
    try:
        opened = Image.open(path, formats=("PNG", "JPEG"))
    except UnidentifiedImageError:
        raise UnreadableStudy(str(path), f"is not a PNG or JPEG ({path.stat().st_size} bytes)") from None
    with opened as image:
        require_modest(image.height * image.width)
        yield image


def _read_still(path: Path) -> NDArray[np.uint8]:
    with _open_still(path) as image:
        if image.mode not in _GREY_MODES:
            raise ValueError(f"has more than 8 bits of grey (mode {image.mode}); window it to 8 bits first")
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise ValueError("is transparent; flatten it first")
        colours = image.convert("RGB") if image.mode == "P" else image
        return np.array(colours.convert("L"), dtype=np.uint8)


def _read_labels(path: Path) -> NDArray[Any]:
    with _open_still(path) as image:
        if image.mode not in _LABEL_MODES:
            raise ValueError(f"is in colour (mode {image.mode}); mask labels must be grey values 0..{ATRIUM}")
        return np.array(image)


def _memory_map(path: Path) -> NDArray[Any]:
    array = np.lib.format.open_memmap(path, mode="r")
    require_modest(array.nbytes)
    return np.asarray(array)


def _stack(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim not in (2, 3):
        raise ValueError(f"has shape {array.shape}; it must be (height, width) or (frames, height, width)")
    return array[None] if array.ndim == 2 else array


def _read_video(path: Path) -> Decoded:
    import av  # 35 MB of codecs, for those who have videos

    guards = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(str(path), options=guards) as container:
            known = [s for s in container.streams.video if getattr(s, "codec_context", None)]
            if not known:
                raise ValueError("holds no video stream of a known codec")
            stream = known[0]
            n_pixels = stream.codec_context.width * stream.codec_context.height
            if n_pixels > FRAME_PIXELS_MAX:
                raise ValueError(f"has frames of {n_pixels} pixels; at most {FRAME_PIXELS_MAX} are read")
            stream.codec_context.options = {
                "err_detect": "explode",  # else a damaged frame is painted over in silence
                "max_pixels": str(FRAME_PIXELS_MAX),  # also where a frame is larger than the header says
            }
            for frame in container.decode(stream):
                require_modest((len(frames) + 1) * frame.height * frame.width)
                frames.append(_grey_of(frame))
            promised, rate = stream.frames, stream.average_rate
    except av.FFmpegError as error:
        raise ValueError(f"cannot be decoded after frame {len(frames)}: {error.strerror}") from error
    if len(frames) < max(promised, 1):
        raise ValueError(f"ends after {len(frames)} of {max(promised, 1)} frames")
    return Decoded(pixels=np.stack(frames), frame_seconds=float(1 / rate) if rate else None)


def _grey_of(frame: Any) -> NDArray[np.uint8]:
    """Return the grey values of a decoded frame, `(height, width)`; where they lie in a plane of their own, that."""
    name = frame.format.name
    if name == "gray" or name.startswith("yuvj"):  # luma in the full range: what the conversion would give, at a tenth
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        return rows[: frame.height, : frame.width].copy()
    return np.asarray(frame.to_ndarray(format="gray"), dtype=np.uint8)


def require_modest(n_bytes: int) -> None:
    """Raise `ValueError` where a file would take more than `BYTES_MAX`; ask before the first pixel is decoded."""
    if n_bytes > BYTES_MAX:
        raise ValueError(f"would decode to {n_bytes} bytes; at most {BYTES_MAX} are read")
