"""A folder of DICOM as a hospital exports it: ultrasound images and clips, and cine magnetic resonance.

An ultrasound file is a clip; its view is what a view code says, else not known. A magnetic resonance series becomes a
clip a slice position, its images sorted by trigger time; its view is the short axis where the series says so. Every
clip passes the gate of `cohorts.burned_in` before it is indexed, in its first, middle and last frame; where a clip is
blocked its study is not used. People are told apart by PatientID and its issuer; a file without one is left out. No
identifier stands in a message: what a header calls one becomes … in the paths.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cohorts import dicom_cache
from cohorts.burned_in import POLICIES, verdict
from cohorts.decode import BYTES_MAX
from cohorts.deidentify import Pseudonyms, redact
from cohorts.dicom import grey_range, read_frames, read_scaled, unsupported
from cohorts.dicom_cache import Entry
from cohorts.dicom_header import Header, read_header
from cohorts.grey import stretched, window
from cohorts.index import Index, Source, folder_of, settle
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Origin, UnreadableStudy, View

FILES_LOOKED_AT = 64  # to recognise a folder
MODALITIES = ("US", "MR")


@READERS("dicom")
@dataclass(frozen=True, slots=True, kw_only=True)
class Dicom:
    """Where the files are, and what is done about burned-in text.

    Attributes:
        root: the folder; files in all folders beneath it are read, whatever their names.
        text: "block": a study with anything like writing or an ECG in its pixels is not used; "mask": what lies outside
            the region that the header names is cropped away, and only what lies inside blocks.
        index_file: a cache of headers and verdicts, sealed under the site's key; "" where none is kept.
        same_subject: groups of PatientID that are one person.
        subjects_file, site: a partition, and whose part of it is read.
        origin: what the studies are: real, phantom or synthetic.
    """

    root: str = ""
    text: str = POLICIES[0]
    index_file: str = ""
    same_subject: tuple[list[str], ...] = ()
    subjects_file: str = ""
    site: str = ""
    origin: str = Origin.REAL.value

    def __post_init__(self) -> None:
        if self.text not in POLICIES:
            raise ValueError(f"text={self.text!r} is unknown; known: {', '.join(POLICIES)}")
        settle(self)

    def index(self, *, pseudonyms: Pseudonyms | None = None) -> Index:
        """Read all headers and look at some frames of every clip; the cache is only used where its key is given."""
        try:
            root = folder_of(self.root)
        except UnreadableStudy as problem:
            return Index(sources=(), problems=(problem,))
        folder = _Folder(root=root, text=self.text, index_file=self.index_file, pseudonyms=pseudonyms)
        return folder.index()

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """Index the folder; raises `UnreadableStudy` for the first problem, with the number of others."""
        return self.index(pseudonyms=pseudonyms).cohort(
            pseudonyms=pseudonyms,
            origin=Origin(self.origin),
            same_subject=self.same_subject,
            subjects_file=self.subjects_file,
            site=self.site,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        """Say whether the first files beneath `root` are DICOM, and no table of another layout lies there."""
        try:
            if not root.is_dir() or any(root.glob("*.csv")):
                return False
            first = [path for path, _ in zip(_files(root), range(FILES_LOOKED_AT), strict=False)]
            marked = sum(_is_marked(path) for path in first)
        except OSError:
            return False
        return marked > 0 and 2 * marked >= len(first)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    root: Path
    text: str
    index_file: str
    pseudonyms: Pseudonyms | None

    def index(self) -> Index:
        names, entries, problems, left_out = self._entries()
        blocked = {e.header.study for e in entries.values() if e.blocked and e.header}
        shots = [(path, e) for path, e in entries.items() if e.header and e.header.study not in blocked]
        sources: list[Source] = []
        ranges = _ranges(shots)
        for clip in _clips(shots):
            try:
                reason = self._looked_at(clip, entries)
            except UnreadableStudy as problem:
                problems.append(UnreadableStudy(clip[0][1].where, problem.reason))
                continue
            header = _header_of(clip[0][1])
            if reason:
                blocked.add(header.study)
            else:
                sources.append(_source(clip, ranges))
        for path, entry in entries.items():
            header = _header_of(entry)
            if header.study in blocked:
                reason = entry.blocked or "belongs to a study that is blocked"
                entries[path] = dataclasses.replace(entry, blocked=reason)
                left_out.append(UnreadableStudy(entry.where, reason))
        if self.index_file and self.pseudonyms:
            kept = {names[path]: dicom_cache.packed(names[path], e, self.pseudonyms) for path, e in entries.items()}
            dicom_cache.save(Path(self.index_file), kept)
        usable = tuple(source for source in sources if source.study not in blocked)
        return Index(sources=_with_vendors(usable, entries), problems=tuple(problems), left_out=tuple(left_out))

    def _entries(self) -> tuple[dict[Path, str], dict[Path, Entry], list[UnreadableStudy], list[UnreadableStudy]]:
        """Return digests and entries of all images, what is wrong with the folder, and what is no image of ours."""
        cache: Mapping[str, Any] = (
            dicom_cache.load(Path(self.index_file)) if self.index_file and self.pseudonyms else {}
        )
        names: dict[Path, str] = {}
        entries: dict[Path, Entry] = {}
        unusable: dict[Path, tuple[str, bool]] = {}  # why, and whether that is a problem
        said: dict[Path, set[str]] = {}
        for path in _files(self.root):
            if self.index_file and path == Path(self.index_file).resolve():
                continue
            known = None
            try:
                if self.pseudonyms:
                    names[path] = name = dicom_cache.name_of(path, self.root, self.text, self.pseudonyms)
                    known = dicom_cache.unpacked(name, cache[name], self.pseudonyms) if name in cache else None
                if known is None or known.header is None:
                    known = self._read(path, known.blocked if known else "")
                header = _header_of(known)
                for folder in (path, *path.parents)[: 1 + len(path.relative_to(self.root).parts)]:
                    said.setdefault(folder, set()).update((*header.identifiers, header.subject, header.study))
                if why := _left_out(header):
                    unusable[path] = why, False
                else:
                    entries[path] = known
            except UnreadableStudy as problem:
                unusable[path] = problem.reason, _is_marked(path)
            except OSError as error:
                unusable[path] = error.strerror or "cannot be read", True
        problems: list[UnreadableStudy] = []
        left_out: list[UnreadableStudy] = []
        for path, (why, wrong) in unusable.items():
            near = next((said[folder] for folder in path.parents if folder in said), set())
            where = redact(path.as_posix(), near | said.get(path, set()))
            (problems if wrong else left_out).append(UnreadableStudy(where, why))
        return names, entries, problems, left_out

    @staticmethod
    def _read(path: Path, blocked: str) -> Entry:
        header = read_header(path)
        return Entry(where=redact(path.as_posix(), header.identifiers), header=header, blocked=blocked)

    def _looked_at(self, clip: "_Shots", entries: dict[Path, Entry]) -> str:
        """Return why a clip is blocked, having looked at its first, middle and last frame, or remembered them."""
        path, entry = clip[0]
        header = _header_of(entry)
        echo = header.modality == "US"
        n = header.shape[0] if echo else len(clip)
        chosen = sorted({0, n // 2, n - 1})
        shots = [clip[0]] if echo else [clip[at] for at in chosen]
        if all(entry.looked_at for _, entry in shots):
            return ""
        if echo:
            frames = read_frames(path, header, only=chosen, whole=True).values
        else:
            values = np.concatenate([read_frames(shot, _header_of(entry)).values for shot, entry in shots])
            frames = stretched(values) if values.max() > values.min() else np.zeros(values.shape, np.uint8)
        claims = [_header_of(entry).claims.burned_in for _, entry in shots]
        claimed = True if any(claims) else None
        reason = verdict(frames, header.region, claimed=claimed, text=self.text, textured=not echo)
        for shot, entry in shots:
            entries[shot] = dataclasses.replace(entry, looked_at=True, blocked=reason)
        return reason


_Shots = Sequence[tuple[Path, Entry]]


def _files(root: Path) -> Iterator[Path]:
    """Yield the files beneath `root` by name; no link is followed."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                yield path


def _is_marked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _header_of(entry: Entry) -> Header:
    if entry.header is None:
        raise UnreadableStudy(entry.where, "has no header")
    return entry.header


def _left_out(header: Header) -> str:
    """Return why a file is not used, "" where it may be."""
    if header.pixels_at is None or header.modality not in MODALITIES:
        return f"holds no image of {' or '.join(MODALITIES)}"
    if why := unsupported(header):
        return why
    if not header.subject:
        return "has no PatientID, so that nobody knows whose it is"
    if not header.study:
        return "has no StudyInstanceUID"
    if header.modality == "MR" and (header.shape[0] != 1 or header.place is None or not header.series):
        return "is a magnetic resonance image without a series and a position of its own"
    return ""


def _clips(shots: _Shots) -> Iterator[_Shots]:
    """Yield what becomes a clip: an ultrasound file, or the images of a series at one position."""
    slices = []
    for shot in shots:
        if _header_of(shot[1]).modality == "US":
            yield [shot]
        else:
            slices.append(shot)
    slices.sort(key=lambda shot: (_slice_of(shot[1]), _moment_of(shot[1]), shot[0]))
    for _, images in groupby(slices, key=lambda shot: _slice_of(shot[1])):
        yield list(images)


def _slice_of(entry: Entry) -> tuple[str, str, str, tuple[float, ...]]:
    header = _header_of(entry)
    place: tuple[float, ...] = tuple(
        round(number, 1 if k == 0 else 2) + 0.0 for k, number in enumerate(header.place or ())
    )
    return header.subject, header.study, header.series, (*header.shape, *place)


def _moment_of(entry: Entry) -> tuple[float, int]:
    header = _header_of(entry)
    return header.trigger_ms or 0.0, header.instance or 0


def _ranges(shots: _Shots) -> dict[tuple[str, str], Callable[[], tuple[float, float]]]:
    """Return, for each series of magnetic resonance, what finds the grey range of all its images, once."""
    series: dict[tuple[str, str], list[tuple[Path, Header]]] = {}
    for path, entry in shots:
        header = _header_of(entry)
        if header.modality == "MR":
            series.setdefault((header.study, header.series), []).append((path, header))
    return {key: lru_cache(maxsize=1)(partial(grey_range, tuple(files))) for key, files in series.items()}


def _source(clip: _Shots, ranges: Mapping[tuple[str, str], Callable[[], tuple[float, float]]]) -> Source:
    first = _header_of(clip[0][1])
    where = clip[0][1].where
    if first.modality == "US":
        load = partial(_echo, clip[0][0], first, where)
    else:
        files = tuple((path, _header_of(entry)) for path, entry in clip)
        load = partial(_cine, files, ranges[first.study, first.series], where)
    return Source(where=where, subject=first.subject, study=first.study, load=load)


def _with_vendors(sources: Sequence[Source], entries: Mapping[Path, Entry]) -> tuple[Source, ...]:
    """Give each source the vendor of its subject's scanner, "several" where there are more."""
    vendors: dict[str, set[str]] = {}
    for entry in entries.values():
        header = _header_of(entry)
        vendors.setdefault(header.subject, set()).add(header.vendor)
    word = {subject: min(found) if len(found) == 1 else "several" for subject, found in vendors.items()}
    return tuple(dataclasses.replace(source, columns={"vendor": word[source.subject]}) for source in sources)


def _echo(path: Path, header: Header, where: str) -> Clip:
    try:
        frames = read_frames(path, header)
    except UnreadableStudy as error:
        raise UnreadableStudy(where, error.reason) from None
    return Clip(
        pixels=frames.values,
        view=header.view,
        frame_seconds=header.frame_seconds if len(frames.values) > 1 else None,
        pixel_mm=header.pixel_mm,
        colour=frames.colour,
    )


def _cine(images: tuple[tuple[Path, Header], ...], grey: Callable[[], tuple[float, float]], where: str) -> Clip:
    n_bytes = 4 * len(images) * int(np.prod(images[0][1].shape))
    if n_bytes > BYTES_MAX:
        raise UnreadableStudy(where, f"and {len(images) - 1} others would decode to {n_bytes} bytes, above {BYTES_MAX}")
    try:
        pixels = window(np.concatenate([read_scaled(path, header) for path, header in images]), *grey())
    except UnreadableStudy as error:
        raise UnreadableStudy(where, error.reason) from None
    times = [header.trigger_ms for _, header in images if header.trigger_ms is not None]
    step = (times[-1] - times[0]) / (len(times) - 1) / 1000 if len(times) == len(images) > 1 else 0
    return Clip(
        pixels=pixels,
        view=View.SAX if all(header.short_axis for _, header in images) else None,
        frame_seconds=step if step > 0 else None,
        pixel_mm=images[0][1].pixel_mm,
    )
