"""What batch generation and serving share: which adapter to use, and one request made into one mp4 on storage."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from mimix_ray.backbone import Generator, load_generator
from mimix_ray.config import RunConfig
from mimix_ray.prompts import Prompt, render
from mimix_ray.run import Run
from mimix_ray.storage import Storage, StorageError, split
from mimix_ray.video import VideoError, write_video

RUNS_ADAPTER = "training/pytorch_lora_weights.safetensors"
"""Where training leaves a run's adapter, relative to the root."""


@dataclass(frozen=True)
class Parameters:
    """All that decides how a video comes out, beside model and adapter."""

    prompt: str
    negative_prompt: str
    seed: int
    frames: int
    """4k+1."""
    fps: int
    width: int
    """Pixels, multiple of 16; so is the height."""
    height: int
    steps: int
    guidance: float


def parameters_of(config: RunConfig, prompt: Prompt, place: int) -> Parameters:
    """What the config asks of the model for one prompt, which stands at `place` (from 0) in its list."""
    wanted = config.generation
    return Parameters(
        # A model is asked in the words that it was taught in.
        prompt=render(prompt.caption, config.training.caption_format),
        negative_prompt=wanted.negative_prompt,
        seed=wanted.seed + place,
        frames=wanted.frames,
        fps=wanted.fps,
        width=wanted.width,
        height=wanted.height,
        steps=wanted.steps,
        guidance=wanted.guidance,
    )


@dataclass(frozen=True)
class Adapter:
    """LoRA weights on storage, known by their content."""

    storage: Storage
    name: str
    digest: str
    """First 16 hex digits of the file's SHA-256."""


def find_adapter(run: Run, address: str | None) -> Adapter | None:
    """The adapter at `address`, or the run's own; None when the config asks for the bare base model.

    Raises StorageError when there is no such file.
    """
    if not run.config.generation.use_adapter:
        return None
    storage, name = run.storage, RUNS_ADAPTER
    if address is not None:
        folder, name = split(address)
        storage = Storage.open(folder, run.config.storage)
    if not storage.exists(name):
        raise StorageError(
            f"{storage / name}: no adapter there; train one first, name another one (generation.adapter, "
            "serving.adapter), or set generation.use_adapter to false"
        )
    with storage.local(name) as path, path.open("rb") as file:
        return Adapter(storage, name, hashlib.file_digest(file, "sha256").hexdigest()[:16])


def open_generator(run: Run, adapter: Adapter | None) -> Generator:
    """The base model with the adapter on it, ready to generate; raises BackboneError or StorageError."""
    with adapter.storage.local(adapter.name) if adapter else nullcontext() as path:
        return load_generator(run.config.backbone, path)


def make_video(
    generator: Generator,
    parameters: Parameters,
    storage: Storage,
    name: str,
    adapter: Adapter | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> float:
    """Generates one video and publishes it as `name`, its parameters written inside; returns the seconds it took.

    Raises what the generator raises: Cancelled (from `on_step`), GenerationError; VideoError and StorageError.
    """
    began = time.perf_counter()
    wanted = asdict(parameters)
    fps = wanted.pop("fps")
    frames = generator.generate(wanted.pop("prompt"), on_step=on_step, **wanted)
    about = {**asdict(parameters), "adapter": adapter.digest if adapter else None}
    with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
        path = Path(folder, "video.mp4")
        write_video(path, frames, fps, metadata={"title": parameters.prompt, "comment": json.dumps(about)})
        storage.upload(path, name)
    return time.perf_counter() - began


def explain(error: Exception) -> tuple[str, str]:
    """An error of `make_video` as (code, what and what to do), for a table's row or a job's error."""
    what = str(error) or type(error).__name__
    if isinstance(error, VideoError):
        return error.code, what
    if isinstance(error, StorageError):
        return "storage", what
    # torch's own out-of-memory error is a RuntimeError whose class name says it; no need to import torch for that.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out_of_memory", f"{what}; ask for fewer frames or a smaller size"
    return "generation_failed", what
