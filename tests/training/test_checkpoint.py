"""Checkpoints: what goes in comes out, the newest is found, old ones go."""

from pathlib import Path

import torch

from mimix_ray.storage import Storage
from mimix_ray.training import checkpoint
from mimix_ray.training.checkpoint import Checkpoint


def make(step: int) -> Checkpoint:
    tensors = {f"{key}/blocks.0.lora_A.weight": torch.randn(3, 4) for key in checkpoint.KEYS}
    return Checkpoint(tensors, [{"step": n + 1, "loss": 0.1 * n} for n in range(step)])


def test_round_trip_is_exact(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    written = make(7)
    checkpoint.write(storage, "abc", written, keep=2)
    read = checkpoint.read(storage, checkpoint.newest(storage, "abc", 100) or "")
    assert read.history == written.history and read.step == 7
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in written.tensors.items())
    assert list(read.weights) == ["blocks.0.lora_A.weight"]


def test_newest_within_the_steps_of_this_recipe(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    assert checkpoint.newest(storage, "abc", 100) is None
    for step in (2, 4, 6, 8):
        checkpoint.write(storage, "abc", make(step), keep=3)
    assert checkpoint.newest(storage, "abc", 100) == "training/checkpoints/abc/00000008.safetensors"
    assert checkpoint.newest(storage, "abc", 7) == "training/checkpoints/abc/00000006.safetensors"
    assert checkpoint.newest(storage, "abc", 3) is None, "the oldest went when the fourth came"
    assert checkpoint.newest(storage, "other", 100) is None


def test_a_shorter_training_keeps_its_own_beside_later_ones(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    for step in (10, 20, 3):
        checkpoint.write(storage, "abc", make(step), keep=1)
    assert checkpoint.newest(storage, "abc", 5) == "training/checkpoints/abc/00000003.safetensors"
    assert checkpoint.newest(storage, "abc", 100) == "training/checkpoints/abc/00000020.safetensors"
