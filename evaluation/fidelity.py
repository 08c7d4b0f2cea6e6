"""How a release resembles a reference: distances, coverage and variety, in named encoders, at equal n.

Beside every number stands the same one between two halves of the reference, of different subjects: what no generator
can be asked to beat. Fidelity proves neither use nor safety: whoever memorises scores best. It is reported and decides
nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cohorts.clips import Clips
    from cohorts.frames import Frames

FEWEST = 30  # pictures of each set: of fewer, no covariance and no neighbourhood says anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """One measure of how a release resembles a reference.

    Attributes:
        measure: what was measured.
        seen_by: the encoder in whose features it was, or "masks".
        reference: what it was held against.
        n: pictures, clips or hearts of each set.
        estimate: the number; ci: its interval, where it has one.
        beside: the same number for the reference held against itself.
        unit: of the number, empty for a share or a score.
    """

    measure: str
    seen_by: str
    reference: str
    n: int
    estimate: float
    ci: tuple[float, float] | None = None
    beside: float | None = None
    unit: str = ""


def describe(
    released: "Frames | Clips", reference: "Frames | Clips", *, called: str, seed: int = 0
) -> tuple[Fidelity, ...]:
    """Measure pictures, or clips, of a release against those of a reference in every encoder of `ENCODERS`.

    The reference is halved by subject. As many of each set are drawn as the smallest of the three parts has; nothing is
    said of fewer than `FEWEST`.

    Args:
        released: frames, or clips.
        reference: of the same kind.
        called: what the reference is, as a reader of the certificate reads it.
        seed: of the halves, the draws and the subsets.
    """
    import numpy as np

    from cohorts.clips import Clips
    from evaluation.encoders import ENCODERS, over_time

    rng = np.random.default_rng(seed)
    one, other = _halves(reference.subject, rng)
    n = min(len(released), len(one), len(other))
    if n < FEWEST:
        return ()
    drawn = [np.sort(rng.permutation(rows)[:n]) for rows in (np.arange(len(released)), one, other)]
    found: list[Fidelity] = []
    for name, encoder in ENCODERS.items():

        def features(of: Any, rows: "NDArray[np.int64]", encoder: Any = encoder) -> "NDArray[np.float32]":
            if isinstance(of, Clips):
                return over_time(of.rows(rows), encoder)
            seen: NDArray[np.float32] = encoder(of.pixels[rows])
            return seen

        new, first, second = (features(of, r) for of, r in zip((released, reference, reference), drawn, strict=True))
        clips = isinstance(released, Clips)
        found += compare(
            new, first, second, seen_by=f"{name} over time" if clips else name, called=called, video=clips, seed=seed
        )
    return tuple(found)


def compare(
    new: "NDArray[np.floating[Any]]",
    reference: "NDArray[np.floating[Any]]",
    again: "NDArray[np.floating[Any]]",
    *,
    seen_by: str,
    called: str,
    video: bool = False,
    seed: int = 0,
) -> Iterator[Fidelity]:
    """Yield every measure of features `new`, and of `again`, other subjects of the reference, against `reference`.

    Raises:
        ValueError: the three are not of one shape `(n, d)`.
    """
    import numpy as np

    from evaluation import distances

    if not new.shape == reference.shape == again.shape:
        raise ValueError(f"features {new.shape}, {reference.shape}, {again.shape} must have one shape: equal n")

    def measured(features: "NDArray[np.floating[Any]]") -> Mapping[str, tuple[float, tuple[float, float] | None]]:
        kernel = distances.kernel(features, reference, rng=np.random.default_rng(seed))
        manifold = distances.manifold(features, reference)
        return {
            "Fréchet video distance" if video else "Fréchet distance": (distances.frechet(features, reference), None),
            "kernel distance": (kernel.value, (kernel.low, kernel.high)),
            "precision": (manifold.precision, None),
            "recall": (manifold.recall, None),
            "density": (manifold.density, None),
            "coverage": (manifold.coverage, None),
            "effective number of different ones": (distances.distinct(features), None),
        }

    beside = measured(again)
    for measure, (value, ci) in measured(new).items():
        yield Fidelity(
            measure=measure, seen_by=seen_by, reference=called, n=len(new), estimate=value, ci=ci,
            beside=beside[measure][0],
        )  # fmt: skip


def _halves(
    subject: "NDArray[np.int64]", rng: "np.random.Generator"
) -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
    """Return the rows of one half of the subjects, and of the other."""
    import numpy as np

    who = rng.permutation(np.unique(subject))
    first = np.isin(subject, who[: len(who) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)
