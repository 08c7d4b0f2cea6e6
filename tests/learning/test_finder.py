"""A finder of sectors is taught by few masks, and does better than the fan where the writing is large."""

import numpy as np
import pytest
from scipy import ndimage

from cohorts.frames import VIEWS
from cohorts.phantom import scanner
from cohorts.phantom.simulate import stills_with_style
from learning.backmix import PhantomDonors, phantoms, write_beside
from learning.finder import taught, taught_by_phantoms
from learning.sector import overlap, sectors


@pytest.fixture(scope="module")
def written():
    frames, styles = stills_with_style(12, seed=5, views=VIEWS)
    inside = scanner.fan(styles, 64)
    n = len(frames)
    return write_beside(frames.pixels, inside, ["APICAL 4CH"] * n, letters=[2] * n), inside


def _found(finder, pixels):
    return np.stack([finder(p) for p in pixels])


def test_a_few_masks_teach_more_than_the_fan_knows_of_large_writing(written):
    pixels, inside = written
    finder = taught(pixels[::2], inside[::2], seed=0, steps=50)
    learnt = overlap(_found(finder, pixels[1::8]), inside[1::8])
    fitted = overlap(sectors(pixels[1::8]), inside[1::8])
    assert learnt.mean() > fitted.mean() + 0.02


def test_phantoms_teach_a_finder_and_are_themselves_left_alone(written):
    donors = PhantomDonors(n=64)
    before = phantoms(donors)[0].copy()
    finder = taught_by_phantoms(donors, steps=40)
    assert np.array_equal(phantoms(donors)[0], before)
    assert taught_by_phantoms(donors, steps=40) is finder
    assert overlap(_found(finder, written[0][::8]), written[1][::8]).mean() > 0.8


def test_what_is_found_is_one_piece_without_holes(written):
    pixels, inside = written
    finder = taught(pixels[:4], inside[:4], seed=0, steps=20)
    for sector in _found(finder, pixels[:16]):
        assert sector.dtype == np.bool_
        assert np.array_equal(_pieces(sector), sector)


def test_the_same_seed_teaches_the_same_finder(written):
    pixels, inside = written
    first, again = (_found(taught(pixels[:8], inside[:8], seed=3, steps=3), pixels[:4]) for _ in range(2))
    assert np.array_equal(first, again)


def test_nothing_teaches_nothing(written):
    pixels, inside = written
    with pytest.raises(ValueError, match="must have one shape and a frame"):
        taught(pixels[:0], inside[:0], seed=0)
    with pytest.raises(ValueError, match="must have one shape"):
        taught(pixels, inside[:1], seed=0)


def _pieces(sector):
    """Return the first piece that a flood from any of its pixels fills, with its holes."""
    parts, n = ndimage.label(ndimage.binary_fill_holes(sector))
    assert n <= 1
    return parts > 0
