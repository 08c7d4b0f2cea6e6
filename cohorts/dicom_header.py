"""What a DICOM header is asked for: a list of technical elements, and the identifiers that must not reach a message.

Nothing else is read: the parser skips every element that is on neither list (PS3.15 annex E takes elements away; a list
of what may stay forgets none). A header is hostile: what is read of it is bounded, sequences nest only so deep, and a
deflated data set is refused before it is inflated.
"""

import io
import logging
import math
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np
from PIL import Image

from cohorts.deidentify import CLAIMS, FREE_TEXT, IDENTIFYING, TECHNICAL, Claims, claims_of
from cohorts.study import UnreadableStudy, View

if TYPE_CHECKING:
    from pydicom import Dataset

HEADER_BYTES_MAX = 2**23
FRAME_PIXELS_MAX = 2**24
PIXEL_MM, FRAME_SECONDS = (1e-3, 1e2), (1e-4, 60.0)  # beyond these a number is a mistake, not a scanner's
VIEWS = {  # PS3.16 CID 12226, in SNOMED CT and in the older codes of its SNOMED RT; what is not here is no view of ours
    "399214001": View.A4C,
    "G-A19C": View.A4C,
    "399232001": View.A2C,
    "G-A19B": View.A2C,
    "399139001": View.PLAX,
    "G-0396": View.PLAX,
    "399306005": View.PSAX,
    "G-0397": View.PSAX,
    "399239005": View.PSAX,  # at the aortic valve
    "G-0398": View.PSAX,
    "399371001": View.PSAX,  # at the mitral chords
    "G-0399": View.PSAX,
    "399036006": View.PSAX,  # at the mitral valve
    "G-039A": View.PSAX,
    "399271003": View.PSAX,  # at the papillary muscles
    "G-039B": View.PSAX,
}
_TWO_DIMENSIONAL, _TISSUE_OR_COLOUR, _CENTIMETRES = 1, (1, 2), 3  # PS3.3 C.8.5.5.1
_CAUSES = (  # what the parser raises over damaged bytes, found by damaging them
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,  # a RecursionError too
    AssertionError,
    ArithmeticError,
    EOFError,
    SyntaxError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are one past the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What one file says of itself. `subject`, `study`, `series` and `identifiers` are the hospital's own.

    Attributes:
        syntax: UID of the transfer syntax.
        modality: US, MR or another of PS3.3 C.7.3.1.1.1.
        shape: `(frames, rows, columns)` promised.
        depth: the image pixel elements which a decoder needs, by their names there.
        subject: patient identifier and its issuer, "" where the file states none.
        instance: number of the image in its series.
        region: the two-dimensional region of an ultrasound image.
        pixel_mm: height and width of a pixel.
        frame_seconds: time from one frame to the next.
        scale: slope and intercept of the stored values.
        place: distance along the normal of the slice, in millimetres, and that normal.
        trigger_ms: time since the R wave.
        view: what a view code says.
        short_axis: the series says of itself that it is one.
        vendor: who made the scanner.
        claims: what the file says of its own de-identification.
        pixels_at: where in the file the pixel data element begins, or `None`.
    """

    syntax: str
    modality: str
    shape: tuple[int, int, int]
    depth: dict[str, Any]
    subject: str = field(repr=False)
    study: str = field(repr=False)
    series: str = field(repr=False)
    instance: int | None
    region: Box | None
    pixel_mm: tuple[float, float] | None
    frame_seconds: float | None
    scale: tuple[float, float]
    place: tuple[float, float, float, float] | None
    trigger_ms: float | None
    view: View | None
    short_axis: bool
    vendor: str
    claims: Claims
    pixels_at: int | None
    identifiers: tuple[str, ...] = field(repr=False)


def read_header(path: Path) -> Header:
    """Read the header of one file, and no pixel.

    Raises:
        UnreadableStudy: no DICOM file, a damaged one, or one whose values contradict each other.
    """
    with reasons(path), path.open("rb") as file:
        bounded = _Bounded(file)
        dataset = _parsed(bounded)
        return _header(dataset, bounded.tell())


@contextmanager
def reasons(path: Path) -> Iterator[None]:
    """Turn whatever the library says of the bytes of `path` into one line, and its warnings into nothing."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True  # it would write values of the header to whoever listens
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableStudy:
        raise
    except FileNotFoundError:
        raise UnreadableStudy(str(path), "no such file") from None
    except InvalidDicomError:
        raise UnreadableStudy(str(path), "is not a DICOM file") from None
    except (*_CAUSES, BytesLengthException) as error:
        raise UnreadableStudy(str(path), _line(error)) from None  # a chain would show values of the header
    finally:
        log.disabled = before


class _Bounded(io.RawIOBase):
    """A file that gives no more than `HEADER_BYTES_MAX` bytes, and never all at once, which inflating would need."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self._left = file, HEADER_BYTES_MAX

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            raise ValueError("is deflated; inflate it first")
        if size > self._left:
            raise ValueError(f"has a header of more than {HEADER_BYTES_MAX} bytes")
        self._left -= size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _parsed(file: _Bounded) -> "Dataset":
    from pydicom.filereader import dcmread

    asked = sorted({*TECHNICAL, *FREE_TEXT, *IDENTIFYING, *CLAIMS})
    return dcmread(file, stop_before_pixels=True, specific_tags=asked)


def _header(dataset: "Dataset", pixels_at: int) -> Header:
    rows, columns = (_whole(dataset, name, 0, 2**16) or 0 for name in ("Rows", "Columns"))
    frames = _whole(dataset, "NumberOfFrames", 0, 2**20) or 1
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    patient, issuer = _text(dataset, "PatientID"), _text(dataset, "IssuerOfPatientID")
    box, spacing = _region(dataset, rows, columns)
    return Header(
        syntax=str(dataset.file_meta.get("TransferSyntaxUID", "")),
        modality=_text(dataset, "Modality").upper(),
        shape=(frames, rows, columns),
        depth={
            "samples_per_pixel": _whole(dataset, "SamplesPerPixel", 1, 4) or 1,
            "photometric_interpretation": _text(dataset, "PhotometricInterpretation").upper(),
            "planar_configuration": _whole(dataset, "PlanarConfiguration", 0, 1) or 0,
            "bits_allocated": _whole(dataset, "BitsAllocated", 1, 64) or 0,
            "bits_stored": _whole(dataset, "BitsStored", 1, 64) or 0,
            "pixel_representation": _whole(dataset, "PixelRepresentation", 0, 1) or 0,
        },
        subject=f"{patient}\\{issuer}" if patient and issuer else patient,
        study=_text(dataset, "StudyInstanceUID"),
        series=_text(dataset, "SeriesInstanceUID"),
        instance=_whole(dataset, "InstanceNumber", -(2**31), 2**31),
        region=box,
        pixel_mm=_within("pixel size", spacing or _pair(dataset, "PixelSpacing"), PIXEL_MM),
        frame_seconds=_within_one("frame time", _frame_seconds(dataset), FRAME_SECONDS),
        scale=(1.0 if slope is None else slope, 0.0 if intercept is None else intercept),
        place=_place(dataset),
        trigger_ms=_number(dataset, "TriggerTime"),
        view=_view(dataset),
        short_axis=_short_axis(dataset),
        vendor=re.sub(r"[^A-Za-z0-9 .&-]", "", _text(dataset, "Manufacturer"))[:32].strip(),
        claims=claims_of(dataset),
        pixels_at=pixels_at if rows and columns else None,
        identifiers=tuple(_identifiers(dataset)),
    )


def _region(dataset: "Dataset", rows: int, columns: int) -> tuple[Box | None, tuple[float, float] | None]:
    """Return the box of all two-dimensional regions, and the size of their pixels where they agree on it."""
    boxes: list[Box] = []
    sizes: set[tuple[float, float] | None] = set()
    for region in _items(dataset, "SequenceOfUltrasoundRegions"):
        kind, what = _whole(region, "RegionSpatialFormat", 0, 2**16), _whole(region, "RegionDataType", 0, 2**16)
        if kind != _TWO_DIMENSIONAL or what not in _TISSUE_OR_COLOUR:
            continue
        edges = ("RegionLocationMinY0", "RegionLocationMinX0", "RegionLocationMaxY1", "RegionLocationMaxX1")
        top, left, bottom, right = (_whole(region, name, 0, 2**32) or 0 for name in edges)
        if not (top <= bottom < rows and left <= right < columns):
            return None, None  # of an image that was resized since: neither its place nor its scale hold any more
        boxes.append((top, left, bottom + 1, right + 1))
        high, wide = (abs(_number(region, f"PhysicalDelta{axis}") or 0) for axis in "YX")
        units = {_whole(region, f"PhysicalUnits{axis}Direction", 0, 2**16) for axis in "XY"}
        sizes.add((high * 10, wide * 10) if units == {_CENTIMETRES} and high and wide else None)
    if not boxes:
        return None, None
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return (min(tops), min(lefts), max(bottoms), max(rights)), sizes.pop() if len(sizes) == 1 else None


def _frame_seconds(dataset: "Dataset") -> float | None:
    """Return the frame time; a vector of times must not vary by more than a tenth, else there is no one time."""
    if (each := _number(dataset, "FrameTime")) and each > 0:
        return each / 1000
    steps = _numbers(dataset, "FrameTimeVector")[1:]
    if steps and min(steps) > 0 and max(steps) <= 1.1 * min(steps):
        return float(np.mean(steps)) / 1000
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        if (rate := _number(dataset, name)) and rate > 0:
            return 1 / rate
    return None


def _place(dataset: "Dataset") -> tuple[float, float, float, float] | None:
    position, axes = _numbers(dataset, "ImagePositionPatient"), _numbers(dataset, "ImageOrientationPatient")
    if len(position) != 3 or len(axes) != 6:
        return None
    normal = np.cross(axes[:3], axes[3:])
    x, y, z = (float(n) for n in normal)
    return float(np.dot(position, normal)), x, y, z


def _view(dataset: "Dataset") -> View | None:
    said = {VIEWS[code] for item in _items(dataset, "ViewCodeSequence") if (code := _text(item, "CodeValue")) in VIEWS}
    return said.pop() if len(said) == 1 else None


def _short_axis(dataset: "Dataset") -> bool:
    words = " ".join(_text(dataset, name) for name in FREE_TEXT).lower()
    return any(name in f" {words.replace('_', ' ')} " for name in (" sax ", "short axis", "short-axis", "shortaxis"))


def _identifiers(dataset: "Dataset") -> Iterator[str]:
    from pydicom.errors import BytesLengthException

    for name in IDENTIFYING:
        try:
            value = dataset.get(name)
        except (*_CAUSES, BytesLengthException):
            continue  # what cannot be decoded cannot be looked for either
        for part in value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else (value,):
            if text := str(part or "").strip():
                yield text


def _items(dataset: "Dataset", name: str) -> tuple["Dataset", ...]:
    found = dataset.get(name)
    if found is None:
        return ()
    if type(found).__name__ != "Sequence":
        raise ValueError(f"{name} is no sequence")
    return tuple(found)[:64]


def _text(dataset: "Dataset", name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip("\0 ")


def _numbers(dataset: "Dataset", name: str) -> list[float]:
    value = dataset.get(name)
    if value is None or value == "":
        return []
    several = value if not isinstance(value, (str, bytes, int, float)) and hasattr(value, "__len__") else [value]
    numbers = [float(v) for v in list(several)[: 2**16]]
    if not all(map(math.isfinite, numbers)):
        _not(name, "finite")
    return numbers


def _number(dataset: "Dataset", name: str) -> float | None:
    numbers = _numbers(dataset, name)
    return numbers[0] if numbers else None


def _pair(dataset: "Dataset", name: str) -> tuple[float, float] | None:
    numbers = _numbers(dataset, name)
    return (numbers[0], numbers[1]) if len(numbers) == 2 and min(numbers) > 0 else None


def _whole(dataset: "Dataset", name: str, low: int, high: int) -> int | None:
    number = _number(dataset, name)
    if number is None:
        return None
    if number != int(number) or not low <= number <= high:
        _not(name, f"a whole number in {low}..{high}")
    return int(number)


def _within(what: str, found: tuple[float, float] | None, bounds: tuple[float, float]) -> tuple[float, float] | None:
    for number in found or ():
        _within_one(what, number, bounds)
    return found


def _within_one(what: str, number: float | None, bounds: tuple[float, float]) -> float | None:
    if number is not None and not bounds[0] <= number <= bounds[1]:
        raise ValueError(f"states a {what} of {number:g}, outside {bounds[0]:g}..{bounds[1]:g}")
    return number


def _not(name: str, what: str) -> NoReturn:
    raise ValueError(f"{name} is not {what}")


def _line(error: BaseException) -> str:
    """Say what is wrong without values of the header: only our own sentences are passed on."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    ours = type(error) is ValueError and error.__traceback__ is not None and _raised_here(error)
    return " ".join(str(error).split()) if ours else f"is damaged ({type(error).__name__})"


def _raised_here(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("cohorts.")
