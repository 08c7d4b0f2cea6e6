"""Plain files and one table: PNG, a frame each, or NPY, a clip each.

```
images/000000.png  masks/000000.png  labels.csv     one row a frame, in order; phase ED, ES or neither
images/000000.npy  masks/000000.npy  labels.csv     one row a clip: uint8 (frames, height, width); ed_frame, es_frame
```

Masks hold our labels: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium, 4 right ventricle, 255 unlabelled. Where
nothing at all is outlined the cell is empty and no file is written. Columns that only this release has come last. With
PNG the columns are those of a release, and no table says which frames follow each other: arrays keep clips whole.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from cohorts.study import UNLABELLED, Clip, Origin
from synthesis.layouts import Take, Unsuitable, masks_of, table

STILLS = ("patient", "study", "view", "phase", "image", "mask", "ef_reported", "origin")
ARRAYS = (
    "patient", "study", "view", "image", "mask", "ed_frame", "es_frame", "frame_rate_hz", "pixel_mm", "ef_reported",
    "origin",
)  # fmt: skip


def write_stills(folder: Path, takes: Iterable[Take], key: bytes) -> tuple[str, ...]:
    """Write every frame of every clip as a PNG; there are no splits, so `key` decides nothing."""
    rows: list[tuple[str, ...]] = []
    words: tuple[str, ...] = ()
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for take in takes:
        clip, words = take.load(), tuple(take.words)
        phases = {clip.ed_frame: "ED", clip.es_frame: "ES"}
        for at, (pixels, mask) in enumerate(zip(clip.pixels, masks_of(clip), strict=True)):
            image, labels = f"images/{len(rows):06d}.png", f"masks/{len(rows):06d}.png"
            Image.fromarray(pixels).save(folder / image, compress_level=6)
            if (mask == UNLABELLED).all():
                labels = ""
            else:
                Image.fromarray(mask).save(folder / labels, compress_level=6)
            rows.append(
                (take.subject, take.study, clip.view or "", phases.get(at, ""), image, labels, take.lvef,
                 Origin.SYNTHETIC.value, *take.words.values())
            )  # fmt: skip
    _require(rows)
    table(folder / "labels.csv", (*STILLS, *words), rows)
    return ()


def write_arrays(folder: Path, takes: Iterable[Take], key: bytes) -> tuple[str, ...]:
    """Write every clip as one array and one of masks; there are no splits, so `key` decides nothing."""
    rows: list[tuple[str, ...]] = []
    words: tuple[str, ...] = ()
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for take in takes:
        clip, words = take.load(), tuple(take.words)
        image, labels = f"images/{len(rows):06d}.npy", f"masks/{len(rows):06d}.npy"
        masks = masks_of(clip)
        np.save(folder / image, clip.pixels, allow_pickle=False)
        if (masks == UNLABELLED).all():
            labels = ""
        else:
            np.save(folder / labels, masks, allow_pickle=False)
        rows.append(
            (take.subject, take.study, clip.view or "", image, labels, _index(clip.ed_frame), _index(clip.es_frame),
             *_scales(clip), take.lvef, Origin.SYNTHETIC.value, *take.words.values())
        )  # fmt: skip
    _require(rows)
    table(folder / "labels.csv", (*ARRAYS, *words), rows)
    return ()


def _scales(clip: Clip) -> tuple[str, str]:
    """Return frame rate and side of a pixel as cells; pixels that are not square have no one side."""
    rate = "" if clip.frame_seconds is None else f"{1 / clip.frame_seconds:g}"
    square = clip.pixel_mm is not None and clip.pixel_mm[0] == clip.pixel_mm[1]
    return rate, f"{clip.pixel_mm[0]:g}" if clip.pixel_mm is not None and square else ""


def _index(frame: int | None) -> str:
    return "" if frame is None else str(frame)


def _require(rows: list[tuple[str, ...]]) -> None:
    if not rows:
        raise Unsuitable("this release has no clip")
