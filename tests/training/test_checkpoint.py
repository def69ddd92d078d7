"""Checkpoints: what goes in comes out, the newest sound one is found, old ones go, and the good ones outlive faults."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mimix_ray.storage import Storage, StorageError
from mimix_ray.training import checkpoint
from mimix_ray.training.checkpoint import Checkpoint, Writer


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


def make(step: int, held_out: float | None = None) -> Checkpoint:
    tensors = {f"{key}/blocks.0.lora_A.weight": torch.randn(3, 4) for key in (*checkpoint.KEYS, checkpoint.AVERAGE)}
    history = [{"step": n + 1, "loss": 0.1 * n} for n in range(step)]
    history[-1]["held_out"] = held_out
    return Checkpoint(tensors, history, {"adam_step": 3.0})


def newest(storage: Storage, most: int = 100, recipe: str = "abc") -> int | None:
    return checkpoint.find_newest(storage, recipe, most, lambda line: None)


def test_round_trip_is_exact(storage: Storage) -> None:
    written = make(7)
    checkpoint.write(storage, "abc", written, keep=2)
    read = checkpoint.read(storage, "abc", newest(storage) or 0)
    assert read.history == written.history and read.step == 7 and read.counters == {"adam_step": 3.0}
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in written.tensors.items())
    assert list(read.part("weight")) == ["blocks.0.lora_A.weight"]
    assert read.adapter["blocks.0.lora_A.weight"].equal(written.tensors["ema/blocks.0.lora_A.weight"])


def test_newest_within_the_steps_of_this_recipe(storage: Storage) -> None:
    assert newest(storage) is None
    for step in (2, 4, 6, 8):
        checkpoint.write(storage, "abc", make(step), keep=3)
    assert newest(storage) == 8
    assert newest(storage, most=7) == 6
    assert newest(storage, most=3) is None, "the oldest went when the fourth came"
    assert newest(storage, recipe="other") is None
    assert len(storage.list("training/checkpoints")) == 6


def test_a_shorter_training_keeps_its_own_beside_later_ones(storage: Storage) -> None:
    for step in (10, 20, 3):
        checkpoint.write(storage, "abc", make(step), keep=1)
    assert newest(storage, most=5) == 3
    assert newest(storage) == 20


def test_the_best_stays_beside_the_last(storage: Storage) -> None:
    for step, held_out in ((1, 0.9), (2, 0.3), (3, 0.5), (4, None), (5, 0.4)):
        checkpoint.write(storage, "abc", make(step, held_out), keep=1)
    assert checkpoint.find_best(storage, "abc", 100) == 2
    assert [name for name in storage.list("training/checkpoints", ".safetensors") if "0002" in name or "0005" in name]
    assert len(storage.list("training/checkpoints", ".safetensors")) == 2


@pytest.mark.parametrize("damage", ["cut short", "flipped byte", "gone", "no mark"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(storage: Storage, damage: str) -> None:
    for step in (2, 4):
        checkpoint.write(storage, "abc", make(step), keep=3)
    name = "training/checkpoints/abc/00000004.safetensors"
    data = bytearray(storage.read_bytes(name))
    if damage == "cut short":
        storage.write_bytes(name, bytes(data[:-7]))
    elif damage == "flipped byte":
        data[-9] ^= 1
        storage.write_bytes(name, bytes(data))
    elif damage == "gone":
        storage.delete(name)
    else:
        storage.delete(name.replace("safetensors", "json"))
    complaints: list[str] = []
    assert checkpoint.find_newest(storage, "abc", 100, complaints.append) == 2
    assert len(complaints) == (0 if damage == "no mark" else 1)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 1 KB any more, as the kernel would have it on a full disk (the error is EFBIG here)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_one_clear_error_and_leaves_the_last_checkpoint(storage: Storage) -> None:
    checkpoint.write(storage, "abc", make(2), keep=1)
    before = storage.list("training")
    big = Checkpoint({"weight/x": torch.zeros(5000)}, [{"step": 1}] * 4)
    with pytest.raises(StorageError, match="cannot be written"), full_disk():
        checkpoint.write(storage, "abc", big, keep=1)
    assert storage.list("training") == before and newest(storage) == 2


def test_the_writer_works_behind_and_tells_what_went_wrong() -> None:
    done: list[int] = []
    writer = Writer()
    for number in range(3):
        writer.submit(lambda number=number: done.append(number))
    writer.wait()
    assert done == [0, 1, 2]

    def fail() -> None:
        raise StorageError("no space")

    writer.submit(fail)
    with pytest.raises(StorageError, match="no space"):
        writer.wait()
    writer.wait()
