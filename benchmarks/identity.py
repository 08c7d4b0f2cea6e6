"""Does an encoder taught by phantoms know patients again? Beside plain correlation, on people it has never seen.

The encoder is trained on simulated people only, at no privacy cost. A pair of kinds of pictures is judged by the area
under the curve of same against different people, by how often the nearest of all pictures of the other kind is the
right person (rank 1), and by the share of right pairs above the similarity that one wrong pair in a hundred reaches.
How much plain correlation is mixed in is chosen on other phantoms, never on patients.

python -m benchmarks.identity [--write] [--data FOLDER] [--people N] [--steps N]
"""

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import results
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames, gather, resize
from cohorts.phantom import simulate
from cohorts.readers.manifest import Manifest
from learning.learner import fit
from learning.learners.identity_encoder import IdentityEncoder, IdentityLearner

SHARES = (0.0, 0.3, 0.5, 0.7, 0.9)
Kinds = tuple[str, NDArray[np.int64], NDArray[np.int64]]  # name, one picture a person, another of the same person
Embeddings = NDArray[np.float32]


def trained(people: int, steps: int) -> IdentityLearner:
    """Return the encoder after `steps` batches of simulated people."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        learner = IdentityEncoder().build()
    fit(learner, simulate.stills(people, seed=11), steps=steps, batch_size=64, learning_rate=2e-3, seed=0)
    return learner


def plain(learner: IdentityLearner, pixels: NDArray[np.uint8]) -> Embeddings:
    """Return the embedding that is correlation alone."""
    return learner.embed(pixels, copies=1 - 1e-9)


def judged(one: Embeddings, two: Embeddings) -> tuple[float, float, float]:
    """Return area under the curve, rank 1 and true positives at one false in a hundred; row k of both is one person."""
    alike = one @ two.T
    right = np.diag(alike)
    wrong = np.sort(alike[~np.eye(len(alike), dtype=bool)])
    area = float(np.searchsorted(wrong, right).mean() / len(wrong))
    first = float((alike.argmax(1) == np.arange(len(alike))).mean())
    return area, first, float((right > np.quantile(wrong, 0.99)).mean())


def kinds_of_echo(frames: Frames) -> Iterator[Kinds]:
    """Yield the pairs of kinds: phase against phase of one view, view against view at end diastole."""
    n = len(frames.subjects)
    at = np.full((n, 2, 2), -1, np.int64)
    for row in reversed(range(len(frames))):
        if frames.view[row] in (0, 1) and frames.phase[row] in (0, 1):
            at[frames.subject[row], frames.view[row], frames.phase[row]] = row
    whole = at[(at >= 0).all((1, 2))]
    yield "A2C, ED against ES", whole[:, 0, 0], whole[:, 0, 1]
    yield "A4C, ED against ES", whole[:, 1, 0], whole[:, 1, 1]
    yield "ED, A2C against A4C", whole[:, 0, 0], whole[:, 1, 0]


def read_pairs(folder: Path, names: list[tuple[str, str]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the first two pictures of every person who has two, `(2 n, 64, 64)`, and whose they are."""
    people: dict[str, list[str]] = {}
    for person, name in sorted(names):
        people.setdefault(person, []).append(name)
    pictures, owners = [], []
    for k, mine in enumerate(those for those in people.values() if len(those) > 1):
        for name in mine[:2]:
            with Image.open(folder / name) as image:
                pictures.append(resize(np.asarray(image.convert("L")), 64, nearest=False))
            owners.append(k)
    return np.stack(pictures), np.array(owners)


def other_organs(data: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield pairs of pictures of people whose hearts are not shown."""
    with (data / "hc18" / "training_set_pixel_size_and_HC.csv").open() as file:
        heads = [(row["filename"].split("_")[0], row["filename"]) for row in csv.DictReader(file)]
    yield "HC18, fetal heads", read_pairs(data / "hc18" / "training_set", heads)[0]
    with (data / "busbra" / "bus_data.csv").open() as file:
        breasts = [(row["Case"], f"{row['ID']}.png") for row in csv.DictReader(file)]
    yield "BUS-BRA, breasts", read_pairs(data / "busbra" / "Images", breasts)[0]


def share_of_copies(learner: IdentityLearner) -> float:
    """Return how much plain correlation serves best on phantoms of other people and other scanners."""
    frames = simulate.stills(150, seed=501, style="site-b")
    rank = {}
    for share in SHARES:
        embedded = learner.embed(frames.pixels, copies=share)
        rank[share] = np.mean([judged(embedded[a], embedded[b])[1] for _, a, b in kinds_of_echo(frames)])
    return max(rank, key=lambda share: float(rank[share]))


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="where camus_224 and others lie")
    arguments.add_argument("--people", type=int, default=1500, help="simulated people to learn from")
    arguments.add_argument("--steps", type=int, default=600, help="batches of 64")
    given = arguments.parse_args()
    torch.set_num_threads(2)
    start = time.perf_counter()
    learner = trained(given.people, given.steps)
    spent, share = time.perf_counter() - start, share_of_copies(learner)
    rows: list[list[object]] = []

    def compare(what: str, ones: NDArray[np.uint8], twos: NDArray[np.uint8]) -> None:
        for name, embed in (
            ("correlation", lambda p: plain(learner, p)),
            ("encoder", lambda p: learner.embed(p)),
            ("both", lambda p: learner.embed(p, copies=share)),
        ):
            rows.append([what, len(ones), name, *judged(embed(ones), embed(twos))])

    others = simulate.stills(150, seed=502, style="site-c")
    for what, a, b in kinds_of_echo(others):
        compare(f"phantom, {what}", others.pixels[a], others.pixels[b])
    if given.data.is_dir():
        camus = Manifest(root=str(given.data / "camus_224"), same_subject=(["patient0033", "patient0068"],))
        frames = gather(camus.read(pseudonyms=Pseudonyms(b"a benchmark keeps no secret")), size=64)
        for what, a, b in kinds_of_echo(frames):
            compare(f"CAMUS, {what}", frames.pixels[a], frames.pixels[b])
        for what, pictures in other_organs(given.data):
            compare(what, pictures[::2], pictures[1::2])
    head = ["pair", "people", "by", "AUC", "rank 1", "TPR at FPR 1 %"]
    said = f"{given.people} phantoms, {given.steps} batches, {spent:.0f} s; share of correlation {share:g}."
    text = f"{' '.join(__doc__.split(chr(10) * 2)[1].split())}\n\n{said}\n\n{results.table(head, rows)}"
    if given.write:
        results.write("Identity", "python -m benchmarks.identity --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
