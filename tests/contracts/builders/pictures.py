"""A folder a person, PNG of noise in it."""

import numpy as np
from PIL import Image

from cohorts.readers import READERS


def build(folder):
    rng = np.random.default_rng(0)
    for person in ("p1", "p2", "p3"):
        for view in ("A2C", "A4C"):
            (folder / person / view).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8)).save(folder / person / view / "0.png")
    return READERS["pictures"](root=str(folder))
