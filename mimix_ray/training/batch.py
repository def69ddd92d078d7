"""From planned samples to the loss of one micro-batch. No Ray, no DeepSpeed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mimix_ray import tables
from mimix_ray.backbone import Family, flow
from mimix_ray.config import BackboneConfig, TrainingConfig
from mimix_ray.storage import Storage
from mimix_ray.training.job import TrainingError


@dataclass(frozen=True)
class Batch:
    """One micro-batch."""

    x0_BCFHW: Tensor
    """Normalised latents, fp32."""
    noise_BCFHW: Tensor
    s_B: Tensor
    """Flow times, 0 data .. 1 noise."""
    texts: list[Tensor]
    """[L, D] each."""

    def corner(self) -> Batch:
        """One patch of it: the smallest batch of the same kind."""
        return Batch(self.x0_BCFHW[..., :1, :2, :2], self.noise_BCFHW[..., :1, :2, :2], self.s_B, self.texts)


def load_batch(
    samples: Sequence[tuple[int, tables.Row]],
    step: int,
    storage: Storage,
    config: TrainingConfig,
    flow_shift: float,
    device: torch.device,
) -> Batch:
    """Reads samples and draws their noise and flow times.

    What is drawn follows from the seed, the step and the sample's place in the whole batch alone, so that it is the
    same however many workers share the batch, and after a restart.

    Args:
        samples: (place in the whole batch, row of table `latents`), all of one latent shape.

    Raises:
        TrainingError: A sample's file is broken.
        StorageError: It is not there.
    """
    latents, noises, times, texts = [], [], [], []
    for place, row in samples:
        latent = _read(storage, row["latent"], "latent").float()
        generator = torch.Generator().manual_seed(_seed(config.seed, step, place))
        draw = torch.randn if config.timestep_sampling == "logit_normal" else torch.rand
        times.append(draw((), generator=generator))
        dropped = torch.rand((), generator=generator) < config.caption_dropout
        texts.append(_read(storage, row["texts"], "empty" if dropped else config.caption_format))
        noises.append(torch.randn(latent.shape, generator=generator))
        latents.append(latent)
    s_B = flow.flow_time(torch.stack(times), config.timestep_sampling, flow_shift)
    return Batch(
        torch.stack(latents).to(device), torch.stack(noises).to(device), s_B.to(device), [t.to(device) for t in texts]
    )


def batch_loss(model: nn.Module, family: Family, config: BackboneConfig, batch: Batch) -> Tensor:
    """The flow-matching loss of a micro-batch, an fp32 scalar."""
    x_BCFHW = flow.mix(batch.x0_BCFHW, batch.noise_BCFHW, batch.s_B)
    velocity_BCFHW = family.predict(model, config, x_BCFHW, batch.s_B, batch.texts)
    return flow.loss(velocity_BCFHW, batch.x0_BCFHW, batch.noise_BCFHW)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Constant after a linear warm-up; steps count from 0."""
    return config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _read(storage: Storage, name: str, key: str) -> Tensor:
    with storage.local(name) as path:
        try:
            return load_file(path)[key]
        except (SafetensorError, KeyError) as error:
            raise TrainingError(f"{storage / name}: no {key!r} in it ({error}); run the stage latents again") from None
