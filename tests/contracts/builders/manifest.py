"""A table of stills, as `pericard export --layout plain` writes it."""

import csv

import numpy as np
from PIL import Image

from cohorts.readers import READERS


def build(folder):
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "view", "phase", "image", "mask", "ef_reported"])
        for row in ((p, v, ph) for p in ("p1", "p2", "p3") for v in ("2CH", "4CH") for ph in ("ED", "ES")):
            image, mask = ("_".join(row) + end for end in (".png", "_gt.png"))
            Image.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8)).save(folder / image)
            Image.fromarray(rng.integers(0, 4, (9, 7), dtype=np.uint8)).save(folder / mask)
            writer.writerow([*row, image, mask, 55])
    return READERS["manifest"](root=str(folder))
