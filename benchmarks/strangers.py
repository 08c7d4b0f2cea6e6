"""How alike are the pictures of two people who have nothing to do with each other?

For each public population: the share of pairs of people whose likest pictures reach a similarity, and the most others
that one person resembles as much. `privacy.attacks.copies` takes what it expects of a release from here. CAMUS (Leclerc
et al. 2019) is read without patient0068, who is patient0033 again.

python -m benchmarks.strangers [--write] [--camus FOLDER] [--people 1500]
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks import results
from benchmarks.disclosure_threshold import camus
from cohorts.frames import Frames
from cohorts.phantom.simulate import stills
from privacy.gallery import Gallery
from privacy.resemblance import apart

SIMILARITIES = (0.90, 0.92, 0.94, 0.95, 0.96, 0.98)
SITES = ("wide", "site-a", "site-b", "site-c")


def alike(frames: Frames) -> tuple[int, list[tuple[float, int]]]:
    """Return how many people there are, and of each similarity the share of pairs and the most to one person."""
    gallery = Gallery.of(frames)
    n = len(gallery.subjects)
    counts = np.zeros((len(SIMILARITIES), n), np.int64)
    for some, away in apart(gallery, gallery):
        near = 1 - away**2 / 2
        near[np.arange(len(near)), np.arange(some.start, some.stop)] = -1
        counts[:, some] = [(near >= similarity).sum(axis=1) for similarity in SIMILARITIES]
    return n, [(float(of.sum() / n / (n - 1)), int(of.max())) for of in counts]


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    parser.add_argument("--camus", type=Path, default=Path("../shared/data/camus_224"), help="PNG mirror of CAMUS")
    parser.add_argument("--people", type=int, default=1500, help="of each phantom site")
    given = parser.parse_args()
    populations = {f"phantom, {site}": stills(given.people, seed=5, style=site) for site in SITES}
    if given.camus.is_dir():
        frames = camus(given.camus)
        populations["CAMUS"] = frames.select([s for s in frames.subjects if s != "patient0068"])
    rows = []
    for name, frames in populations.items():
        n, found = alike(frames)
        rows.append([name, n, *(f"{share:.1e} ({most})" for share, most in found)])
    head = ("population", "people", *(f"≥ {s:.2f}" for s in SIMILARITIES))
    text = "Share of pairs of different people (in brackets: the most that one person resembles).\n\n"
    text += results.table(head, rows)
    print(text)
    if given.write:
        results.write("Strangers", "python -m benchmarks.strangers --write", text)


if __name__ == "__main__":
    main()
