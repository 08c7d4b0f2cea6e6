"""The instrument that measures what was drawn: a segmenter taught by films of phantoms, and its error on others.

It has seen hearts at every phase, not stills alone, and needs nothing but two apical planes. The ejection fraction is
the share of the volume that goes as the contraction of a beat comes: the line of biplane volumes against it, through
all frames. How far off it is on phantoms that it has not seen, of one seed, is taken off again (a line, `calibrated`);
what is left is measured on phantoms of another seed. Figures about drawings are worth no more than that.

The weights lie beside this file, rounded to 16 bits, since to teach it takes minutes; --teach makes them again. From
the third round on each began where the one before had been rounded. Rounds of varied pictures come first, as in every
training of the house; the last sees pictures as they are, as what it measures later is not varied either.

python -m benchmarks.instrument [--write] [--teach]
"""

import argparse
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.results import table, write
from cohorts.clips import Clips, films
from cohorts.frames import Frames, resize
from cohorts.phantom import motion
from evaluation.volumes import biplane_ml, cavities
from learning import arrays
from learning.blocks import to_signal
from learning.learner import fit
from learning.learners.segmenter import Segmenter, SegmenterLearner, disagreement

SEED, SIZE, SUBJECTS, FILMED = 911, 64, 400, 6
ROUNDS = ((1_500, 3e-3), (600, 2e-3), (4_000, 2e-3))  # steps and highest rate: each with other phantoms
POLISH = (2_500, 2e-3)  # the last round, by more people
CALIBRATION, UNSEEN = SEED + 1, SEED + 2  # seeds of hearts
RANGE = (15.0, 75.0)
WEIGHTS = Path(__file__).with_suffix(".safetensors")


def teach(path: Path = WEIGHTS) -> None:
    """Teach a segmenter by films of phantoms of all ejection fractions, and write its weights, public, to `path`."""
    learner = _untaught()
    for k, (steps, rate) in enumerate(ROUNDS):
        fit(learner, _stills(SEED + 100 * k), steps=steps, batch_size=16, learning_rate=rate, seed=SEED + k)
        if k:
            arrays.load_state(learner.module, _halved(learner))
    (steps, rate), k = POLISH, len(ROUNDS)
    more = _stills(SEED + 100 * k, subjects=3 * SUBJECTS, filmed=4)
    fit(AsTheyAre(learner), more, steps=steps, batch_size=16, learning_rate=rate, seed=SEED + k)
    arrays.write(path, _halved(learner))


class AsTheyAre:
    """A segmenter that learns from pictures as they are, neither moved nor varied."""

    def __init__(self, learner: SegmenterLearner) -> None:
        self.module, self.predict = learner.module, learner.predict

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> torch.Tensor:
        """Return the `disagreement` of each row with its mask; `generator` is not asked."""
        logits = self.module(to_signal(torch.from_numpy(frames.pixels[rows])))
        return disagreement(logits, torch.from_numpy(frames.masks[rows]))


def _halved(learner: SegmenterLearner) -> dict[str, NDArray[np.float16]]:
    return {name: a.astype(np.float16) for name, a in arrays.state(learner.module).items()}


@cache
def segmenter() -> SegmenterLearner:
    """Return the segmenter that was taught."""
    learner = _untaught()
    arrays.load_state(learner.module, arrays.read(WEIGHTS))
    return learner


def hearts(count: int, *, seed: int, size: int, frames: int = 16, style: str = "wide") -> Clips:
    """Return phantoms over one beat whose ejection fractions fill `RANGE`, in A2C, then A4C, of each.

    End diastole is the first frame, and one of them is end systole itself (`systolic_frame`).
    """
    asked = np.random.default_rng(seed).permutation(np.linspace(*RANGE, count))
    # Who it is, and so how fast the heart beats, does not depend on phases or on what it is asked to eject.
    rate = films(count, phase=np.zeros((count, 1)), seed=seed, size=16, style=style).heart_rate_bpm[::2]
    end = motion.systole(rate.astype(np.float64))[:, None]
    first = systolic_frame(frames)
    phase = np.concatenate(
        [end * np.arange(first) / first, end + (1 - end) * np.arange(frames - first) / (frames - first)], 1
    )
    return films(count, phase=phase, seed=seed, size=size, style=style, lvef_percent=asked)


def systolic_frame(frames: int) -> int:
    """Return which of `frames` frames of `hearts` is at end systole."""
    return max(1, round(0.375 * frames))


def outlined(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the masks of clips `(n, T, height, width)` as the segmenter sees them, `(n, T, SIZE, SIZE)`."""
    flat = np.stack([resize(p, SIZE, nearest=False) for p in pixels.reshape(-1, *pixels.shape[2:])])
    return segmenter().predict(flat).reshape(*pixels.shape[:2], SIZE, SIZE)


def ejection(masks: NDArray[np.uint8], clips: Clips) -> NDArray[np.float64]:
    """Return the biplane ejection fraction of each heart in percent, NaN where no cavity shows.

    Args:
        masks: of clips `(2 * n, T, height, width)`, A2C before A4C of each heart, at the same phases.
        clips: phases and heart rates of the same rows.
    """
    n, frames = len(masks) // 2, masks.shape[1]
    unit, flat = np.ones((n * frames, 2)), (-1, *masks.shape[2:])
    planes = [cavities(masks[k::2].reshape(flat), unit) for k in (1, 0)]
    volume = biplane_ml(*planes).reshape(n, frames)
    end = motion.systole(clips.heart_rate_bpm[::2].astype(np.float64))[:, None]
    emptied = motion.contraction(clips.phase[::2], end).astype(np.float64)
    found = np.full(n, np.nan)
    for k in range(n):
        known = np.isfinite(volume[k])
        if known.sum() > 2 and np.ptp(emptied[k, known]) > 0.5:
            slope, rest = np.polyfit(emptied[k, known], volume[k, known], 1)
            found[k] = -100 * slope / rest
    return found


@cache
def calibration() -> tuple[float, float]:
    """Return slope and intercept of the true fraction on the measured one, over phantoms nobody else sees."""
    known = hearts(60, seed=CALIBRATION, size=SIZE)
    found = ejection(outlined(known.pixels), known)
    seen = np.isfinite(found)
    slope, intercept = np.polyfit(found[seen], known.lvef_percent[::2][seen].astype(np.float64), 1)
    return float(slope), float(intercept)


def measured(pixels: NDArray[np.uint8], clips: Clips) -> NDArray[np.float64]:
    """Return the calibrated ejection fraction that `pixels` show, drawn at the phases of `clips`; as of `ejection`."""
    slope, intercept = calibration()
    return slope * ejection(outlined(pixels), clips) + intercept


def agreement(found: NDArray[np.float64], asked: NDArray[np.floating]) -> tuple[float, float, float, int]:
    """Return r, mean absolute error and bias in points, and of how many hearts; of the others a cavity is missing."""
    known = np.isfinite(found)
    off = found[known] - asked[known]
    r = float(np.corrcoef(found[known], asked[known])[0, 1]) if known.sum() > 2 else float("nan")
    return r, float(np.abs(off).mean()), float(off.mean()), int(known.sum())


def _untaught() -> SegmenterLearner:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        return Segmenter(width=16).build()


def _stills(seed: int, *, subjects: int = SUBJECTS, filmed: int = FILMED) -> Frames:
    dice = np.random.default_rng(seed)
    phase = (np.arange(filmed) + dice.random((subjects, filmed))) / filmed
    clips = films(subjects, phase=phase, seed=seed, size=SIZE, lvef_percent=dice.uniform(10, 80, subjects))
    n = len(clips) * filmed
    return Frames(
        pixels=clips.pixels.reshape(n, SIZE, SIZE),
        masks=clips.masks.reshape(n, SIZE, SIZE),
        view=np.repeat(clips.view, filmed),
        phase=np.full(n, -1),
        lvef_percent=np.repeat(clips.lvef_percent, filmed),
        subject=np.repeat(clips.subject, filmed),
        subjects=clips.subjects,
    )


def main() -> None:
    """Measure the instrument on phantoms that it has not seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--teach", action="store_true", help="teach it first")
    asked = parser.parse_args()
    if asked.teach:
        teach()
    rows: list[list[object]] = []
    asked_for = [("calibration", CALIBRATION, "wide"), ("unseen", UNSEEN, "wide")]
    asked_for += [(f"unseen, as at {site}", UNSEEN, site) for site in ("site-a", "site-b", "site-c")]
    for what, seed, style in asked_for:
        shown = hearts(60, seed=seed, size=SIZE, style=style)
        truth, masks = shown.lvef_percent[::2].astype(np.float64), outlined(shown.pixels)
        raw = ejection(masks, shown)
        rows.append([what, "true masks", *agreement(ejection(shown.masks, shown), truth)])
        rows.append([what, "segmenter", *agreement(raw, truth)])
        rows.append([what, "segmenter, calibrated", *agreement(np.polyval(calibration(), raw), truth)])
    text = table(["phantoms", "outlined by", "r", "MAE, points", "bias, points", "hearts"], rows)
    if asked.write:
        write("The instrument", "python -m benchmarks.instrument --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
