"""Do synthetic hearts have what was asked of them, and what does privacy cost a shape model fitted at a hospital?

First: hearts of the public prior are asked for an ejection fraction from 15 to 75 percent and measured in their masks
alone, by the biplane method of disks. So are hearts of the statistical shape model. Second: the statistical shape model
is fitted under differential privacy to phantoms of a hospital whose people are healthier than the public prior's
("site-c"), and the volumes and fractions of its hearts are held against those of people nobody has fitted to:
Wasserstein distances, in ml and points. Where CAMUS lies beside the house, the measure itself is held against readers.

python -m benchmarks.shapes [--write] [--hearts 400] [--repeats 10] [--data FOLDER]
"""

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, wasserstein_distance

from benchmarks import results
from cohorts.deidentify import Pseudonyms
from cohorts.frames import gather
from cohorts.phantom import heart, motion, simulate
from cohorts.readers.manifest import Manifest
from evaluation import volumes
from privacy.mechanism import DpPlan, calibrate
from privacy.moments import clip_norm
from privacy.randomness import SecureRandom
from synthesis import contours, drawing, shape, shape_model

SITE, DELTA, EPSILONS, SITES_OF = "site-c", 1e-5, (1.0, 2.0, 4.0, 8.0, math.inf), (50, 200, 800)
Volumes = NDArray[np.float64]  # of every heart at ED and ES, `(n, 2)`


def measured(shapes: shape.Shapes) -> Volumes:
    """Return biplane volumes at ED and ES as the masks show them."""
    found = []
    for moment in (0, 1):
        two, four = (volumes.cavities(shapes.masks[:, v, moment], shapes.pixel_mm[:, v]) for v in (0, 1))
        found.append(volumes.biplane_ml(four, two))
    return np.stack(found, axis=1)


def obedience(what: str, shapes: shape.Shapes) -> list[object]:
    """Return a row of the first table."""
    found = measured(shapes)
    lvef = volumes.lvef_percent(found[:, 0], found[:, 1])
    off = lvef - shapes.lvef_percent
    far = 100 * (found / shapes.volume_ml - 1)
    correlation = float(pearsonr(lvef, shapes.lvef_percent)[0])
    return [what, shapes.masks.shape[-1], correlation, float(np.abs(off).mean()), float(off.mean()),
            float(np.abs(off).max()), float(np.abs(far[:, 0]).mean()), float(np.abs(far[:, 1]).mean())]  # fmt: skip


def hospital(n: int, *, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the hearts of `n` people of the hospital as its masks show them, and whose they are."""
    exam = simulate.examinations(range(n), seed=seed, style=SITE)
    phase = np.stack([np.zeros(n), motion.systole(exam.who.heart_rate_bpm)], axis=1)
    dice = np.random.default_rng(seed)
    held = [dice.random((n, heart.POSE_DRAWS), np.float32) for _ in contours.VIEWS]
    drawn = [shape.outlines(exam, pose, v, phase, size=64) for v, pose in zip(contours.VIEWS, held, strict=True)]
    return shape_model.vectors(np.stack([d[0] for d in drawn], 1), np.stack([d[1] for d in drawn], 1))


def true_volumes(n: int, *, seed: int) -> Volumes:
    """Return the volumes of people of the hospital as the simulator made them."""
    who = simulate.examinations(range(n), seed=seed, style=SITE).who
    edv = shape.end_diastolic_ml(who)
    return np.stack([edv, edv * (1 - who.lvef_percent / 100)], axis=1)


def apart(one: Volumes, other: Volumes) -> tuple[float, float]:
    """Return the distance between two draws of people: of EDV in ml, of LVEF in points."""
    fractions = [volumes.lvef_percent(v[:, 0], v[:, 1]) for v in (one, other)]
    return float(wasserstein_distance(one[:, 0], other[:, 0])), float(wasserstein_distance(*fractions))


def fitted(repeats: int) -> list[list[object]]:
    """Return the rows of the second table: size of the hospital by ε."""
    model, strangers = shape_model.public(), true_volumes(4000, seed=77)

    def distance(of: shape_model.ShapeModel, seed: int) -> tuple[float, float]:
        return apart(contours.volumes_ml(contours.planes(shape_model.draw(of, 2000, seed=seed))), strangers)

    rows: list[list[object]] = [["public prior", "", "0", *distance(model, 0)]]
    for n in SITES_OF:
        vectors, subject = hospital(n, seed=78)
        for epsilon in EPSILONS:
            plan = DpPlan(purpose="shapes", sampling_rate=1.0, noise_multiplier=0.0,
                          clip_norm=clip_norm(shape_model.RADIUS), steps=1, draws=1)  # fmt: skip
            if math.isfinite(epsilon):
                plan = calibrate(plan, epsilon=epsilon, delta=DELTA)
            found = [distance(shape_model.fit(model, vectors, subject, plan, random=SecureRandom()), seed)
                     for seed in range(repeats if math.isfinite(epsilon) else 1)]  # fmt: skip
            name = f"{epsilon:g}" if math.isfinite(epsilon) else "∞"
            mean, worst = np.mean(found, axis=0), np.max(found, axis=0)
            rows.append(["fitted", n, name, *mean.tolist(), *worst.tolist()])
    rows += [[f"{n} other people", n, "", *apart(true_volumes(n, seed=79), strangers)] for n in SITES_OF]
    return [row + [""] * (7 - len(row)) for row in rows]


def readers(data: Path) -> str:
    """Say how the measure stands to the fractions that CAMUS reports for its own masks."""
    root = data / "camus_224"
    if not (root / "labels.csv").is_file():
        return "CAMUS does not lie beside the house: the measure was not held against readers."
    frames = gather(Manifest(root=str(root)).read(pseudonyms=Pseudonyms(b"a benchmark keeps no secret")), size=224)
    found, first = volumes.biplane_lvef(frames), np.unique(frames.subject, return_index=True)[1]
    off = found - frames.lvef_percent[first]
    return (
        f"The measure on CAMUS, {len(found)} patients, masks of experts: r = {pearsonr(found, found - off)[0]:.3f}"
        f" with the fraction reported, mean difference {off.mean():+.1f} points, spread about it {off.std():.1f}."
        " These masks have lost the size of their pixels, and the table of fractions is not the data set's own."
    )


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    parser.add_argument("--hearts", type=int, default=400, help="hearts asked for in every row of the first table")
    parser.add_argument("--repeats", type=int, default=10, help="draws of the noise in every row of the second table")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where camus_224 lies")
    given = parser.parse_args()
    asked = shape.spread(given.hearts, seed=1)
    edv = 40 * (260 / 40) ** np.random.default_rng(1).random(given.hearts, np.float32)
    model = shape_model.public()
    first = [obedience("public prior", shape.draw(asked, seed=1, size=size, edv_ml=edv)) for size in (32, 64, 112)]
    drawn = shape_model.draw(model, given.hearts, seed=1, lvef_percent=asked)
    first += [obedience("shape model, public", drawing.render(drawn, seed=1, size=size)) for size in (64, 112)]
    head = ("hearts of", "px", "LVEF r", "MAE, points", "bias", "worst", "EDV off, %", "ESV off, %")
    text = "\n\n".join([
        f"Asked against measured in the masks, {given.hearts} hearts a row, LVEF from 15 to 75 percent"
        " (and from the public prior EDV from 40 to 260 ml); one draw a heart, none thrown away:",
        results.table(head, first),
        readers(given.data),
        f"A hospital's people ({SITE}) against the model's, δ = {DELTA:g}, mean and worst over {given.repeats} draws"
        " of the noise; ε = ∞ is clipped but not noised; the last rows are what sampling people costs without any"
        " model:",
        results.table(("hearts of", "people", "ε", "EDV, ml", "LVEF, points", "EDV, worst", "LVEF, worst"),
                      fitted(given.repeats)),
    ])  # fmt: skip
    print(text)
    if given.write:
        results.write("Shapes", "python -m benchmarks.shapes --write", text)


if __name__ == "__main__":
    main()
