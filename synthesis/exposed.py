"""What the weights of a generator say of pictures: its training loss on each, under noise that is the same for all.

The statistic of attacks that hold the generator (`privacy.attacks.flow_loss`): whoever was trained on is denoised
better than he deserves. Masks and ejection fractions are taken as unknown, as they would be to somebody who holds
a picture; view and phase as far as the picture's own table says them.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.frames import Frames, resize
from cohorts.study import UNLABELLED, SubjectKey
from privacy.gallery import Gallery
from synthesis.generator import Generator

DRAWS = 4


def loss_under(
    generator: Generator, *, size: int, draws: int = DRAWS, seed: int = 0
) -> Callable[[Gallery], NDArray[np.float64]]:
    """Return the loss of the pictures of a gallery, `(n, draws)`, under so many draws of time and noise.

    Args:
        generator: of images.
        size: side of its pictures.
        draws: of time and noise, each the same for every picture.
        seed: of the draws.
    """

    @torch.no_grad()
    def loss(gallery: Gallery) -> NDArray[np.float64]:
        frames = _frames(gallery, size)
        found = np.empty((len(gallery), draws))
        for k in range(draws):
            for row in range(len(gallery)):
                dice = torch.Generator().manual_seed(1000 * seed + k)
                found[row, k] = float(generator.losses(frames, np.array([row]), generator=dice))
        return found

    return loss


def _frames(gallery: Gallery, size: int) -> Frames:
    if gallery.pixels is None:
        raise ValueError("gallery has no pixels, which a generator's loss needs")
    pixels = np.stack([resize(picture, size, nearest=False) for picture in gallery.pixels])
    return Frames(
        pixels=pixels,
        masks=np.full_like(pixels, UNLABELLED),
        view=gallery.view,
        phase=gallery.phase,
        lvef_percent=np.full(len(pixels), np.nan, np.float32),
        subject=gallery.subject,
        subjects=tuple(SubjectKey(subject) for subject in gallery.subjects),
    )
