"""Simulated people."""

from cohorts.readers import READERS


def build(folder):
    return READERS["phantom"](subjects=2, seed=7, size=32, frames=3, studies_per_subject=2)
