"""EchoNet-Dynamic and EchoNet-Pediatric: videos of one view, with the ventricle outlined in two frames.

Ouyang et al. 2020, doi:10.1038/s41586-020-2145-8; Reddy et al. 2023, doi:10.1016/j.echo.2023.01.015. A folder holds
FileList.csv, Videos/*.avi and VolumeTracings.csv, without which nothing is outlined; of EchoNet-Pediatric it is the
folder A4C or PSAX. One video is one person, unless FileList.csv has a column that says who is who. Names may have the
suffix .avi or not, in either table. Inside an outline is the cavity; what lies around it was seen and not outlined, so
it is unlabelled, as are all other frames. Of the outlined frames the one with the largest area is end diastole, that
with the smallest end systole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cohorts.decode import read_pixels, reasons
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, Source, folder_of, settle
from cohorts.readers import READERS
from cohorts.study import CAVITY, UNLABELLED, Clip, Cohort, Origin, UnreadableStudy, View
from cohorts.table import Row, header_of, read_table
from cohorts.tracings import area, bare, enclosed, read_tracings

TABLE, TRACINGS, VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
NUMBERS = {  # column: label, lowest and highest
    "EF": ("lvef_percent", 0.0, 100.0),
    "ESV": ("esv_ml", 0.0, 2000.0),
    "EDV": ("edv_ml", 0.0, 2000.0),
    "FPS": ("frame_rate_hz", 0.1, 1e4),
    "Age": ("age_years", 0.0, 130.0),
    "Weight": ("weight_kg", 0.0, 500.0),
    "Height": ("height_cm", 0.0, 300.0),
}
SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}


@READERS("echonet_dynamic")
@dataclass(frozen=True, slots=True, kw_only=True)
class EchonetDynamic:
    """Where the tables and the videos are.

    Attributes:
        root: the folder of FileList.csv, Videos and, where ventricles are outlined, VolumeTracings.csv.
        view: the view of every video: A4C, or PSAX in that part of EchoNet-Pediatric, or A2C in our own releases.
        patient: column of FileList.csv that says who is who, if the table has it; without it a video is a person.
        same_subject: groups of identifiers that are one person.
        subjects_file, site: a partition, and whose part of it is read.
        origin: what the studies are: real, phantom or synthetic.
    """

    root: str = ""
    view: str = View.A4C.value
    patient: str = "PatientID"
    same_subject: tuple[list[str], ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.REAL.value

    def __post_init__(self) -> None:
        settle(self)
        if self.view not in (View.A4C, View.PSAX, View.A2C):
            raise ValueError(f"view={self.view!r} must be A4C, PSAX or A2C")

    def index(self) -> Index:
        """Check the tables, and that every listed video is there; no video is opened."""
        try:
            root = folder_of(self.root)
            rows = read_table(root / TABLE, columns=("FileName", "EF"), separator=",")
            traced = (root / TRACINGS).exists()
            outlines = read_tracings(root / TRACINGS) if traced else {}
            videos = _videos(root / VIDEOS)
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        sources: dict[str, Source] = {}
        problems: list[UnreadableStudy] = []
        for row in rows:
            name = bare(row.text("FileName"))
            try:
                if name in sources:
                    row.refuse(f"FileName={row.text('FileName')!r} stands twice, first in {sources[name].where}")
                if name not in videos:
                    row.refuse(f"FileName={row.text('FileName')!r} has no video in {VIDEOS}")
                sources[name] = self._source(row, videos[name], outlines.get(name, {}))
            except UnreadableStudy as problem:
                problems.append(problem)
        listed = {bare(row.text("FileName")) for row in rows}
        left_out = [UnreadableStudy(str(videos[k]), f"is not in {TABLE}") for k in sorted(videos.keys() - listed)]
        left_out += [
            UnreadableStudy(str(root / TRACINGS), f"outlines {name!r}, which is not in {TABLE}")
            for name in sorted(outlines.keys() - listed)
        ]
        if not traced:
            left_out.append(UnreadableStudy(str(root / TRACINGS), "is not there: no ventricle is outlined"))
        return Index(sources=tuple(sources.values()), problems=tuple(problems), left_out=tuple(left_out))

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """Index the videos; raises `UnreadableStudy` for the first problem, with the number of others."""
        return self.index().cohort(
            pseudonyms=pseudonyms,
            origin=Origin(self.origin),
            same_subject=self.same_subject,
            subjects_file=self.subjects_file,
            site=self.site,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether `root` has the list of this layout and a folder of videos, and tracings only of this kind."""
        listed, traced = set(header_of(root / TABLE)), set(header_of(root / TRACINGS))
        return (
            {"FileName", "EF"} <= listed
            and (not traced or {"FileName", "Frame"} <= traced)
            and (root / VIDEOS).is_dir()
        )

    def _source(self, row: Row, video: Path, outlines: Mapping[int, NDArray[np.float64]]) -> Source:
        has = row.cells.keys()
        subject = row.required(self.patient) if self.patient in has else video.stem
        labels: dict[str, float | str] = {}
        for column, (name, low, high) in NUMBERS.items():
            value = row.number(column, low, high) if column in has else None
            if value is not None:
                labels[name] = value
        sex = SEXES.get(row.text("Sex").lower(), "") if "Sex" in has else ""
        frames = row.index("NumberOfFrames") if "NumberOfFrames" in has else None
        if outlines and frames is not None and max(outlines) >= frames:
            row.refuse(f"NumberOfFrames={frames}, but frame {max(outlines)} is outlined; frames count from 0")
        rate = labels.get("frame_rate_hz")
        return Source(
            where=str(video),
            subject=subject,
            study=video.stem,
            load=partial(_clip, video, View(self.view), outlines, frames, 1 / float(rate) if rate else None),
            labels={**labels, "sex": sex} if sex else labels,
            columns={
                **({"split": row.text("Split")} if "Split" in has else {}),
                **({"sex": sex} if "Sex" in has else {}),
            },
        )


def _videos(folder: Path) -> Mapping[str, Path]:
    with reasons(folder):
        return {bare(path.name): path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".avi"}


def _clip(
    video: Path,
    view: View,
    outlines: Mapping[int, NDArray[np.float64]],
    frames: int | None,
    frame_seconds: float | None,
) -> Clip:
    decoded = read_pixels(video)
    pixels = decoded.pixels
    if frames is not None and len(pixels) != frames:
        raise UnreadableStudy(str(video), f"holds {len(pixels)} frames, {TABLE} says {frames}")
    if outlines and max(outlines) >= len(pixels):
        raise UnreadableStudy(str(video), f"frame {max(outlines)} is outlined, but it holds {len(pixels)} frames")
    masks = np.full_like(pixels, UNLABELLED) if outlines else None
    for at, points in outlines.items():
        inside = enclosed(points, *pixels.shape[1:])
        if masks is None or not inside.any():
            raise UnreadableStudy(str(video), f"the outline of frame {at} encloses no pixel of {pixels.shape[1:]}")
        masks[at][inside] = CAVITY
    by_area = sorted(outlines, key=lambda at: area(outlines[at]))
    return Clip(
        pixels=pixels,
        view=view,
        masks=masks,
        ed_frame=by_area[-1] if len(by_area) > 1 else None,
        es_frame=by_area[0] if len(by_area) > 1 else None,
        frame_seconds=frame_seconds or decoded.frame_seconds,
    )
