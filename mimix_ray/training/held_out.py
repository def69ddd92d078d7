"""The loss on clips that are never trained on, at fixed flow times and with noise of its own.

Its number can be compared from step to step and from run to run: nothing in it is drawn anew (diffusion-pipe measures
likewise), and nothing that it draws is taken from the training's noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mimix_ray import tables
from mimix_ray.backbone import flow
from mimix_ray.config import TrainingConfig
from mimix_ray.training.batch import Batch, Samples, seeded

QUANTILES = (0.125, 0.375, 0.625, 0.875)
"""Where in the distribution of flow times the loss is measured: the middle of each quarter."""


@torch.no_grad()
def held_out_loss(
    rows: Sequence[tables.Row],
    source: Samples,
    config: TrainingConfig,
    shift: float,
    losses_of: Callable[[Batch], Tensor],
    rank: int,
    world: int,
    device: torch.device,
) -> float:
    """The mean loss over all held-out clips and QUANTILES; every worker must call, and gets the same number.

    Args:
        losses_of: The loss of each sample of a batch, [B].
    """
    work = [(row["sample_id"], quantile) for row in rows for quantile in QUANTILES]
    total = torch.zeros((), device=device)
    for turn in range(math.ceil(len(work) / world)):
        # A worker without a turn of its own keeps step with the others, as sharded weights need.
        place = turn * world + rank
        name, quantile = work[min(place, len(work) - 1)]
        latent = source.latent(name)
        noise = torch.randn(latent.shape, generator=seeded("held out", config.seed, name, quantile))
        place_1 = torch.tensor([quantile])
        s_1 = flow.quantile_times(place_1, config.timestep_sampling, shift)
        batch = Batch(latent[None], noise[None], s_1, place_1, [source.text(name)]).to(device)
        loss = losses_of(batch).sum()
        total += loss if place < len(work) else 0 * loss
    dist.all_reduce(total)
    return total.item() / len(work)
