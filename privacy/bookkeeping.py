"""Per-subject gradients from one backward pass that computes no weight gradient at all.

Book-keeping after Bu et al. 2023 (arXiv:2210.00038): parameters need no gradient, so autograd follows activations
alone; a hook on the output of each trainable layer sees its input and the gradient of its output, which is all that a
rule of `privacy.layer_gradients` needs. What plain training spends on weight gradients pays for the subjects' own.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from privacy.contributions import Contribution, Rows
from privacy.layer_gradients import Seen, contributions, rule_of


def without_rule(module: nn.Module) -> list[str]:
    """Return the layers of `module` with trainable parameters for which there is no rule, with their types."""
    return [
        f"{name or 'module'} ({type(layer).__name__})"
        for name, layer in module.named_modules()
        if any(p.requires_grad for p in layer.parameters(recurse=False)) and rule_of(layer) is None
    ]


class BookKeeping:
    """Hooks on the trainable layers of a module, and what they saw during one backward pass."""

    def __init__(self, module: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        self.wrapped = module
        self._parameters = parameters
        self._names: dict[nn.Module, dict[str, str]] = {}
        for prefix, layer in module.named_modules():
            full = {own: f"{prefix}.{own}" if prefix else own for own, _ in layer.named_parameters(recurse=False)}
            if mine := {own: name for own, name in full.items() if name in parameters}:
                self._names[layer] = mine
        self._handles = [layer.register_forward_hook(self._saw, with_kwargs=True) for layer in self._names]
        self._found: dict[str, Contribution] | None = None
        self._n_rows = self._n_subjects = 0

    def close(self) -> None:
        """Take the hooks off and let the parameters need a gradient again."""
        while self._handles:
            self._handles.pop().remove()
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)

    def trust(self) -> None:
        """From now on let autograd leave the parameters out."""
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)

    def reference(self, total: Tensor) -> tuple[Tensor | None, ...]:
        """Return autograd's own gradients of `total`, which is not used up."""
        return torch.autograd.grad(total, tuple(self._parameters.values()), retain_graph=True, allow_unused=True)

    def collect(self, total: Tensor, n_rows: int, n_subjects: int) -> dict[str, Contribution]:
        """Differentiate `total` and return what each subject adds to the parameters that it reached, by their names."""
        self._found, self._n_rows, self._n_subjects = {}, n_rows, n_subjects
        try:
            torch.autograd.backward(total)
            return self._found
        finally:
            self._found = None
            for parameter in self._parameters.values():
                parameter.grad = None

    def _saw(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if not torch.is_grad_enabled():
            return
        if not output.requires_grad:
            output.requires_grad_()  # nothing below it is trained: the graph begins here
        kept = [Seen.of(layer, args[0] if args else kwargs["input"], output)]

        def differentiated(gradient: Tensor) -> None:
            # Emptied, because the graph outlives the step: activations of two batches would be held at once.
            if self._found is not None:
                self._keep(self._found, kept.pop(), gradient)

        output.register_hook(differentiated)  # type: ignore[no-untyped-call]

    def _keep(self, found: dict[str, Contribution], seen: Seen, gradient: Tensor) -> None:
        names = self._names[seen.layer]
        first = next(iter(names.values()))
        if len(gradient) != self._n_rows or len(seen.inputs) != self._n_rows:
            raise ValueError(f"parameter {first!r} saw another batch than the {self._n_rows} rows of the losses")
        if seen.inputs._version != seen.version:
            raise ValueError(f"parameter {first!r}: the input of its layer was overwritten in place; use a copy")
        with torch.no_grad():
            for own, new in contributions(seen, gradient, self._n_subjects, names.keys()).items():
                name, old = names[own], found.get(names[own])
                found[name] = new if old is None else Rows(old.rows() + new.rows())
