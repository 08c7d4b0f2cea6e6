"""Altered copies, one family at a time and five levels each: what a filter sees, and where it goes blind.

`privacy.planted` mixes alterations as one who augments would; here each stands alone and at full size, so that a table
of families and levels says which copies pass. Level 5 is expected to fail and is reported. Levels 1 to 3 of what
`STANDARD` names are what a filter has to find before its threshold is trusted (`privacy.reidentification_threshold`).

Lengths are shares of the picture; the directions are drawn. A still is a clip of one frame: families that alter time
need more. Blending needs another picture, a round trip the generator's own autoencoder or denoiser, which the caller
hands in; both are of the site and stay there, as every copy does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels: TypeAlias = NDArray[np.uint8]
RoundTrip: TypeAlias = Callable[[Pixels, float], Pixels]
Grey: TypeAlias = NDArray[np.float64]

LEVELS = (1, 2, 3, 4, 5)
_SIDE = 112  # of the picture in whose pixels the field of `elastic` is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a copy is made of.

    Attributes:
        clip: the patient's frames, uint8 `(frames, height, width)`; one for a still.
        other: somebody else's or synthetic frames of the same size, for `blend` and the last level of `gain`.
        round_trip: (frames, strength from 0 to 1) → frames: an autoencoder, or a denoiser begun at that strength.
        rng: for directions, signs and noise.
    """

    clip: Pixels
    other: Pixels | None
    round_trip: RoundTrip | None
    rng: np.random.Generator


def _codec(source: Source, level: int) -> Pixels:
    """Keep the bytes; H.264 at constant rate factor 23, 35; JPEG of quality 30, 10."""
    if level == 1:
        return source.clip.copy()
    if level <= 3:
        return _h264(source.clip, crf={2: 23, 3: 35}[level])
    return np.stack([_jpeg(frame, quality={4: 30, 5: 10}[level]) for frame in source.clip])


def _gaussian(source: Source, level: int) -> Pixels:
    size = (0.01, 0.02, 0.05, 0.1, 0.2)[level - 1]
    return _pixels(_grey(source.clip) + size * source.rng.standard_normal(source.clip.shape))


def _speckle(source: Source, level: int) -> Pixels:
    size = (0.05, 0.1, 0.2, 0.3, 0.5)[level - 1]
    return _pixels(_grey(source.clip) * (1 + size * source.rng.standard_normal(source.clip.shape)))


def _affine(source: Source, level: int) -> Pixels:
    """Turn by 2 to 25 degrees, shift by 2 to 15 % in some direction and scale by 1.02 to 1.25, either way each."""
    degrees, shift, scale = ((2, 0.02, 1.02), (5, 0.04, 1.05), (10, 0.08, 1.1), (15, 0.1, 1.15), (25, 0.15, 1.25))[
        level - 1
    ]
    turn, zoom = source.rng.choice((-1, 1), 2)
    heading = source.rng.uniform(0, 2 * np.pi)
    angle, factor = np.deg2rad(degrees * turn), float(scale) ** zoom
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / factor
    middle = (np.array(source.clip.shape[1:]) - 1) / 2
    moved = shift * np.array([np.sin(heading), np.cos(heading)]) * source.clip.shape[1:]
    down, right = np.indices(source.clip.shape[1:]).astype(np.float64)
    at = np.stack([down, right]) - (middle + moved)[:, None, None]
    return _moved(source.clip, np.tensordot(matrix, at, 1) + middle[:, None, None])


def _elastic(source: Source, level: int) -> Pixels:
    """Displace by a smooth random field of 0.5 to 5 pixels at 112 (standard deviation of each coordinate)."""
    from scipy.ndimage import gaussian_filter

    height, width = source.clip.shape[1:]
    size = (0.5, 1, 2, 3, 5)[level - 1] * height / _SIDE
    fields = gaussian_filter(source.rng.standard_normal((2, height, width)), (0, height / 14, width / 14))
    fields *= size / fields.std(axis=(1, 2), keepdims=True)
    return _moved(source.clip, np.indices((height, width)) + fields)


def _gain(source: Source, level: int) -> Pixels:
    """Multiply grey values by 0.9 to 0.4, or raise them to that power; at last give them another's histogram."""
    grey = _grey(source.clip)
    if level == 5:
        _, rank, counts = np.unique(grey, return_inverse=True, return_counts=True)
        target = np.sort(_grey(_needed(source.other, "gain")).ravel())
        share = (np.cumsum(counts) - counts / 2) / counts.sum()
        return _pixels(np.quantile(target, share)[rank].reshape(grey.shape))
    factor = (0.9, 0.8, 0.6, 0.4)[level - 1]
    return _pixels(grey * factor if source.rng.random() < 0.5 else grey**factor)


def _mirror(source: Source, level: int) -> Pixels:
    """Keep; cut 5 % or 10 % of the sides away and enlarge; mirror; mirror and cut 20 %."""
    share = (0.0, 0.05, 0.1, 0.0, 0.2)[level - 1]
    clip = source.clip[:, :, ::-1] if level >= 4 else source.clip
    height, width = clip.shape[1:]
    if not share:
        return clip.copy()
    down, right = source.rng.uniform(0, share, 2)
    at = np.indices((height, width)).astype(np.float64)
    at = at * (1 - share) + np.array([down * (height - 1), right * (width - 1)])[:, None, None]
    return _moved(clip, at)


def _temporal(source: Source, level: int) -> Pixels:
    """Begin one frame, then half a cycle later; play at 0.8 of the speed; backwards; show one frame all the time."""
    n = len(source.clip)
    if n < 2:
        raise ValueError(f"family='temporal' needs a clip, not {n} frame")
    frames = np.arange(n)
    at = {
        1: (frames + 1) % n,
        2: (frames + n // 2) % n,
        3: np.minimum(np.round(frames * 0.8), n - 1).astype(np.int64),
        4: frames[::-1],
        5: np.full(n, source.rng.integers(n)),
    }[level]
    told: Pixels = source.clip[at]
    return told


def _blend(source: Source, level: int) -> Pixels:
    share = (0.9, 0.8, 0.7, 0.5, 0.3)[level - 1]
    return _pixels(share * _grey(source.clip) + (1 - share) * _grey(_needed(source.other, "blend")))


def _round_trip(source: Source, level: int) -> Pixels:
    if source.round_trip is None:
        raise ValueError("round_trip is None: family='round trip' needs a function (frames, strength) → frames")
    return source.round_trip(source.clip, (0.0, 0.1, 0.2, 0.35, 0.5)[level - 1])


FAMILIES: Mapping[str, Callable[[Source, int], Pixels]] = MappingProxyType(
    {
        "codec": _codec,
        "gaussian": _gaussian,
        "speckle": _speckle,
        "affine": _affine,
        "elastic": _elastic,
        "gain": _gain,
        "mirror": _mirror,
        "temporal": _temporal,
        "blend": _blend,
        "round trip": _round_trip,
    }
)
STANDARD = ("codec", "gaussian", "speckle", "affine", "elastic", "gain", "mirror")
"""Families of a still that need neither another picture nor a model, at levels 1 to 3."""


def planted(
    clip: Pixels,
    *,
    family: str,
    level: int,
    rng: np.random.Generator,
    other: Pixels | None = None,
    round_trip: RoundTrip | None = None,
) -> Pixels:
    """Return a copy of `clip`, uint8 `(frames, height, width)`, altered by one family at one level.

    Raises:
        ValueError: for an unknown family or level, and where a family lacks what it needs (`Source`).
    """
    if family not in FAMILIES or level not in LEVELS:
        raise ValueError(f"family={family!r}, level={level} must be one of {sorted(FAMILIES)} and of {LEVELS}")
    for name, pixels in (("clip", clip), ("other", other)):
        if pixels is not None and (pixels.ndim != 3 or pixels.dtype != np.uint8 or not pixels.size):
            raise ValueError(f"{name} must be uint8 (frames, height, width), not {pixels.dtype} {pixels.shape}")
    if other is not None and other.shape != clip.shape:
        raise ValueError(f"other {other.shape} must have the shape of clip {clip.shape}")
    copy = FAMILIES[family](Source(clip=clip, other=other, round_trip=round_trip, rng=rng), level)
    if copy.shape != clip.shape or copy.dtype != np.uint8:
        raise ValueError(f"round_trip returned {copy.dtype} {copy.shape} for {clip.dtype} {clip.shape}")
    return copy


def _needed(other: Pixels | None, family: str) -> Pixels:
    if other is None:
        raise ValueError(f"other is None: family={family!r} needs another picture")
    return other


def _grey(pixels: Pixels) -> Grey:
    return pixels / 255.0


def _pixels(grey: Grey) -> Pixels:
    return np.asarray(np.round(255 * grey.clip(0, 1)), np.uint8)


def _moved(clip: Pixels, at: Grey) -> Pixels:
    """Return the clip with each pixel taken from `at`, `(2, height, width)`, bilinearly; black beyond."""
    from scipy.ndimage import map_coordinates

    return _pixels(np.stack([map_coordinates(_grey(frame), at, order=1) for frame in clip]))


def _jpeg(frame: Pixels, *, quality: int) -> Pixels:
    out = BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out).convert("L"), np.uint8)


def _h264(clip: Pixels, *, crf: int) -> Pixels:
    """Return the clip through H.264; odd sides are padded with their last line."""
    import av

    height, width = clip.shape[1:]
    even = np.pad(clip, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    out = BytesIO()
    with av.open(out, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = even.shape[1], even.shape[2], "yuv420p"
        stream.thread_count = 1
        for frame in even:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        film.mux(stream.encode())
    out.seek(0)
    with av.open(out, "r") as coded:
        frames = [frame.to_ndarray(format="gray") for frame in coded.decode(video=0)]
    return np.asarray(np.stack(frames)[: len(clip), :height, :width], np.uint8)
