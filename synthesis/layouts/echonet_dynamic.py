"""EchoNet-Dynamic: apical four-chamber videos, a list of files and traced ventricles (Ouyang et al. 2020).

```
Videos/NAME.avi        Motion JPEG, 112x112
FileList.csv           FileName (without .avi), EF, ESV, EDV, FrameHeight, FrameWidth, FPS, NumberOfFrames, Split
VolumeTracings.csv     FileName (with .avi), X1, Y1, X2, Y2, Frame
```

The published loader takes the first traced frame of a video for the small one and the last for the large one, and the
first line of a frame for its long axis; so end systole is written before end diastole, and each is 1 + 20 lines, found
in the released mask by the method of discs (Lang et al. 2015, doi:10.1016/j.echo.2014.10.003). Volumes are single-plane
and stand there only where the size of a pixel is known: the ejection fraction is the released one, not theirs. A video
holds the released frames and no other; where their rate is unknown the cell FPS is empty, and the container, which must
state one, plays one frame a second.

Source of the layout: doi:10.1038/s41586-020-2145-8.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cohorts.study import CAVITY, Clip, View
from synthesis.layouts import Take, Unsuitable, counted, lot, masks_of, rows_into

SIDE = 112
DISCS = 20
LEAST_PIXELS = 9  # a smaller cavity has no axis to speak of
STEP = 0.125  # pixels between two places asked along a disc
FILES = ("FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split")
TRACINGS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
SPLITS = ("TRAIN",) * 6 + ("VAL", "TEST")


@dataclass(frozen=True, slots=True, kw_only=True)
class Discs:
    """A traced ventricle: float64 `(21, 4)`, x1 y1 x2 y2 in pixels, the long axis first, apex before base."""

    lines: NDArray[np.float64]

    def scaled(self, factor: float, left: float, top: float) -> "Discs":
        """Return the lines in a picture enlarged by `factor` after a border was put around it; centres stay centres."""
        return Discs(lines=(self.lines + np.array([left, top, left, top]) + 0.5) * factor - 0.5)

    def volume_ml(self, pixel_mm: tuple[float, float]) -> float:
        """Return the volume by single-plane disc summation, in ml; `pixel_mm` is height and width of a pixel."""
        across = np.array([pixel_mm[1], pixel_mm[0]])
        lengths = np.hypot(*((self.lines[:, 2:] - self.lines[:, :2]) * across).T)
        return float((math.pi / 4 * lengths[1:] ** 2).sum() * lengths[0] / DISCS / 1000)


def discs(mask: NDArray[np.uint8]) -> Discs | None:
    """Trace the ventricular cavity of one mask, `(height, width)`; `None` where it has fewer than nine pixels.

    The long axis is the principal axis of the largest connected piece, from its top (the apex, with the probe at the
    top) to its bottom; the discs stand at right angles to it, in the middle of twenty equal parts.
    """
    from scipy.ndimage import label, map_coordinates

    pieces, n = label(mask == CAVITY)
    if not n:
        return None
    cavity = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    if cavity.sum() < LEAST_PIXELS:
        return None
    places = np.argwhere(cavity)[:, ::-1].astype(float)  # x, y
    centre = places.mean(axis=0)
    axis = np.linalg.eigh(np.cov((places - centre).T))[1][:, -1]
    axis *= 1.0 if (axis[1], axis[0]) > (0.0, 0.0) else -1.0
    side = np.array([axis[1], -axis[0]])
    along, across = (places - centre) @ axis, (places - centre) @ side
    top, bottom, reach = along.min() - 0.5, along.max() + 0.5, np.abs(across).max() + 1.0
    middles = top + (np.arange(DISCS) + 0.5) * (bottom - top) / DISCS
    offsets = np.arange(-reach, reach + STEP, STEP)
    asked = centre + middles[:, None, None] * axis + offsets[None, :, None] * side
    inside = map_coordinates(cavity.astype(float), [asked[..., 1], asked[..., 0]], order=1) >= 0.5
    lines = [[*(centre + top * axis), *(centre + bottom * axis)]]
    for middle, hit in zip(middles, inside, strict=True):
        found = offsets[hit]
        ends = (found.max(), found.min()) if found.size else (0.0, 0.0)
        lines.append([value for end in ends for value in centre + middle * axis + end * side])
    return Discs(lines=np.array(lines))


def squared(frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float, int, int]:
    """Return frames as `(n, 112, 112)`, a black border keeping their shape; and factor, left and top border."""
    height, width = frames.shape[1:]
    longest = max(height, width)
    left, top = (longest - width) // 2, (longest - height) // 2
    border = ((0, 0), (top, longest - height - top), (left, longest - width - left))
    padded = np.pad(frames, border)
    if longest != SIDE:
        images = [Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for frame in padded]
        padded = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
    return padded, SIDE / longest, left, top


def write_video(path: Path, frames: NDArray[np.uint8], *, frame_seconds: float | None) -> None:
    """Write grey frames `(n, height, width)` of even sides as Motion JPEG; equal frames give equal bytes."""
    import av

    n, height, width = frames.shape
    rate = Fraction(1) if frame_seconds is None else Fraction(1 / frame_seconds).limit_denominator(1000)
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, "yuvj420p", 1
        stream.codec_context.options = {"qmin": "1", "qmax": "1", "flags": "+bitexact"}
        stream.codec_context.color_range = 2  # luma 0..255, as JPEG has it
        planes = np.full((n, height * 3 // 2, width), 128, np.uint8)  # chroma of no colour below the luma
        planes[:, :height] = frames
        for plane in planes:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(plane, format="yuvj420p")))
        container.mux(stream.encode())


def write(folder: Path, takes: Iterable[Take], key: bytes, *, view: View = View.A4C) -> tuple[str, ...]:
    """Write every clip of `view` in `takes`; splits are by subject: six in eight train, one each the others.

    Raises:
        Unsuitable: no clip is of that view, or two would have one name.
    """
    (folder / "Videos").mkdir()
    names = set[str]()
    seen: Counter[str] = Counter()
    with (
        rows_into(folder / "FileList.csv", FILES) as list_files,
        rows_into(folder / "VolumeTracings.csv", TRACINGS) as list_lines,
    ):
        for take in takes:
            clip = take.load()
            if clip.view is not view:
                seen["other"] += 1
                continue
            if take.name.casefold() in names:
                raise Unsuitable(f"{take.name} would name two videos; echonet-dynamic has one per examination")
            names.add(take.name.casefold())
            frames, factor, left, top = squared(clip.pixels)
            write_video(folder / "Videos" / f"{take.name}.avi", frames, frame_seconds=clip.frame_seconds)
            traced = _traced(clip)
            for frame, found in traced.items():
                list_lines(_rows(f"{take.name}.avi", frame, found.scaled(factor, left, top)))
            list_files([_listed(take, clip, traced, SPLITS[lot(key, take.subject, len(SPLITS))])])
            seen["untraced"] += len(traced) < 2
            seen["unlabelled"] += take.lvef_percent is None
            seen["unscaled"] += clip.pixel_mm is None
    if not names:
        raise Unsuitable(f"echonet-dynamic holds apical four-chamber views ({view}); this release has none")
    gaps = {
        "other": ("clip of another view is left out.", "clips of other views are left out."),
        "unscaled": ("video of unknown scale has no volumes.", "videos of unknown scale have no volumes."),
        "unlabelled": ("video has no ejection fraction.", "videos have no ejection fraction."),
        "untraced": ("video has fewer than two traced frames.", "videos have fewer than two traced frames."),
    }
    return tuple(note for gap, words in gaps.items() for note in counted(seen[gap], *words))


def _listed(take: Take, clip: Clip, traced: Mapping[int, Discs], split: str) -> tuple[str, ...]:
    esv, edv = (_volume(clip, traced.get(-1 if frame is None else frame)) for frame in (clip.es_frame, clip.ed_frame))
    rate = "" if clip.frame_seconds is None else f"{1 / clip.frame_seconds:g}"
    return (take.name, take.lvef, esv, edv, str(SIDE), str(SIDE), rate, str(len(clip.pixels)), split)


def _traced(clip: Clip) -> dict[int, Discs]:
    """Trace end systole first and end diastole last: the order by which the loader tells them apart."""
    masks = masks_of(clip)
    found = {at: discs(masks[at]) for at in (clip.es_frame, clip.ed_frame) if at is not None}
    return {at: traced for at, traced in found.items() if traced is not None}


def _volume(clip: Clip, found: Discs | None) -> str:
    return "" if clip.pixel_mm is None or found is None else f"{found.volume_ml(clip.pixel_mm):.2f}"


def _rows(name: str, frame: int, found: Discs) -> list[tuple[str, ...]]:
    return [(name, *(f"{value:.4f}" for value in line), str(frame)) for line in found.lines]
