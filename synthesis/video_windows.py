"""Long clips by windows that overlap: of one noisy latent, at every evaluation of the field (Reynaud et al. 2024).

As EchoNet-Synthetic (arXiv 2406.00808) stitches its videos, but where windows overlap their velocities are blended
linearly instead of the earlier one winning, so that none begins with a jump. Windows stand at fixed frames, and those
that show nothing new of a clip have no say in it, so a clip depends neither on its batch nor on its padding. The circle
of phases (`video_sampling.between`) makes windows needless for periodic clips: they are for frames of unknown phase
and for beats that shall differ.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Conditions = dict[str, Tensor]
_OF_FRAMES = ("phase", "real", "masks")


def starts(frames: int, window: int, overlap: int) -> list[int]:
    """Return where windows begin, so that they cover so many frames."""
    stride = window - overlap
    return [k * stride for k in range(1 + max(0, math.ceil((frames - window) / stride)))]


def weights(length: Tensor, at: list[int], window: int, overlap: int) -> Tensor:
    """Return how much each window says about each of its frames, `(n, windows, window)`; a frame's sum is 1.

    Args:
        length: real frames of each clip, `(n,)`.
        at: where windows begin.
        window: frames of a window.
        overlap: frames in common with the next.
    """
    stride, place = window - overlap, torch.arange(window)
    ramp = (place + 1) / (overlap + 1)
    begin = torch.tensor(at)
    needed = (begin == 0) | (begin - stride + window < length[:, None])
    follows = (begin + window < length[:, None])[..., None]
    rising = torch.where(begin[:, None] == 0, 1.0, ramp.clamp_max(1))
    falling = torch.where(follows, ramp.flip(0).clamp_max(1), 1.0)
    out: Tensor = rising * falling * needed[..., None]
    return out


def drawn_in_windows(
    field: Callable[[Tensor, Tensor, Conditions], Tensor],
    z: Tensor,
    t: Tensor,
    told: Mapping[str, Tensor],
    window: int,
    overlap: int,
) -> Tensor:
    """Return the velocity of clips `(n, frames, ...)` of any length from a `field` of `window` frames.

    Args:
        field: velocity of `(clips, window, ...)`.
        z: where the clips are on their way.
        t: `(n,)`.
        told: conditions of the clips, as of `VideoTransformer.forward`.
        window: frames that are drawn together.
        overlap: frames in common with the next window.
    """
    n, frames = z.shape[:2]
    at = starts(frames, window, overlap)
    end = at[-1] + window
    which = torch.tensor(at)[:, None] + torch.arange(window)

    def cut(x: Tensor, fill: float) -> Tensor:
        padded = F.pad(x, [0, 0] * (x.ndim - 2) + [0, end - frames], value=fill)
        return padded[:, which].flatten(0, 1)

    share = weights(told["real"].sum(1), at, window, overlap)
    some = {
        name: cut(value.to(torch.uint8) if name == "real" else value, 255 if name == "masks" else 0)
        if name in _OF_FRAMES
        else value.repeat_interleave(len(at), 0)
        for name, value in told.items()
    }
    # A window without a real frame is drawn like any other and has no weight: nothing to look at would be no number.
    real = some["real"].bool()
    some["real"] = real | ~real.any(1, keepdim=True)
    v = field(cut(z, 0.0), t.repeat_interleave(len(at)), some).view(n, len(at), window, *z.shape[2:])
    v = v * share.view(*share.shape, *[1] * (v.ndim - 3))
    out = v.new_zeros((n, end, *v.shape[3:]))
    for k, begin in enumerate(at):
        out[:, begin : begin + window] += v[:, k]
    joined: Tensor = out[:, :frames]
    return joined
