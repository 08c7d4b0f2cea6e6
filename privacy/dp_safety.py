"""What makes a module unfit for per-subject gradients, found before any charge is made.

Some of it shows on the module as it stands (`_of`), some only when it runs once on an example (`_when_run`): state
that learns without a gradient, inputs overwritten in place, subjects that see each other, parameters nothing reaches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

# Name of a layer, whether it is trained, its input, how often that had been written to, its output.
_Call = tuple[str, bool, Tensor, int, Tensor]


def unsafe_for_dp(module: nn.Module, forward: Callable[[], object] | None = None) -> list[str]:
    """Return every reason why the gradient of one subject of `module` would not be its own, all at once; [] if none.

    Args:
        module: what is to be trained.
        forward: if given, an example that runs `module` once, in train mode. State that learns in the forward pass
            (batch statistics, code books with moving averages) shows only then, and inputs that are overwritten in
            place. If it returns losses, `(rows,)` with at least two rows, so does one row that enters the loss of
            another (behind the first layer), and a trainable parameter that no loss reaches. The state is put back.
            Give it public or blank studies: what is found may be told.
    """
    problems = [f"{name or 'module'}: {reason}" for name, layer in module.named_modules() for reason in _of(layer)]
    parameters = list(module.named_parameters(remove_duplicate=False))
    if not any(p.requires_grad for _, p in parameters):
        problems.append("module: no parameter is trainable")
    first_name: dict[nn.Parameter, str] = {}
    for name, parameter in parameters:
        if first_name.setdefault(parameter, name) != name and parameter.requires_grad:
            problems.append(f"{name}: tied to {first_name[parameter]}, whose hooks would not see this use")
        if isinstance(parameter, UninitializedParameter):
            problems.append(f"{name}: has no shape yet; run the module once first")
        elif parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
            problems.append(f"{name}: {parameter.dtype} gradients are too coarse to clip, use float32")
    if forward is not None:
        problems += _when_run(module, forward)
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
    elif isinstance(vars(layer).get("weight"), Tensor):
        problems.append("its weight is computed from others before each call (spectral or weight norm, pruning)")
    elif isinstance(layer, (nn.ParameterList, nn.ParameterDict)) and own:
        problems.append("trainable parameters in a list, whose use no hook sees; put them in a layer")
    elif isinstance(layer, (nn.RNNBase, nn.MultiheadAttention, nn.EmbeddingBag)) and own:
        problems.append(f"{type(layer).__name__} mixes positions inside one fused call, which the hooks do not see")
    elif own and inner:
        problems.append("has trainable parameters of its own beside those of its children; put them in a layer")
    return problems


def _when_run(module: nn.Module, forward: Callable[[], object]) -> list[str]:
    """Run `forward` in train mode and return what that shows, with the state of `module` put back."""
    calls: list[_Call] = []
    with _as_before(module) as state, _recorded(module, calls), torch.enable_grad():
        before = {name: tensor.detach().clone() for name, tensor in state.items()}
        module.train()
        try:
            losses = forward()
            reach = _of_losses(module, losses, calls) if isinstance(losses, Tensor) and losses.requires_grad else []
        except RuntimeError as error:
            reach = [f"module: the example does not run: {error}"]
        after = _state(module)
        problems = [
            f"{name}: changes in the forward pass, unclipped and without noise"
            for name, tensor in after.items()
            if name not in before or not torch.equal(tensor.detach(), before[name])
        ]
        problems += [
            f"{layer}: its input is overwritten in place after the call, which the hooks have saved"
            for layer, trainable, inputs, version, _ in calls
            if trainable and inputs._version != version
        ]
        return problems + reach


def _of_losses(module: nn.Module, losses: Tensor, calls: list[_Call]) -> list[str]:
    """Return the parameters that `losses` do not reach, and the last layer through which rows see each other."""
    trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    reached = torch.autograd.grad(losses.sum(), [p for _, p in trainable], retain_graph=True, allow_unused=True)
    problems = [
        f"{name}: no gradient reaches it; freeze it or use it"
        for (name, _), gradient in zip(trainable, reached, strict=True)
        if gradient is None
    ]
    if losses.ndim != 1 or len(losses) < 2:
        return problems
    rowwise = [(name, y) for name, *_, y in calls if y.requires_grad and y.ndim and len(y) == len(losses)]
    first = torch.autograd.grad(losses[0], [y for _, y in rowwise], allow_unused=True)
    for (name, _), gradient in zip(reversed(rowwise), reversed(first), strict=True):
        if gradient is not None and torch.any(gradient[1:] != 0):
            return [*problems, f"{name}: after it, one row of the batch enters the loss of another"]
    return problems


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters, buffers, and tensors and floats that layers keep as plain attributes."""
    state = dict([*module.named_parameters(), *module.named_buffers()])
    for prefix, layer in module.named_modules():
        for name, value in vars(layer).items():
            if isinstance(value, (Tensor, float)):
                state[f"{prefix}.{name}".lstrip(".")] = torch.as_tensor(value)
    return state


@contextmanager
def _as_before(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Give the state of `module`, and put it and the modes of its layers back in the end."""
    modes = {layer: layer.training for layer in module.modules()}
    plain = {layer: {k: v for k, v in vars(layer).items() if isinstance(v, (Tensor, float))} for layer in modes}
    state = _state(module)
    before = {name: tensor.detach().clone() for name, tensor in state.items()}
    try:
        yield state
    finally:
        with torch.no_grad():
            for name, tensor in state.items():
                if not torch.equal(tensor, before[name]):
                    tensor.copy_(before[name])
        for layer, mode in modes.items():
            layer.training = mode
            vars(layer).update(plain[layer])


@contextmanager
def _recorded(module: nn.Module, calls: list[_Call]) -> Iterator[None]:
    """Note each call of a layer without children."""

    def note(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def hook(layer: nn.Module, args: tuple[object, ...], output: object) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                trainable = any(p.requires_grad for p in layer.parameters())
                calls.append((name or "module", trainable, args[0], args[0]._version, output))

        return hook

    handles = [
        layer.register_forward_hook(note(name))
        for name, layer in module.named_modules()
        if next(layer.children(), None) is None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
