"""ACDC as HDF5 volumes: cine magnetic resonance, short axis, end diastole and end systole (Bernard et al. 2018).

doi:10.1109/TMI.2018.2837502; packed by Luo et al. 2022, arXiv:2203.02106. A folder holds labels.csv and a file a frame,
`patientNNN_frameYY.h5`, with `image` (slices, height, width), float in 0..1, and `label`: 0 background, 1 right
ventricle, 2 myocardium, 3 left ventricular cavity. A slice becomes a clip of two frames, ED and ES. The packing has
lost pixel spacing and time; the ejection fraction of the table is the exact ratio of outlined voxels.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cohorts.decode import BYTES_MAX
from cohorts.deidentify import Pseudonyms
from cohorts.grey import window
from cohorts.index import Index, Source, folder_of, settle
from cohorts.readers import READERS
from cohorts.study import CAVITY, MYOCARDIUM, RIGHT_VENTRICLE, Clip, Cohort, Origin, UnreadableStudy, View
from cohorts.table import Row, header_of, read_table

if TYPE_CHECKING:
    import h5py

TABLE = "labels.csv"
COLUMNS = ("patient", "file", "phase_derived", "group_official_order", "derived_lvef")
OURS = np.array([0, RIGHT_VENTRICLE, MYOCARDIUM, CAVITY], np.uint8)  # by their label


@READERS("acdc_hdf5")
@dataclass(frozen=True, slots=True, kw_only=True)
class AcdcHdf5:
    """Where the volumes are.

    Attributes:
        root: the folder of labels.csv and the volumes.
        same_subject: groups of patients that are one person.
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
        """Check the table and the headers of all volumes."""
        try:
            root = folder_of(self.root)
            rows = read_table(root / TABLE, columns=COLUMNS, separator=",")
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        patients: dict[str, dict[str, Row]] = {}
        problems: list[UnreadableStudy] = []
        for row in rows:
            try:
                phase = row.required("phase_derived").upper()
                if phase not in ("ED", "ES"):
                    row.refuse(f"phase_derived={phase!r} is no phase; known: ED, ES")
                if phase in patients.setdefault(row.required("patient"), {}):
                    row.refuse(f"patient {row.text('patient')!r} has a second {phase}")
                patients[row.text("patient")][phase] = row
            except UnreadableStudy as problem:
                problems.append(problem)
        sources: list[Source] = []
        for patient, volumes in patients.items():
            try:
                sources += _sources(patient, volumes, root)
            except UnreadableStudy as problem:
                problems.append(problem)
        return Index(sources=tuple(sources), problems=tuple(problems))

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """Index the volumes; raises `UnreadableStudy` for the first problem, with the number of others."""
        return self.index().cohort(
            pseudonyms=pseudonyms,
            origin=Origin(self.origin),
            same_subject=self.same_subject,
            subjects_file=self.subjects_file,
            site=self.site,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether `root` has this layout's table and a volume."""
        return set(COLUMNS) <= set(header_of(root / TABLE)) and any(root.glob("*_frame*.h5"))


def _sources(patient: str, volumes: Mapping[str, Row], root: Path) -> Iterator[Source]:
    """Yield a source a slice; refuses volumes that do not fit each other."""
    paths = {phase: row.path("file", root) for phase, row in volumes.items()}
    shapes = {phase: _shape(path) for phase, path in paths.items()}
    if len(set(shapes.values())) > 1:
        raise UnreadableStudy(str(paths["ES"]), f"has shape {shapes['ES']}, its ED volume {shapes['ED']}")
    first = next(iter(volumes.values()))
    phases = sorted(paths)  # ED stands before ES
    lvef = first.number("derived_lvef", 0, 100)
    labels: dict[str, float | str] = {} if lvef is None else {"lvef_percent": lvef}
    if diagnosis := first.text("group_official_order"):
        labels["diagnosis"] = diagnosis
    for k in range(next(iter(shapes.values()))[0]):
        yield Source(
            where=f"{paths[phases[0]]} slice {k}",
            subject=patient,
            study=patient,
            load=partial(_clip, tuple((phase, paths[phase]) for phase in phases), k),
            labels=labels,
            columns={"diagnosis": diagnosis},
        )


def _shape(path: Path) -> tuple[int, ...]:
    with _opened(path) as file:
        image, label = (_dataset(file, name) for name in ("image", "label"))
        if image.ndim != 3 or image.shape != label.shape or not image.size:
            raise ValueError(
                f"image has shape {image.shape} and label {label.shape}; both must be (slices, height, width)"
            )
        if image.dtype.kind != "f" or label.dtype.kind not in "ui":
            raise ValueError(f"image holds {image.dtype} and label {label.dtype}; must be floating point and integer")
        for stored in (image, label):  # a chunk is unpacked whole, and may be far larger than what lies in it
            n_bytes = max(image.size, math.prod(stored.chunks or ())) * stored.dtype.itemsize
            if n_bytes > BYTES_MAX:
                raise ValueError(f"would decode to {n_bytes} bytes; at most {BYTES_MAX} are read")
        return tuple(int(n) for n in image.shape)


def _clip(volumes: tuple[tuple[str, Path], ...], k: int) -> Clip:
    shots, masks = [], []
    for _, path in volumes:
        _shape(path)
        with _opened(path) as file:
            values = np.asarray(_dataset(file, "image")[k])
            labels = np.asarray(_dataset(file, "label")[k])
            if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
                raise ValueError(f"slice {k} holds grey values outside 0..1")
            if labels.min() < 0 or labels.max() >= len(OURS):
                raise ValueError(f"slice {k} holds a label outside 0..{len(OURS) - 1}")
            shots.append(window(values, 0, 1))
            masks.append(OURS[labels])
    phases = [phase for phase, _ in volumes]
    pixels: NDArray[np.uint8] = np.stack(shots)
    return Clip(
        pixels=pixels,
        masks=np.stack(masks),
        view=View.SAX,
        ed_frame=phases.index("ED") if "ED" in phases else None,
        es_frame=phases.index("ES") if "ES" in phases else None,
    )


@contextmanager
def _opened(path: Path) -> "Iterator[h5py.File]":
    """Open an HDF5 file, and turn whatever the library says of it into one line."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise UnreadableStudy(str(path), "no such file") from None
    except UnreadableStudy:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, IndexError, MemoryError, OverflowError) as error:
        said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        reason = " ".join(said.replace(str(path), "").split()) or type(error).__name__
        raise UnreadableStudy(str(path), reason) from error


def _dataset(file: "h5py.File", name: str) -> Any:
    """Return a dataset of the file itself: a link to another file is not followed."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise KeyError(f"has no dataset {name!r} of its own")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise KeyError(f"{name!r} is no dataset of its own")
    return found
