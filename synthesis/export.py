"""A release in the layout of another data set: whole or not at all, and equal bytes for an equal release.

The folder gets a manifest of its own and one fixed time, as a release does; cards are written into it by whoever knows
more than the release does (`evaluation.cards`), before it is given its name.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cohorts.readers import READERS
from cohorts.study import Origin, UnreadableStudy
from cohorts.table import header_of
from synthesis.layouts import Layout, Take, Unsuitable, acdc, camus, dicom, echonet_dynamic, plain
from synthesis.manifest import MANIFEST, Manifest
from synthesis.release import COLUMNS, FILE_TIME, TABLE

LAYOUTS: Mapping[str, Layout] = {
    "echonet-dynamic": echonet_dynamic.write,
    "camus": camus.write,
    "acdc": acdc.write,
    "plain": plain.write_stills,
    "plain-npy": plain.write_arrays,
    "dicom": dicom.write,
}
OPTIONAL = ("ed_frame", "es_frame", "frame_rate_hz", "pixel_mm")  # columns that a release of clips has
Show = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written: the manifest of the folder, how many clips were read, and what is left out or not known."""

    manifest: Manifest
    clips: int
    notes: tuple[str, ...]


def takes_of(release: Path) -> tuple[Take, ...]:
    """Return every clip of the release in `release`, by subject and study; table and headers are checked, no pixel.

    Raises:
        UnreadableStudy: the first thing wrong, and how many others there are; or something that is not synthetic.
        Unsuitable: a subject or study whose name no file may bear.
    """
    present = {name: name for name in OPTIONAL if name in header_of(release / TABLE)}
    words = {name: name for name in header_of(release / TABLE) if name not in (*COLUMNS, *OPTIONAL)}
    reader = READERS["manifest"](
        root=str(release), study="study", keep=("origin",), origin=Origin.SYNTHETIC.value, labels=words, **present
    )
    index = reader.index()
    problems = index.all_problems()
    if problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UnreadableStudy(problems[0].key, problems[0].reason + others)
    takes = []
    for source in index.sources:
        if source.columns["origin"] != Origin.SYNTHETIC.value:
            said = source.columns["origin"]
            raise UnreadableStudy(source.where, f"origin={said!r}; only {Origin.SYNTHETIC.value!r} is exported")
        lvef = source.labels.get("lvef_percent")
        takes.append(
            Take(
                subject=source.subject,
                study=source.study.partition("\0")[2],
                lvef_percent=None if lvef is None else float(lvef),
                load=source.load,
                words={name: str(source.labels.get(name, "")) for name in words},
            )
        )
    return tuple(sorted(takes, key=lambda take: (take.subject, len(take.study), take.study)))


def export(
    release: Path,
    out: Path,
    *,
    layout: str,
    key: bytes,
    finish: Callable[[Path, Exported], None] = lambda folder, exported: None,
    show: Show = lambda done, of: None,
) -> Exported:
    """Write the release in `release` as `out`; a killed run leaves nothing under that name.

    Args:
        release: folder with labels.csv, already compared with its manifest.
        out: what will hold the layout; must not exist. Its parent does.
        layout: one of `LAYOUTS`.
        key: decides splits, at least 16 bytes; the Merkle root of the release, so that they never change.
        finish: writes cards into the folder before it gets its name.
        show: told how many clips are done, and of how many.

    Raises:
        ValueError: an unknown layout, or `out` exists.
        Unsuitable: the release does not fit the layout.
        UnreadableStudy: the release cannot be read.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r} is unknown; known: {', '.join(LAYOUTS)}")
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out.name} exists already; it is not overwritten")
    takes = takes_of(release)
    making = out.with_name(f"{out.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        notes = LAYOUTS[layout](making, _shown(takes, show), key)
        finish(making, Exported(manifest=Manifest.of(making), clips=len(takes), notes=notes))
        manifest = Manifest.of(making)
        (making / MANIFEST).write_bytes(manifest.canonical)
        for path in (making, *making.rglob("*")):
            os.utime(path, (FILE_TIME, FILE_TIME))
        making.rename(out)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return Exported(manifest=manifest, clips=len(takes), notes=notes)


def _shown(takes: Sequence[Take], show: Show) -> Iterator[Take]:
    for k, take in enumerate(takes):
        show(k, len(takes))
        yield take
    show(len(takes), len(takes))


__all__ = ["LAYOUTS", "Exported", "Layout", "Show", "Take", "Unsuitable", "export", "takes_of"]
