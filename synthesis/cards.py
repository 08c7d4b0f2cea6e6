"""What an exported folder holds, in the terms of Croissant 1.1: its files, its tables and what their columns mean.

The half of `croissant.json` that needs no certificate; `evaluation.cards` adds where the data come from. Terms:
Akhtar et al. 2024, doi:10.1145/3650203.3663326.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthesis.manifest import Entry, Manifest

TEXT, INTEGER, FLOAT = "sc:Text", "sc:Integer", "sc:Float"
COLUMNS: Mapping[str, tuple[str, str]] = {  # of every table of every layout: type and meaning
    "patient": (TEXT, "Synthetic subject; nobody's pseudonym."),
    "study": (TEXT, "Counts the examinations of one subject."),
    "view": (TEXT, "Standard view of echocardiography; empty where unknown."),
    "phase": (TEXT, "ED, end diastole, or ES, end systole; empty for a whole clip."),
    "image": (TEXT, "File of grey values."),
    "mask": (TEXT, "File of labels; empty where nothing is outlined."),
    "ef_reported": (FLOAT, "Ejection fraction in percent, as released."),
    "subject": (TEXT, "Synthetic subject in the release."),
    "origin": (TEXT, "What the frame is; here always synthetic."),
    "file": (TEXT, "DICOM file."),
    "ed_frame": (INTEGER, "Index of end diastole, from 0."),
    "es_frame": (INTEGER, "Index of end systole, from 0."),
    "frame_rate_hz": (FLOAT, "Frames per second; empty where frames do not follow each other."),
    "pixel_mm": (FLOAT, "Side of a pixel in millimetres; empty where unknown."),
    "FileName": (TEXT, "Video; without .avi in FileList.csv, with it in VolumeTracings.csv."),
    "EF": (FLOAT, "Ejection fraction in percent, as released."),
    "ESV": (FLOAT, "End-systolic volume in ml from the tracing; empty without a pixel size."),
    "EDV": (FLOAT, "End-diastolic volume in ml from the tracing; empty without a pixel size."),
    "FrameHeight": (INTEGER, "Height in pixels."),
    "FrameWidth": (INTEGER, "Width in pixels."),
    "FPS": (FLOAT, "Frames per second; empty where frames do not follow each other."),
    "NumberOfFrames": (INTEGER, "Frames in the video."),
    "Split": (TEXT, "TRAIN, VAL or TEST, drawn by subject."),
    "X1": (FLOAT, "Column of the first end of a line, in pixels."),
    "Y1": (FLOAT, "Row of the first end."),
    "X2": (FLOAT, "Column of the second end."),
    "Y2": (FLOAT, "Row of the second end."),
    "Frame": (INTEGER, "Index of the traced frame, from 0."),
}
OTHER = (TEXT, "A word that this release says of it; its certificate names the classes.")
FILE_SETS: Mapping[str, tuple[tuple[str, str, str], ...]] = {  # of each layout: name, pattern, media type
    "echonet-dynamic": (("videos", "Videos/*.avi", "video/x-msvideo"),),
    "camus": (
        ("volumes", "database_nifti/*/*.nii.gz", "application/gzip"),
        ("facts", "database_nifti/*/*.cfg", "text/plain"),
        ("splits", "database_split/*.txt", "text/plain"),
    ),
    "acdc": (("volumes", "patient*/*.nii.gz", "application/gzip"), ("facts", "patient*/Info.cfg", "text/plain")),
    "plain": (("images", "images/*.png", "image/png"), ("masks", "masks/*.png", "image/png")),
    "plain-npy": (
        ("images", "images/*.npy", "application/octet-stream"),
        ("masks", "masks/*.npy", "application/octet-stream"),
    ),
    "dicom": (("dicom", "dicom/*/*.dcm", "application/dicom"),),
}
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def tables_of(manifest: Manifest) -> tuple[Entry, ...]:
    """Return the tables of an exported folder, sorted by name."""
    return tuple(entry for entry in manifest.files if entry.path.endswith(".csv"))


def described(folder: Path, manifest: Manifest, *, layout: str) -> dict[str, Any]:
    """Return `distribution` and `recordSet`: every table with its digest and columns, every other file by a pattern."""
    tables = tables_of(manifest)
    files = [
        {
            "@type": "cr:FileObject",
            "@id": entry.path,
            "name": entry.path,
            "contentUrl": entry.path,
            "contentSize": f"{entry.size} B",
            "encodingFormat": "text/csv",
            "sha256": entry.sha256,
        }
        for entry in tables
    ]
    sets = [
        {"@type": "cr:FileSet", "@id": name, "name": name, "includes": pattern, "encodingFormat": kind}
        for name, pattern, kind in FILE_SETS[layout]
    ]
    return {"distribution": [*files, *sets], "recordSet": [_records(folder, entry.path) for entry in tables]}


def _records(folder: Path, table: str) -> dict[str, Any]:
    with (folder / table).open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    name = Path(table).stem
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "description": COLUMNS.get(column, OTHER)[1],
                "dataType": COLUMNS.get(column, OTHER)[0],
                "source": {"fileObject": {"@id": table}, "extract": {"column": column}},
            }
            for column in header
        ],
    }
