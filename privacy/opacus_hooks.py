"""Per-subject gradients from Opacus' hooks (Yousefpour et al. 2021, arXiv:2109.12298), which know more layer types."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from privacy.contributions import Contribution, Rows


class OpacusHooks:
    """Opacus on a module, one backward pass at a time, leaving nothing behind."""

    def __init__(self, module: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        from opacus import GradSampleModule

        self.wrapped: nn.Module = GradSampleModule(module, loss_reduction="sum")
        self._module, self._parameters = module, parameters

    def close(self) -> None:
        """Give the module back as it was, without hook or per-subject gradient; may be called twice."""
        wrapped: Any = self.wrapped
        if hasattr(self._module, "autograd_grad_sample_hooks"):
            wrapped.to_standard_module()
        self._forget()

    def trust(self) -> None:
        """Change nothing: Opacus reads only parameters that need a gradient."""

    def reference(self, total: Tensor) -> tuple[Tensor | None, ...]:
        """Return autograd's own gradients of `total`, which is not used up."""
        wrapped: Any = self.wrapped
        wrapped.disable_hooks()
        try:
            with _quiet():
                return torch.autograd.grad(
                    total, tuple(self._parameters.values()), retain_graph=True, allow_unused=True
                )
        finally:
            wrapped.enable_hooks()

    def collect(self, total: Tensor, n_rows: int, n_subjects: int) -> dict[str, Contribution]:
        """Differentiate `total` and return what each subject adds to the parameters that it reached, by their names."""
        self._drop_gradients()
        try:
            with _quiet():
                torch.autograd.backward(total)
            return dict(self._collected(n_rows, n_subjects))
        finally:
            self._drop_gradients()
            self._forget()
            for parameter in self._parameters.values():
                parameter._forward_counter = 0  # type: ignore[attr-defined]

    def _collected(self, n_rows: int, n_subjects: int) -> list[tuple[str, Contribution]]:
        found: list[tuple[str, Contribution]] = []
        for name, parameter in self._parameters.items():
            rows = parameter.grad_sample  # type: ignore[attr-defined]
            if rows is None:
                continue
            if isinstance(rows, list) or len(rows) != n_rows:
                raise ValueError(f"parameter {name!r} saw another batch than the {n_rows} rows of the losses")
            found.append((name, Rows(rows.reshape(n_subjects, -1, parameter.numel()).sum(1))))
            parameter.grad_sample = None  # type: ignore[attr-defined]  # frees memory before the next one is copied
        return found

    def _drop_gradients(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None
            parameter.grad_sample = None  # type: ignore[attr-defined]

    def _forget(self) -> None:
        for layer in self._module.modules():
            for leftover in ("activations", "max_batch_len"):
                layer.__dict__.pop(leftover, None)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Opacus hooks the first layer too, whose input needs no gradient; it reads only the gradient of the output.
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        yield
