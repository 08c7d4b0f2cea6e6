"""What every subject adds to one parameter, formed row by row or left as a product, and two questions to it.

How long is each subject's gradient, and what do all add up to under given weights: clipping asks nothing else. A row
is formed where that is cheap; where the parameter is large and used at few positions, its norm follows from inputs
and output gradients without it (ghost norms: Li et al. 2022, arXiv:2110.05679).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# A product is trusted unless its terms nearly cancel or come near the largest float: then the row itself is formed.
_CANCELLED = 1e-2
_HUGE = 1e70
# Of a temporary in float64: what stays in the cache of a core.
_CACHED = 2**18
# Positions up to which the weighted sum of products is worth float64.
_FEW_POSITIONS = 3


class Contribution(Protocol):
    """The gradients of n subjects with respect to one parameter, or several side by side."""

    def rows(self) -> Tensor:
        """Return one gradient per subject, `(n, size)`."""
        ...

    def norms(self) -> Tensor:
        """Return the L2 norm of each, float64 `(n,)`; not finite where a gradient is not."""
        ...

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Return the sum over subjects times `factors`, float64 `(n,)`, as float64 `(size,)`.

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
        """Return the norms, taken in float64, where the square of the largest float32 is still finite."""
        rows = self.gradients
        norms: Tensor
        if rows.dtype != torch.float64:
            norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        else:
            peak = rows.abs().amax(dim=1, keepdim=True).clamp(min=1.0)
            norms = peak.squeeze(1) * torch.linalg.vector_norm(rows / peak, dim=1)
        return norms

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Add the rows up, a cacheful at a time."""
        n, size = self.gradients.shape
        total = torch.zeros(size, dtype=torch.float64, device=self.gradients.device)
        at_once = max(1, _CACHED // max(1, size))
        silent = bool((factors == 0).any())
        for start in range(0, n, at_once):
            rows, weights = self.gradients[start : start + at_once], factors[start : start + at_once]
            if silent:
                rows = rows.masked_fill((weights == 0).unsqueeze(1), 0.0)
            total += weights @ rows.double()
        return total


class Products:
    """Gradients Σ_p g_p ⊗ a_p that are not formed: inputs `(n, positions, in)`, output gradients `(n, positions, out)`.

    ‖Σ_p g_p ⊗ a_p‖² = Σ_pq ⟨a_p, a_q⟩⟨g_p, g_q⟩, in float64. The rows that this says badly (terms that cancel, that
    overflow, or are not finite) are formed after all, and clipped by their own norm.
    """

    def __init__(self, inputs: Tensor, gradients: Tensor) -> None:
        a, g = inputs.double(), gradients.double()
        alone = (a.square().sum(2) * g.square().sum(2)).sum(1)
        squared = alone if a.shape[1] == 1 else ((a @ a.mT) * (g @ g.mT)).sum((1, 2))
        trusted = (squared >= _CANCELLED * alone) & (squared <= _HUGE)
        self._inputs, self._gradients, self._norms = inputs, gradients, squared.clamp(min=0.0).sqrt()
        self._formed = torch.nonzero(~trusted).squeeze(1)
        if len(self._formed):
            self._exact = Rows(torch.bmm(gradients[self._formed].mT, inputs[self._formed]).flatten(1))
            self._norms[self._formed] = self._exact.norms()
            mine = ~trusted.view(-1, 1, 1)
            self._inputs, self._gradients = inputs.masked_fill(mine, 0.0), gradients.masked_fill(mine, 0.0)

    def rows(self) -> Tensor:
        """Form them."""
        rows = torch.bmm(self._gradients.mT, self._inputs).flatten(1)
        if len(self._formed):
            rows[self._formed] = self._exact.rows()
        return rows

    def norms(self) -> Tensor:
        """Return the norms."""
        return self._norms

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Contract subjects and positions at once."""
        dtype = torch.float64 if self._inputs.shape[1] <= _FEW_POSITIONS else self._inputs.dtype
        weighted = (self._gradients * factors.view(-1, 1, 1).to(self._gradients)).flatten(0, 1).to(dtype)
        total = (weighted.mT @ self._inputs.flatten(0, 1).to(dtype)).flatten().double()
        if len(self._formed):
            total += self._exact.weighted_sum(factors[self._formed])
        return total
