"""What makes a module unfit for per-subject gradients, found before any charge is made."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize


def unsafe_for_dp(module: nn.Module, forward: Callable[[], object] | None = None) -> list[str]:
    """Return every reason why the gradient of one subject of `module` would not be its own, all at once; [] if none.

    Args:
        module: what is to be trained.
        forward: if given, an example that runs `module` once; state that learns in the forward pass (batch statistics,
            code books with moving averages) shows only then. The state is put back.
    """
    problems = [f"{name or 'module'}: {reason}" for name, layer in module.named_modules() for reason in _of(layer)]
    parameters = list(module.named_parameters(remove_duplicate=False))
    if not any(p.requires_grad for _, p in parameters):
        problems.append("module: no parameter is trainable")
    first_name: dict[nn.Parameter, str] = {}
    for name, parameter in parameters:
        if first_name.setdefault(parameter, name) != name:
            problems.append(f"{name}: tied to {first_name[parameter]}, whose hooks would not see this use")
        if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
            problems.append(f"{name}: {parameter.dtype} gradients are too coarse to clip, use float32")
    if forward is not None:
        problems += [
            f"{name}: changes in the forward pass, unclipped and without noise" for name in _learns(module, forward)
        ]
    return problems


def _of(layer: nn.Module) -> list[str]:
    """Return what is wrong with one layer, its children apart."""
    own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
    inner = [p for child in layer.children() for p in child.parameters() if p.requires_grad]
    problems = []
    if isinstance(layer, _InstanceNorm) and layer.track_running_stats:
        problems.append("running statistics carry one subject into the loss of another")
    elif isinstance(layer, _BatchNorm) and not isinstance(layer, _InstanceNorm):
        problems.append("batch statistics mix the subjects of a batch; use GroupNorm or LayerNorm")
    elif own and next(layer.buffers(), None) is not None:
        problems.append("a trainable layer with buffers, which Opacus does not support")
    if getattr(layer, "inplace", False):
        problems.append("works in place, which overwrites what the hooks have saved; use inplace=False")
    if isinstance(layer, _ConvNd) and layer.padding_mode != "zeros" and own:
        problems.append(f"padding_mode={layer.padding_mode!r}, which Opacus takes for zeros")
    if isinstance(layer, nn.Embedding) and own:
        for option, usual in (
            ("padding_idx", None),
            ("max_norm", None),
            ("scale_grad_by_freq", False),
            ("sparse", False),
        ):
            if getattr(layer, option) != usual:
                problems.append(f"{option}={getattr(layer, option)!r}, which Opacus ignores")
    if isinstance(layer, nn.LayerNorm) and own and "bias" not in dict(layer.named_parameters(recurse=False)):
        problems.append("LayerNorm without a bias, which Opacus cannot differentiate")
    if parametrize.is_parametrized(layer):
        problems.append("its weight is computed from others (parametrisation), which the hooks do not see")
    elif isinstance(layer, (nn.RNNBase, nn.MultiheadAttention, nn.EmbeddingBag)) and own:
        problems.append(f"{type(layer).__name__} mixes positions inside one fused call, which the hooks do not see")
    elif own and inner:
        problems.append("has trainable parameters of its own beside those of its children; put them in a layer")
    return problems


def _learns(module: nn.Module, forward: Callable[[], object]) -> list[str]:
    """Return the names of the parameters and buffers that a forward pass in train mode changes."""
    modes = {layer: layer.training for layer in module.modules()}
    state = dict([*module.named_parameters(), *module.named_buffers()])
    before = {name: tensor.detach().clone() for name, tensor in state.items()}
    try:
        module.train()
        with torch.no_grad():
            forward()
            changed = [name for name, tensor in state.items() if not torch.equal(tensor, before[name])]
            for name in changed:
                state[name].copy_(before[name])
    finally:
        for layer, mode in modes.items():
            layer.training = mode
    return changed
