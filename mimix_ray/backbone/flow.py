"""Flow matching as Wan was trained: straight paths from data (s = 0) to noise (s = 1).

x_s = (1 - s) x_0 + s eps, and the model learns the velocity eps - x_0 (notes agree across DiffSynth-Studio,
musubi-tuner and diffusion-pipe; Wan's sigma is our s, its timestep 1000 s).
"""

from __future__ import annotations

import torch
from torch import Tensor


def flow_time(u: Tensor, sampling: str, shift: float) -> Tensor:
    """Flow times s in (0, 1) from standard random numbers of the same shape.

    Args:
        u: Uniform in [0, 1) for sampling `uniform`, standard normal for `logit_normal`.
        shift: Moves times towards noise, s = shift u / (1 + (shift - 1) u); 1 leaves them.
    """
    u = torch.sigmoid(u) if sampling == "logit_normal" else u
    return shift * u / (1 + (shift - 1) * u)


def mix(x0_BCFHW: Tensor, noise_BCFHW: Tensor, s_B: Tensor) -> Tensor:
    """The point at flow time s on the way from data to noise."""
    s_B1111 = s_B.view(-1, 1, 1, 1, 1)
    return (1 - s_B1111) * x0_BCFHW + s_B1111 * noise_BCFHW


def loss(velocity_BCFHW: Tensor, x0_BCFHW: Tensor, noise_BCFHW: Tensor) -> Tensor:
    """Mean squared error against the path's velocity, a scalar; all inputs fp32."""
    return torch.nn.functional.mse_loss(velocity_BCFHW, noise_BCFHW - x0_BCFHW)
