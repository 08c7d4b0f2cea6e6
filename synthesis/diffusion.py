"""Gaussian diffusion, pure functions: schedules, targets, preconditioning and samplers, by the numbers of their papers.

"DDPM" is Ho et al. 2020 (arXiv 2006.11239), "DDIM" Song et al. 2021 (arXiv 2010.02502), "cosine" Nichol & Dhariwal 2021
(arXiv 2102.09672), "v" Salimans & Ho 2022 (arXiv 2202.00512), "EDM" Karras et al. 2022 (arXiv 2206.00364). One time
convention: level 0 is data, levels rise with the noise. What denoises returns what it believes the data to be.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

LEVELS = 1000
SCHEDULES = ("cosine", "linear")
SIGMA_DATA, P_MEAN, P_STD = 0.5, -1.2, 1.2  # EDM, table 1
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0
CHURN_FROM, CHURN_TO, CHURN_NOISE = 0.02, 100.0, 1.003  # EDM, table 5: between which σ noise is added, and how much

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x, level or σ of each row `(n,)`) -> data
Fresh = Callable[[], Tensor]  # standard normal noise of the shape of x, new at every call
Step = Callable[[Denoiser, Tensor, float, float], Tensor]


def signal_kept(schedule: str, levels: int = LEVELS) -> Tensor:
    """Return ᾱ of levels 0..`levels`, float64 `(levels + 1,)`, falling from 1; x_t = √ᾱ x_0 + √(1 - ᾱ) e.

    "linear" is DDPM §4, β from 1e-4 to 0.02; "cosine" its own equation 17, β at most 0.999.
    """
    if schedule == "linear":
        beta = torch.linspace(1e-4, 0.02, levels, dtype=torch.float64)
    elif schedule == "cosine":
        t = torch.arange(levels + 1, dtype=torch.float64) / levels
        f = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
        beta = (1 - f[1:] / f[:-1]).clamp_max(0.999)
    else:
        raise ValueError(f"schedule={schedule!r} must be one of {', '.join(SCHEDULES)}")
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, 0)])


def diffuse(data: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return x_t = √ᾱ x_0 + √(1 - ᾱ) e (DDPM, equation 4); `kept` is ᾱ of each row, `(n,)`."""
    a = like(kept, data)
    return a.sqrt() * data + (1 - a).sqrt() * noise


def velocity(data: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return v = √ᾱ e - √(1 - ᾱ) x_0 (v, §4 and appendix D)."""
    a = like(kept, data)
    return a.sqrt() * noise - (1 - a).sqrt() * data


def data_of_noise(x: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return x_0 = (x_t - √(1 - ᾱ) e) / √ᾱ (DDPM, equation 15)."""
    a = like(kept, x)
    return (x - (1 - a).sqrt() * noise) / a.sqrt()


def data_of_velocity(x: Tensor, v: Tensor, kept: Tensor) -> Tensor:
    """Return x_0 = √ᾱ x_t - √(1 - ᾱ) v (v, appendix D)."""
    a = like(kept, x)
    return a.sqrt() * x - (1 - a).sqrt() * v


def noise_of_data(x: Tensor, data: Tensor, kept: Tensor) -> Tensor:
    """Return e = (x_t - √ᾱ x_0) / √(1 - ᾱ); not at level 0, where there is none."""
    a = like(kept, x)
    return (x - a.sqrt() * data) / (1 - a).sqrt()


def ladder(steps: int, levels: int = LEVELS) -> list[int]:
    """Return `steps` + 1 levels from the last one down to 0, evenly spread."""
    if not 1 <= steps <= levels:
        raise ValueError(f"steps={steps} must be from 1 to {levels}")
    return [round(levels * (1 - i / steps)) for i in range(steps + 1)]


def descend(
    denoise: Denoiser, noise: Tensor, kept: Tensor, *, steps: int, eta: float = 0.0, fresh: Fresh | None = None
) -> Tensor:
    """Walk down the levels of `kept` in `steps` evenly spread strides (DDIM, equations 12 and 16).

    Args:
        denoise: is told the level of each row.
        noise: x at the last level, `(n, ...)`.
        kept: ᾱ of all levels, of `signal_kept`.
        steps: how often `denoise` is asked.
        eta: 0 is DDIM, an ODE; 1 is ancestral sampling, DDPM's algorithm 2 with the variance β̃ of its equation 7.
        fresh: noise of each stride but the last, needed where `eta` is not 0.
    """
    x = noise
    for now, then in pairwise(ladder(steps, len(kept) - 1)):
        data = denoise(x, torch.full((len(x),), now))
        a, b = float(kept[now]), float(kept[then])
        e = (x - math.sqrt(a) * data) / math.sqrt(1 - a)
        spread = eta * math.sqrt((1 - b) / (1 - a) * (1 - a / b))
        x = math.sqrt(b) * data + math.sqrt(max(1 - b - spread**2, 0.0)) * e
        if spread > 0:
            if fresh is None:
                raise ValueError(f"eta={eta} needs fresh noise")
            x = x + spread * fresh()
    return x


def draw_sigma(n: int, generator: torch.Generator) -> Tensor:
    """Return noise levels to train on, `(n,)`: ln σ is normal with P_mean and P_std (EDM, table 1)."""
    return (P_MEAN + P_STD * torch.randn(n, generator=generator)).exp()


def preconditioning(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return c_skip, c_out, c_in and c_noise of σ (EDM, table 1)."""
    both = sigma**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / both, sigma * SIGMA_DATA / both.sqrt(), 1 / both.sqrt(), sigma.log() / 4


def weight(sigma: Tensor) -> Tensor:
    """Return λ = (σ² + σ_data²) / (σ σ_data)², which makes the target of the network as hard at every σ (EDM, §5)."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2


def preconditioned(network: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """Return D(x; σ) = c_skip x + c_out F(c_in x; c_noise) (EDM, equation 7)."""
    c_skip, c_out, c_in, c_noise = preconditioning(sigma)
    return like(c_skip, x) * x + like(c_out, x) * network(like(c_in, x) * x, c_noise)


def sigmas(steps: int) -> list[float]:
    """Return `steps` noise levels from 80 to 0.002 and a last one of 0 (EDM, equation 5)."""
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    high, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return [*((high + i / max(steps - 1, 1) * (low - high)) ** RHO for i in range(steps)), 0.0]


def euler(denoise: Denoiser, x: Tensor, now: float, then: float) -> Tensor:
    """Follow dx/dσ = (x - D(x; σ)) / σ where we are: first order, one evaluation."""
    return x + (then - now) * _slope(denoise, x, now)


def heun(denoise: Denoiser, x: Tensor, now: float, then: float) -> Tensor:
    """Follow the mean of the slopes here and where the first one leads (EDM, algorithm 1): second order.

    The second slope is asked of the point that was reached, (x', σ'), not of the one that was left; the step that ends
    at σ = 0 is Euler's.
    """
    here = _slope(denoise, x, now)
    ahead = x + (then - now) * here
    if then == 0:
        return ahead
    return x + (then - now) * (here + _slope(denoise, ahead, then)) / 2


def clean(
    denoise: Denoiser, noise: Tensor, levels: Sequence[float], *, step: Step = heun, churn: float = 0.0,
    fresh: Fresh | None = None,
) -> Tensor:  # fmt: skip
    """Follow the probability-flow ODE down the noise levels (EDM, algorithm 2; with `churn` 0 it is algorithm 1).

    Args:
        denoise: D, told σ of each row.
        noise: standard normal, `(n, ...)`.
        levels: σ, falling; of `sigmas`.
        step: `heun` or `euler`.
        churn: S_churn, how much noise is put back before the steps.
        fresh: where it comes from.
    """
    x = noise * levels[0]
    gamma = min(churn / (len(levels) - 1), math.sqrt(2) - 1)
    for now, then in pairwise(levels):
        if gamma > 0 and CHURN_FROM <= now <= CHURN_TO:
            if fresh is None:
                raise ValueError(f"churn={churn} needs fresh noise")
            higher = now * (1 + gamma)
            x, now = x + math.sqrt(higher**2 - now**2) * CHURN_NOISE * fresh(), higher
        x = step(denoise, x, now, then)
    return x


def like(row: Tensor, data: Tensor) -> Tensor:
    """Return one number a row, `(n,)`, shaped to multiply `data`, in its type."""
    return row.to(data.dtype).view(-1, *[1] * (data.ndim - 1))


def _slope(denoise: Denoiser, x: Tensor, sigma: float) -> Tensor:
    return (x - denoise(x, torch.full((len(x),), sigma, dtype=x.dtype))) / sigma
