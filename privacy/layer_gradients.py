"""From the input of a layer and the gradient of its output to what every subject adds to its parameters.

One rule a layer type. The rows of a batch are subject-major: `(subjects * draws, ...)`, and the draws of a subject are
positions like any other, so that they are summed inside the subject before anything is clipped.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from privacy.contributions import Contribution, Products, Rows

# Floats of a temporary: unfolded images beyond this leave the cache, and the allocator asks the system for them.
_UNFOLDED = 2**20
# A product saves forming and reading the row (about this many multiplications an entry), and costs its Gram matrices.
_ROW_COST = 64
_SMALL = 2**12


@dataclass(frozen=True, slots=True)
class Seen:
    """One call of a layer.

    Attributes:
        layer: the layer.
        inputs: what it was called with, detached.
        version: counts what was written into `inputs` in place.
        moments: mean and inverse deviation of a group norm, where autograd had kept them.
    """

    layer: nn.Module
    inputs: Tensor
    version: int
    moments: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, layer: nn.Module, inputs: Tensor, output: Tensor) -> "Seen":
        """Keep what the rule of `layer` will need."""
        node: Any = output.grad_fn
        kept = isinstance(layer, nn.GroupNorm) and type(node).__name__ == "NativeGroupNormBackward0"
        moments = (node._saved_result1.detach(), node._saved_result2.detach()) if kept else None
        inputs = inputs.detach()
        return cls(layer, inputs, inputs._version, moments)


Rule = Callable[[Any, Seen, Tensor, int, Collection[str]], dict[str, Contribution]]


def rule_of(layer: nn.Module) -> Rule | None:
    """Return the rule for `layer`, or None if there is none: another type, another forward, other parameters."""
    for known, rule in _RULES.items():
        if isinstance(layer, known) and type(layer).forward is known.forward:
            own = {name for name, p in layer.named_parameters(recurse=False) if p.requires_grad}
            return rule if own <= {"weight", "bias"} else None
    return None


def contributions(seen: Seen, gradient: Tensor, n_subjects: int, wanted: Collection[str]) -> dict[str, Contribution]:
    """Return what each subject adds to the parameters `wanted` of the layer, by their names in it.

    Args:
        seen: the call.
        gradient: of its output, `(rows, ...)`, subject-major.
        n_subjects: a divisor of `rows`.
        wanted: "weight", "bias" or both.
    """
    rule = rule_of(seen.layer)
    if rule is None:
        raise ValueError(f"there is no rule for {type(seen.layer).__name__}")
    return rule(seen.layer, seen, gradient, n_subjects, wanted)


def _linear(layer: nn.Linear, seen: Seen, g: Tensor, n: int, wanted: Collection[str]) -> dict[str, Contribution]:
    g = g.reshape(n, -1, layer.out_features).contiguous()
    found: dict[str, Contribution] = {}
    if "weight" in wanted:
        found["weight"] = _outer(seen.inputs.reshape(n, -1, layer.in_features).contiguous(), g)
    if "bias" in wanted:
        found["bias"] = Rows(g.sum(1))
    return found


def _outer(a: Tensor, g: Tensor) -> Contribution:
    """Return Σ_p g_p ⊗ a_p of every subject, formed or not, whichever costs less."""
    return Products(a, g) if _cheap(a.shape[1], a.shape[2], g.shape[2]) else Rows(torch.bmm(g.mT, a).flatten(1))


def _cheap(positions: int, inner: int, outer: int) -> bool:
    """Say if a product of so many positions costs less than the row that it stands for."""
    exact = torch.get_float32_matmul_precision() == "highest"  # else norm and sum would be those of different rows
    return exact and inner * outer > _SMALL and positions * positions * (inner + outer) <= _ROW_COST * inner * outer


def _convolution(layer: _ConvNd, seen: Seen, g: Tensor, n: int, wanted: Collection[str]) -> dict[str, Contribution]:
    found: dict[str, Contribution] = {}
    if "weight" in wanted:
        found["weight"] = _kernel(layer, seen.inputs, g, n)
    if "bias" in wanted:
        found["bias"] = Rows(_per_channel(g, n))
    return found


def _kernel(layer: _ConvNd, a: Tensor, g: Tensor, n: int) -> Contribution:
    """Choose by shape alone between the library's kernel, one matrix product a subject, and not forming rows at all."""
    plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.dilation == (1, 1)
    if not plain or isinstance(layer.padding, str):
        return Rows(_grouped_rows(layer, a, g, n).flatten(1))
    positions = len(g) // n * g.shape[2] * g.shape[3]
    inner, outer = math.prod(layer.weight.shape[1:]), layer.out_channels
    if _cheap(positions, inner, outer):
        windows = _windows(layer, _padded(layer, a), n, g.shape[2], g.shape[3])
        unfolded = windows.permute(0, 4, 5, 6, 1, 2, 3).reshape(n, positions, inner)
        return Products(unfolded, g.reshape(n, -1, outer, g[0, 0].numel()).mT.reshape(n, positions, outer))
    # Where channels fill vector registers on large images, the library's own kernel is the faster.
    if layer.in_channels % 16 == outer % 16 == 0 and g.shape[2] * g.shape[3] >= 256:
        return Rows(_grouped_rows(layer, a, g, n).flatten(1))
    return Rows(_unfolded_rows(layer, a, g, n).flatten(1))


def _padded(layer: Any, a: Tensor) -> Tensor:
    (high, wide) = layer.padding
    return F.pad(a, (wide, wide, high, high)) if high or wide else a.contiguous()


def _windows(layer: Any, a: Tensor, n: int, height: int, width: int) -> Tensor:
    """Return what the kernel sees as a view, `(n, channels, kernel, kernel, draws, height, width)`."""
    (kh, kw), (sh, sw), draws = layer.kernel_size, layer.stride, len(a) // n
    image, plane, line, pixel = a.stride()
    return a.as_strided(
        (n, a.shape[1], kh, kw, draws, height, width),
        (draws * image, plane, line, pixel, image, sh * line, sw * pixel),
        a.storage_offset(),
    )


def _unfolded_rows(layer: Any, a: Tensor, g: Tensor, n: int) -> Tensor:
    """One matrix product a subject, output gradients x unfolded input, a cacheful of subjects at a time."""
    draws, outer, (height, width) = len(g) // n, g.shape[1], g.shape[2:]
    inner, positions = math.prod(layer.weight.shape[1:]), draws * height * width
    g = g.reshape(n, draws, outer, -1).transpose(1, 2).reshape(n, outer, positions)
    rows = torch.empty(n, outer, inner, dtype=g.dtype, device=g.device)
    a, at_once = _padded(layer, a), max(1, _UNFOLDED // (inner * positions))
    for start in range(0, n, at_once):
        part = a[start * draws : (start + at_once) * draws]
        unfolded = _windows(layer, part, len(part) // draws, height, width).reshape(-1, inner, positions)
        torch.bmm(g[start : start + at_once], unfolded.mT, out=rows[start : start + at_once])
    return rows


def _grouped_rows(layer: _ConvNd, a: Tensor, g: Tensor, n: int) -> Tensor:
    """The weight gradient of one convolution whose groups are the subjects: any dimension, transposed or not."""
    draws, transposed = len(g) // n, isinstance(layer, _ConvTransposeNd)

    def fold(x: Tensor) -> Tensor:
        return x.reshape(n, draws, *x.shape[1:]).transpose(0, 1).reshape(draws, n * x.shape[1], *x.shape[2:])

    padding = layer.padding
    if isinstance(padding, str):
        padding = tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        padding = padding if layer.padding == "same" else (0,) * len(padding)
    shape = layer.weight.shape
    weight = torch.empty(n * shape[0], *shape[1:], dtype=g.dtype, device=g.device)  # only its shape is read
    _, rows, _ = torch.ops.aten.convolution_backward(
        fold(g), fold(a), weight, None, layer.stride, padding, layer.dilation, transposed,
        layer.output_padding, n * layer.groups, [False, True, False],
    )  # fmt: skip
    per_subject: Tensor = rows.view(n, *shape)
    return per_subject


def _group_norm(layer: nn.GroupNorm, seen: Seen, g: Tensor, n: int, wanted: Collection[str]) -> dict[str, Contribution]:
    a, g = seen.inputs.contiguous(), g.contiguous()
    rows, channels, groups = a.shape[0], a.shape[1], layer.num_groups
    pixels = a[0, 0].numel()
    moments = seen.moments
    if moments is None:
        _, *moments = torch.ops.aten.native_group_norm(a, None, None, rows, channels, pixels, groups, layer.eps)
    mean, deviation = moments
    # The whole batch as one sample with as many channels as rows x channels: nothing is summed over the batch.
    _, weight, bias = torch.ops.aten.native_group_norm_backward(
        g.view(1, -1, pixels), a.view(1, -1, pixels), mean.view(1, -1), deviation.view(1, -1), None,
        1, rows * channels, pixels, rows * groups, [False, True, True],
    )  # fmt: skip
    found = {"weight": weight, "bias": bias}
    return {name: Rows(found[name].view(n, -1, channels).sum(1)) for name in wanted}


def _instance_norm(
    layer: _InstanceNorm, seen: Seen, g: Tensor, n: int, wanted: Collection[str]
) -> dict[str, Contribution]:
    found: dict[str, Contribution] = {}
    if "weight" in wanted:
        found["weight"] = Rows(_per_channel(g * F.instance_norm(seen.inputs, eps=layer.eps), n))
    if "bias" in wanted:
        found["bias"] = Rows(_per_channel(g, n))
    return found


def _layer_norm(layer: nn.LayerNorm, seen: Seen, g: Tensor, n: int, wanted: Collection[str]) -> dict[str, Contribution]:
    size = layer.weight.numel()
    found: dict[str, Contribution] = {}
    if "weight" in wanted:
        standard = F.layer_norm(seen.inputs, layer.normalized_shape, eps=layer.eps)
        found["weight"] = Rows((g * standard).reshape(n, -1, size).sum(1))
    if "bias" in wanted:
        found["bias"] = Rows(g.reshape(n, -1, size).sum(1))
    return found


def _embedding(layer: nn.Embedding, seen: Seen, g: Tensor, n: int, wanted: Collection[str]) -> dict[str, Contribution]:
    words, width = layer.weight.shape
    found = torch.zeros(n * words, width, dtype=g.dtype, device=g.device)
    which = seen.inputs.reshape(n, -1) + words * torch.arange(n, device=g.device).unsqueeze(1)
    found.index_add_(0, which.flatten(), g.reshape(-1, width))
    return {name: Rows(found.view(n, words * width)) for name in wanted}


def _per_channel(g: Tensor, n: int) -> Tensor:
    """Sum `(rows, channels, ...)` over draws and pixels: `(subjects, channels)`."""
    return g.flatten(2).sum(2).view(n, -1, g.shape[1]).sum(1)


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.ConvTranspose3d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    nn.Embedding: _embedding,
}
