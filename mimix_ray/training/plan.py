"""Which samples each worker trains on at each step: a pure function of the seed, never of how the work is spread.

Epochs follow one another in one endless stream; step n takes the n-th batch of it, whatever the number of workers, so
that all take the same number of steps, nothing is dropped at an epoch's end, and any step can be found again.

Samples that a worker holds at once must have one shape. The stream therefore consists of units, `micro_batch` samples
of one shape each; a sample whose unit is not full at its epoch's end waits for the next epoch's, and none is dropped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from mimix_ray import tables
from mimix_ray.config import TrainingConfig

Unit = tuple[str, ...]
"""Ids of samples of one shape, which go through the model together."""


class PlanError(ValueError):
    """A mix or a batch that cannot be made; the message is one clear line."""


@dataclass(frozen=True)
class Source:
    """Samples that are dealt together: so many an epoch, and none twice before all have come once."""

    name: str
    samples: tuple[str, ...]
    an_epoch: int


@dataclass(frozen=True)
class MicroBatch:
    """One worker's work between two forward passes."""

    samples: tuple[tuple[int, str], ...]
    """(place in the whole batch, id)."""
    weight: float
    """Of its mean loss; 0 for a unit that only keeps a worker in step with the others."""


class Plan:
    """The order of samples: `batch(n)` is what step n (from 0) trains on, over all workers."""

    def __init__(
        self,
        sources: Sequence[Source],
        batch_size: int,
        seed: int,
        micro_batch: int = 1,
        shapes: Mapping[str, Hashable] | None = None,
    ) -> None:
        """
        Args:
            shapes: Shape by sample; default: all have one.

        Raises:
            PlanError: Nothing to deal, or a batch that is no whole number of units.
        """
        if batch_size % micro_batch:
            raise PlanError(f"training.batch_size {batch_size} is no multiple of training.micro_batch {micro_batch}")
        self.sources, self.batch_size, self.seed, self.micro_batch = tuple(sources), batch_size, seed, micro_batch
        self.shapes = shapes or {}
        if not self.epoch_size:
            raise PlanError("there is no clip to train on; see the report of the stage latents")
        self._drawn: list[Unit] = []
        self._units = self._stream()

    @property
    def epoch_size(self) -> int:
        """Samples an epoch."""
        return sum(source.an_epoch for source in self.sources)

    def steps(self, epochs: int, most: int | None = None) -> int:
        """Optimiser steps that see every sample of `epochs` epochs; the last may begin the epoch after them."""
        steps = math.ceil(epochs * self.epoch_size / self.batch_size)
        return steps if most is None else min(steps, most)

    def batch(self, step: int) -> list[Unit]:
        """The units of one optimiser step."""
        a_step = self.batch_size // self.micro_batch
        first = step * a_step
        self._drawn.extend(islice(self._units, max(0, first + a_step - len(self._drawn))))
        return self._drawn[first : first + a_step]

    def epoch(self, number: int) -> list[str]:
        """The samples of one epoch (from 0), shuffled, before they are made units."""
        dealt = [name for place, source in enumerate(self.sources) for name in self._dealt(place, source, number)]
        return _shuffled(dealt, self.seed, 0, number)

    def missed(self, steps: int) -> list[str]:
        """Samples that no step trains on: of shapes so rare that their unit is never full."""
        trained = {name for step in range(steps) for unit in self.batch(step) for name in unit}
        epochs = math.ceil(steps * self.batch_size / self.epoch_size)
        return sorted({name for number in range(epochs) for name in self.epoch(number)} - trained)

    def _dealt(self, place: int, source: Source, epoch: int) -> list[str]:
        """The source's samples of an epoch, from an endless pile of shuffled decks."""
        if not source.an_epoch:
            return []
        deck, first = len(source.samples), epoch * source.an_epoch
        decks = range(first // deck, math.ceil((first + source.an_epoch) / deck))
        pile = [name for number in decks for name in _shuffled(source.samples, self.seed, 1 + place, number)]
        return pile[first - decks.start * deck :][: source.an_epoch]

    def _stream(self) -> Iterator[Unit]:
        waiting: dict[Hashable, list[str]] = {}
        for number in count():
            for name in self.epoch(number):
                unit = waiting.setdefault(self.shapes.get(name), [])
                unit.append(name)
                if len(unit) == self.micro_batch:
                    yield tuple(unit)
                    unit.clear()

    def share(self, step: int, rank: int, world: int) -> list[MicroBatch]:
        """One worker's part of a step: as many micro-batches as every other worker's, by any number of workers.

        Where units are no multiple of workers, some repeat a unit with weight 0. Units of one shape go through all
        workers at the same time, so that none waits for another's longer clip.
        """
        first = range(0, self.batch_size, self.micro_batch)
        units = [tuple(enumerate(unit, start)) for start, unit in zip(first, self.batch(step), strict=True)]
        units.sort(key=lambda unit: repr(self.shapes.get(unit[0][1])))
        rounds = math.ceil(len(units) / world)
        weight = rounds * world / len(units)
        mine = range(rank, rounds * world, world)
        return [
            MicroBatch(units[place], weight) if place < len(units) else MicroBatch(units[-1], 0.0) for place in mine
        ]


def mix(rows: Sequence[tables.Row], config: TrainingConfig, learned: Collection[str] = ()) -> list[Source]:
    """The sources of an epoch: every show's clips, and the composites in the wanted ratio, exact to a whole sample.

    Args:
        rows: Usable rows of table `latents` without those held out.
        learned: Shows that the adapter of a warm start knows; only `config.rehearsal` of them per new clip is dealt.

    Raises PlanError when the mix cannot be made.
    """
    shows: dict[str, list[str]] = {}
    for row in rows:
        if row["kind"] == "clip":
            shows.setdefault(row["show"], []).append(row["sample_id"])
    sizes = {show: len(clips) for show, clips in shows.items()}
    if config.rehearsal is None:
        counts = _shares(sum(sizes.values()), sizes, config)
    else:
        new = {show: size for show, size in sizes.items() if show not in learned}
        old = {show: size for show, size in sizes.items() if show in learned}
        if not new or not old:
            raise PlanError(
                f"training.rehearsal is {config.rehearsal}, but the shows of this run ({', '.join(shows)}) are "
                f"{'all' if old else 'none'} among those of training.warm_start ({', '.join(learned) or 'unknown'})"
            )
        counts = _shares(sum(new.values()), new, config)
        counts |= _shares(round(config.rehearsal * sum(new.values())), old, config)
    clips = [Source(show, tuple(shows[show]), counts[show]) for show in shows]
    composites = tuple(row["sample_id"] for row in rows if row["kind"] == "composite")
    ratio = config.composite_ratio
    if ratio and not composites:
        raise PlanError(f"training.composite_ratio is {ratio}, but there is no composite; set it to 0")
    dealt = round(sum(counts.values()) * (len(composites) / sum(sizes.values()) if ratio is None else ratio))
    return [*clips, Source("composites", composites, dealt)]


def set_aside(rows: Sequence[tables.Row], config: TrainingConfig) -> list[tables.Row]:
    """The clips that are held out: the same ones however the table is ordered, and most of the same as it grows.

    Raises PlanError when that would leave nothing to train on.
    """
    clips = sorted((row for row in rows if row["kind"] == "clip"), key=lambda row: _hash(config.seed, row["sample_id"]))
    if config.held_out and config.held_out >= len(clips):
        raise PlanError(f"training.held_out is {config.held_out} of {len(clips)} clips; leave some to train on")
    return clips[: config.held_out]


def _shares(total: int, sizes: Mapping[str, int], config: TrainingConfig) -> dict[str, int]:
    """`total` samples over shows, by their sizes or equally; the largest remainders get what rounding leaves."""
    weights = {show: 1 if config.shows == "balanced" else size for show, size in sizes.items()}
    whole = sum(weights.values())
    shares = {show: total * weight // whole for show, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda show: -(total * weights[show] % whole))
    for show in by_remainder[: total - sum(shares.values())]:
        shares[show] += 1
    return shares


def _shuffled(names: Sequence[str], *seed: int) -> list[str]:
    return [names[index] for index in np.random.default_rng(seed).permutation(len(names))]


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
