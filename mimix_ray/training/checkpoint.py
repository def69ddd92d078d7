"""Checkpoints: one small file with what LoRA training needs to go on exactly, and nothing of the frozen base.

LoRA weights and Adam's moments in fp32, whole, not sharded: independent of the number of workers and of the ZeRO stage.
The step is the position in the plan, and noise is drawn from (seed, step, place): there is no other random state.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from mimix_ray.storage import Storage

KEYS = ("weight", "exp_avg", "exp_avg_sq")
"""What is kept of each LoRA tensor: itself, and Adam's two moments."""

History = list[dict[str, Any]]
"""One record an optimiser step: step (from 1), loss, grad_norm, lr, seconds."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after `len(history)` steps; tensors by `<key>/<name of the LoRA tensor>`."""

    tensors: dict[str, Tensor]
    history: History

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return len(self.history)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The LoRA alone, by name."""
        return {name.removeprefix("weight/"): t for name, t in self.tensors.items() if name.startswith("weight/")}


def write(storage: Storage, recipe: str, checkpoint: Checkpoint, keep: int) -> None:
    """Publishes a checkpoint whole or not at all, then removes those before it of this recipe but for `keep` in all.

    Later ones, of a training that went on for longer, stay.
    """
    metadata = {"history": json.dumps(checkpoint.history)}
    storage.write_bytes(f"{_folder(recipe)}/{checkpoint.step:08d}.safetensors", save(checkpoint.tensors, metadata))
    for name in _until(storage, recipe, checkpoint.step)[:-keep]:
        storage.delete(name)


def newest(storage: Storage, recipe: str, most: int) -> str | None:
    """Name of the newest checkpoint of this recipe with at most `most` steps, or None."""
    names = _until(storage, recipe, most)
    return names[-1] if names else None


def read(storage: Storage, name: str) -> Checkpoint:
    """The checkpoint of that name; StorageError when it is not there."""
    data = storage.read_bytes(name)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return Checkpoint(load(data), json.loads(header["__metadata__"]["history"]))


def _folder(recipe: str) -> str:
    return f"training/checkpoints/{recipe}"


def _until(storage: Storage, recipe: str, step: int) -> list[str]:
    """Checkpoints of at most so many steps, the newest last."""
    names = storage.list(_folder(recipe), ".safetensors")
    return [name for name in names if int(name.rpartition("/")[2][:8]) <= step]
