"""ACDC as NIfTI: cine magnetic resonance, short axis, of five groups of patients (Bernard et al. 2018).

doi:10.1109/TMI.2018.2837502. A patient's folder holds `patientNNN_4d.nii.gz`, `patientNNN_frameYY[_gt].nii.gz` of end
diastole and end systole, and Info.cfg, which says which frames those are. Folders lie in `root`, or in its training and
testing. A slice becomes a clip: of the whole cine where it is there, else of ED and ES. Their labels are 1 right
ventricle, 2 myocardium, 3 left ventricular cavity. Groups are numbered in order, so never split by number.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cohorts.cfg import read_cfg
from cohorts.decode import reasons
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, Source, folder_of, settle
from cohorts.nifti import grid_of
from cohorts.readers import READERS
from cohorts.short_axis import Examination, Outline
from cohorts.study import CAVITY, MYOCARDIUM, RIGHT_VENTRICLE, Cohort, Origin, UnreadableStudy

PATIENT = re.compile(r"patient\d{3}")
BENEATH = ("", "training", "testing")
INFO = "Info.cfg"
KEYS = ("ED", "ES", "Group", "Height", "Weight", "NbFrame")
OURS = (0, RIGHT_VENTRICLE, MYOCARDIUM, CAVITY)  # by their label


@READERS("acdc")
@dataclass(frozen=True, slots=True, kw_only=True)
class Acdc:
    """Where the patients are.

    Attributes:
        root: the folder of the patients, or of their folders training and testing.
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
        """Check the text files and the headers of all patients."""
        sources: list[Source] = []
        problems: list[UnreadableStudy] = []
        try:
            root = folder_of(self.root)
            patients = _patients(root)
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        if not patients:
            problems.append(UnreadableStudy(str(root), "holds no folder patientNNN"))
        for folder in patients:
            try:
                sources += _sources(folder, folder.parent.name if folder.parent != root else "")
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
        """Say whether a folder patientNNN is there and has an Info.cfg."""
        try:
            return any((folder / INFO).is_file() for folder in _patients(root)[:9])
        except UnreadableStudy:
            return False


def _patients(root: Path) -> list[Path]:
    with reasons(root):
        folders = [root / name for name in BENEATH if (root / name).is_dir()]
        found = [path for folder in folders for path in sorted(folder.iterdir())]
        return [path for path in found if PATIENT.fullmatch(path.name) and path.is_dir()]


def _sources(folder: Path, split: str) -> Iterator[Source]:
    """Return a source a slice."""
    info = read_cfg(folder / INFO, KEYS)
    told: dict[str, int] = {}
    for phase in ("ED", "ES"):
        frame = info.index(phase)
        if not frame:
            info.refuse(f"{phase}={info.text(phase)!r} is no frame; frames count from 1")
        told[phase] = frame
    cine = _file(folder, "4d")
    images: tuple[Path, ...]
    if cine:
        shape = grid_of(cine).shape
        if info.index("NbFrame") not in (None, shape[-1]):
            info.refuse(f"NbFrame={info.index('NbFrame')}, but {cine.name} has shape {shape}")
        images, at = (cine,), {phase: frame - 1 for phase, frame in told.items()}
    else:
        stills = {phase: path for phase, frame in told.items() if (path := _file(folder, f"frame{frame:02d}"))}
        images, at = tuple(stills.values()), {phase: k for k, phase in enumerate(stills)}
    if not images:
        raise UnreadableStudy(str(folder), f"holds neither {folder.name}_4d nor the frames of ED and ES")
    outlines = tuple(
        Outline(path=path, frame=at[phase])
        for phase, frame in told.items()
        if phase in at and (path := _file(folder, f"frame{frame:02d}_gt"))
    )
    exam = Examination(images=images, outlines=outlines, ours=OURS, ed=at.get("ED"), es=at.get("ES"))
    labels: dict[str, float | str] = {}
    for key, label, low, high in (("Height", "height_cm", 30.0, 300.0), ("Weight", "weight_kg", 1.0, 500.0)):
        value = info.number(key, low, high)
        if value is not None:
            labels[label] = value
    group = info.text("Group")
    return exam.sources(
        folder.name,
        labels={**labels, "diagnosis": group} if group else labels,
        columns={"diagnosis": group, **({"split": split} if split else {})},
    )


def _file(folder: Path, kind: str) -> Path | None:
    names = (f"{folder.name}_{kind}{end}" for end in (".nii.gz", ".nii"))
    return next((folder / name for name in names if (folder / name).is_file()), None)
