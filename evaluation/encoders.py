"""Public encoders in whose features sets of pictures are compared. None has seen a patient; none drew the release.

Inception, on which published Fréchet distances rest, is not among them: its weights are not part of the program, and a
campaign opens no network. Nor is the public autoencoder: generators begin from it, and would be measured by themselves.
No encoder is the right one, and ranks by two often differ (Woodland et al. 2024, arXiv:2311.13717): report all.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import resize
from privacy.embedding import embed

if TYPE_CHECKING:
    from torch import nn

    from cohorts.clips import Clips

Features = NDArray[np.float32]
Encoder = Callable[[NDArray[np.uint8]], Features]

_SIDE = 64  # of the pictures that the classifier has seen
_QUANTILES = np.linspace(0.02, 0.98, 16)
_AT_ONCE = 256


def local_contrast(pixels: NDArray[np.uint8]) -> Features:
    """Return what identities are compared by, 256 numbers: thumbnails of local contrast, without any weights."""
    return embed(pixels)


def texture(pixels: NDArray[np.uint8]) -> Features:
    """Return 16 quantiles of grey and the power in 16 rings of frequency, in decades, `(n, 32)`, without any weights.

    It sees speckle, blur and gain, and nothing of anatomy.
    """
    small = _small(pixels).astype(np.float32) / 255
    grey = np.quantile(small.reshape(len(small), _SIDE**2), _QUANTILES, axis=1).T
    window = np.hanning(_SIDE)[:, None] * np.hanning(_SIDE)
    power = np.abs(np.fft.rfft2((small - small.mean((1, 2), keepdims=True)) * window)) ** 2
    across, down = np.fft.rfftfreq(_SIDE), np.fft.fftfreq(_SIDE)
    ring = np.minimum((np.hypot(down[:, None], across) / 0.5 * 16).astype(int), 16)  # beyond: the corners, left out
    rings = np.stack([power[:, ring == k].mean(1) for k in range(16)], 1)
    return np.concatenate([grey, np.log10(rings + 1e-6) / 4], 1).astype(np.float32)


def view_classifier(pixels: NDArray[np.uint8]) -> Features:
    """Return the last maps of the public classifier of views, averaged over places, `(n, 64)`; phantoms taught it."""
    import torch

    from learning.blocks import to_signal

    small, maps = _small(pixels), _maps()
    with torch.inference_mode():
        parts = [
            maps(to_signal(torch.from_numpy(small[at : at + _AT_ONCE]))).mean((2, 3)).numpy()
            for at in range(0, len(small), _AT_ONCE)
        ]
    return np.concatenate(parts) if parts else np.zeros((0, _SIDE), np.float32)


ENCODERS: Mapping[str, Encoder] = {
    "local_contrast": local_contrast,
    "texture": texture,
    "view_classifier": view_classifier,
}


def version(name: str) -> str:
    """Return the encoder's name with its version: the digest of its weights where it has any."""
    from synthesis import priors

    return f"{name} {priors.record_of(name)['digests'][name][:8] if name == 'view_classifier' else 1}"


def over_time(clips: "Clips", encoder: Encoder) -> Features:
    """Return the mean over a clip's frames, and the mean size of the change to the next frame, `(n, 2d)`.

    What pads a clip is left out; a clip of one frame does not change.
    """
    n, frames = clips.phase.shape
    found = encoder(clips.pixels.reshape(n * frames, *clips.pixels.shape[2:])).reshape(n, frames, -1)
    real = clips.real[..., None]
    mean = (found * real).sum(1) / real.sum(1)
    both = real[:, 1:] & real[:, :-1]
    change = (np.abs(np.diff(found, axis=1)) * both).sum(1) / np.maximum(both.sum(1), 1)
    return np.concatenate([mean, change], 1).astype(np.float32)


@cache
def _maps() -> "nn.Module":
    from learning import arrays
    from learning.learners.view_classifier import ViewClassifier
    from synthesis import priors

    built: Any = ViewClassifier().build().module
    arrays.load_state(built, priors.load("view_classifier"))
    maps: nn.Module = built[:-2].eval()  # without flattening and the words for views
    return maps


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 (n, height, width), not {pixels.dtype} {pixels.shape}")
    small = [resize(picture, _SIDE, nearest=False) for picture in pixels]
    return np.stack(small) if small else np.zeros((0, _SIDE, _SIDE), np.uint8)
