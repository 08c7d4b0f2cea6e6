"""The planted-copy test: which copies of its own patients would a site's filter have caught?

Of every patient one picture is copied, altered (`privacy.planted_families`) and looked for among that patient's own
pictures. Picture and alteration hang on the patient's name, the family and the level alone, so nobody's presence
changes another's copy; copies, likenesses and names stay at the site.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import Frames
from privacy.embedding import Embedding, embed, embed_poses
from privacy.planted_families import STANDARD, Pixels, RoundTrip, planted
from privacy.reidentification_threshold import at_least

Likeness = NDArray[np.float32]

CLAIMED = (1, 2, 3)
"""Levels that a filter has to find before its threshold is trusted."""

ENOUGH = 300
"""Patients whose copies give a lower bound of 0.99 where all are caught."""

_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """How many copies of one family and level a filter caught.

    Attributes:
        family: how they were altered.
        level: how strongly, 1 to 5.
        n: patients of whom a copy was planted.
        caught: of them whose copy reached τ.
        lcb95: one-sided 95 % lower bound of the share caught (Clopper & Pearson 1934).
    """

    family: str
    level: int
    n: int
    caught: int
    lcb95: float


def likenesses(
    frames: Frames,
    *,
    families: Iterable[str] = STANDARD,
    levels: Iterable[int] = CLAIMED,
    others: Pixels | None = None,
    round_trip: RoundTrip | None = None,
    look: Callable[[Pixels], Embedding] = embed,
    hold: Callable[[Pixels], NDArray[np.float32]] = embed_poses,
) -> dict[tuple[str, int], Likeness]:
    """Plant one copy of every patient in every family and level and return how like its patient each one is.

    Args:
        frames: the patients' pictures; every patient has one.
        families: of `FAMILIES`; a still has no `temporal` copy.
        levels: 1 to 5.
        others: synthetic or public pictures, `(m, height, width)`, for families that need another.
        round_trip: of the family "round trip"; it is handed many pictures at once, each is to be treated alone.
        look: embeds candidates, `(n, height, width)` → `(n, d)`.
        hold: embeds patients as the filter holds them, → `(n, d)` or in several poses `(n, poses, d)`.

    Returns:
        (family, level) → per patient the largest similarity of the copy to any of the patient's own pictures.
    """
    drawn = [_rng(subject, "picture") for subject in frames.subjects]
    rows = [np.flatnonzero(frames.subject == at) for at in range(len(frames.subjects))]
    if missing := sum(not len(own) for own in rows):
        raise ValueError(f"{missing} of {len(rows)} patients have no picture to copy")
    chosen = np.array([rng.choice(own) for rng, own in zip(drawn, rows, strict=True)], np.int64)
    asked = list(itertools.product(families, levels))
    copies = {(f, k): look(_copies(frames, chosen, f, k, others, round_trip)) for f, k in asked}
    found = {key: np.full(len(rows), -1.0, np.float32) for key in asked}
    for start in range(0, len(frames), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        owner, held = frames.subject[part], hold(frames.pixels[part])
        held = held.reshape(len(owner), -1, held.shape[-1])
        for key, copy in copies.items():
            np.maximum.at(found[key], owner, np.einsum("npd,nd->np", held, copy[owner]).max(axis=1))
    return found


def caught(found: Mapping[tuple[str, int], Likeness], tau: float) -> list[Caught]:
    """Count the copies that reach `tau`, with bounds, in the order given."""
    counts = [(key, len(v), int((v >= tau).sum())) for key, v in found.items()]
    return [Caught(family=f, level=k, n=n, caught=c, lcb95=at_least(c, n)) for (f, k), n, c in counts]


def by_family(
    found: Mapping[tuple[str, int], Likeness], levels: Sequence[int] = CLAIMED
) -> dict[str, NDArray[np.float32]]:
    """Return for `calibrate` one likeness per patient and family: that of the copy at the worst of `levels`.

    A bound on the worst is a bound on each. A patient gives one number, so copies of one patient at three levels do not
    count as three patients.
    """
    families = dict.fromkeys(family for family, _ in found)
    return {f: np.min([v for (g, k), v in found.items() if g == f and k in levels], axis=0) for f in families}


def _copies(
    frames: Frames, chosen: NDArray[np.int64], family: str, level: int, others: Pixels | None, back: RoundTrip | None
) -> Pixels:
    if family == "round trip":
        return planted(frames.pixels[chosen], family=family, level=level, rng=np.random.default_rng(0), round_trip=back)
    copies = np.empty_like(frames.pixels[chosen])
    for at, (row, subject) in enumerate(zip(chosen, frames.subjects, strict=True)):
        rng = _rng(subject, f"{family} {level}")
        other = None if others is None else others[int(rng.integers(len(others)))][None]
        copies[at] = planted(frames.pixels[row][None], family=family, level=level, rng=rng, other=other)[0]
    return copies


def _rng(subject: str, purpose: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{purpose} {subject}".encode()).digest()))
