"""Whether outlined hearts could be hearts: what any anatomist and any clock would object to, counted by heart.

Shares are of subjects, and a subject counts only if all its pictures pass; beside each stands the share of the
reference. Outlines are judged whoever drew them: of a release that was conditioned on outlines they say how well these
were made, not how well the pictures obey them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label
from scipy.signal import find_peaks

from cohorts.clips import Clips
from cohorts.frames import Frames, partners
from cohorts.study import ATRIUM, BACKGROUND, CAVITY, MYOCARDIUM, STRUCTURES, UNLABELLED
from evaluation import measures
from evaluation.useful import Fidelity
from evaluation.volumes import biplane_lvef, cavities, single_plane_ml
from privacy.estimate import clopper_pearson

OPEN = 0.5  # most of a cavity's rim that may face neither wall nor atrium: CAMUS leaves the mitral plane open
TAILS = (0.1, 99.9)  # percentiles of the reference between which an area must lie (privacy.md 4.3)
PROMINENT = 0.15  # of the range of a curve of areas: smaller turns are unsteadiness of the outline
FEWEST = 5  # hearts: of fewer nothing is said

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The course of the cavity's area over one beat, or of the picture itself.

    Attributes:
        once: there is one largest and one smallest area, and no other turn that is prominent.
        jitter: mean size of the second difference, round the beat, over the range of the curve.
        closure: how unlike the last picture is to the first, over how unlike two neighbours are on average; about 1
            where the beat closes.
    """

    once: bool
    jitter: float
    closure: float


def anatomy(masks: NDArray[np.uint8]) -> dict[str, Flags]:
    """Judge each mask `(n, h, w)`: True where it passes, or shows nothing that could fail.

    `one_component`: each structure is of one piece. `cavity_walled`: at least half of the cavity's rim faces wall or
    atrium. `atrium_below`: its middle is further from the probe, which is at the top, than the cavity's.
    """
    found = {name: np.ones(len(masks), np.bool_) for name in ("one_component", "cavity_walled", "atrium_below")}
    for i, mask in enumerate(masks):
        found["one_component"][i] = all(label(mask == k)[1] <= 1 for k in STRUCTURES)
        cavity, atrium = mask == CAVITY, mask == ATRIUM
        around = mask[binary_dilation(cavity) & ~cavity]
        if len(around) and (mask == MYOCARDIUM).any():
            found["cavity_walled"][i] = (around == BACKGROUND).mean() <= OPEN
        if cavity.any() and atrium.any():
            found["atrium_below"][i] = np.argwhere(atrium)[:, 0].mean() > np.argwhere(cavity)[:, 0].mean()
    return found


def usual(frames: Frames) -> Mapping[tuple[int, int], tuple[float, float]]:
    """Return the range of the areas, as shares of the picture, of each structure in each view, by (view, structure)."""
    outlined, found = _outlined(frames.masks), {}
    for view in np.unique(frames.view):
        rows = outlined & (frames.view == view)
        for k in STRUCTURES:
            if rows.any():
                low, high = np.percentile((frames.masks[rows] == k).mean((1, 2)), TAILS)
                found[int(view), k] = (float(low), float(high))
    return found


def beat(pixels: NDArray[np.uint8], masks: NDArray[np.uint8]) -> Beat | None:
    """Judge one whole beat `(frames, h, w)`; `None` of fewer than four frames, or where no cavity changes its size."""
    area = (masks == CAVITY).sum((1, 2)).astype(np.float64)
    if len(area) < 4 or not np.ptp(area):
        return None
    turns = [len(find_peaks(np.tile(sign * area, 3), prominence=PROMINENT * np.ptp(area))[0]) for sign in (1, -1)]
    second = np.roll(area, -1) - 2 * area + np.roll(area, 1)
    grey = pixels.astype(np.float64)
    steps = np.abs(np.diff(grey, axis=0)).mean((1, 2))
    return Beat(
        once=all(2 <= n <= 4 for n in turns),  # of three beats: those at either end may not be seen whole
        jitter=float(np.abs(second).mean() / np.ptp(area)),
        closure=float(np.abs(grey[-1] - grey[0]).mean() / max(steps.mean(), 1e-9)),
    )


def describe(
    released: Frames | Clips, reference: Frames | Clips, *, called: str, reads_real: bool
) -> tuple[Fidelity, ...]:
    """Return every judgement of frames, or of clips of one beat, beside that of the reference; none without outlines.

    Args:
        released: frames or clips, with the ejection fractions that were asked for, where any were.
        reference: of the same kind.
        called: what the reference is, as a reader of the certificate reads it.
        reads_real: the reference is of patients.
    """
    if isinstance(released, Clips) and isinstance(reference, Clips):
        new, old = _of_clips(released), _of_clips(reference)
    elif isinstance(released, Frames) and isinstance(reference, Frames):
        ranges = usual(reference)
        new, old = _of_frames(released, ranges), _of_frames(reference, ranges)
    else:
        raise TypeError(f"{type(released).__name__} cannot be held against {type(reference).__name__}")
    return tuple(_records(new, old, called=called, reads_real=reads_real))


_Said = dict[str, tuple[float, tuple[float, float] | None, int]]  # value, interval and hearts


def _of_frames(frames: Frames, ranges: Mapping[tuple[int, int], tuple[float, float]]) -> _Said:
    outlined = _outlined(frames.masks)
    passed = anatomy(frames.masks)
    areas = {k: (frames.masks == k).mean((1, 2)) for k in STRUCTURES}
    passed["area_usual"] = np.array(
        [
            all(ranges.get((int(v), k), (0, 1))[0] <= areas[k][i] <= ranges.get((int(v), k), (0, 1))[1] for k in areas)
            for i, v in enumerate(frames.view)
        ],
        np.bool_,
    )
    found = {name: share for name, ok in passed.items() if (share := _share(ok, outlined, frames)) is not None}
    ed = np.flatnonzero((partners(frames) >= 0) & (frames.phase == 0) & outlined)
    if len(ed):
        es = partners(frames)[ed]
        volume = [single_plane_ml(cavities(frames.masks[rows], np.ones((len(rows), 2)))) for rows in (ed, es)]
        shrinks, rows = np.ones(len(frames), np.bool_), np.zeros(len(frames), np.bool_)
        both = np.isfinite(volume[0]) & np.isfinite(volume[1])
        shrinks[ed], rows[ed[both]] = volume[0] > volume[1], True
        if (share := _share(shrinks, rows, frames)) is not None:
            found["volume_shrinks"] = share
    return found | _fractions(frames)


def _fractions(frames: Frames) -> _Said:
    """Return how the ejection fractions in the masks agree with those that were asked for."""
    shown, first = biplane_lvef(frames), np.unique(frames.subject, return_index=True)
    asked = np.full(len(frames.subjects), np.nan)
    asked[first[0]] = frames.lvef_percent[first[1]]
    whole = np.isfinite(shown) & np.isfinite(asked)
    n, shown, asked = int(whole.sum()), shown[whole], asked[whole]
    if n < FEWEST:
        return {}
    bias, low, high = measures.agreement(shown, asked)
    reach = 1.96 * float(np.std(shown - asked, ddof=1)) / n**0.5
    return {
        "lvef_bias_points": (bias, (bias - reach, bias + reach), n),
        "lvef_agreement_low_points": (low, None, n),
        "lvef_agreement_high_points": (high, None, n),
        "lvef_error_points": (float(np.abs(shown - asked).mean()), None, n),
        "lvef_icc": (measures.icc(shown, asked), None, n),
    }


def _of_clips(clips: Clips) -> _Said:
    beats = [beat(p[:k], m[:k]) for p, m, k in zip(clips.pixels, clips.masks, clips.length, strict=True)]
    known = np.array([b is not None for b in beats], np.bool_)
    once = np.array([b is None or b.once for b in beats], np.bool_)
    seen = [b for b in beats if b is not None]
    share = _share(once, known, clips)
    if share is None:
        return {}
    n = share[2]
    return {
        "one_beat": share,
        "jitter": (float(np.median([b.jitter for b in seen])), None, n),
        "closure": (float(np.median([b.closure for b in seen])), None, n),
    }


def _outlined(masks: NDArray[np.uint8]) -> Flags:
    found: Flags = ((masks != UNLABELLED) & (masks != BACKGROUND)).any((1, 2))
    return found


def _share(passed: Flags, judged: Flags, of: Frames | Clips) -> tuple[float, tuple[float, float], int] | None:
    """Return the share of judged subjects all of whose judged rows passed, with its exact interval."""
    who = np.unique(of.subject[judged])
    if len(who) < FEWEST:
        return None
    found = clopper_pearson(len(who) - len(np.unique(of.subject[judged & ~passed])), len(who))
    return found.value, (found.low, found.high), len(who)


def _records(new: _Said, old: _Said, *, called: str, reads_real: bool) -> Iterator[Fidelity]:
    for metric, (value, ci, n) in new.items():
        beside = old.get(metric)
        yield Fidelity(
            metric=metric, encoder="", against=called, n=n, estimate=value, ci=ci,
            beside=beside[0] if beside else None, beside_ci=beside[1] if beside else None, reads_real=reads_real,
        )  # fmt: skip
