"""A release on disk: pictures, masks and a table that the field's own loaders read, bound together by a manifest.

```
release/
├── images/000000.png   8-bit grey
├── masks/000000.png    0 background, 1 LV cavity, 2 myocardium, 3 left atrium
├── labels.csv          patient, study, view, phase, image, mask, ef_reported, origin; a column more for other classes
├── A4C/                of hearts that move: a folder a view in the layout of EchoNet-Dynamic, as EchoNet-Pediatric has
│   ├── Videos/NAME.avi
│   └── FileList.csv, VolumeTracings.csv
└── manifest.json       every file above by name, size and SHA-256
```

Equal frames give equal bytes: no time stamp, no text and no EXIF is written into a picture, and files carry one fixed
time. Identifiers are counted, never taken over, so that no site's pseudonym can slip in. Where a subject has several
frames of one view and phase, the column `study` counts them apart. `cohorts.readers.manifest` reads it back with
`study="study"`.
"""

import csv
import hashlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cohorts.clips import Clips
from cohorts.frames import PHASES, VIEWS, Frames
from cohorts.study import CAVITY, UNLABELLED, Clip, Origin
from synthesis.layouts import Take, echonet_dynamic
from synthesis.manifest import MANIFEST, Manifest

TABLE = "labels.csv"
COLUMNS = ("patient", "study", "view", "phase", "image", "mask", "ef_reported", "origin")
FILE_TIME = datetime(1980, 1, 1, tzinfo=UTC).timestamp()  # the earliest that a zip archive can hold


def write(
    folder: Path,
    frames: Frames,
    *,
    origin: Origin,
    of: str = "view",
    names: Sequence[str] = tuple(VIEWS),
    clips: Clips | None = None,
) -> Manifest:
    """Write `frames` as a release, whole or not at all: a killed run leaves no half release under that name.

    Writing the same frames again over the same release is allowed and changes nothing.

    Args:
        folder: where the release will stand; its parent exists.
        frames: what to release, at least one frame.
        origin: what the frames are; only `Origin.SYNTHETIC` may be released.
        of: what `frames.view` says: "view", or a word of its own column, such as "diagnosis".
        names: of the classes that it counts.
        clips: the same subjects moving, each clip one beat from end diastole on; `None` where nothing moves.

    Raises:
        ValueError: the frames are not synthetic, there are none, or another release stands in `folder`.
    """
    if origin is not Origin.SYNTHETIC:
        raise ValueError(f"origin={origin.value!r} cannot be released; only {Origin.SYNTHETIC.value!r} can")
    if not len(frames):
        raise ValueError("frames must not be empty: there is nothing to release")
    making = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    rows = write_part(making, frames, of=of, names=names)
    if clips is not None:
        write_films(making, lambda: [(0, clips)], hashlib.sha256(clips.pixels.tobytes()).digest())
    manifest = seal(making, [rows], of=of)
    if not folder.exists():
        making.rename(folder)
        return manifest
    shutil.rmtree(making)
    if not (folder / MANIFEST).is_file() or (folder / MANIFEST).read_bytes() != manifest.canonical:
        raise ValueError(f"{folder.name} holds another release already; it is not overwritten")
    return manifest


def write_part(
    making: Path,
    frames: Frames,
    *,
    of: str = "view",
    names: Sequence[str] = tuple(VIEWS),
    first_frame: int = 0,
    first_subject: int = 0,
) -> bytes:
    """Write the pictures of whole subjects into an unfinished release, and return their rows of its table.

    Args:
        making: folder of the unfinished release.
        frames: of subjects of which no other part has a frame.
        of: as in `write`.
        names: as in `write`.
        first_frame: number of the first frame in the release.
        first_subject: number of the first subject in the release.
    """
    for kind in ("images", "masks"):
        (making / kind).mkdir(parents=True, exist_ok=True)
    for k, (pixels, mask) in enumerate(zip(frames.pixels, frames.masks, strict=True), first_frame):
        Image.fromarray(pixels).save(making / _image(k), compress_level=6)
        if not _is_unlabelled(mask):
            Image.fromarray(mask).save(making / _mask(k), compress_level=6)
    return _csv(_rows(frames, of, names, first_frame, first_subject))


def write_films(making: Path, parts: Callable[[], Iterable[tuple[int, Clips]]], key: bytes) -> None:
    """Write each view of the clips as a folder in the layout of EchoNet-Dynamic, anew where it was begun.

    Args:
        making: folder of the unfinished release.
        parts: yields, from the beginning at each call, the number of a part's first subject and its clips; the first
            part has every view. One part is held at a time.
        key: decides with a subject's name alone on its split, the same in all views.
    """
    _, first = next(iter(parts()))
    for view in np.unique(first.view):
        folder = making / VIEWS[view].value
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        takes = (
            _take(clips, int(row), subjects)
            for subjects, clips in parts()
            for row in np.flatnonzero(clips.view == view)
        )
        echonet_dynamic.write(folder, takes, key, view=VIEWS[view])


def _take(clips: Clips, row: int, first_subject: int) -> Take:
    length = int(clips.length[row])
    pixels, masks, lvef = clips.pixels[row, :length], clips.masks[row, :length], float(clips.lvef_percent[row])
    size = (masks == CAVITY).sum((1, 2))
    clip = Clip(
        pixels=pixels,
        masks=masks,
        view=VIEWS[clips.view[row]],
        ed_frame=0,
        es_frame=int(np.argmin(size)) if size.any() else None,
        frame_seconds=60 / float(clips.heart_rate_bpm[row]) / length,
    )
    known = None if np.isnan(lvef) else lvef
    return Take(
        subject=_name(first_subject + int(clips.subject[row])), study="1", lvef_percent=known, load=lambda: clip
    )


def seal(making: Path, parts: Iterable[bytes], *, of: str = "view") -> Manifest:
    """Write table and manifest of an unfinished release whose parts, in order, gave these rows."""
    with (making / TABLE).open("wb") as file:
        file.write(_csv([COLUMNS if of == "view" else (*COLUMNS, of)]))
        file.writelines(parts)
    manifest = Manifest.of(making)
    (making / MANIFEST).write_bytes(manifest.canonical)
    for path in (making, *making.rglob("*")):
        os.utime(path, (FILE_TIME, FILE_TIME))
    return manifest


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _rows(
    frames: Frames, of: str, names: Sequence[str], first_frame: int, first_subject: int
) -> Iterator[tuple[str, ...]]:
    shown: Counter[tuple[int, int, int]] = Counter()
    for k in range(len(frames)):
        view, phase, lvef = int(frames.view[k]), int(frames.phase[k]), float(frames.lvef_percent[k])
        name = names[view] if view >= 0 else ""
        again = (int(frames.subject[k]), view, phase)
        shown[again] += 1
        yield (
            _name(first_subject + int(frames.subject[k])),
            str(shown[again]),
            name if of == "view" else "",
            PHASES[phase] if phase >= 0 else "",
            _image(first_frame + k),
            "" if _is_unlabelled(frames.masks[k]) else _mask(first_frame + k),
            "" if np.isnan(lvef) else f"{lvef:.1f}",
            Origin.SYNTHETIC.value,
            *(() if of == "view" else (name,)),
        )


def _name(subject: int) -> str:
    return f"synthetic{subject:06d}"


def _is_unlabelled(mask: NDArray[np.uint8]) -> bool:
    return bool((mask == UNLABELLED).all())


def _image(k: int) -> str:
    return f"images/{k:06d}.png"


def _mask(k: int) -> str:
    return f"masks/{k:06d}.png"
