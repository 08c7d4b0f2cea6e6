"""How a release resembles a reference: distances, coverage and variety, in named encoders, at equal n.

Beside every number stands the same one between two halves of the reference, of different subjects: what no generator
can be asked to beat. Fidelity proves neither use nor safety: whoever memorises scores best. It is reported and decides
nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.clips import Clips
from cohorts.frames import Frames
from evaluation import distances
from evaluation.encoders import ENCODERS, Encoder, over_time, version
from evaluation.useful import Fidelity

FEWEST = 30  # pictures of each set: of fewer, no covariance and no neighbourhood says anything
OVER_TIME = "over time"

Floats = NDArray[np.floating[Any]]
_Measured = Mapping[str, tuple[float, tuple[float, float] | None]]


def describe(
    released: Frames | Clips, reference: Frames | Clips, *, called: str, reads_real: bool, seed: int = 0
) -> tuple[Fidelity, ...]:
    """Measure pictures, or clips, of a release against those of a reference in every encoder of `ENCODERS`.

    The reference is halved by subject. As many of each set are drawn as the smallest of the three parts has; nothing is
    said of fewer than `FEWEST`.

    Args:
        released: frames, or clips.
        reference: of the same kind.
        called: what the reference is, as a reader of the certificate reads it.
        reads_real: the reference is of patients.
        seed: of the halves, the draws and the subsets.
    """
    rng = np.random.default_rng(seed)
    one, other = _halves(reference.subject, rng)
    n = min(len(released), len(one), len(other))
    if n < FEWEST:
        return ()
    drawn = [np.sort(rng.permutation(rows)[:n]) for rows in (np.arange(len(released)), one, other)]
    moving = isinstance(released, Clips)
    found: list[Fidelity] = []
    for name, encoder in ENCODERS.items():
        sets = zip((released, reference, reference), drawn, strict=True)
        new, first, second = (_features(of, rows, encoder) for of, rows in sets)
        found += compare(
            new,
            first,
            second,
            encoder=" ".join([version(name), *([OVER_TIME] if moving else [])]),
            called=called,
            reads_real=reads_real,
            seed=seed,
        )
    return tuple(found)


def compare(
    new: Floats, reference: Floats, again: Floats, *, encoder: str, called: str, reads_real: bool, seed: int = 0
) -> Iterator[Fidelity]:
    """Yield every measure of features `new`, and of `again`, other subjects of the reference, against `reference`.

    Of features over time the Fréchet distance is named `fvd`, as is usual, else `fid`. `vendi` is the effective number
    of different ones (`distances.distinct`).

    Raises:
        ValueError: the three are not of one shape `(n, d)`.
    """
    if not new.shape == reference.shape == again.shape:
        raise ValueError(f"features {new.shape}, {reference.shape}, {again.shape} must have one shape: equal n")

    def measured(features: Floats) -> _Measured:
        kernel = distances.kernel(features, reference, rng=np.random.default_rng(seed))
        manifold = distances.manifold(features, reference)
        return {
            "fvd" if encoder.endswith(OVER_TIME) else "fid": (distances.frechet(features, reference), None),
            "kid": (kernel.value, (kernel.low, kernel.high)),
            "precision": (manifold.precision, None),
            "recall": (manifold.recall, None),
            "density": (manifold.density, None),
            "coverage": (manifold.coverage, None),
            "vendi": (distances.distinct(features), None),
        }

    beside = measured(again)
    for metric, (value, ci) in measured(new).items():
        yield Fidelity(
            metric=metric, encoder=encoder, against=called, n=len(new), estimate=value, ci=ci,
            beside=beside[metric][0], beside_ci=beside[metric][1], reads_real=reads_real,
        )  # fmt: skip


def _features(of: Frames | Clips, rows: NDArray[np.int64], encoder: Encoder) -> NDArray[np.float32]:
    return over_time(of.rows(rows), encoder) if isinstance(of, Clips) else encoder(of.pixels[rows])


def _halves(subject: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of one half of the subjects, and of the other."""
    who = rng.permutation(np.unique(subject))
    first = np.isin(subject, who[: len(who) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)
