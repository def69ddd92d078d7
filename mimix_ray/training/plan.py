"""Which samples each worker trains on at each step: a pure function of the seed, never of how the work is spread.

Epochs follow one another in one endless stream of samples; step n takes the n-th batch of it, whatever the number of
workers, so that all take the same number of steps, nothing is dropped at an epoch's end, and any step can be found
again without having seen those before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class PlanError(ValueError):
    """A mix or a batch that cannot be made; the message is one clear line."""


@dataclass(frozen=True)
class Plan:
    """The order of samples. Every epoch holds each clip once and composites in exactly the wanted ratio.

    Over several epochs all composites come about equally often.
    """

    clips: tuple[str, ...]
    composites: tuple[str, ...]
    ratio: float | None
    """Composites per clip; None: each composite once an epoch."""
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if not self.clips:
            raise PlanError("there is no clip to train on; see the report of the stage latents")
        if self.ratio and not self.composites:
            raise PlanError(f"training.composite_ratio is {self.ratio}, but there is no composite; set it to 0")

    @property
    def composites_an_epoch(self) -> int:
        """The ratio's share, rounded to whole samples."""
        return len(self.composites) if self.ratio is None else round(self.ratio * len(self.clips))

    @property
    def epoch_size(self) -> int:
        """Samples an epoch."""
        return len(self.clips) + self.composites_an_epoch

    def steps(self, epochs: int, most: int | None = None) -> int:
        """Optimiser steps that see every sample of `epochs` epochs; the last may begin the epoch after them."""
        steps = math.ceil(epochs * self.epoch_size / self.batch_size)
        return steps if most is None else min(steps, most)

    def batch(self, step: int) -> list[str]:
        """Ids of the samples of one optimiser step (from 0), over all workers."""
        first = step * self.batch_size
        places = (divmod(place, self.epoch_size) for place in range(first, first + self.batch_size))
        return [_epoch(self, epoch)[place] for epoch, place in places]


def share(batch: Sequence[T], rank: int, world: int, micro_batch: int) -> list[list[tuple[int, T]]]:
    """One worker's part of a batch: micro-batches of (place in the whole batch, sample).

    Raises PlanError when the batch cannot be split evenly.
    """
    if len(batch) % (world * micro_batch):
        raise PlanError(
            f"training.batch_size {len(batch)} is no multiple of workers x micro_batch = {world} x {micro_batch}"
        )
    own = list(enumerate(batch))[rank * len(batch) // world : (rank + 1) * len(batch) // world]
    return [own[first : first + micro_batch] for first in range(0, len(own), micro_batch)]


@lru_cache(maxsize=2)
def _epoch(plan: Plan, epoch: int) -> list[str]:
    """The samples of one epoch, shuffled."""
    return _shuffled([*plan.clips, *_dealt(plan, epoch)], plan.seed, 0, epoch)


def _dealt(plan: Plan, epoch: int) -> list[str]:
    """The epoch's composites, from an endless pile of shuffled decks: none comes twice before all have come once."""
    deck, count = len(plan.composites), plan.composites_an_epoch
    if not count:
        return []
    first = epoch * count
    decks = range(first // deck, math.ceil((first + count) / deck))
    pile = [name for number in decks for name in _shuffled(plan.composites, plan.seed, 1, number)]
    return pile[first - decks.start * deck :][:count]


def _shuffled(names: Sequence[str], *seed: int) -> list[str]:
    return [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
