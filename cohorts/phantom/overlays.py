"""What a scanner burns into its pictures: a line of text and the ECG, always outside the fan."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Floats = NDArray[np.floating[Any]]


def burn_in(picture: NDArray[np.uint8], inside: NDArray[np.bool_], *, text: str, beat: float) -> None:
    """Draw `text` in the upper left corner and an ECG along the lower edge of `picture`, in place.

    Args:
        picture: `(size, size)`.
        inside: the fan, `(size, size)`; not one pixel of it is touched.
        text: one short line.
        beat: phase of the cycle at this frame: where the ECG's bright cursor stands.
    """
    size = len(picture)
    drawn = np.maximum(_line(text, size), _ecg(size))
    drawn[:, int(beat * (size - 1))] = np.where(drawn[:, int(beat * (size - 1))] > 0, 255, 0)
    np.copyto(picture, drawn, where=~inside & (drawn > 0))


@lru_cache(maxsize=32)
def _line(text: str, size: int) -> NDArray[np.uint8]:
    font = ImageFont.load_default_imagefont()
    width, height = (int(a) for a in font.getbbox(text)[2:])
    letters = Image.new("L", (width, height))
    ImageDraw.Draw(letters).text((0, 0), text, fill=200, font=font)
    high = max(4, round(0.055 * size))
    wide = min(max(1, round(width * high / height)), round(0.36 * size))
    out = np.zeros((size, size), np.uint8)
    top = left = max(1, size // 50)
    out[top : top + high, left : left + wide] = np.asarray(letters.resize((wide, high), Image.Resampling.BOX))
    return out


@lru_cache(maxsize=8)
def _ecg(size: int) -> NDArray[np.uint8]:
    """Two beats: P wave, QRS complex, T wave, as sums of Gaussians in the manner of McSharry et al. 2003.

    (doi:10.1109/TBME.2003.808805)
    """
    phase = (np.arange(4 * size) / (2 * size) + 0.1) % 1
    waves = ((0.02, 0.10, 0.025), (0.15, -0.12, 0.010), (0.17, 1.0, 0.011), (0.19, -0.22, 0.012), (0.42, 0.26, 0.045))
    volts = sum(a * np.exp(-(((phase - at) / width) ** 2)) for at, a, width in waves)
    rows = np.clip((0.965 - 0.075 * np.asarray(volts)) * 4 * size, 0, 4 * size - 1).astype(np.int64)
    fine = np.zeros((4 * size, 4 * size), np.uint8)
    for column, (row, following) in enumerate(zip(rows, np.append(rows[1:], rows[-1]), strict=True)):
        fine[min(row, following) : max(row, following) + 4, column] = 190
    return np.array(Image.fromarray(fine).resize((size, size), Image.Resampling.BOX), dtype=np.uint8)
