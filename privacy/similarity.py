"""Similarity metrics that others report as privacy: printed here, never a reason to pass or to fail.

They do not see a release in which 4 % of the members are copied, nor say how large the risk is (Yao et al. 2025,
arXiv:2505.01524; Ganev & De Cristofaro 2023, arXiv:2312.05114; Pilgram et al. 2025, arXiv:2503.04980).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.gallery import Gallery
from privacy.neighbours import Features, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """Distances of pictures, members (training) against controls (held out) at equal numbers.

    Attributes:
        dcr_p5_ratio: 5th percentile of the distance of released pictures to the closest member picture over that to the
            closest control picture (distance to closest record); 1 where neither is closer.
        nndr_median: median over released pictures of nearest over second nearest distance to members; 0 for copies.
        closer_to_members: share of released pictures closer to members than to controls; 0.5 is chance.
        adversarial_accuracy: 0.5 where members and release cannot be told apart by nearest neighbours, towards 0 for
            copies, towards 1 for what resembles nobody (Yale et al. 2020, doi:10.1016/j.neucom.2019.12.136).
        privacy_loss: adversarial accuracy of controls minus that of members.
        authentic: share of released pictures farther from their closest member than that member is from the next one
            (Alaa et al. 2022, arXiv:2102.08921).
    """

    dcr_p5_ratio: float
    nndr_median: float
    closer_to_members: float
    adversarial_accuracy: float
    privacy_loss: float
    authentic: float


def similarity(released: Gallery, members: Gallery, controls: Gallery, *, rng: np.random.Generator) -> Similarity:
    """Measure a release; whatever is more numerous is thinned at random to the number of the other.

    Raises:
        ValueError: a gallery has fewer than two pictures.
    """
    for name, gallery in (("released", released), ("members", members), ("controls", controls)):
        if len(gallery) < 2:
            raise ValueError(f"{name} has {len(gallery)} pictures, at least 2 are compared")
    n = min(len(members), len(controls))
    train, held_out = (_some(g.features, n, rng) for g in (members, controls))
    to_train, at = nearest(released.features, train, 2)
    to_held_out = nearest(released.features, held_out)[0][:, 0]
    between = nearest(train, train, exclude_same=(np.arange(n), np.arange(n)))[0][:, 0]
    closest = to_train[:, 0]
    second = np.maximum(to_train[:, 1], 1e-9)
    of_train, of_held_out = (_adversarial(released.features, real, rng) for real in (train, held_out))
    return Similarity(
        dcr_p5_ratio=float(np.quantile(closest, 0.05) / max(float(np.quantile(to_held_out, 0.05)), 1e-9)),
        nndr_median=float(np.median(closest / second)),
        closer_to_members=float(np.mean((closest < to_held_out) + 0.5 * (closest == to_held_out))),
        adversarial_accuracy=of_train,
        privacy_loss=of_held_out - of_train,
        authentic=float(np.mean(closest >= between[at[:, 0]])),
    )


def _adversarial(released: Features, real: Features, rng: np.random.Generator) -> float:
    n = min(len(real), len(released))
    some, drawn = _some(real, n, rng), _some(released, n, rng)
    itself = (np.arange(n), np.arange(n))

    def own(features: Features) -> NDArray[np.float32]:
        return nearest(features, features, exclude_same=itself)[0][:, 0]

    def other(a: Features, b: Features) -> NDArray[np.float32]:
        return nearest(a, b)[0][:, 0]

    return 0.5 * float(np.mean(other(some, drawn) > own(some)) + np.mean(other(drawn, some) > own(drawn)))


def _some(features: Features, n: int, rng: np.random.Generator) -> Features:
    return features if len(features) <= n else features[np.sort(rng.choice(len(features), n, replace=False))]
