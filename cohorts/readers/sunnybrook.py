"""Sunnybrook Cardiac Data: short-axis cine magnetic resonance with expert contours (Radau et al. 2009).

hdl:10380/3070. A folder holds link.csv (`patient_id,original_id`), the images `dicoms/<patient_id>/<n>.dcm` and the
contours `contourfiles/<original_id>/{i,o}-contours/IM-0001-<n>-{i,o}contour-manual.txt`. Image n is phase
(n - 1) % 20 of slice (n - 1) // 20, and a slice becomes a clip of the phases that are there.

Endocardium is outlined in two phases, epicardium in one of them. End diastole is the phase whose endocardial area,
summed over the slices of a patient, is the larger, end systole the other: that is derived from the contours, not seen
in the pixels. Where both outlines are there, everything outside them is background, the right ventricle too, which
nobody outlined; where only the endocardium is, everything outside it is unlabelled, as are all other phases.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cohorts.contours import Contour, filled, read_contour
from cohorts.deidentify import Pseudonyms
from cohorts.dicom import grey_range, read_scaled
from cohorts.dicom_header import Header, read_header
from cohorts.grey import window
from cohorts.index import Index, Source, folder_of, settle
from cohorts.readers import READERS
from cohorts.study import BACKGROUND, CAVITY, MYOCARDIUM, UNLABELLED, Clip, Cohort, Origin, UnreadableStudy, View
from cohorts.table import Row, header_of, read_table

TABLE, COLUMNS = "link.csv", ("patient_id", "original_id")
GROUPS = {  # by how an original identifier begins
    "SC-HF-I": "heart failure with infarction",
    "SC-HF-NI": "heart failure without infarction",
    "SC-HYP": "hypertrophy",
    "SC-N": "normal",
}
_IMAGE = re.compile(r"(?:IM-\d{4}-)?(\d{1,6})\.dcm", re.IGNORECASE)
_CONTOUR = re.compile(r"IM-\d{4}-(\d{1,6})-[io]contour-manual\.txt", re.IGNORECASE)
_WHERE = {CAVITY: "i-contours", MYOCARDIUM: "o-contours"}


@READERS("sunnybrook")
@dataclass(frozen=True, slots=True, kw_only=True)
class Sunnybrook:
    """Where images and contours are.

    Attributes:
        root: the folder of link.csv, dicoms and contourfiles.
        phases: images of a slice.
        same_subject: groups of patient_id that are one person.
        subjects_file, site: a partition, and whose part of it is read.
        origin: what the studies are: real, phantom or synthetic.
    """

    root: str = ""
    phases: int = 20
    same_subject: tuple[list[str], ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.REAL.value

    def __post_init__(self) -> None:
        if self.phases < 1:
            raise ValueError(f"phases={self.phases} must be at least 1")
        settle(self)

    def index(self) -> Index:
        """Check the table, all contours and the headers of all images."""
        try:
            root = folder_of(self.root)
            rows = read_table(root / TABLE, columns=COLUMNS, separator=",")
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        sources: list[Source] = []
        problems: list[UnreadableStudy] = []
        seen: dict[bytes, tuple[str, Path]] = {}
        for row in rows:
            try:
                patient = _patient(row, root)
                problems += _copies(patient, seen)
                sources += _sources(patient, self.phases)
            except UnreadableStudy as problem:
                problems.append(problem)
        return Index(sources=tuple(sources), problems=tuple(problems))

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """Index the patients; raises `UnreadableStudy` for the first problem, with the number of others."""
        return self.index().cohort(
            pseudonyms=pseudonyms,
            origin=Origin(self.origin),
            same_subject=self.same_subject,
            subjects_file=self.subjects_file,
            site=self.site,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether `root` has this layout's table and folders."""
        return set(COLUMNS) <= set(header_of(root / TABLE)) and (root / "contourfiles").is_dir()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patient:
    key: str
    group: str
    images: Mapping[int, tuple[Path, Header]]
    contours: Mapping[int, Mapping[int, Contour]]  # by label, by number of the image


def _patient(row: Row, root: Path) -> _Patient:
    folder, outlines = row.path("patient_id", root / "dicoms"), row.path("original_id", root / "contourfiles")
    images = {}
    for n, path in _numbered(folder, _IMAGE, row):
        header = read_header(path)
        if header.modality != "MR" or header.shape[0] != 1:
            raise UnreadableStudy(
                str(path), f"holds {header.shape[0]} frames of {header.modality!r}, must be 1 of 'MR'"
            )
        images[n] = path, header
    contours: dict[int, dict[int, Contour]] = {}
    for label, name in _WHERE.items():
        contours[label] = {}
        for n, path in _numbered(outlines / name, _CONTOUR, row, needed=label == CAVITY):
            contours[label][n] = contour = read_contour(path)
            if n not in images:
                raise UnreadableStudy(str(path), f"outlines image {n}, which {folder} has not")
            _, height, width = images[n][1].shape
            if contour.points.min() < -1 or (contour.points.max(axis=0) > (width, height)).any():
                raise UnreadableStudy(str(path), f"leaves the {height} x {width} pixels of its image")
    alone = sorted(contours[MYOCARDIUM].keys() - contours[CAVITY].keys())
    if alone:
        raise UnreadableStudy(str(contours[MYOCARDIUM][alone[0]].path), "has no endocardium beside it")
    original = row.required("original_id")
    group = next((said for start, said in GROUPS.items() if original.upper().startswith(f"{start}-")), "")
    return _Patient(key=row.required("patient_id"), group=group, images=images, contours=contours)


def _numbered(folder: Path, names: re.Pattern[str], row: Row, *, needed: bool = True) -> Iterator[tuple[int, Path]]:
    if not folder.is_dir():
        if needed:
            row.refuse(f"names {folder.name!r}, but {folder} is no folder")
        return
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if (match := names.fullmatch(path.name)) and path.is_file():
            n = int(match[1])
            if n < 1 or n in found:
                raise UnreadableStudy(str(path), f"is image {n}, as {found[n].name} is" if n in found else "is image 0")
            found[n] = path
    yield from sorted(found.items())


def _copies(patient: _Patient, seen: dict[bytes, tuple[str, Path]]) -> Iterator[UnreadableStudy]:
    """Yield the contours that are byte for byte another patient's."""
    for contour in (c for one in patient.contours.values() for c in one.values()):
        whose, path = seen.setdefault(contour.content, (patient.key, contour.path))
        if whose != patient.key:
            yield UnreadableStudy(str(contour.path), f"is byte for byte {path}, which outlines another patient")


def _sources(patient: _Patient, phases: int) -> Iterator[Source]:
    areas: dict[int, float] = {}
    for n, contour in patient.contours[CAVITY].items():
        areas[(n - 1) % phases] = areas.get((n - 1) % phases, 0) + contour.area()
    order = sorted(areas, key=lambda phase: -areas[phase])
    ed_es = (order[0], order[1]) if len(order) == 2 else (None, None)
    grey = lru_cache(maxsize=1)(partial(grey_range, tuple(patient.images.values())))
    for k in sorted({(n - 1) // phases for n in patient.images}):
        shots = {(n - 1) % phases: n for n in patient.images if (n - 1) // phases == k}
        shown = list(ed_es) if set(shots) == set(ed_es) else sorted(shots)
        numbers = tuple(shots[phase] for phase in shown if phase is not None)
        first = patient.images[numbers[0]]
        for n in numbers:
            if patient.images[n][1].shape != first[1].shape:
                raise UnreadableStudy(str(patient.images[n][0]), f"differs in shape from {first[0].name}")
        ed, es = (shown.index(phase) if phase in shots else None for phase in ed_es)
        yield Source(
            where=f"{first[0].parent} slice {k}",
            subject=patient.key,
            study=patient.key,
            load=partial(_clip, patient, numbers, ed_frame=ed, es_frame=es, grey=grey),
            labels={"diagnosis": patient.group} if patient.group else {},
            columns={"pathology": patient.group},
        )


def _clip(
    patient: _Patient,
    numbers: tuple[int, ...],
    *,
    ed_frame: int | None,
    es_frame: int | None,
    grey: Callable[[], tuple[float, float]],
) -> Clip:
    images = [patient.images[n] for n in numbers]
    values = np.concatenate([read_scaled(path, header) for path, header in images])
    return Clip(
        pixels=window(values, *grey()),
        view=View.SAX,
        masks=np.stack([_mask(patient, n) for n in numbers]),
        ed_frame=ed_frame,
        es_frame=es_frame,
        frame_seconds=_frame_seconds(numbers, [header for _, header in images]),
        pixel_mm=images[0][1].pixel_mm,
    )


def _mask(patient: _Patient, n: int) -> NDArray[np.uint8]:
    _, height, width = patient.images[n][1].shape
    endo, epi = (patient.contours[label].get(n) for label in (CAVITY, MYOCARDIUM))
    mask = np.full((height, width), UNLABELLED if epi is None else BACKGROUND, np.uint8)
    for contour, label in ((epi, MYOCARDIUM), (endo, CAVITY)):
        if contour is not None:
            mask[filled(contour.points, height, width)] = label
    return mask


def _frame_seconds(numbers: tuple[int, ...], headers: list[Header]) -> float | None:
    """Return the mean step of the trigger times where every phase between the first and the last is there."""
    times = [header.trigger_ms for header in headers if header.trigger_ms is not None]
    if len(times) != len(numbers) or len(times) < 3 or any(b - a != 1 for a, b in pairwise(numbers)):
        return None
    step = (times[-1] - times[0]) / (len(times) - 1) / 1000
    return step if step > 0 else None
