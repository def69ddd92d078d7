"""Latents to train on, and a process group of one, so that the loop runs without Ray."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from mimix_ray import tables, tensors
from mimix_ray.run import Run
from mimix_ray.storage import Storage
from mimix_ray.training.job import Job, digest_of, usable
from mimix_ray.training.listener import Listener
from mimix_ray.training.loop import train

CPU = torch.device("cpu")
SHAPE = (16, 2, 4, 6)


def publish_latents(
    storage: Storage, clips: int, composites: int = 0, shapes: Sequence[tuple[int, ...]] = (SHAPE,), shows: int = 1
) -> list[tables.Row]:
    """Tables of small random latents and texts, as the stage before leaves them; shapes and shows in turn."""
    generator = torch.Generator().manual_seed(0)
    latents: list[tables.Row] = []
    texts: list[tables.Row] = []

    def text(key: str, length: int, **columns: Any) -> None:
        shard = f"texts/shards/{len(texts):08d}.parquet"
        tensors.write(storage, shard, {key: torch.randn(length, 128, generator=generator)})
        place = {"shard": shard, "row_group": 0, "tokens": length}
        texts.append({"text_id": key, "text": key, **columns, **place, "status": "ok", "recipe": "t"})

    for number in range(clips + composites):
        kind, shape = ("clip" if number < clips else "composite"), shapes[number % len(shapes)]
        name, shard = f"show/e01/{number:08d}", f"latents/shards/{number:08d}.parquet"
        tensors.write(storage, shard, {name: torch.randn(shape, generator=generator)})
        keys: dict[str, Any] = {"sample_id": name, "kind": kind, "show": f"show{number % shows}", "shape": shape}
        latents.append({**keys, "shard": shard, "row_group": 0, "status": "ok", "recipe": "r"})
        text(f"{name}/full", 5 + number, sample_id=name, format="full")
    text("empty", 1)
    for table, rows in ((tables.LATENTS, latents), (tables.TEXTS, texts)):
        tables.publish(storage, table, rows)
        tables.seal(storage, table, [row[table.key] for row in rows])
    return usable(storage, "full")[0]


class Told(Listener):
    """Keeps what the worker tells."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.lines: list[str] = []

    def tell(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def say(self, line: str) -> None:
        self.lines.append(line)


def train_alone(run: Run, steps: int, recipe: str = "r", **job: Any) -> Told:
    """Trains in this process, without Ray; the fixture `alone` is needed."""
    told = Told()
    data = digest_of(*usable(run.storage, run.config.training.caption_format))
    train(Job(run, recipe, steps, shows=("show0",), data=data, **job), 0, 1, CPU, told)
    return told


@pytest.fixture
def tiny_run(run_factory: Callable[..., Run], base_path: Path) -> Callable[..., Run]:
    """A run with the tiny model in fp32; arguments are added."""

    def make(*arguments: Any) -> Run:
        model = ("--backbone.path", base_path, "--backbone.dtype", "fp32", "--backbone.text_tokens", 32)
        return run_factory(*model, "--backbone.device", "cpu", "--training.rank", 4, *arguments)

    return make


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A gloo process group of this process alone; one for all tests, as DeepSpeed never forgets its first."""
    store = dist.FileStore(str(tmp_path_factory.mktemp("gloo") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")  # DeepSpeed wants it; Ray Train sets it
        yield
    dist.destroy_process_group()
