"""Latents to train on, and a process group of one, so that the loop runs without Ray."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save

from mimix_ray import tables
from mimix_ray.run import Run
from mimix_ray.storage import Storage

SHAPE = (16, 2, 4, 6)


def publish_latents(storage: Storage, clips: int, composites: int = 0) -> list[tables.Row]:
    """A table of small random latents, as the stage before leaves it."""
    generator = torch.Generator().manual_seed(0)
    rows: list[tables.Row] = []
    for number in range(clips + composites):
        kind = "clip" if number < clips else "composite"
        name = f"show/e01/{number:08d}"
        files = {"latent": f"latents/{name}.safetensors", "texts": f"latents/{name}.texts.safetensors"}
        text = torch.randn(5 + number, 128, generator=generator)
        storage.write_bytes(files["latent"], save({"latent": torch.randn(SHAPE, generator=generator).bfloat16()}))
        storage.write_bytes(files["texts"], save({"full": text.bfloat16(), "empty": text[:1].bfloat16()}))
        keys: dict[str, Any] = {"sample_id": name, "kind": kind, "show": "show", "shape": SHAPE}
        rows.append({**keys, **files, "status": "ok", "recipe": "r"})
    tables.publish(storage, tables.LATENTS, rows)
    return tables.seal(storage, tables.LATENTS, [row["sample_id"] for row in rows])


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
