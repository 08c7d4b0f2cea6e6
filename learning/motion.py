"""What moves in a clip: how well a field brings two pictures together, and one number a frame from a cycle of fields.

The number says how much a heart contracts (below 0) or fills (above 0) from this frame to the next.

Tissue that comes nearer to one point contracts, tissue that leaves it fills, whatever the view (Koehler et al. 2025,
arXiv:2510.05819). So no structure has to be outlined and no label read; `learning.phases` reads the curve.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, gaussian_filter
from torch import Tensor

COARSE, WINDOW = 2, 15  # pictures are compared at half their size, in neighbourhoods that hold many grains of speckle
_FLAT = 1e-2  # variance, of grey values in [-1, 1], below which a neighbourhood has little to compare
QUIET_PERCENTILE, QUIET_PIXELS = 40, 0.3  # what moves less in the median, by rank or by length, is no heart
CHANGES = 1.2  # a place that contracts and fills runs from near -1 to near 1
BLUR = 0.8  # in frames and in pixels
_TINY = 1e-6

Floats = NDArray[np.float64]


def warp(x: Tensor, field: Tensor) -> Tensor:
    """Return `x(p + field(p))` of `(n, 1, h, w)` and a field in pixels `(n, 2, h, w)`; the border goes on outside."""
    n, _, h, w = x.shape
    still = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 1, h, w], align_corners=False)
    moved = still + field.movedim(1, 3) * field.new_tensor([2 / w, 2 / h])
    return F.grid_sample(x, moved, padding_mode="border", align_corners=False)


def likeness(a: Tensor, b: Tensor) -> Tensor:
    """Return the local correlation of two pictures `(n, 1, h, w)`, mean over neighbourhoods, `(n,)` in [-1, 1].

    Gain and brightness of one picture do not matter; flat neighbourhoods are worth nothing.
    """

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, WINDOW, 1, WINDOW // 2, count_include_pad=False)

    a, b = F.avg_pool2d(a, COARSE), F.avg_pool2d(b, COARSE)
    mean_a, mean_b = mean(a), mean(b)
    shared = mean(a * b) - mean_a * mean_b
    spread = (mean(a * a) - mean_a.square()).clamp_min(0) + _FLAT, (mean(b * b) - mean_b.square()).clamp_min(0) + _FLAT
    found: Tensor = (shared / (spread[0] * spread[1]).sqrt()).flatten(1).mean(1)
    return found


def roughness(field: Tensor) -> Tensor:
    """Return the mean squared difference of neighbours of fields `(n, 2, h, w)`, `(n,)`."""
    across, down = field.diff(dim=3).square().flatten(1).mean(1), field.diff(dim=2).square().flatten(1).mean(1)
    rough: Tensor = across + down
    return rough


def motion_curve(fields: NDArray[np.floating], *, focus: tuple[float, float] = (0.5, 0.5)) -> Floats:
    """Return the motion from each frame to its successor, `(frames,)` in [-1, 1], the last frame's to the first.

    It is the mean cosine of the angle between where tissue came from and where the focus lies, over places whose
    direction turns round within the cycle. The sign follows from the order of the frames: a clip that is shown
    backwards fills where it contracted.

    Args:
        fields: in pixels, across and down, `(frames, 2, height, width)`: what stands at a place of the next frame stood
            that much further on in this one.
        focus: about where the ventricle lies, as shares of height and width: the focus is halfway between there and
            the middle of what moves. That middle alone may lie in the atrium, which fills while the ventricle empties.

    Raises:
        ValueError: another shape, a focus outside the picture, fewer than four frames, a value that is not finite, or
            fields in which nothing moves.
    """
    phi = np.asarray(fields, np.float64)
    if phi.ndim != 4 or phi.shape[1] != 2 or len(phi) < 4 or not np.isfinite(phi).all():
        raise ValueError(f"fields of shape {phi.shape} must be finite, (frames, 2, height, width), of 4 frames or more")
    if not all(0 <= share <= 1 for share in focus):
        raise ValueError(f"focus={focus} must lie in the picture, 0 to 1 down and across")
    length = np.hypot(phi[:, 0], phi[:, 1])
    usual = np.median(np.minimum(length, np.quantile(length, 0.99))[:-1], axis=0)  # a clip need not close
    moving = usual > min(float(np.percentile(usual, QUIET_PERCENTILE)), QUIET_PIXELS)
    if not moving.any():
        raise ValueError("fields show nothing that moves")
    about = np.array(focus) * (np.array(moving.shape) - 1)
    towards = _towards(phi, length, (about + _centroid(moving)) / 2)
    beating = binary_opening(moving & (np.ptp(towards, axis=0) >= CHANGES))
    if not beating.any():
        beating = moving
    towards = _towards(phi, length, (about + _centroid(beating)) / 2)
    curve: Floats = towards[:, beating].mean(1)
    return curve


def _centroid(where: NDArray[np.bool_]) -> Floats:
    """Return the mean row and column of a mask that is not empty."""
    found: Floats = np.argwhere(where).mean(0)
    return found


def _towards(phi: Floats, length: Floats, focus: Floats) -> Floats:
    """Return the cosine between each displacement and the way to `focus`, `(frames, height, width)`, blurred."""
    down, across = (focus[i] - np.arange(phi.shape[2 + i]) for i in range(2))
    away = np.hypot(down[:, None], across[None])
    cosine = (phi[:, 0] * across[None, None] + phi[:, 1] * down[None, :, None]) / np.maximum(length * away, _TINY)
    blurred: Floats = gaussian_filter(cosine, BLUR, mode=("wrap", "nearest", "nearest"))
    return blurred
