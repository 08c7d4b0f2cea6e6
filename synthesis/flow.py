"""Flow matching on a straight path: pure functions, one time convention.

t = 0 is data and t = 1 is noise, as in EchoFlow (Reynaud et al. 2025, arXiv 2503.22357); Lipman et al. 2023
(arXiv 2210.02747), Liu et al. 2023 (arXiv 2209.03003).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

TIME_CONVENTION = "t=1 is noise"
Field = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Field, Tensor, Tensor, Tensor], Tensor]


def interpolate(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return x_t = (1 - t) x_0 + t e; `t` is `(n,)` in [0, 1]."""
    s = t.view(-1, *[1] * (data.ndim - 1))
    return (1 - s) * data + s * noise


def velocity(data: Tensor, noise: Tensor) -> Tensor:
    """Return the target dx/dt = e - x_0."""
    return noise - data


def euler(field: Field, x: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """Follow the slope where we are: first order, one evaluation."""
    return x + (then - now) * field(x, now.expand(len(x)))


def midpoint(field: Field, x: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """Follow the slope half-way (Runge 1895): second order, two evaluations."""
    half = (now + then) / 2
    return x + (then - now) * field(euler(field, x, now, half), half.expand(len(x)))


def heun(field: Field, x: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """Follow the mean of the slopes here and where the first one leads (Heun 1900): second order, two evaluations.

    The step that ends at t = 0 is Euler's, one evaluation, because the field is least certain there.
    """
    slope = field(x, now.expand(len(x)))
    ahead = x + (then - now) * slope
    if then == 0:
        return ahead
    return x + (then - now) * (slope + field(ahead, then.expand(len(x)))) / 2


SOLVERS: dict[str, tuple[Step, int]] = {"euler": (euler, 1), "midpoint": (midpoint, 2), "heun": (heun, 2)}


def integrate(field: Field, noise: Tensor, *, steps: int, solver: str = "heun") -> Tensor:
    """Follow dx/dt = field(x, t) from t = 1 to t = 0 in `steps` equal intervals by the rule named `solver`."""
    step, _ = SOLVERS[_known(solver)]
    x, times = noise, _times(noise, steps)
    for now, then in pairwise(times):
        x = step(field, x, now, then)
    return x


def jump(mean_field: Callable[[Tensor, Tensor, Tensor], Tensor], noise: Tensor, *, steps: int) -> Tensor:
    """Cross `steps` equal intervals, each at one go: x_r = x_t - (t - r) u(x_t, t, r).

    u is the mean of the velocity on the way from t to r (Geng et al. 2025, arXiv 2505.13447, equation 3).
    """
    x, times = noise, _times(noise, steps)
    for now, then in pairwise(times):
        x = x + (then - now) * mean_field(x, now.expand(len(x)), then.expand(len(x)))
    return x


def evaluations(solver: str, steps: int) -> int:
    """Return how often `integrate` asks the field."""
    return SOLVERS[_known(solver)][1] * steps - (solver == "heun")


def guide(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): 1 is the conditional field itself."""
    return unconditional + weight * (conditional - unconditional)


def guided(conditional: Tensor, nulls: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Guide by several conditions at once: add what each null field and its weight change, `guide` where it is one."""
    changes = [guide(conditional, null, weight) - conditional for null, weight in nulls]
    return conditional + torch.stack(changes).sum(0) if changes else conditional


def _known(solver: str) -> str:
    if solver not in SOLVERS:
        raise ValueError(f"solver={solver!r} must be one of {', '.join(SOLVERS)}")
    return solver


def _times(noise: Tensor, steps: int) -> Tensor:
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    return torch.linspace(1, 0, steps + 1, device=noise.device)
