"""BackMix: a frame keeps its ultrasound sector and is given another's surroundings, so that none of them says a thing.

Bransby et al. 2024 (MICCAI, arXiv:2406.19148). A view classifier reads what a scanner writes beside the sector where
that betrays the view; a background drawn at random betrays nothing. With sectors known of a share f of the frames
only, these weigh 1 + λ(1 - f) and the others 1 - λf: 1 on average.

The paper draws donors from all training frames, which under differential privacy would put one subject's pixels into
another's loss. Donors here are public phantoms or frames of the same subject, and nothing else is accepted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cohorts.frames import VIEWS, Frames
from cohorts.phantom import overlays, scanner
from cohorts.phantom.simulate import stills_with_style
from learning.blocks import to_signal
from learning.sector import Finder, sector

WRITTEN = ("TIS0.8 MI 1.1", "MI 1.3", "2D 62% C50", "FR 64HZ 15CM", "")  # "" is a picture without writing


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomDonors:
    """Public phantoms, drawn from a seed when needed: a recipe has no room for a patient's pixel.

    Attributes:
        n: donors, at least 1.
        seed: of the subjects and of what is written beside them.
        size: side of the pictures in pixels.
        written: lines of text, one drawn at random for every donor, in plain or in large letters.
    """

    n: int = 128
    seed: int = 2024
    size: int = 64
    written: tuple[str, ...] = WRITTEN

    def __post_init__(self) -> None:
        if self.n < 1 or not self.written:
            raise ValueError(f"n={self.n} and the {len(self.written)} lines written must each be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDonors:
    """Frames of which each row may take its background from rows of its own subject, and from no other.

    Attributes:
        frames: the frames that rows are of.
        rows: which are mixed, `(n,)`; row `i` has its donor among all rows of `frames.subject[rows[i]]`.
        find: finds the sector `(h, w)` of one donor.
    """

    frames: Frames
    rows: NDArray[np.int64]
    find: Finder = sector


Donors = PhantomDonors | OwnDonors


def phantoms(donors: PhantomDonors) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw all donors of a recipe: pixels and true sectors, `(n, size, size)`. They are drawn once and not to change.

    Half of the lines are written in large letters.
    """
    return _phantoms(donors)


def backgrounds(donors: Donors, n: int, *, generator: torch.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw a donor for each of `n` rows: pixels and sectors, `(n, h, w)`. Each row has one random number of its own.

    Raises:
        TypeError: if `donors` is neither kind, for whose else's pixels might they be?
        ValueError: if `OwnDonors` has another number of rows.
    """
    luck = torch.rand(n, generator=generator, dtype=torch.float64).numpy()
    if isinstance(donors, PhantomDonors):
        pixels, inside = phantoms(donors)
        chosen = (luck * len(pixels)).astype(np.int64)
        return pixels[chosen], inside[chosen]
    if isinstance(donors, OwnDonors):
        if len(donors.rows) != n:
            raise ValueError(f"{len(donors.rows)} rows have donors, {n} are mixed")
        subject = donors.frames.subject
        own = [np.flatnonzero(subject == subject[row]) for row in donors.rows]
        chosen = np.array([mine[int(x * len(mine))] for mine, x in zip(own, luck, strict=True)], np.int64)
        pixels = donors.frames.pixels[chosen]
        return pixels, np.stack([donors.find(p) for p in pixels])
    raise TypeError(f"donors must be public phantoms or a subject's own frames, not {type(donors).__name__}")


def mix(x: Tensor, inside: Tensor, donors: Donors, *, generator: torch.Generator) -> Tensor:
    """Give images the surroundings of donors: inside, `x` bit for bit; outside, the donor's background or black.

    Where the donor has its own sector its anatomy is not shown: black.

    Args:
        x: `(n, 1, h, w)` in [-1, 1], augmented already, together with `inside`.
        inside: the sectors, bool `(n, h, w)`.
        donors: where backgrounds may come from.
        generator: source of the choice of donors.
    """
    pixels, theirs = backgrounds(donors, len(x), generator=generator)
    behind = to_signal(torch.from_numpy(np.where(theirs, np.uint8(0), pixels)))
    return torch.where(inside.unsqueeze(1), x, behind.to(x))


def weights(masked: NDArray[np.bool_], *, share: float, strength: float) -> NDArray[np.float64]:
    """Return wBackMix's weight of each row, `(n,)`: 1 + λ(1 - f) if masked, else 1 - λf; their mean is 1 at share f.

    Args:
        masked: whose sector is known, `(n,)`.
        share: f, public, in [0, 1].
        strength: λ, from 0 to 1 / f.

    Raises:
        ValueError: if a weight would be negative, or an argument is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} must be in [0, 1]")
    if strength < 0 or strength * share > 1:
        raise ValueError(f"strength={strength} must be in [0, 1 / share={share}]")
    return np.where(masked, 1 + strength * (1 - share), 1 - strength * share)


def has_mask(names: Sequence[str], *, share: float, seed: int) -> NDArray[np.bool_]:
    """Say of which frames the sectors are taken as known, `(names,)`: by each one's own name and the seed alone.

    A draw of exactly f·n would let who else is there decide on a subject's loss; this has f·n on average.
    """
    words = [hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8] for name in names]
    return np.array([int.from_bytes(w, "big") < share * 2**64 for w in words], np.bool_)


def name_of(pixels: NDArray[np.uint8]) -> str:
    """Name a frame by its pixels and nothing else."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


def write_beside(
    pixels: NDArray[np.uint8], inside: NDArray[np.bool_], lines: Sequence[str], *, letters: Sequence[int] = ()
) -> NDArray[np.uint8]:
    """Blacken what lies outside the sectors and burn one line each in, with an ECG; "" leaves it black.

    Args:
        pixels: `(n, size, size)`; a copy is returned.
        inside: `(n, size, size)`, not one pixel of which is touched.
        lines: `n` texts.
        letters: `n` times how large the letters are than those of the phantoms; plain ones if none are given.
    """
    out = np.where(inside, pixels, np.uint8(0))
    for picture, within, line, times in zip(out, inside, lines, letters or [1] * len(lines), strict=True):
        if line:
            overlays.burn_in(picture, within, text=line, beat=0.0)
            if times > 1:
                _enlarge(picture, within, line, times)
    return out


def _enlarge(picture: NDArray[np.uint8], within: NDArray[np.bool_], line: str, times: int) -> None:
    """Write the line over itself in letters `times` as large: those of a smaller picture, magnified."""
    small = np.zeros([side // times for side in picture.shape], np.uint8)
    overlays.burn_in(small, np.zeros(small.shape, np.bool_), text=line, beat=0.0)
    large = np.kron(small, np.ones((times, times), np.uint8))[: len(picture) // 2]  # the ECG is below
    upper = picture[: len(large), : large.shape[1]]
    np.copyto(upper, large, where=~within[: len(large), : large.shape[1]])


@lru_cache(maxsize=4)
def _phantoms(donors: PhantomDonors) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    n_subjects = -(-donors.n // (2 * len(VIEWS)))
    frames, styles = stills_with_style(n_subjects, seed=donors.seed, size=donors.size, views=VIEWS)
    inside = scanner.fan(styles, donors.size)  # the simulator knows
    dice = np.random.default_rng(donors.seed)
    lines = [donors.written[i] for i in dice.integers(0, len(donors.written), len(frames))]
    letters = dice.integers(1, 3, len(frames)).tolist()
    pixels = write_beside(frames.pixels, inside, lines, letters=letters)
    return pixels[: donors.n], inside[: donors.n]
