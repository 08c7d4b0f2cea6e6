"""The arms of `benchmarks.camus_release`: what is released at which ε, and one lever after the other."""

import math
from dataclasses import dataclass, replace
from typing import Any

SHIFTS = r"site\.weight|modulation\.bias"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One release and how a segmenter learns from it; the defaults are those of `experiment=camus`.

    Attributes:
        epsilon: of all that reads patients together; 0 asks nobody.
        tune, exchanges, steps, sampling_rate, clip_norm, draws, reach, average: of the private training; `reach` is the
            learning rate times the clip.
        plainly: steps of a training without clip and noise, of members of all sites together, instead; 0 for none.
        shapes: "public"; "weighed": public hearts drawn again by moments of members' masks, at `shape_epsilon` of the
            budget; "members": their very masks; "encoded": their very pictures as the frozen autoencoder gives them
            back. No release may have either.
        subjects, solver, sample_steps, guidance, repeats: of drawing; pictures of one shape.
        uneven: whether what a segmenter learns from gets gain, haze and shadows that change over the picture, beside
            the house's augmentation.
        taught: steps of the segmenter.
        phantoms: whether the phantom's own pictures of the shapes are learned from as well.
    """

    epsilon: float = 8.0
    tune: str = SHIFTS
    exchanges: int = 4
    steps: int = 5
    sampling_rate: float = 1.0
    clip_norm: float = 0.03
    draws: int = 16
    reach: float = 1.0
    average: float = 0.0
    plainly: int = 0
    shapes: str = "public"
    shape_epsilon: float = 1.0
    subjects: int = 400
    solver: str = "heun"
    sample_steps: int = 8
    guidance: float = 1.0
    repeats: int = 1
    uneven: bool = False
    taught: int = 300
    phantoms: bool = False
    seed: int = 0


HOUSE = Arm()
BEST: dict[str, Any] = {"shapes": "weighed", "uneven": True}
BY_EPSILON: dict[str, Arm] = {
    f"ε = {'∞' if epsilon == math.inf else f'{epsilon:g}'}, seed {seed}": Arm(epsilon=epsilon, seed=seed)
    for epsilon, seed in ((8.0, 0), (0.0, 0), (math.inf, 0), (2.0, 0), (4.0, 0), (8.0, 1), (0.0, 1))
}
FOUR = Arm(draws=4)  # with a quarter of the draws a training takes a quarter of the time
LEVERS: dict[str, Arm] = {
    "shapes: weighed at ε 1 of 8": Arm(shapes="weighed"),
    "segmenter: uneven gain and haze as well": Arm(uneven=True),
    "shapes: members' own, pictures at ε 8 (diagnosis)": Arm(shapes="members"),
    "subjects: 1000": Arm(subjects=1000),
    "subjects: 100": Arm(subjects=100),
    "segmenter: 900 steps": Arm(taught=900),
    "and the phantom's pictures": Arm(phantoms=True),
    "guidance 2": Arm(guidance=2.0),
    "pictures of a shape: 3": Arm(repeats=3),
    "Heun, 3 steps": Arm(sample_steps=3),
    "Heun, 20 steps": Arm(sample_steps=20),
    "draws: 4": FOUR,
    "members through the autoencoder and back (diagnosis)": Arm(shapes="encoded"),
    "all trained, plainly, ε ∞ (diagnosis)": Arm(epsilon=math.inf, tune=".", plainly=400),
    "token and shifts, plainly, ε ∞ (diagnosis)": Arm(epsilon=math.inf, plainly=400),
    "biases, plainly, ε ∞ (diagnosis)": Arm(epsilon=math.inf, tune=r"site\.weight|^(?!scanner).*bias", plainly=400),
    "tune: all of adaLN, 4 draws": replace(FOUR, tune=r"site\.weight|modulation", reach=0.3),
    "tune: everything, 4 draws": replace(FOUR, tune=r"^(?!scanner)", reach=0.3),
    "tune: token, 4 draws": replace(FOUR, tune=r"site\.weight"),
    "tune: attention, 4 draws": replace(FOUR, tune=r"site\.weight|attention", reach=0.3),
    "tune: last layer, 4 draws": replace(FOUR, tune=r"site\.weight|^final\."),
    "tune: biases, 4 draws": replace(FOUR, tune=r"site\.weight|^(?!scanner).*bias"),
    "learning rate x 0.3, 4 draws": replace(FOUR, reach=0.3),
    "learning rate x 2, 4 draws": replace(FOUR, reach=2.0),
    "draws: 1": Arm(draws=1),
    "draws: 32": Arm(draws=32),
    "clip norm 0.01, 4 draws": replace(FOUR, clip_norm=0.01),
    "clip norm 0.1, 4 draws": replace(FOUR, clip_norm=0.1),
    "q 0.5, 40 steps, 4 draws": replace(FOUR, steps=10, sampling_rate=0.5),
    "60 full steps, 4 draws": replace(FOUR, steps=15, reach=0.5),
    "server average 0.5, 4 draws": replace(FOUR, average=0.5),
}
TOGETHER: dict[str, Arm] = {
    "levers together, ε = 8, seed 0": Arm(**BEST),
    "levers together, ε = 0, seed 0": Arm(epsilon=0.0, **{**BEST, "shapes": "public"}),
    "levers together, ε = 8, seed 1": Arm(seed=1, **BEST),
    "levers together, ε = 2, seed 0": Arm(epsilon=2.0, shape_epsilon=0.5, **BEST),
    "levers together, ε = ∞, seed 0": Arm(epsilon=math.inf, shape_epsilon=math.inf, **BEST),
}
