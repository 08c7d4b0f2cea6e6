"""The toy of the design: 500 members, 500 controls, eight numbers a picture, five generators (privacy.md 3.7)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from privacy.attacks.disclosure import Disclosure, DisclosureCounts
from privacy.gallery import Gallery
from privacy.neighbours import nearest

People = NDArray[np.float64]
SUBJECTS, DRAWN, NUMBERS = 500, 2000, 8
RULE = Disclosure()


def gallery(numbers: People, name: str) -> Gallery:
    n = len(numbers)
    unknown = np.full(n, -1)
    return Gallery(
        features=numbers.astype(np.float32),
        subject=np.arange(n),
        subjects=tuple(f"{name}-{i}" for i in range(n)),
        view=unknown,
        phase=unknown,
    )


def independent(members: People, rng: np.random.Generator) -> People:
    return rng.standard_normal((DRAWN, NUMBERS))


def fitted(members: People, rng: np.random.Generator) -> People:
    return rng.multivariate_normal(members.mean(0), np.cov(members.T), DRAWN)


def few_copies(members: People, rng: np.random.Generator) -> People:
    """Copy 4 % of the members once each: 1 % of what is drawn."""
    drawn = rng.standard_normal((DRAWN, NUMBERS))
    drawn[: len(members) // 25] = members[: len(members) // 25]
    return drawn


def copies(members: People, rng: np.random.Generator) -> People:
    return members[rng.integers(0, len(members), DRAWN)]


def noisy_copies(members: People, rng: np.random.Generator) -> People:
    return copies(members, rng) + 0.1 * rng.standard_normal((DRAWN, NUMBERS))


def world(
    generator: Callable[[People, np.random.Generator], People], seed: int, subjects: int = SUBJECTS
) -> tuple[Gallery, Gallery, Gallery, Gallery]:
    """Return release, members, controls and reference."""
    rng = np.random.default_rng(seed)
    members, controls, reference = (rng.standard_normal((subjects, NUMBERS)) for _ in range(3))
    named = {"released": generator(members, rng), "member": members, "control": controls, "reference": reference}
    released, *real = (gallery(numbers, name) for name, numbers in named.items())
    return released, real[0], real[1], real[2]


def judged(released: Gallery, members: Gallery, controls: Gallery, threshold: float) -> dict[str, float | None]:
    """Judge the disclosure of everybody who has a released picture within `threshold`."""
    shown, chance = (int((nearest(g.features, released.features)[0] <= threshold).sum()) for g in (members, controls))
    counts = DisclosureCounts(
        members=len(members),
        controls=len(controls),
        members_disclosed=shown,
        controls_disclosed=chance,
        copies_found=len(members),
        threshold=RULE.threshold,
        formal=False,
    )
    return RULE.judge([counts])
