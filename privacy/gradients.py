"""One gradient per subject, clipped, summed and noised: the inside of one private step.

Per-subject gradients come from Opacus' hooks (Yousefpour et al. 2021, arXiv:2109.12298); clip and noise are DP-SGD
(Abadi et al. 2016, arXiv:1607.00133) with the subject as unit: the draws of a subject are averaged *before* the clip.
"""

import math
import warnings
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from privacy.dp_safety import unsafe_for_dp
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

# Round-off left to the clip: a row scaled in float32 never exceeds the norm it was scaled to.
_CLIP_MARGIN = 1 - 1e-6
# Of the grid on which a noisy sum is published, in units of σC: too fine to cost anything, coarse enough to wipe out
# the low bits in which a float64 sum of this size differs from a real number.
_GRID_BITS = 20
# A per-subject gradient that misses part of a parameter's use differs from autograd's by far more than round-off.
_TOLERATED_MISMATCH = 1e-3


class SubjectGradients:
    """Hooks a module so that losses give one gradient per subject; use as a context manager to take the hooks off.

    Only parameters that require a gradient on entry take part. The module may be called through `wrapped` or directly.

    Raises:
        ValueError: naming everything about `module` that `unsafe_for_dp` finds.
    """

    def __init__(self, module: nn.Module) -> None:
        from opacus import GradSampleModule

        if problems := unsafe_for_dp(module):
            raise ValueError("no per-subject gradients: " + "; ".join(problems))
        self.parameters = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self.size = sum(p.numel() for _, p in self.parameters)
        self.wrapped: nn.Module = GradSampleModule(module, loss_reduction="sum")
        self._module = module
        self._agrees_with_autograd = False

    def __enter__(self) -> "SubjectGradients":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the module back as it was, without hook or per-subject gradient; may be called twice."""
        wrapped: Any = self.wrapped
        if hasattr(self._module, "autograd_grad_sample_hooks"):
            wrapped.to_standard_module()
        self._forget()

    def flat(self, losses: Tensor, n_subjects: int) -> Tensor:
        """Return the gradient of each subject's mean loss, `(n_subjects, size)`, jointly over all parameters.

        Args:
            losses: `(n_subjects * draws,)`, the draws of one subject side by side, each loss of its own row alone.
            n_subjects: number of subjects, at least 1.

        Raises:
            ValueError: if `losses` has another shape, or a trainable parameter received no gradient, or a gradient that
                is not that of the sum of `losses` (a weight used outside its own layer escapes the hooks).
        """
        if n_subjects < 1 or losses.ndim != 1 or len(losses) < 1 or len(losses) % n_subjects:
            raise ValueError(f"losses of shape {tuple(losses.shape)} are not n_subjects={n_subjects} times some draws")
        for name, layer in self._module.named_modules():
            if not layer.training and any(p.requires_grad for p in layer.parameters(recurse=False)):
                raise ValueError(
                    f"trainable layer {name!r} is in eval mode, where Opacus records nothing; call train()"
                )
        self._drop_gradients()
        try:
            _backward(losses.sum() * (n_subjects / len(losses)))
            return self._collect(len(losses), n_subjects)
        finally:
            self._drop_gradients()
            self._forget()
            for _, parameter in self.parameters:
                parameter._forward_counter = 0  # type: ignore[attr-defined]

    def clipped_sum(self, losses: Tensor, n_subjects: int, clip_norm: float) -> Tensor:
        """Return the sum over subjects of their clipped gradients, float64 `(size,)`; arguments as of `flat`, `clip`.

        In float64, so that the rounding of the sum tells nothing of a row.
        """
        return clip(self.flat(losses, n_subjects), clip_norm).double().sum(0)

    def step(self, change: Tensor) -> None:
        """Add `change`, `(size,)`, to the parameters."""
        if change.shape != (self.size,):
            raise ValueError(f"change of shape {tuple(change.shape)} should be ({self.size},)")
        with torch.no_grad():
            start = 0
            for _, parameter in self.parameters:
                part = change[start : start + parameter.numel()]
                parameter.add_(part.view_as(parameter).to(parameter))
                start += parameter.numel()

    def _collect(self, n_rows: int, n_subjects: int) -> Tensor:
        first = self.parameters[0][1]
        flat = torch.empty(n_subjects, self.size, dtype=first.dtype, device=first.device)
        start, agrees = 0, True
        for name, parameter in self.parameters:
            rows = parameter.grad_sample  # type: ignore[attr-defined]
            if rows is None or parameter.grad is None:
                raise ValueError(
                    f"trainable parameter {name!r} received no gradient: its layer took no part in the losses, "
                    "or ran once more in a forward pass that was never differentiated; freeze it or use it"
                )
            if isinstance(rows, list) or len(rows) != n_rows:
                raise ValueError(f"parameter {name!r} saw another batch than the {n_rows} rows of the losses")
            if not self._agrees_with_autograd:
                agrees &= _require_agreement(name, rows, parameter.grad)
            flat[:, start : start + parameter.numel()] = rows.reshape(n_subjects, -1, parameter.numel()).sum(1)
            parameter.grad_sample = None  # type: ignore[attr-defined]  # frees memory before the next one is copied
            start += parameter.numel()
        self._agrees_with_autograd = agrees
        return flat

    def _drop_gradients(self) -> None:
        for _, parameter in self.parameters:
            parameter.grad = None
            parameter.grad_sample = None  # type: ignore[attr-defined]

    def _forget(self) -> None:
        for layer in self._module.modules():
            for leftover in ("activations", "max_batch_len"):
                layer.__dict__.pop(leftover, None)


def clip(gradients: Tensor, clip_norm: float) -> Tensor:
    """Return `gradients`, `(subjects, d)`, with non-finite rows set to 0 and every row scaled to L2 norm ≤ `clip_norm`.

    Law: adding or removing one row changes the sum of the rows by at most `clip_norm`, whatever the row holds. Sum in
    float64: the rounding of a float32 sum depends on every other row.
    """
    if not (math.isfinite(clip_norm) and clip_norm > 0.0):
        raise ValueError(f"clip_norm={clip_norm} must be finite and positive")
    peak = gradients.abs().amax(dim=1, keepdim=True)
    finite = peak.isfinite()
    peak = peak.where(finite, 1.0).clamp(min=1.0)
    # Divided by its largest entry first: the square of a huge but finite gradient is infinite, and its norm would be.
    rows = (gradients / peak).where(finite, 0.0)
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    factor = torch.minimum(peak.double(), clip_norm * _CLIP_MARGIN / norm.clamp(min=torch.finfo(torch.float64).tiny))
    return rows * factor.to(rows.dtype)


def noisy_mean(clipped_sum: Tensor, plan: DpPlan, *, public_subjects: int, random: SecureRandom) -> Tensor:
    """Return (sum + N(0, σ²C²I)) / (q·N), with N the declared public cohort size, never the realised batch.

    An empty batch (a sum of zeros) is noised like any other. The noise is added in float64 and the sum rounded to a
    grid of σC·2⁻²⁰ that does not depend on it, so that its low bits say nothing about what was added (Mironov 2012,
    10.1145/2382196.2382264).
    """
    if public_subjects < 1:
        raise ValueError(f"public_subjects={public_subjects} must be at least 1")
    if not clipped_sum.isfinite().all():
        raise ValueError("clipped_sum is not finite: its rows did not go through clip")
    scale = plan.noise_multiplier * plan.clip_norm
    total = clipped_sum.detach().to("cpu", torch.float64)
    if scale > 0.0:
        total = total + scale * torch.from_numpy(random.normal(tuple(total.shape), dtype="float64"))
        grid = 2.0 ** (math.floor(math.log2(scale)) - _GRID_BITS)
        total = torch.round(total / grid) * grid
    return (total / (plan.sampling_rate * public_subjects)).to(clipped_sum)


def _backward(loss: Tensor) -> None:
    with warnings.catch_warnings():
        # Opacus hooks the first layer too, whose input needs no gradient; it reads only the gradient of the output.
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        torch.autograd.backward(loss)


def _require_agreement(name: str, rows: Tensor, gradient: Tensor) -> bool:
    """Raise unless the per-row gradients add up to autograd's gradient of the summed loss; say if it showed."""
    scale = torch.linalg.vector_norm(rows.flatten(1), dim=1).sum()
    mismatch = torch.linalg.vector_norm(rows.sum(0) - gradient)
    if mismatch.isfinite() and mismatch > _TOLERATED_MISMATCH * scale:
        raise ValueError(
            f"per-subject gradients of {name!r} do not add up to its gradient (off by {float(mismatch / scale):.2g}): "
            "the weight is used outside its own layer, or the layer is not supported"
        )
    return bool(scale.isfinite() and scale > 0.0)
