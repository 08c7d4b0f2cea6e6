import base64
import io

import numpy as np
import pytest
from PIL import Image

from evaluation.plots import TINTS, Row, bars, film, forest, sheet

ROWS = [
    Row(label="the release", value=0.8, low=0.7, high=0.9),
    Row(label="phantoms", value=0.6, low=0.5, high=0.7, tone="public"),
]


def _read(address: str) -> np.ndarray:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("draw", [bars, lambda rows, **k: forest({"a": rows}, **k)])
def test_the_same_numbers_draw_the_same_bytes_without_a_date(draw) -> None:  # type: ignore[no-untyped-def]
    first = draw(ROWS, axis="score", name="one")
    assert first == draw(ROWS, axis="score", name="one")
    assert "<metadata" not in first
    assert "the release" in first


def test_identifiers_carry_the_name_of_the_figure() -> None:
    assert 'id="one-figure_1"' in bars(ROWS, axis="score", name="one")
    with pytest.raises(ValueError, match="name='One!' must be lower-case"):
        bars(ROWS, axis="score", name="One!")


def test_frames_stand_side_by_side_in_grey() -> None:
    pixels = np.stack([np.full((32, 32), level, np.uint8) for level in (10, 200)])
    drawn = _read(sheet(pixels))
    assert (drawn[:32, :32] == 10).all()
    assert (drawn[:32, -32:] == 200).all()


def test_structures_are_tinted_below_and_the_rest_stays_grey() -> None:
    masks = np.zeros((1, 32, 32), np.uint8)
    for label in TINTS:
        masks[0, label] = label
    drawn = _read(sheet(np.full((1, 32, 32), 100, np.uint8), masks))
    below = drawn[33:65]
    assert (below[0] == 100).all()
    for label, tint in TINTS.items():
        assert np.allclose(below[label, 0], 0.55 * 100 + 0.45 * np.array(tint), atol=1)


@pytest.mark.parametrize("pixels", [np.zeros((0, 8, 8), np.uint8), np.zeros((8, 8), np.uint8), np.zeros((1, 8, 8))])
def test_what_is_no_frame_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pixels must be uint8"):
        sheet(pixels)


def test_a_clip_is_a_strip_of_moments_from_its_beginning_on() -> None:
    clips = np.stack([np.stack([np.full((32, 32), 10 * k + n, np.uint8) for k in range(16)]) for n in range(2)])
    drawn = _read(film(clips, frames=4))
    assert drawn[::33, ::33, 0].tolist() == [[0, 40, 80, 120], [1, 41, 81, 121]]
    with pytest.raises(ValueError, match="clips must be uint8"):
        film(clips[0])
