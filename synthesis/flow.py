"""Flow matching on a straight path: pure functions, one time convention.

t = 0 is data and t = 1 is noise, as in EchoFlow (Reynaud et al. 2025, arXiv 2503.22357); Lipman et al. 2023
(arXiv 2210.02747), Liu et al. 2023 (arXiv 2209.03003).
"""

from collections.abc import Callable

import torch
from torch import Tensor

TIME_CONVENTION = "t=1 is noise"


def interpolate(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return x_t = (1 - t) x_0 + t e; `t` is `(n,)` in [0, 1]."""
    s = t.view(-1, *[1] * (data.ndim - 1))
    return (1 - s) * data + s * noise


def velocity(data: Tensor, noise: Tensor) -> Tensor:
    """Return the target dx/dt = e - x_0."""
    return noise - data


def integrate(field: Callable[[Tensor, Tensor], Tensor], noise: Tensor, *, steps: int) -> Tensor:
    """Follow dx/dt = field(x, t) from t = 1 to t = 0 by Heun's second-order rule (Heun 1900).

    `steps` intervals cost 2 x `steps` - 1 evaluations: the last one is Euler's, because the field is least certain
    at t = 0.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    x, times = noise, torch.linspace(1, 0, steps + 1, device=noise.device)
    for i in range(steps):
        now, then = times[i], times[i + 1]
        slope = field(x, now.expand(len(x)))
        ahead = x + (then - now) * slope
        if i < steps - 1:
            slope = (slope + field(ahead, then.expand(len(x)))) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return x


def guide(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): 1 is the conditional field itself."""
    return unconditional + weight * (conditional - unconditional)
