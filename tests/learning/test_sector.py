"""The sector is found where the simulator knows that it is, whatever is written beside it."""

import numpy as np
import pytest

from cohorts.frames import VIEWS
from cohorts.phantom import scanner
from cohorts.phantom.simulate import stills_with_style
from learning.backmix import write_beside
from learning.sector import overlap, sector, sectors


@pytest.mark.parametrize("style", ["wide", "site-a", "site-b", "site-c"])
def test_the_sector_of_a_phantom_is_found(style):
    frames, styles = stills_with_style(5, seed=7, style=style, views=VIEWS)
    found = overlap(sectors(frames.pixels), scanner.fan(styles, 64))
    assert found.mean() > 0.94
    assert found.min() > 0.85


def test_it_is_found_at_another_size():
    frames, styles = stills_with_style(1, seed=7, size=128, views=VIEWS)
    assert overlap(sectors(frames.pixels), scanner.fan(styles, 128)).min() > 0.85


def test_writing_and_ecg_hardly_move_it():
    frames, styles = stills_with_style(3, seed=7, views=VIEWS)
    true = scanner.fan(styles, 64)
    bare = sectors(write_beside(frames.pixels, true, [""] * len(frames)))
    told = sectors(write_beside(frames.pixels, true, ["APICAL 4CH 15CM"] * len(frames)))
    assert overlap(told, bare).mean() > 0.94


def test_a_logo_is_not_the_sector():
    frames, styles = stills_with_style(1, seed=7, views=VIEWS)
    true = scanner.fan(styles, 64)
    pixels = frames.pixels.copy()
    pixels[:, 1:8, 56:63] = 255
    pixels[true] = frames.pixels[true]
    found = sectors(pixels)
    assert overlap(found, true).min() > 0.85


def test_what_is_dark_in_one_frame_is_lit_in_another():
    frames, styles = stills_with_style(2, seed=7, views=VIEWS)
    film = frames.pixels[:2].copy()
    film[0, :32], film[1, 32:] = 0, 0
    assert overlap(sector(film)[None], scanner.fan(styles, 64)[:1]).min() > 0.85


def test_a_box_is_found_too():
    picture = np.zeros((60, 80), np.uint8)
    picture[10:50, 20:60] = 90
    true = picture > 0
    assert overlap(sector(picture)[None], true[None])[0] > 0.95


def test_where_nothing_is_lit_there_is_no_sector():
    assert not sector(np.zeros((32, 32), np.uint8)).any()
    assert sectors(np.zeros((0, 32, 32), np.uint8)).shape == (0, 32, 32)


def test_a_sector_depends_on_its_own_picture_alone():
    frames, _ = stills_with_style(1, seed=7, views=VIEWS)
    among = sectors(frames.pixels)
    assert all(np.array_equal(sector(p), m) for p, m in zip(frames.pixels, among, strict=True))


def test_two_axes_or_three_are_pictures():
    with pytest.raises(ValueError, match=r"\(4,\)"):
        sector(np.zeros(4, np.uint8))
    assert overlap(np.zeros((1, 2, 2), np.bool_), np.zeros((1, 2, 2), np.bool_))[0] == 1
