"""Flow matching as Wan was trained: straight paths from data (s = 0) to noise (s = 1).

x_s = (1 - s) x_0 + s eps, and the model learns the velocity eps - x_0 (notes agree across DiffSynth-Studio,
musubi-tuner and diffusion-pipe; Wan's sigma is our s, its timestep 1000 s).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from diffusers.training_utils import compute_loss_weighting_for_sd3
from torch import Tensor

QUANTILES = 1000
"""Points at which the distribution of flow times is looked at."""


def flow_time(u: Tensor, sampling: str, shift: float) -> Tensor:
    """Flow times s in (0, 1) from standard random numbers of the same shape.

    Args:
        u: Uniform in [0, 1) for sampling `uniform`, standard normal for `logit_normal`.
        shift: Moves times towards noise, s = shift u / (1 + (shift - 1) u); 1 leaves them.
    """
    u = torch.sigmoid(u) if sampling == "logit_normal" else u
    return shift * u / (1 + (shift - 1) * u)


def quantile_times(quantiles: Tensor, sampling: str, shift: float) -> Tensor:
    """The flow times that stand at these places (0 .. 1, exclusive) of the distribution."""
    return flow_time(torch.special.ndtri(quantiles) if sampling == "logit_normal" else quantiles, sampling, shift)


def mix(x0_BCFHW: Tensor, noise_BCFHW: Tensor, s_B: Tensor) -> Tensor:
    """The point at flow time s on the way from data to noise."""
    s_B1111 = s_B.view(-1, 1, 1, 1, 1)
    return (1 - s_B1111) * x0_BCFHW + s_B1111 * noise_BCFHW


def losses(velocity_BCFHW: Tensor, x0_BCFHW: Tensor, noise_BCFHW: Tensor) -> Tensor:
    """Mean squared error of each sample against the path's velocity, [B]; all inputs fp32."""
    return torch.nn.functional.mse_loss(velocity_BCFHW, noise_BCFHW - x0_BCFHW, reduction="none").mean((1, 2, 3, 4))


def weights(s_B: Tensor, weighting: str, sampling: str, shift: float) -> Tensor:
    """What each sample's loss counts, [B], at flow times s_B.

    `sigma_sqrt` (1 / s^2, s at least 1/1000) and `cosmap` are SD3's (diffusers); `bell` is DiffSynth-Studio's,
    exp(-2 (s - 1/2)^2) above its value at the ends, and 1 in the mean over the flow times that are drawn; `none` is 1.
    """
    if weighting == "bell":
        return _bell(s_B) / _mean_bell(sampling, shift)
    return compute_loss_weighting_for_sd3(weighting, sigmas=s_B.clamp(min=1e-3))


def _bell(s: Tensor) -> Tensor:
    return torch.exp(-2 * (s - 0.5) ** 2) - math.exp(-0.5)


@lru_cache
def _mean_bell(sampling: str, shift: float) -> float:
    quantiles = (torch.arange(QUANTILES) + 0.5) / QUANTILES
    return float(_bell(quantile_times(quantiles, sampling, shift)).mean())
