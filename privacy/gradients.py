"""One gradient per subject, clipped, summed and noised: the inside of one private step.

Clip and noise are DP-SGD (Abadi et al. 2016, arXiv:1607.00133) with the subject as unit: the draws of a subject are
averaged *before* the clip. How the gradients of single subjects come about is the business of `privacy.bookkeeping` or
`privacy.opacus_hooks`; here they are checked against autograd, clipped jointly and added up.
"""

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor, nn

from privacy.bookkeeping import BookKeeping, without_rule
from privacy.contributions import Contribution, Rows
from privacy.dp_safety import unsafe_for_dp
from privacy.mechanism import MODES, DpPlan
from privacy.opacus_hooks import OpacusHooks
from privacy.randomness import SecureRandom

# Round-off left to the clip: neither a row scaled in float32 nor a sum of products in float32 exceeds the norm it was
# scaled to.
_CLIP_MARGIN = 1 - 4e-6
# Of the grid on which a noisy sum is published, in units of σC: too fine to cost anything, coarse enough to wipe out
# the low bits in which a float64 sum of this size differs from a real number.
_GRID_BITS = 20
# A per-subject gradient that misses part of a parameter's use differs from autograd's by far more than round-off.
_TOLERATED_MISMATCH = 1e-3
# Parameters up to this size are clipped and summed side by side, for there are many of them.
_SMALL = 2**12
_TINY = torch.finfo(torch.float64).tiny


class Engine(Protocol):
    """A way to per-subject gradients: hooks that record in the caller's forward pass, and one backward pass."""

    wrapped: nn.Module

    def reference(self, total: Tensor) -> tuple[Tensor | None, ...]:
        """Return autograd's own gradients of `total`, which is not used up; None for a parameter it does not reach."""
        ...

    def trust(self) -> None:
        """Stop computing what `reference` needs."""
        ...

    def collect(self, total: Tensor, n_rows: int, n_subjects: int) -> dict[str, Contribution]:
        """Differentiate `total` and return what each subject adds to the parameters that it reached, by their names."""
        ...

    def close(self) -> None:
        """Give the module back as it was; may be called twice."""
        ...


class SubjectGradients:
    """Hooks a module so that losses give one gradient per subject; use as a context manager to take the hooks off.

    Only parameters that require a gradient on entry take part. The module is called directly (or through `wrapped`)
    between two calls of `clipped_sum` or `flat`, and each call differentiates the losses of the last forward pass.

    Until the gradients of one batch have been seen to agree with autograd's, in every parameter and under weights that
    differ from subject to subject, each batch is differentiated twice and compared. So a weight that is used outside
    its layer, rows in another order, or subjects that see each other, are refused instead of being clipped wrongly.

    Attributes:
        mode: what `auto` came to. "bookkeeping" (Bu et al. 2023, arXiv:2210.00038) where there is a rule for each
            trainable layer, for it is the fastest; else "hooks" (Opacus). The choice rests on the module alone, so
            that the same code gives the same bits everywhere. (torch.func's vmap would need the loss as a function of
            one subject, and here losses arrive differentiable but computed.)

    Raises:
        ValueError: naming everything about `module` that `unsafe_for_dp` finds, or a `mode` that is unknown or cannot
            run `module`.
    """

    def __init__(self, module: nn.Module, mode: str = "auto") -> None:
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} must be one of {', '.join(MODES)}")
        if problems := unsafe_for_dp(module):
            raise ValueError("no per-subject gradients: " + "; ".join(problems))
        unruled = without_rule(module)
        if mode == "bookkeeping" and unruled:
            raise ValueError(f"mode='bookkeeping' has no rule for {', '.join(unruled)}; use 'auto' or 'hooks'")
        self.mode = mode if mode != "auto" else ("hooks" if unruled else "bookkeeping")
        self.parameters = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self._sizes = {name: p.numel() for name, p in self.parameters}
        self.size = sum(self._sizes.values())
        self._layers = [
            (name, layer)
            for name, layer in module.named_modules()
            if any(p.requires_grad for p in layer.parameters(recurse=False))
        ]
        self._engine: Engine = (BookKeeping if self.mode == "bookkeeping" else OpacusHooks)(
            module, dict(self.parameters)
        )
        self.wrapped = self._engine.wrapped
        self._agrees_with_autograd = False

    def __enter__(self) -> "SubjectGradients":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the module back as it was, without hook or per-subject gradient; may be called twice."""
        self._engine.close()

    def flat(self, losses: Tensor, n_subjects: int) -> Tensor:
        """Return the gradient of each subject's mean loss, `(n_subjects, size)`, jointly over all parameters.

        Args:
            losses: `(n_subjects * draws,)`, the draws of one subject side by side, each loss of its own row alone.
            n_subjects: number of subjects, at least 1.

        Raises:
            ValueError: if `losses` has another shape, or a trainable parameter received no gradient, or a gradient that
                is not that of the sum of `losses` (a weight used outside its own layer escapes the hooks).
        """
        with torch.autocast(losses.device.type, enabled=False):
            return torch.cat([found.rows() for found in self._collect(losses, n_subjects).values()], 1)

    def clipped_sum(self, losses: Tensor, n_subjects: int, clip_norm: float) -> Tensor:
        """Return the sum over subjects of their clipped gradients, float64 `(size,)`; arguments as of `flat`, `clip`.

        The same as `clip(flat(...))` summed in float64, without forming every row. A subject whose gradient is not
        finite adds nothing.
        """
        _require_clip_norm(clip_norm)
        with torch.autocast(losses.device.type, enabled=False):
            return self._clipped_sum(self._collect(losses, n_subjects), clip_norm)

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

    def _clipped_sum(self, found: dict[str, Contribution], clip_norm: float) -> Tensor:
        small = {name: part.rows() for name, part in found.items() if self._sizes[name] <= _SMALL}
        large = {name: part for name, part in found.items() if name not in small}
        beside = Rows(torch.cat(list(small.values()), 1)) if small else None
        parts = [*large.values(), *([beside] if beside else [])]
        norms = _joint_norm(torch.stack([part.norms() for part in parts]))
        factors = (clip_norm * _CLIP_MARGIN / norms.clamp(min=_TINY)).clamp(max=1.0).where(norms.isfinite(), 0.0)
        total = torch.empty(self.size, dtype=torch.float64, device=norms.device)
        places = dict(zip(self._sizes, torch.split(total, list(self._sizes.values())), strict=True))
        for name, part in large.items():
            part.weighted_sum(factors, places[name])
        if beside is not None:
            sums = torch.empty(beside.gradients.shape[1], dtype=torch.float64, device=norms.device)
            beside.weighted_sum(factors, sums)
            for name, own in zip(small, torch.split(sums, [self._sizes[name] for name in small]), strict=True):
                places[name].copy_(own)
        return total

    def _collect(self, losses: Tensor, n_subjects: int) -> dict[str, Contribution]:
        """Return what each subject adds to each parameter, in the order of the parameters."""
        if n_subjects < 1 or losses.ndim != 1 or len(losses) < 1 or len(losses) % n_subjects:
            raise ValueError(f"losses of shape {tuple(losses.shape)} are not n_subjects={n_subjects} times some draws")
        for name, layer in self._layers:
            if not layer.training:
                raise ValueError(f"trainable layer {name!r} is in eval mode; call train()")
        if not losses.requires_grad:
            raise ValueError("the losses depend on no trainable parameter, or were computed without a graph")
        means = losses.view(n_subjects, -1).mean(1)
        weights = torch.linspace(0.5, 1.5, n_subjects, dtype=means.dtype, device=means.device)
        reference = None if self._agrees_with_autograd else self._engine.reference((means * weights).sum())
        found = self._engine.collect(means.sum(), len(losses), n_subjects)
        gradients = []
        for i, (name, _) in enumerate(self.parameters):
            gradient = None if reference is None else reference[i]
            if name not in found or (reference is not None and gradient is None):
                raise ValueError(
                    f"trainable parameter {name!r} received no gradient: its layer took no part in the losses, "
                    "or ran once more in a forward pass that was never differentiated; freeze it or use it"
                )
            if gradient is not None:
                gradients.append(gradient)
        found = {name: found[name] for name, _ in self.parameters}
        if reference is not None and _agree(found, gradients, weights.double()) and n_subjects > 1:
            self._agrees_with_autograd = True
            self._engine.trust()
        return found


def clip(gradients: Tensor, clip_norm: float) -> Tensor:
    """Return `gradients`, `(subjects, d)`, with non-finite rows set to 0 and every row scaled to L2 norm ≤ `clip_norm`.

    Law: adding or removing one row changes the sum of the rows by at most `clip_norm`, whatever the row holds. Sum in
    float64: the rounding of a float32 sum depends on every other row.
    """
    _require_clip_norm(clip_norm)
    peak = gradients.abs().amax(dim=1, keepdim=True)
    finite = peak.isfinite()
    peak = peak.where(finite, 1.0).clamp(min=1.0)
    # Divided by its largest entry first: the square of a huge but finite gradient is infinite, and its norm would be.
    rows = (gradients / peak).where(finite, 0.0)
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    factor = torch.minimum(peak.double(), clip_norm * _CLIP_MARGIN / norm.clamp(min=_TINY))
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


def _require_clip_norm(clip_norm: float) -> None:
    if not (math.isfinite(clip_norm) and clip_norm > 0.0):
        raise ValueError(f"clip_norm={clip_norm} must be finite and positive")


def _joint_norm(norms: Tensor) -> Tensor:
    """Return the L2 norm over parts, `(parts, n)` -> `(n,)`; squares may overflow, and NaN in a part stays NaN."""
    peak = norms.amax(dim=0).clamp(min=1.0)
    joint: Tensor = peak * torch.linalg.vector_norm(norms / peak, dim=0)
    return joint


def _agree(found: Mapping[str, Contribution], gradients: Sequence[Tensor], weights: Tensor) -> bool:
    """Raise unless the weighted sums of the subjects' gradients are autograd's `gradients`; say if it showed.

    Weights that differ show also what plain sums hide: rows in another order, and subjects that see each other.
    """
    shown = True
    for (name, mine), gradient in zip(found.items(), gradients, strict=True):
        scale = mine.norms() @ weights
        total = torch.empty(gradient.numel(), dtype=torch.float64, device=gradient.device)
        mine.weighted_sum(weights, total)
        mismatch = torch.linalg.vector_norm(total - gradient.flatten())
        if mismatch.isfinite() and mismatch > _TOLERATED_MISMATCH * scale:
            raise ValueError(
                f"per-subject gradients of {name!r} do not add up to its gradient (off by "
                f"{float(mismatch / scale):.2g}): the weight is used outside its own layer, or rows are not the "
                "subjects' in order, or one row enters the loss of another, or the layer is not supported"
            )
        shown &= bool(scale.isfinite() and scale > 0.0)
    return shown
