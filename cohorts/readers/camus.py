"""CAMUS: apical views of the left ventricle, outlined in every frame (Leclerc et al. 2019).

doi:10.1109/TMI.2019.2900516. A patient's folder holds `patientNNNN_{2CH,4CH}_{ED,ES,half_sequence}[_gt]` as
`.nii.gz`, or as `.mhd` with `.raw` in the older copy, where the sequence is called `_sequence`, and Info_2CH.cfg and
Info_4CH.cfg. Folders lie in `root`, or in its database_nifti, training or testing. A view becomes one clip: the
sequence where there is one, else the two stills. Stored arrays are (width, height), probe at the top; labels are ours.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.cfg import read_cfg
from cohorts.decode import reasons
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, Source, folder_of, settle
from cohorts.nifti import SUFFIXES, grid_of, read_values, whole
from cohorts.readers import READERS
from cohorts.study import ATRIUM, UNLABELLED, Clip, Cohort, Origin, UnreadableStudy, View
from cohorts.table import Row

PATIENT = re.compile(r"patient\d{4}")
BENEATH = ("", "database_nifti", "training", "testing")
PHASES = ("ED", "ES")
VIEWS = {"2CH": View.A2C, "4CH": View.A4C}
KEYS = ("ED", "ES", "NbFrame", "Sex", "Age", "ImageQuality", "EF", "LVef", "LVedv", "LVesv", "FrameRate")
NUMBERS = {
    "EF": ("lvef_percent", 0.0, 100.0),
    "LVef": ("lvef_percent", 0.0, 100.0),
    "LVedv": ("edv_ml", 0.0, 2000.0),
    "LVesv": ("esv_ml", 0.0, 2000.0),
    "Age": ("age_years", 0.0, 130.0),
}
SEXES = {"F": "female", "M": "male"}
SPLITS = ("training", "validation", "testing")
SPLIT_BYTES_MAX = 2**20


@READERS("camus")
@dataclass(frozen=True, slots=True, kw_only=True)
class Camus:
    """Where the patients are.

    Attributes:
        root: the folder of the patients, or one level above.
        same_subject: groups of patients that are one person; patient0033 and patient0068 are.
        subjects_file, site: a partition, and whose part of it is read.
        origin: what the studies are: real, phantom or synthetic.
    """

    root: str = ""
    same_subject: tuple[list[str], ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.REAL.value

    def __post_init__(self) -> None:
        settle(self)

    def index(self) -> Index:
        """Check the text files and the headers of all patients."""
        sources: list[Source] = []
        problems: list[UnreadableStudy] = []
        try:
            root = folder_of(self.root)
            patients = _patients(root)
            splits = _splits(root)
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        if not patients:
            problems.append(UnreadableStudy(str(root), "holds no folder patientNNNN"))
        for folder in patients:
            try:
                sources += _sources(folder, splits)
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
        """Say whether a folder patientNNNN is there and has an Info_2CH.cfg or Info_4CH.cfg."""
        try:
            return any((folder / f"Info_{name}.cfg").is_file() for folder in _patients(root)[:9] for name in VIEWS)
        except UnreadableStudy:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Film:
    """The files of one view: the sequence or stills, and which frames each file of outlines belongs to."""

    images: tuple[Path, ...]
    masks: tuple[tuple[slice, Path], ...]
    ed: int | None
    es: int | None
    moves: bool


def _patients(root: Path) -> list[Path]:
    with reasons(root):
        folders = [root / name for name in BENEATH if (root / name).is_dir()]
        found = [path for folder in folders for path in sorted(folder.iterdir())]
        return [path for path in found if PATIENT.fullmatch(path.name) and path.is_dir()]


def _splits(root: Path) -> Mapping[str, str]:
    """Return the official split of every patient, where database_split lies in `root` or beside it."""
    found: dict[str, str] = {}
    for folder in (root / "database_split", root.parent / "database_split"):
        for split in SPLITS:
            path = folder / f"subgroup_{split}.txt"
            if path.is_file():
                with reasons(path):
                    if path.stat().st_size > SPLIT_BYTES_MAX:
                        raise ValueError(f"has {path.stat().st_size} bytes; at most {SPLIT_BYTES_MAX} are read")
                    found |= dict.fromkeys(path.read_text(encoding="utf-8").split(), split)
    return found


def _sources(folder: Path, splits: Mapping[str, str]) -> Iterator[Source]:
    """Yield a source a view."""
    said = {name: _info(folder / f"Info_{name}.cfg") for name in VIEWS}
    films = {name: film for name in VIEWS if (film := _film(folder, name, said[name]))}
    if not films:
        raise UnreadableStudy(str(folder), "holds no image of 2CH or 4CH")
    columns = {"split": splits[folder.name]} if folder.name in splits else {}
    for name, info in said.items():
        if info is not None:
            columns[f"image_quality_{name.lower()}"] = info.text("ImageQuality")
            columns[f"frame_rate_hz_{name.lower()}"] = info.text("FrameRate")
    for name, film in films.items():
        info = said[name]
        yield Source(
            where=str(film.images[0]),
            subject=folder.name,
            study=folder.name,
            load=partial(_clip, film, VIEWS[name], info.number("FrameRate", 0.1, 1e4) if info else None),
            labels=_labels(info, name) if info else {},
            columns=columns,
        )


def _info(path: Path) -> Row | None:
    return read_cfg(path, KEYS) if path.is_file() else None


def _labels(info: Row, name: str) -> dict[str, float | str]:
    labels: dict[str, float | str] = {}
    for key, (label, low, high) in NUMBERS.items():
        value = info.number(key, low, high)
        if value is not None:
            labels[label] = value
    if sex := SEXES.get(info.text("Sex").upper()):
        labels["sex"] = sex
    if quality := info.text("ImageQuality"):
        labels[f"image_quality_{name.lower()}"] = quality
    return labels


def _film(folder: Path, name: str, info: Row | None) -> _Film | None:
    """Find the files of one view and hold their headers against each other; `None` where it has no image."""

    def file(kind: str) -> Path | None:
        stem = f"{folder.name}_{name}_{kind}"
        return next((path for end in SUFFIXES if (path := folder / (stem + end)).is_file()), None)

    half = file("half_sequence")
    sequence = half or file("sequence")
    stills = {phase: path for phase in PHASES if (path := file(phase))}
    images = (sequence,) if sequence else tuple(stills.values())
    if not images:
        return None
    size = _shape(images[0])
    if sequence:
        at = _frames(info, size[2], half=half is not None)
    else:
        at = {phase: list(stills).index(phase) if phase in stills else None for phase in PHASES}
    outlined = (file("half_sequence_gt") or file("sequence_gt")) if sequence else None
    masks = [(slice(None), outlined)] if outlined else []
    for phase in () if outlined else PHASES:
        if path := file(f"{phase}_gt"):
            frame = at[phase]
            if frame is None:
                raise UnreadableStudy(str(path), f"outlines {phase}, but no frame of {name} is known to be {phase}")
            masks.append((slice(frame, frame + 1), path))
    for path in (*images, *(path for _, path in masks)):
        fits = size if path in (sequence, outlined) else (*size[:2], 1)
        if (shape := _shape(path)) != fits:
            raise UnreadableStudy(str(path), f"is {shape}, must be {fits} to fit {images[0].name}")
    return _Film(images=images, masks=tuple(masks), ed=at["ED"], es=at["ES"], moves=sequence is not None)


def _frames(info: Row | None, length: int, *, half: bool) -> dict[str, int | None]:
    """Return where ED and ES are, from 0: Info counts from 1; a half sequence begins with ED and ends with ES."""
    told = {key: info.index(key) if info else None for key in ("ED", "ES", "NbFrame")}
    if info and told["NbFrame"] not in (None, length):
        info.refuse(f"NbFrame={told['NbFrame']}, but the sequence has {length} frames")
    for key in PHASES:
        frame = told[key]
        if info and frame is not None and not 1 <= frame <= length:
            info.refuse(f"{key}={frame} lies outside 1..{length}")
    ends = {"ED": 1, "ES": length} if half else {}
    found = {key: told[key] or ends.get(key) for key in PHASES}
    return {key: None if frame is None else frame - 1 for key, frame in found.items()}


def _shape(path: Path) -> tuple[int, int, int]:
    shape = grid_of(path).shape
    if len(shape) > 3:
        raise UnreadableStudy(str(path), f"has shape {shape}; it must be (width, height) or (width, height, frames)")
    return shape[0], shape[1], shape[2] if len(shape) == 3 else 1


def _upright(path: Path, high: int, what: str) -> NDArray[np.uint8]:
    """Return `(frames, height, width)` of a file."""
    values = read_values(path)
    with reasons(path):
        stack: NDArray[Any] = whole(values, 0, high, what).reshape(*values.shape[:2], -1)
        return np.ascontiguousarray(stack.transpose(2, 1, 0))


def _clip(film: _Film, view: View, rate: float | None) -> Clip:
    pixels = np.concatenate([_upright(path, 255, "grey value") for path in film.images])
    masks = np.full_like(pixels, UNLABELLED)
    mm = grid_of(film.images[0]).mm
    with reasons(film.images[0]):
        for frames, path in film.masks:
            masks[frames] = _upright(path, ATRIUM, "mask label")
        return Clip(
            pixels=pixels,
            view=view,
            masks=masks if film.masks else None,
            ed_frame=film.ed,
            es_frame=film.es,
            frame_seconds=1 / rate if rate and film.moves else None,
            pixel_mm=(mm[1], mm[0]) if mm else None,
        )
