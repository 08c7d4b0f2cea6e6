"""What a DICOM header is asked for, and what becomes of the answers: a list of technical facts, and no other.

Nothing else is read: the parser skips each element that is on no list of `cohorts.deidentify` (PS3.15 annex E says what
to take away; a list of what may stay forgets none). What a header does not say is absent, never guessed.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cohorts import dicom_elements as elements
from cohorts.deidentify import FREE_TEXT, Claims, claims_of
from cohorts.study import View

if TYPE_CHECKING:
    from pydicom import Dataset

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
    with elements.reasons(path), path.open("rb") as file:
        return _header(*elements.parsed(file))


def _header(dataset: "Dataset", pixels_at: int) -> Header:
    rows, columns = (elements.whole(dataset, name, 0, 2**16) or 0 for name in ("Rows", "Columns"))
    frames = elements.whole(dataset, "NumberOfFrames", 0, 2**20) or 1
    slope, intercept = elements.number(dataset, "RescaleSlope"), elements.number(dataset, "RescaleIntercept")
    patient, issuer = elements.text(dataset, "PatientID"), elements.text(dataset, "IssuerOfPatientID")
    box, spacing = _region(dataset, rows, columns)
    return Header(
        syntax=str(dataset.file_meta.get("TransferSyntaxUID", "")),
        modality=elements.text(dataset, "Modality").upper(),
        shape=(frames, rows, columns),
        depth={
            "samples_per_pixel": elements.whole(dataset, "SamplesPerPixel", 1, 4) or 1,
            "photometric_interpretation": elements.text(dataset, "PhotometricInterpretation").upper(),
            "planar_configuration": elements.whole(dataset, "PlanarConfiguration", 0, 1) or 0,
            "bits_allocated": elements.whole(dataset, "BitsAllocated", 1, 64) or 0,
            "bits_stored": elements.whole(dataset, "BitsStored", 1, 64) or 0,
            "pixel_representation": elements.whole(dataset, "PixelRepresentation", 0, 1) or 0,
        },
        subject=f"{patient}\\{issuer}" if patient and issuer else patient,
        study=elements.text(dataset, "StudyInstanceUID"),
        series=elements.text(dataset, "SeriesInstanceUID"),
        instance=elements.whole(dataset, "InstanceNumber", -(2**31), 2**31),
        region=box,
        pixel_mm=_within("pixel size", spacing or elements.pair(dataset, "PixelSpacing"), PIXEL_MM),
        frame_seconds=_within_one("frame time", _frame_seconds(dataset), FRAME_SECONDS),
        scale=(1.0 if slope is None else slope, 0.0 if intercept is None else intercept),
        place=_place(dataset),
        trigger_ms=elements.number(dataset, "TriggerTime"),
        view=_view(dataset),
        short_axis=_short_axis(dataset),
        vendor=re.sub(r"[^A-Za-z0-9 .&-]", "", elements.text(dataset, "Manufacturer"))[:32].strip(),
        claims=claims_of(dataset),
        pixels_at=pixels_at if rows and columns else None,
        identifiers=tuple(elements.identifiers(dataset)),
    )


def _region(dataset: "Dataset", rows: int, columns: int) -> tuple[Box | None, tuple[float, float] | None]:
    """Return the box of all two-dimensional regions, and the size of their pixels where they agree on it."""
    boxes: list[Box] = []
    sizes: set[tuple[float, float] | None] = set()
    for region in elements.items(dataset, "SequenceOfUltrasoundRegions"):
        kind, what = (
            elements.whole(region, "RegionSpatialFormat", 0, 2**16),
            elements.whole(region, "RegionDataType", 0, 2**16),
        )
        if kind != _TWO_DIMENSIONAL or what not in _TISSUE_OR_COLOUR:
            continue
        edges = ("RegionLocationMinY0", "RegionLocationMinX0", "RegionLocationMaxY1", "RegionLocationMaxX1")
        top, left, bottom, right = (elements.whole(region, name, 0, 2**32) or 0 for name in edges)
        if not (top <= bottom < rows and left <= right < columns):
            return None, None  # of an image that was resized since: neither its place nor its scale hold any more
        boxes.append((top, left, bottom + 1, right + 1))
        high, wide = (abs(elements.number(region, f"PhysicalDelta{axis}") or 0) for axis in "YX")
        units = {elements.whole(region, f"PhysicalUnits{axis}Direction", 0, 2**16) for axis in "XY"}
        sizes.add((high * 10, wide * 10) if units == {_CENTIMETRES} and high and wide else None)
    if not boxes:
        return None, None
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return (min(tops), min(lefts), max(bottoms), max(rights)), sizes.pop() if len(sizes) == 1 else None


def _frame_seconds(dataset: "Dataset") -> float | None:
    """Return the frame time; a vector of times must not vary by more than a tenth, else there is no one time."""
    if (each := elements.number(dataset, "FrameTime")) and each > 0:
        return each / 1000
    steps = elements.numbers(dataset, "FrameTimeVector")[1:]
    if steps and min(steps) > 0 and max(steps) <= 1.1 * min(steps):
        return float(np.mean(steps)) / 1000
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        if (rate := elements.number(dataset, name)) and rate > 0:
            return 1 / rate
    return None


def _place(dataset: "Dataset") -> tuple[float, float, float, float] | None:
    position, axes = (
        elements.numbers(dataset, "ImagePositionPatient"),
        elements.numbers(dataset, "ImageOrientationPatient"),
    )
    if len(position) != 3 or len(axes) != 6:
        return None
    normal = np.cross(axes[:3], axes[3:])
    x, y, z = (float(n) for n in normal)
    return float(np.dot(position, normal)), x, y, z


def _view(dataset: "Dataset") -> View | None:
    said = {
        VIEWS[code]
        for item in elements.items(dataset, "ViewCodeSequence")
        if (code := elements.text(item, "CodeValue")) in VIEWS
    }
    return said.pop() if len(said) == 1 else None


def _short_axis(dataset: "Dataset") -> bool:
    words = " ".join(elements.text(dataset, name) for name in FREE_TEXT).lower()
    return any(name in f" {words.replace('_', ' ')} " for name in (" sax ", "short axis", "short-axis", "shortaxis"))


def _within(what: str, found: tuple[float, float] | None, bounds: tuple[float, float]) -> tuple[float, float] | None:
    for value in found or ():
        _within_one(what, value, bounds)
    return found


def _within_one(what: str, value: float | None, bounds: tuple[float, float]) -> float | None:
    if value is not None and not bounds[0] <= value <= bounds[1]:
        raise ValueError(f"states a {what} of {value:g}, outside {bounds[0]:g}..{bounds[1]:g}")
    return value
