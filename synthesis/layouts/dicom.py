"""Synthetic DICOM: one ultrasound multi-frame image per clip, which says of itself that nobody was scanned.

```
dicom/SUBJECT/000000.dcm    Ultrasound Multi-frame Image, explicit little endian, 8-bit grey, uncompressed
labels.csv                  which file is which, and what DICOM has no element for: the phases and the ejection fraction
```

Synthetic Data (0008,001C) and Patient Identity Removed are YES; dates, times, sex and physician are empty. UIDs are of
the form 2.25 (PS3.5, B.2) and made from the release alone: equal releases give equal bytes. Where frames follow each
other there is a Frame Time; two stills are told apart by the Frame Label Vector, ED and ES, since no time between them
is known. The view is coded after PS3.16 CID 12226, where it is known. An image has no place for masks.
"""

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cohorts.study import Clip, Origin, View
from synthesis.layouts import Take, Unsuitable, counted, table

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

COLUMNS = ("patient", "study", "view", "file", "ed_frame", "es_frame", "ef_reported", "origin")
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
VIEWS = {  # SNOMED CT, PS3.16 CID 12226
    View.A2C: ("399232001", "Apical two chamber"),
    View.A4C: ("399214001", "Apical four chamber"),
    View.PLAX: ("399139001", "Parasternal long axis"),
    View.PSAX: ("399306005", "Parasternal short axis"),
}
DERIVED = "Drawn by a generator of synthetic echocardiograms; no patient was examined."
METHOD = "Synthetic: the subject does not exist."
CENTIMETRES, TISSUE, TWO_DIMENSIONAL = 3, 1, 1  # PS3.3 C.8.5.5.1


def write(folder: Path, takes: Iterable[Take], key: bytes) -> tuple[str, ...]:
    """Write every clip; `key`, the release's own, makes the UIDs.

    Raises:
        Unsuitable: a clip is a short axis of magnetic resonance, or there is none at all.
    """
    rows: list[tuple[str, ...]] = []
    shown: Counter[str] = Counter()
    words: tuple[str, ...] = ()
    masked, unviewed = 0, 0
    for take in takes:
        clip = take.load()
        if clip.view is View.SAX:
            raise Unsuitable(f"{take.name} is magnetic resonance (SAX); this layout is of ultrasound")
        name = f"dicom/{take.subject}/{shown[take.subject]:06d}.dcm"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shown[take.subject] += 1
        dataset = image(take, clip, key=key, instance=shown[take.subject])
        dataset.save_as(folder / name, enforce_file_format=True)
        phases = tuple("" if at is None else str(at) for at in (clip.ed_frame, clip.es_frame))
        rows.append(
            (take.subject, take.study, clip.view or "", name, *phases, take.lvef, Origin.SYNTHETIC.value,
             *take.words.values())
        )  # fmt: skip
        words = tuple(take.words)
        masked += clip.masks is not None
        unviewed += clip.view is None
    if not rows:
        raise Unsuitable("this release has no clip")
    table(folder / "labels.csv", (*COLUMNS, *words), rows)
    return (
        *counted(masked, "clip has masks, which are not written.", "clips have masks, which are not written."),
        *counted(unviewed, "clip has no known view.", "clips have no known view."),
    )


def image(take: Take, clip: Clip, *, key: bytes, instance: int) -> "Dataset":
    """Return one clip as a data set, ready to be saved."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE_ENDIAN)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = UID(MULTI_FRAME)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = _uid(key, "image", take.subject, str(instance))
    made.SpecificCharacterSet = "ISO_IR 192"
    made.StudyInstanceUID = _uid(key, "study", take.subject, take.study)
    made.SeriesInstanceUID = _uid(key, "series", take.subject, take.study)
    made.SyntheticData = "YES"
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.DerivationDescription = DERIVED
    made.PatientName = f"Synthetic^{take.subject}"
    made.PatientID = take.subject
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = METHOD
    made.BurnedInAnnotation = "NO"
    made.LossyImageCompression = "00"
    for empty in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
                  "ReferringPhysicianName", "Manufacturer"):  # fmt: skip
        setattr(made, empty, "")
    made.Modality = "US"
    made.SeriesNumber = 1
    made.InstanceNumber = instance
    if clip.view in VIEWS:
        made.ViewCodeSequence = [_view(clip.view)]
    if clip.pixel_mm is not None:
        made.SequenceOfUltrasoundRegions = [_region(clip, clip.pixel_mm)]
    _add_frames(made, clip)
    return made


def _add_frames(made: "Dataset", clip: Clip) -> None:
    made.NumberOfFrames, made.Rows, made.Columns = clip.pixels.shape
    if clip.frame_seconds is not None:
        made.FrameTime = f"{1000 * clip.frame_seconds:.6g}"
        made.FrameIncrementPointer = 0x00181063
    else:
        names = {clip.ed_frame: "ED", clip.es_frame: "ES"}
        made.FrameLabelVector = [names.get(at, f"FRAME {at}") for at in range(len(clip.pixels))]
        made.FrameIncrementPointer = 0x00182002
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    made.PixelRepresentation = 0
    raw = clip.pixels.tobytes()
    made.add_new(0x7FE00010, "OB", raw + b"\0" * (len(raw) % 2))


def _view(view: View) -> "Dataset":
    from pydicom import Dataset

    code = Dataset()
    code.CodeValue, code.CodeMeaning = VIEWS[view]
    code.CodingSchemeDesignator = "SCT"
    return code


def _region(clip: Clip, pixel_mm: tuple[float, float]) -> "Dataset":
    from pydicom import Dataset

    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = TWO_DIMENSIONAL, TISSUE, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = clip.pixels.shape[2] - 1, clip.pixels.shape[1] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = CENTIMETRES
    region.PhysicalDeltaY, region.PhysicalDeltaX = (side / 10 for side in pixel_mm)
    return region


def _uid(key: bytes, *names: str) -> "UID":
    from pydicom.uid import UID

    digest = hashlib.sha256(b"\0".join((key, *(name.encode() for name in names)))).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")
