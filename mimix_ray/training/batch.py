"""From planned samples to the loss of one micro-batch. No Ray, no DeepSpeed."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn

from mimix_ray import tables, tensors
from mimix_ray.backbone import Family, flow
from mimix_ray.config import BackboneConfig, TrainingConfig
from mimix_ray.storage import Storage
from mimix_ray.training.job import TrainingError

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Batch:
    """One micro-batch."""

    x0_BCFHW: Tensor
    """Normalised latents, fp32."""
    noise_BCFHW: Tensor
    s_B: Tensor
    """Flow times, 0 data .. 1 noise."""
    quantile_B: Tensor
    """Where each flow time stands in the distribution that it was drawn from, 0 .. 1."""
    texts: list[Tensor]
    """[L, D] each, bf16."""

    def corner(self) -> Batch:
        """One patch of it: the smallest batch of the same kind."""
        return replace(self, x0_BCFHW=self.x0_BCFHW[..., :1, :2, :2], noise_BCFHW=self.noise_BCFHW[..., :1, :2, :2])

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("x0_BCFHW", "noise_BCFHW", "s_B", "quantile_B")}
        return replace(self, **moved, texts=[text.to(device) for text in self.texts])


class Samples:
    """Reads samples by id. Safe to share between threads."""

    def __init__(
        self, storage: Storage, latents: Iterable[tables.Row], texts: Mapping[str, tables.Row], empty: bool
    ) -> None:
        """
        Args:
            texts: Rows of table `texts` by sample, the empty prompt's under "".
            empty: Whether captions are dropped, so that the empty prompt is needed.
        """
        self.storage, self.texts = storage, texts
        self.latents = {row["sample_id"]: row for row in latents}
        self.empty = self._text("") if empty else None

    def latent(self, name: str) -> Tensor:
        """A sample's normalised latent, fp32 [C, F, H, W]; TrainingError when it is damaged or not a number."""
        row = self.latents[name]
        latent = self._read(row["shard"], row["row_group"], name)
        if list(latent.shape) != list(row["shape"]) or not torch.isfinite(latent).all():
            where = self.storage / row["shard"]
            raise TrainingError(
                f"{where}: NaN, infinity or another shape in {name!r}; remove it, and run the stage latents again"
            )
        return latent.float()

    def text(self, name: str, dropped: bool = False) -> Tensor:
        """A sample's caption, or the empty one, bf16 [L, D]."""
        return self.empty if dropped and self.empty is not None else self._text(name)

    def _text(self, name: str) -> Tensor:
        row = self.texts[name]
        return self._read(row["shard"], row["row_group"], row["text_id"])

    def _read(self, shard: str, row_group: int, key: str) -> Tensor:
        try:
            return tensors.read(self.storage, shard, row_group, key)
        except (tensors.TensorError, OSError) as error:
            raise TrainingError(f"{error} (the stage latents)") from None


def load_batch(
    samples: Iterable[tuple[int, str]], step: int, source: Samples, config: TrainingConfig, shift: float
) -> Batch:
    """Reads samples and draws their noise and flow times; on the CPU.

    What is drawn follows from the seed, the step and the sample's place in the whole batch alone, so that it is the
    same however many workers share the batch, and after a restart.

    Args:
        samples: (place in the whole batch, id), all of one latent shape.
        shift: Of flow times towards noise.

    Raises:
        TrainingError: A sample's file is damaged or has gone.
    """
    latents, noises, draws, texts = [], [], [], []
    for place, name in samples:
        generator = seeded(config.seed, step, place)
        draw = torch.randn if config.timestep_sampling == "logit_normal" else torch.rand
        draws.append(draw((), generator=generator))
        dropped = bool(torch.rand((), generator=generator) < config.caption_dropout)
        texts.append(source.text(name, dropped))
        latents.append(source.latent(name))
        noises.append(torch.randn(latents[-1].shape, generator=generator))
    u_B = torch.stack(draws)
    quantile_B = torch.special.ndtr(u_B) if config.timestep_sampling == "logit_normal" else u_B
    s_B = flow.flow_time(u_B, config.timestep_sampling, shift)
    return Batch(torch.stack(latents), torch.stack(noises), s_B, quantile_B, texts)


def batch_losses(model: nn.Module, family: Family, config: BackboneConfig, batch: Batch) -> Tensor:
    """The flow-matching loss of each sample, fp32 [B]."""
    x_BCFHW = flow.mix(batch.x0_BCFHW, batch.noise_BCFHW, batch.s_B)
    velocity_BCFHW = family.predict(model, config, x_BCFHW, batch.s_B, batch.texts)
    return flow.losses(velocity_BCFHW, batch.x0_BCFHW, batch.noise_BCFHW)


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """A linear warm-up, then constant, or down to 0 at the end of `steps`; steps count from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    left = 1 - (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    factor = {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}
    return config.learning_rate * factor[config.schedule]


def seeded(*parts: object) -> torch.Generator:
    """A generator whose numbers follow from `parts` alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def ahead(load: Callable[[T], S], items: Iterable[T], depth: int) -> Iterator[S]:
    """`load` of each item, in order, while threads work on the next `depth`; what `load` raises comes in its turn."""
    # One core each: a team of OpenMP threads beside the main thread's would make both sleep at every barrier.
    pool = ThreadPoolExecutor(depth, "prefetch", initializer=torch.set_num_threads, initargs=(1,))
    rest = iter(items)
    waiting: deque[Future[S]] = deque(pool.submit(load, item) for item in islice(rest, depth))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(load, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
