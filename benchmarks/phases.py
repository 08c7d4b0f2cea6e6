"""How far from the truth are end diastole and end systole, found without a label? Cyclic frame difference on phantoms.

Clips of one cycle start at a random moment of it. The phase detector learns from moments of phantoms whose phases it
is not told; people of training and test differ. Beside it: how grey the picture is, which two frames are least alike,
an untrained network, and the cavity as a segmenter outlines it, which has learnt from masks. The second table is of a
hospital with a scanner of its own, where the detector is trained on under patient-level ε (add or remove one, δ = 1e-5,
PLD, this training alone), affine parameters of its norms only, on pairs of ED and ES: all that sites hold as frames.
Settings were chosen on people of seed 200, who are not tested here; those of the private steps were not chosen at all.

python -m benchmarks.phases [--write] [--seeds 2] [--subjects 40] [--steps 400]
"""

import argparse
import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from benchmarks.results import table, write
from cohorts.deidentify import Pseudonyms
from cohorts.frames import VIEWS, Frames, gather
from cohorts.phantom import simulate
from cohorts.readers.phantom import Phantom
from cohorts.study import CAVITY, Clip, Cohort
from learning.learner import fit, fit_private
from learning.learners.phase_detector import PhaseDetector, PhaseDetectorLearner, moments
from learning.learners.segmenter import Segmenter, SegmenterLearner
from learning.phases import cyclic_difference
from privacy.mechanism import DpPlan, calibrate
from privacy.randomness import SecureRandom

KEY = b"a benchmark keeps no secret at all"
FRAMES, TESTED, EPSILON, DELTA = 24, 20, 8.0, 1e-5
SITE = "site-b"
AIM = 1.0  # frames
DETECTOR, PRIVATE = "phase detector", f"phase detector, trained on at ε = {EPSILON:g}"
Finder = Callable[[NDArray[np.uint8]], Sequence[int]]  # a cycle to its ED and its ES
Found = dict[str, list[NDArray[np.float64]]]  # differences `(clips, 2)` of every seed


def cohort(subjects: int, *, seed: int, site: str = "wide", frames: int = FRAMES) -> Cohort:
    """Return phantoms filmed over one cycle in every view."""
    views = tuple(view.value for view in VIEWS)
    return Phantom(subjects=subjects, seed=seed, site=site, views=views, frames=frames).read(pseudonyms=Pseudonyms(KEY))


def clips(of: Cohort) -> list[Clip]:
    """Return every clip of every subject."""
    return [clip for who in of.subjects for study in of.of(who) for clip in study.clips]


def fresh(seed: int) -> PhaseDetectorLearner:
    """Return a phase detector with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return PhaseDetector().build()


def trained(learner: PhaseDetectorLearner, frames: Frames, *, steps: int, seed: int) -> PhaseDetectorLearner:
    """Train without privacy, as is free on phantoms."""
    fit(learner, frames, steps=steps, batch_size=32, learning_rate=3e-3, seed=seed)
    return learner


def private(start: PhaseDetectorLearner, frames: Frames) -> PhaseDetectorLearner:
    """Train on at patient-level ε; every subject is in every step."""
    learner = copy.deepcopy(start)
    for name, parameter in learner.module.named_parameters():
        parameter.requires_grad_("norm" in name)
    plan = DpPlan(purpose="phases", sampling_rate=1.0, noise_multiplier=1.0, clip_norm=0.1, steps=10, draws=4)
    plan = calibrate(plan, epsilon=EPSILON, delta=DELTA)
    people = len(frames.subjects)
    fit_private(learner, frames, plan, steps=10, public_subjects=people, learning_rate=0.3, random=SecureRandom())
    return learner


def segmenter(seed: int) -> SegmenterLearner:
    """Return a segmenter that masks of phantoms taught."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        learner = Segmenter().build()
    frames = simulate.stills(120, seed=500 + seed, views=VIEWS)
    fit(learner, frames, steps=200, batch_size=16, learning_rate=3e-3, seed=seed)
    return learner


def by_motion(learner: PhaseDetectorLearner) -> Finder:
    """Find by the rules of five phases."""
    return lambda clip: [learner.detect(clip)[i] for i in (0, 2)]


def by_grey(clip: NDArray[np.uint8]) -> Sequence[int]:
    """Blood is dark: end diastole is the darkest frame, end systole the brightest."""
    return _extremes(-clip.mean((1, 2)))


def by_unlikeness(clip: NDArray[np.uint8]) -> Sequence[int]:
    """Of the two frames that correlate least, contraction is the shorter way from one to the other."""
    flat = np.asarray(np.corrcoef(clip.reshape(len(clip), -1).astype(np.float64)))
    one, other = (int(i) for i in np.unravel_index(flat.argmin(), flat.shape))
    return (one, other) if (other - one) % len(clip) <= len(clip) / 2 else (other, one)


def by_first_frame(clip: NDArray[np.uint8]) -> Sequence[int]:
    """Take the first frame for end diastole, as clips cut by the ECG begin, and the one least like it for the other."""
    alike = np.asarray(np.corrcoef(clip.reshape(len(clip), -1).astype(np.float64)))
    return 0, int(alike[0].argmin())


def by_area(learner: SegmenterLearner) -> Finder:
    """Find the largest and the smallest cavity that the segmenter outlines, smoothed over time."""
    return lambda clip: _extremes((learner.predict(clip) == CAVITY).sum((1, 2)))


def _extremes(curve: NDArray[np.floating]) -> Sequence[int]:
    smooth = gaussian_filter1d(np.asarray(curve, np.float64), 1.0, mode="wrap")
    return int(smooth.argmax()), int(smooth.argmin())


PLAIN: dict[str, Finder] = {
    "grey value, darkest and brightest": by_grey,
    "the two frames least alike": by_unlikeness,
    "first frame, and the one least like it": by_first_frame,
}


def apart(find: Finder, tested: Sequence[Clip]) -> NDArray[np.float64]:
    """Return the cyclic difference of ED and ES, `(clips, 2)`, a quarter of the cycle where nothing is found.

    A quarter is what guessing is off by on average.
    """
    found = []
    for clip in tested:
        n = len(clip.pixels)
        try:
            found.append(cyclic_difference(find(clip.pixels), [clip.ed_frame or 0, clip.es_frame or 0], n).tolist())
        except ValueError:
            found.append([n / 4, n / 4])
    return np.array(found, np.float64)


def finders(seed: int, subjects: int, steps: int) -> tuple[PhaseDetectorLearner, dict[str, Finder]]:
    """Train on one draw of people, and return the phase detector and every way of finding phases."""
    filmed = moments(cohort(subjects, seed=300 + seed), frames=FRAMES)
    pairs = gather(cohort(4 * subjects, seed=300 + seed, frames=2), size=64)
    detector = trained(fresh(seed), filmed, steps=steps, seed=seed)
    return detector, {
        DETECTOR: by_motion(detector),
        "phase detector, taught by pairs of ED and ES": by_motion(trained(fresh(seed), pairs, steps=steps, seed=seed)),
        "phase detector, untrained": by_motion(fresh(seed)),
        **PLAIN,
        "area of a segmenter taught by masks": by_area(segmenter(seed)),
    }


def main() -> None:
    """Measure every way of finding phases and print, or write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    for name, default in (("seeds", 2), ("subjects", 40), ("steps", 400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    wide: Found = {}
    site: Found = {}
    for seed in range(asked.seeds):
        detector, found = finders(seed, asked.subjects, asked.steps)
        _measure(wide, found, clips(cohort(TESTED, seed=400 + seed)))
        people = gather(cohort(60, seed=500 + seed, site=SITE, frames=2), size=64)
        here = {DETECTOR: by_motion(detector), PRIVATE: by_motion(private(detector, people)), **PLAIN}
        _measure(site, here, clips(cohort(TESTED // 2, seed=600 + seed, site=SITE)))
    parts = (
        f"{asked.subjects} phantom subjects of training and {TESTED} of test, four views, style wide, {FRAMES} frames "
        f"a cycle, {asked.steps} steps of 32, {asked.seeds} seeds. Cyclic frame difference, mean over clips; guessing "
        f"is off by {FRAMES / 4:g}. Spread is over seeds.",
        _table(wide),
        f"Aim, at most {AIM:g} frame for ED and ES: {'met' if _mean(wide).max() <= AIM else 'missed'}.",
        f"Style {SITE}, on which nothing was trained but what says so; {TESTED // 2} subjects of test.",
        _table(site),
    )
    if asked.write:
        write("Phases", "python -m benchmarks.phases --write", "\n\n".join(parts))
    else:
        print("\n\n".join(parts))


def _measure(into: Found, finders: dict[str, Finder], tested: Sequence[Clip]) -> None:
    for name, find in finders.items():
        into.setdefault(name, []).append(apart(find, tested))
        print(name, into[name][-1].mean(0).round(2), flush=True)


def _mean(found: Found) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.concatenate(found[DETECTOR]).mean(0)
    return mean


def _table(found: Found) -> str:
    rows = []
    for name, seeds in found.items():
        means = np.array([of.mean(0) for of in seeds])
        near = (np.concatenate(seeds) <= 1).mean(0)
        told = [f"{m:.2f} ± {s:.2f}" for m, s in zip(means.mean(0), means.std(0), strict=True)]
        rows.append((name, *told, *(f"{100 * share:.0f} %" for share in near)))
    return table(("found by", "ED", "ES", "ED within a frame", "ES within a frame"), rows)


if __name__ == "__main__":
    main()
