"""Files of tensors, on a folder and on S3: what goes in comes out, one alone, and damage is told."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import torch

from mimix_ray import tensors
from mimix_ray.config import StorageConfig
from mimix_ray.storage import Storage, StorageError
from mimix_ray.tensors import TensorError
from tests.s3 import Fault, S3Server

NAME = "latents/shards/a.parquet"


def some(count: int = 3, size: int = 96) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"tom/e01/{number}": torch.randn(4, 2, size, generator=generator).bfloat16() for number in range(count)}


def test_what_is_written_comes_back_bit_by_bit(storage: Storage) -> None:
    edges = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 3.4e38, 1e-40, 1.0], dtype=torch.bfloat16)
    given = {**some(), "edges": edges, "ünï/x y": torch.ones(1, 8)}
    given["turned"] = given["tom/e01/0"].permute(2, 0, 1)  # not contiguous
    tensors.write(storage, NAME, given)
    for place, (key, tensor) in reversed(list(enumerate(given.items()))):
        found = tensors.read(storage, NAME, place, key)
        assert found.dtype == torch.bfloat16 and found.shape == tensor.shape
        assert torch.equal(found.view(torch.int16), tensor.bfloat16().view(torch.int16)), key


def test_fp32_is_rounded_to_the_nearest(storage: Storage) -> None:
    given = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    tensors.write(storage, NAME, {"x": given})
    assert torch.equal(tensors.read(storage, NAME, 0, "x"), given.bfloat16())


class Counted(io.RawIOBase):
    """A file that notes how much each read gives; on S3 a read is a request for a range."""

    def __init__(self, file: pa.NativeFile, noted: list[int]) -> None:
        self.file, self.noted = file, noted

    def readable(self) -> bool:
        return True

    seekable = readable

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self.file.seek(place, whence))

    def tell(self) -> int:
        return int(self.file.tell())

    def read(self, count: int = -1) -> bytes:
        data: bytes = self.file.read(count)
        self.noted.append(len(data))
        return data


def test_one_is_read_without_the_others_by_one_request(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    given = some(count=8, size=50_000)
    tensors.write(storage, NAME, given)
    noted: list[int] = []
    use = Storage.use

    def counted(self: Storage, name: str, reader: Callable[[Any], Any]) -> Any:
        return use(self, name, lambda file: reader(pa.PythonFile(Counted(file, noted), mode="r")))

    monkeypatch.setattr(Storage, "use", counted)
    for place in (0, 6, 2):
        noted.clear()  # the first read brings the footer as well
        key = list(given)[place]
        assert torch.equal(tensors.read(storage, NAME, place, key), given[key])
    assert len(noted) == 1 and 0 <= noted[0] - given[key].nbytes < 500


def flip(data: bytes) -> bytes:
    """One bit of the second tensor's numbers."""
    place = data.index(some()["tom/e01/1"].view(torch.uint8).numpy().tobytes()) + 100
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("known", [False, True], ids=["first read", "footer known"])
@pytest.mark.parametrize(
    "damage",
    [flip, lambda data: data[: len(data) // 3], lambda data: b"", lambda data: b"no Parquet at all" * 9],
    ids=["flipped bit", "cut short", "empty", "another file"],
)
def test_damage_is_one_clear_line(storage: Storage, damage: Callable[[bytes], bytes], known: bool) -> None:
    tensors.write(storage, NAME, some())
    if known:
        tensors.read(storage, NAME, 0, "tom/e01/0")
    storage.write_bytes(NAME, damage(storage.read_bytes(NAME)))
    with pytest.raises(TensorError, match=r"shards/a\.parquet: cannot be used \(.*; remove it, and run") as told:
        tensors.read(storage, NAME, 1, "tom/e01/1")
    assert "\n" not in str(told.value) and str(told.value).count("cannot be used") == 1


def test_damage_leaves_the_others_alone(storage: Storage) -> None:
    tensors.write(storage, NAME, some())
    storage.write_bytes(NAME, flip(storage.read_bytes(NAME)))
    assert torch.equal(tensors.read(storage, NAME, 2, "tom/e01/2"), some()["tom/e01/2"])


@pytest.mark.parametrize(
    ("place", "told"), [(0, "row group 0 holds 'tom/e01/0', not 'tom/e01/1'"), (3, "3")], ids=["wrong id", "no such"]
)
def test_a_wrong_place_is_told(storage: Storage, place: int, told: str) -> None:
    tensors.write(storage, NAME, some())
    with pytest.raises(TensorError, match=told):
        tensors.read(storage, NAME, place, "tom/e01/1")


def test_a_file_that_is_not_there_is_told(storage: Storage) -> None:
    with pytest.raises(StorageError, match=r"shards/a\.parquet: not there; run the stage that makes it"):
        tensors.read(storage, NAME, 0, "x")


def test_a_fault_of_the_storage_that_passes_is_no_damage(
    s3_proxy: Callable[[Fault], StorageConfig], s3_server: S3Server
) -> None:
    uri, faults = s3_server.new_root(), [503] * 6
    tensors.write(Storage.open(uri, s3_server.config), NAME, some())
    config = s3_proxy(lambda method, path: faults.pop() if method == "GET" and "a.parquet" in path and faults else 0)
    assert torch.equal(tensors.read(Storage.open(uri, config), NAME, 1, "tom/e01/1"), some()["tom/e01/1"])
    assert not faults
