"""Stills of noise in the layout of TMED-2: a table in one folder, pictures in another."""

import csv

import numpy as np
from PIL import Image

from cohorts.readers import READERS

HEADER = ["query_key", "view_label", "diagnosis_label", "view_classifier_split", "diagnosis_classifier_split"]
ROWS = [
    ["101s1_0.png", "PLAX", "severe_AS", "train", "train"],
    ["101s1_1.png", "A4C", "severe_AS", "not_used", "train"],
    ["101s2_0.png", "PSAX", "moderate_AS", "train", "train"],
    ["102s1_0.png", "A2C", "no_AS", "val", "val"],
    ["103s1_7.png", "A4CorA2CorOther", "Not_Provided", "test", "test"],
]


def picture(k):
    return np.random.default_rng(k).integers(0, 256, (20, 24), dtype=np.uint8)


def build(folder):
    (folder / "DEV479").mkdir()
    (folder / "labeled").mkdir()
    for k, (name, *_) in enumerate(ROWS):
        Image.fromarray(picture(k)).save(folder / "labeled" / name)
    with (folder / "DEV479" / "TMED2_fold0_labeledpart.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *ROWS])
    return READERS["tmed2"](root=str(folder))
