"""What every subject adds to one parameter, formed row by row or left as a product, and two questions to it.

How long is each subject's gradient, and what do all add up to under given weights: clipping asks nothing else. A row
is formed where that is cheap; where the parameter is large and used at few positions, its norm follows from inputs
and output gradients without it (ghost norms: Li et al. 2022, arXiv:2110.05679).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# A product is trusted unless its positions cancel below half of their squares, or a position is longer than 1e6.
_CANCELLED = 0.5
_FAR = 1e12
# Of a temporary in float64: what stays in the cache of a core.
_CACHED = 2**16
# Entries added up in float32.
_BLOCK = 256
# Positions up to which products are worth float64.
_FEW_POSITIONS = 3


class Contribution(Protocol):
    """The gradients of n subjects with respect to one parameter, or several side by side."""

    def rows(self) -> Tensor:
        """Return one gradient per subject, `(n, size)`."""
        ...

    def norms(self) -> Tensor:
        """Return the L2 norm of each, float64 `(n,)`; not finite where a gradient is not."""
        ...

    def weighted_sum(self, factors: Tensor, into: Tensor) -> None:
        """Write the sum over subjects times `factors`, float64 `(n,)`, to `into`, float64 `(size,)`.

        A subject with factor 0 takes no part, whatever its gradient holds.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Gradients that are there, `(n, size)`; summed in float64, so that rounding tells nothing of a row."""

    gradients: Tensor

    def rows(self) -> Tensor:
        """Return them."""
        return self.gradients

    def norms(self) -> Tensor:
        """Return the norms: float32 within blocks so short that rounding stays below 1e-6, float64 between them."""
        rows = self.gradients
        if rows.dtype == torch.float64:
            peak = rows.abs().amax(dim=1, keepdim=True).clamp(min=1.0)
            exact: Tensor = peak.squeeze(1) * torch.linalg.vector_norm(rows / peak, dim=1)
            return exact
        whole = rows.shape[1] // _BLOCK * _BLOCK
        blocks = torch.linalg.vector_norm(rows[:, :whole].reshape(len(rows), -1, _BLOCK), dim=2)
        rest = torch.linalg.vector_norm(rows[:, whole:], dim=1, keepdim=True)
        norms: Tensor = torch.linalg.vector_norm(torch.cat([blocks, rest], 1), dim=1, dtype=torch.float64)
        far = torch.nonzero(~(norms <= _FAR)).squeeze(1)  # the square of an entry may be infinite, its gradient not
        if len(far):
            norms[far] = torch.linalg.vector_norm(rows[far], dim=1, dtype=torch.float64)
        return norms

    def weighted_sum(self, factors: Tensor, into: Tensor) -> None:
        """Add the rows up, a cacheful at a time."""
        silent = factors == 0
        any_silent = bool(silent.any())
        width = max(1, _CACHED // len(factors))
        for columns, sums in zip(torch.split(self.gradients, width, 1), torch.split(into, width), strict=True):
            part = columns.double()
            torch.mv(part.masked_fill_(silent.unsqueeze(1), 0.0).mT if any_silent else part.mT, factors, out=sums)


class Products:
    """Gradients Σ_p g_p ⊗ a_p that are not formed: inputs `(n, positions, in)`, output gradients `(n, positions, out)`.

    ‖Σ_p g_p ⊗ a_p‖² = Σ_pq ⟨a_p, a_q⟩⟨g_p, g_q⟩. The rows of which this says little (positions that cancel, entries so
    far from 1 that squares overflow or vanish, or that are not finite) are formed after all, and clipped by their own
    norm; of the others norm and sum are off by less than the margin of the clip.
    """

    def __init__(self, inputs: Tensor, gradients: Tensor) -> None:
        dtype = torch.float64 if inputs.shape[1] <= _FEW_POSITIONS else inputs.dtype
        a, g = inputs.to(dtype), gradients.to(dtype)
        among_a, among_g = torch.bmm(a, a.mT), torch.bmm(g, g.mT)
        long_a, long_g = among_a.diagonal(dim1=1, dim2=2), among_g.diagonal(dim1=1, dim2=2)
        alone = torch.linalg.vecdot(long_a, long_g)
        squared = torch.linalg.vecdot(among_a.flatten(1), among_g.flatten(1)).double()
        trusted = (squared >= _CANCELLED * alone) & (torch.maximum(long_a, long_g).amax(1) <= _FAR)
        self._inputs, self._gradients = inputs, gradients
        self._norms: Tensor = squared.clamp(min=0.0).sqrt()
        self._formed = torch.nonzero(~trusted).squeeze(1)
        if len(self._formed):
            self._exact = Rows(torch.bmm(gradients[self._formed].mT, inputs[self._formed]).flatten(1))
            self._norms[self._formed] = self._exact.norms()
            mine = ~trusted.view(-1, 1, 1)
            self._inputs, self._gradients = inputs.masked_fill(mine, 0.0), gradients.masked_fill(mine, 0.0)

    def rows(self) -> Tensor:
        """Form them."""
        rows: Tensor = torch.bmm(self._gradients.mT, self._inputs).flatten(1)
        if len(self._formed):
            rows[self._formed] = self._exact.rows()
        return rows

    def norms(self) -> Tensor:
        """Return the norms."""
        return self._norms

    def weighted_sum(self, factors: Tensor, into: Tensor) -> None:
        """Contract subjects and positions at once."""
        dtype = torch.float64 if self._inputs.shape[1] <= _FEW_POSITIONS else self._inputs.dtype
        a, g, factors_here = self._inputs.to(dtype), self._gradients.to(dtype), factors.view(-1, 1, 1).to(dtype)
        if a.shape[2] < g.shape[2]:
            a = a * factors_here
        else:
            g = g * factors_here
        into.copy_((g.flatten(0, 1).mT @ a.flatten(0, 1)).flatten())
        if len(self._formed):
            exact = torch.empty_like(into)
            self._exact.weighted_sum(factors[self._formed], exact)
            into += exact
