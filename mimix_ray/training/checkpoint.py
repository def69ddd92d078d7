"""Checkpoints: one small file with what LoRA training needs to go on exactly, and nothing of the frozen base.

LoRA weights and Adam's moments in fp32, whole, not sharded: independent of the number of workers and of the ZeRO stage
(their average too, where one is kept). The step is the position in the plan and in the schedule, and noise is drawn
from (seed, step, place): there is no other random state.

A checkpoint is a file of tensors and a mark beside it, written after it, with the file's checksum. Without the mark
there is no checkpoint; one that does not fit its mark is passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from mimix_ray.storage import Storage

KEYS = ("weight", "exp_avg", "exp_avg_sq")
"""What is kept of each LoRA tensor: itself, and Adam's two moments."""
AVERAGE = "ema"
"""And its average over the steps, where one is kept."""

History = list[dict[str, Any]]
"""One record an optimiser step; see `loop.Record`."""


class CheckpointError(ValueError):
    """A checkpoint that does not fit its mark."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after `len(history)` steps; tensors by `<key>/<name of the LoRA tensor>`."""

    tensors: dict[str, Tensor]
    history: History
    counters: dict[str, float] = field(default_factory=dict)
    """Of the optimiser: Adam's steps, which are fewer where fp16 overflowed, and the state of the loss scale."""

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return len(self.history)

    @property
    def held_out(self) -> float | None:
        """The held-out loss, if it was measured at this step."""
        return self.history[-1].get("held_out") if self.history else None

    def part(self, key: str) -> dict[str, Tensor]:
        """The tensors of one key, by the LoRA's names."""
        return {name.removeprefix(f"{key}/"): t for name, t in self.tensors.items() if name.startswith(f"{key}/")}

    @property
    def adapter(self) -> dict[str, Tensor]:
        """What is published: the average if there is one, else the weights."""
        return self.part(AVERAGE) or self.part("weight")


@dataclass(frozen=True)
class Mark:
    """What stands beside a finished checkpoint's file."""

    step: int
    bytes: int
    sha256: str
    held_out: float | None


def write(storage: Storage, recipe: str, checkpoint: Checkpoint, keep: int) -> None:
    """Publishes a checkpoint whole or not at all, then removes those before it of this recipe.

    The newest `keep` stay, the one of least held-out loss, and later ones, of a training that went on for longer.
    """
    metadata = {"history": json.dumps(checkpoint.history), "counters": json.dumps(checkpoint.counters)}
    data = save(checkpoint.tensors, metadata)
    mark = Mark(checkpoint.step, len(data), hashlib.sha256(data).hexdigest(), checkpoint.held_out)
    storage.write_bytes(_file(recipe, mark.step), data)
    storage.write_json(_mark(recipe, mark.step), asdict(mark))
    steps = _steps(storage, recipe, mark.step)
    best = find_best(storage, recipe, mark.step)
    for step in steps[:-keep]:
        if step != best:
            storage.delete(_mark(recipe, step))  # first: what has no mark is no checkpoint
            storage.delete(_file(recipe, step))


def read(storage: Storage, recipe: str, step: int) -> Checkpoint:
    """The checkpoint after `step` steps; CheckpointError when it is damaged, StorageError when it is not there."""
    mark = Mark(**storage.read_json(_mark(recipe, step)))
    data = storage.read_bytes(_file(recipe, step))
    if hashlib.sha256(data).hexdigest() != mark.sha256:
        raise CheckpointError(f"{storage / _file(recipe, step)}: not what was written ({len(data)} of {mark.bytes} B)")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return Checkpoint(load(data), json.loads(header["history"]), json.loads(header["counters"]))


def find_newest(storage: Storage, recipe: str, most: int, complain: Callable[[str], None]) -> int | None:
    """Step of the newest sound checkpoint of this recipe with at most `most` steps, or None.

    Args:
        complain: Called with one line for each newer one that is damaged.
    """
    for step in reversed(_steps(storage, recipe, most)):
        try:
            read(storage, recipe, step)
            return step
        except (CheckpointError, OSError, ValueError) as error:
            complain(f"{error}; going on from the checkpoint before it")
    return None


def find_best(storage: Storage, recipe: str, most: int) -> int | None:
    """Step of the checkpoint of least held-out loss, or None when none was measured."""
    marks = [Mark(**storage.read_json(_mark(recipe, step))) for step in _steps(storage, recipe, most)]
    measured = [(mark.held_out, mark.step) for mark in marks if mark.held_out is not None]
    return min(measured)[1] if measured else None


class Writer:
    """Writes in the background, one thing after another; what went wrong is raised by the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def submit(self, task: Callable[[], None]) -> None:
        """Runs the task on another thread; waits for the one before, so that at most one state is in memory."""
        self.wait()
        self._pending = self._pool.submit(task)

    def look(self) -> None:
        """Raises what a task that has ended raised."""
        if self._pending and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Until all is written; raises what the task raised."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()


def _file(recipe: str, step: int) -> str:
    return f"training/checkpoints/{recipe}/{step:08d}.safetensors"


def _mark(recipe: str, step: int) -> str:
    return f"training/checkpoints/{recipe}/{step:08d}.json"


def _steps(storage: Storage, recipe: str, most: int) -> list[int]:
    """Steps of the finished checkpoints up to `most`, the newest last."""
    marks = storage.list(f"training/checkpoints/{recipe}", ".json")
    return [step for step in (int(name.rpartition("/")[2].removesuffix(".json")) for name in marks) if step <= most]
