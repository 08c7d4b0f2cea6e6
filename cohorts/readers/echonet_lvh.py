"""EchoNet-LVH: parasternal long-axis videos with the walls measured (Duffy et al. 2022).

doi:10.1001/jamacardio.2021.6059. A folder holds Batch1 to Batch4 with *.avi, and MeasurementsList.csv with a row a
measurement: HashedFileName, Calc (IVSd, LVIDd, LVPWd, LVIDs, …), CalcValue in centimetres, Frame, the ends of its
line, Frames, FPS and split. A video is one person. Measurements become labels, `lvidd_cm` and so on; the frame in which
LVIDd is measured is end diastole, that of LVIDs end systole. A line across a cavity is no outline: there are no masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cohorts.decode import read_pixels, reasons
from cohorts.deidentify import Pseudonyms
from cohorts.index import Index, Source, folder_of, settle
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Origin, UnreadableStudy, View
from cohorts.table import Row, header_of, read_table
from cohorts.tracings import bare

TABLE = "MeasurementsList.csv"
COLUMNS = ("HashedFileName", "Calc", "CalcValue", "Frame")
LONGEST_CM = 30.0
PHASES = {"LVIDd": "ED", "LVIDs": "ES"}


@READERS("echonet_lvh")
@dataclass(frozen=True, slots=True, kw_only=True)
class EchonetLvh:
    """Where the table and the batches are.

    Attributes:
        root: the folder of MeasurementsList.csv and of the batches.
        same_subject: groups of videos that are of one person.
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
        """Check the table, and that every video in it is there once; no video is opened."""
        try:
            root = folder_of(self.root)
            rows = read_table(root / TABLE, columns=COLUMNS, separator=",")
            videos = _videos(root)
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        measured: dict[str, list[Row]] = {}
        for row in rows:
            measured.setdefault(bare(row.text("HashedFileName")), []).append(row)
        sources: list[Source] = []
        problems: list[UnreadableStudy] = []
        left_out = [
            UnreadableStudy(str(found[0]), f"is not in {TABLE}")
            for name, found in videos.items()
            if name not in measured
        ]
        for name, about in measured.items():
            try:
                found = videos.get(name, [])
                if len(found) != 1:
                    about[0].refuse(f"HashedFileName={name!r} has {len(found)} videos in the batches, must have 1")
                source, unsure = _source(found[0], about)
            except UnreadableStudy as problem:
                problems.append(problem)
            else:
                sources.append(source)
                left_out += unsure
        return Index(sources=tuple(sources), problems=tuple(problems), left_out=tuple(left_out))

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
        """Say whether `root` has the table of measurements."""
        return set(COLUMNS) <= set(header_of(root / TABLE))


def _videos(root: Path) -> Mapping[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    with reasons(root):
        for path in sorted(root.glob("Batch*/*")):
            if path.suffix.lower() == ".avi":
                found.setdefault(bare(path.name), []).append(path)
    return found


def _source(video: Path, rows: Sequence[Row]) -> tuple[Source, list[UnreadableStudy]]:
    """Return the clip of one video, and the measurements that say two things."""
    values: dict[str, set[float]] = {}
    frames: dict[str, set[int]] = {}
    for row in rows:
        calc = row.required("Calc")
        if not calc.isalnum():
            row.refuse(f"Calc={calc!r} is no name of a measurement")
        value, frame = row.number("CalcValue", 0, LONGEST_CM), row.index("Frame")
        if value is not None:
            values.setdefault(calc, set()).add(value)
        if frame is not None and calc in PHASES:
            frames.setdefault(PHASES[calc], set()).add(frame)
    unsure = [
        UnreadableStudy(rows[0].where, f"{calc} is measured as {' and '.join(f'{v:g}' for v in sorted(found))} cm")
        for calc, found in values.items()
        if len(found) > 1
    ]
    labels = {f"{calc.lower()}_cm": min(found) for calc, found in values.items() if len(found) == 1}
    at = {phase: next(iter(found)) for phase, found in frames.items() if len(found) == 1}
    length = _same(rows, "Frames")
    rate = _same(rows, "FPS")
    if rate:
        labels["frame_rate_hz"] = rate
    for phase, frame in at.items():
        if length is not None and frame >= length:
            raise UnreadableStudy(rows[0].where, f"{phase} is frame {frame}, but Frames={length:g}; they count from 0")
    split = rows[0].cells.get("split", "")
    source = Source(
        where=str(video),
        subject=video.stem,
        study=video.stem,
        load=partial(_clip, video, at, length, 1 / rate if rate else None),
        labels=dict(labels),
        columns={"split": split} if split else {},
    )
    return source, unsure


def _same(rows: Sequence[Row], column: str) -> float | None:
    """Return what all rows of a video say in `column`; raises `UnreadableStudy` where they differ."""
    if column not in rows[0].cells:
        return None
    first = rows[0].number(column, 0.1, 1e6)
    for row in rows:
        if row.number(column, 0.1, 1e6) != first:
            row.refuse(f"{column}={row.text(column)!r} contradicts {rows[0].text(column)!r} in {rows[0].where}")
    return first


def _clip(video: Path, at: Mapping[str, int], length: float | None, frame_seconds: float | None) -> Clip:
    decoded = read_pixels(video)
    if length is not None and len(decoded.pixels) != length:
        raise UnreadableStudy(str(video), f"holds {len(decoded.pixels)} frames, {TABLE} says {length:g}")
    with reasons(video):
        return Clip(
            pixels=decoded.pixels,
            view=View.PLAX,
            ed_frame=at.get("ED"),
            es_frame=at.get("ES"),
            frame_seconds=frame_seconds or decoded.frame_seconds,
        )
