"""Whether a classifier looks where the echo is, and what it loses when the margins of a frame are swapped.

Two questions. *Focus*: what share of the saliency lies inside the ultrasound sector. *Reliance*: how far accuracy falls
when what lies outside is blackened, or replaced by a background that knows nothing of the class; a fall is a shortcut,
in the network or in the release on which it was trained. Focus alone proves nothing: a saliency map is an indication.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from learning.backmix import Donors, mix
from learning.blocks import to_pixels, to_signal

Floats = NDArray[np.floating[Any]]
_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """How much of the saliency lies inside the sector, over frames.

    Attributes:
        mean: mean share, in [0, 1].
        median: median share, in [0, 1].
        tau: what counts as looking inside.
        at_tau: focus@τ, share of the frames of which at least `tau` of the saliency is inside.
        area: mean share of the picture that the sector covers: what a blind map would score.
        n_frames: frames with any saliency; the others say nothing and are left out.
    """

    mean: float
    median: float
    tau: float
    at_tau: float
    area: float
    n_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliance:
    """Accuracy under three backgrounds, in [0, 1]; chance is one over the number of classes.

    Attributes:
        as_is: with the background that the frames came with.
        clean: with black outside the sector.
        swapped: with backgrounds of donors, drawn without regard to the class.
        n_frames: labelled frames.
    """

    as_is: float
    clean: float
    swapped: float
    n_frames: int

    @property
    def fall(self) -> float:
        """Return what is lost at the worse of clean and swapped backgrounds; negative if nothing is."""
        return self.as_is - min(self.clean, self.swapped)


def input_gradients(module: nn.Module, pixels: NDArray[np.uint8]) -> Floats:
    """Return |∂ logit of the predicted class / ∂ pixel|, `(n, h, w)`, of uint8 images (Simonyan et al. 2014).

    arXiv:1312.6034. Every row by itself, in evaluation mode.
    """

    def map_of(images: Tensor) -> Tensor:
        images.requires_grad_(True)
        top = module(images).amax(1).sum()
        (gradient,) = torch.autograd.grad(top, images)
        return gradient[:, 0].abs()

    return _maps(module, pixels, map_of)


def grad_cam(module: nn.Module, layer: nn.Module, pixels: NDArray[np.uint8]) -> Floats:
    """Return Grad-CAM of the predicted class, `(n, h, w)`, not negative (Selvaraju et al. 2017, arXiv:1610.02391).

    The channels of `layer`'s output `(n, c, h', w')`, weighted by the mean gradient of the logit, summed, rectified
    and enlarged bilinearly.

    Raises:
        ValueError: if `layer` takes no part in `module`, or its output is no map.
    """

    def map_of(images: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        try:
            logits = module(images.requires_grad_(True))
        finally:
            handle.remove()
        if len(kept) != 1 or kept[0].ndim != 4:
            raise ValueError("layer must run once in module and give maps (n, channels, h, w)")
        (gradient,) = torch.autograd.grad(logits.amax(1).sum(), kept[0])
        coarse = F.relu((kept[0] * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True))
        return F.interpolate(coarse, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]

    return _maps(module, pixels, map_of)


def focus(saliency: Floats, inside: NDArray[np.bool_], *, tau: float = 0.9) -> Focus:
    """Summarise how much of the maps `(n, h, w)`, not negative, lies in the sectors `(n, h, w)`.

    Raises:
        ValueError: if shapes differ, a value is negative or not finite, `tau` is not in (0, 1], or all maps are empty.
    """
    if saliency.shape != inside.shape:
        raise ValueError(f"saliency {saliency.shape} and sectors {inside.shape} must have one shape")
    if not (np.isfinite(saliency).all() and (saliency >= 0).all()):
        raise ValueError("saliency must be finite and not negative")
    if not 0 < tau <= 1:
        raise ValueError(f"tau={tau} must be in (0, 1]")
    whole = saliency.sum(axis=(1, 2), dtype=np.float64)
    some = whole > 0
    if not some.any():
        raise ValueError("no frame has any saliency")
    share = np.where(inside, saliency, 0).sum(axis=(1, 2), dtype=np.float64)[some] / whole[some]
    return Focus(
        mean=float(share.mean()),
        median=float(np.median(share)),
        tau=tau,
        at_tau=float((share >= tau).mean()),
        area=float(inside[some].mean()),
        n_frames=int(some.sum()),
    )


def reliance(
    predict: Callable[[NDArray[np.uint8]], Floats],
    pixels: NDArray[np.uint8],
    classes: NDArray[np.int64],
    inside: NDArray[np.bool_],
    donors: Donors,
    *,
    seed: int,
) -> Reliance:
    """Measure accuracy with the background as it is, blackened and swapped.

    Args:
        predict: probabilities `(n, classes)` of uint8 images `(n, h, w)`.
        pixels: the frames, `(n, h, w)`.
        classes: their classes, `(n,)`; -1 where unknown, and left out.
        inside: their sectors, `(n, h, w)`.
        donors: of the swapped backgrounds.
        seed: of which donor each frame gets.

    Raises:
        ValueError: if no frame has a class.
    """
    known = classes >= 0
    if not known.any():
        raise ValueError("no frame has a known class")
    generator = torch.Generator().manual_seed(seed)
    swapped = mix(to_signal(torch.from_numpy(pixels)), torch.from_numpy(inside), donors, generator=generator)
    arms = (pixels, np.where(inside, pixels, np.uint8(0)), to_pixels(swapped).numpy())
    right = [float((predict(arm[known]).argmax(1) == classes[known]).mean()) for arm in arms]
    return Reliance(as_is=right[0], clean=right[1], swapped=right[2], n_frames=int(known.sum()))


def _maps(module: nn.Module, pixels: NDArray[np.uint8], map_of: Callable[[Tensor], Tensor]) -> Floats:
    was_training = module.training
    module.eval()
    try:
        with torch.enable_grad():
            parts = [
                map_of(to_signal(torch.from_numpy(pixels[i : i + _AT_ONCE]))).detach().numpy()
                for i in range(0, len(pixels), _AT_ONCE)
            ]
    finally:
        module.train(was_training)
    return np.concatenate(parts) if parts else np.zeros(pixels.shape, np.float32)
