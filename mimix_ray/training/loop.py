"""The training loop of one worker, read top to bottom. No Ray: whoever calls has made the process group."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mimix_ray import backbone, tables
from mimix_ray.backbone import lora
from mimix_ray.training import checkpoint, curves
from mimix_ray.training.batch import Batch, batch_loss, learning_rate, load_batch
from mimix_ray.training.checkpoint import Checkpoint
from mimix_ray.training.engine import Engine
from mimix_ray.training.job import ADAPTER, DONE, LOSSES, Job, LossError, plan_of
from mimix_ray.training.plan import share


def train(job: Job, rank: int, world: int, device: torch.device, tell: Callable[[dict[str, Any]], None]) -> None:
    """Trains from the newest checkpoint of the job's recipe to its last step; rank 0 leaves adapter and losses.

    Args:
        tell: Called on rank 0 with each step's record, those of an earlier start first.

    Raises:
        LossError: The loss is not finite; all workers see it alike.
        TrainingError: A sample's file is broken.
    """
    config, storage = job.run.config.training, job.run.storage
    base = job.run.config.backbone.model_copy(update={"device": str(device)})
    family = backbone.family(base)
    rows = {row["sample_id"]: row for row in tables.read(storage, tables.LATENTS)}
    plan = plan_of(config, list(rows.values()))

    model = family.load_transformer(base)
    lora.attach(model, config.rank, config.alpha or config.rank, family.lora_targets(config.targets), config.seed)
    if config.gradient_checkpointing:
        family.save_memory(model)
    model.train()
    start = _common_start(job)
    if start:
        lora.load(model, start.weights)
    accumulate = config.batch_size // (world * config.micro_batch)
    engine = Engine(model, base, config, accumulate)

    def read(micro_batch: list[tuple[int, str]], step: int) -> Batch:
        samples = [(place, rows[name]) for place, name in micro_batch]
        return load_batch(samples, step, storage, config, base.flow_shift, device)

    def loss_of(batch: Batch) -> Tensor:
        return batch_loss(engine.module, family, base, batch)

    history = list(start.history) if start else []
    if start:
        first = read(share(plan.batch(0), rank, world, config.micro_batch)[0], 0)
        engine.load(start.tensors, start.step, lambda: loss_of(first.corner()))
    for record in history:
        tell(record)
    for step in range(len(history), job.steps):
        began = time.perf_counter()
        losses = []
        for micro_batch in share(plan.batch(step), rank, world, config.micro_batch):
            loss = loss_of(read(micro_batch, step))
            engine.backward(loss)
            losses.append(loss.detach())
        rate = learning_rate(config, step)
        norm = engine.step(rate)
        mean = _mean(torch.stack(losses).mean(), world)
        if not torch.isfinite(mean):
            raise LossError(f"step {step + 1}: the loss is {mean.item()}; lower training.learning_rate or use bf16")
        history.append(
            {
                "step": step + 1,
                "loss": mean.item(),
                "grad_norm": norm,
                "lr": rate,
                "seconds": round(time.perf_counter() - began, 3),
            }
        )
        tell(history[-1])
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == job.steps:
            state = Checkpoint(engine.state(), list(history))  # all workers: the state is gathered
            if rank == 0:
                checkpoint.write(storage, job.recipe, state, config.keep_checkpoints)
                curves.write(storage, state.history)
    if rank == 0:
        publish(job, checkpoint.read(storage, checkpoint.newest(storage, job.recipe, job.steps) or ""))


def publish(job: Job, state: Checkpoint) -> None:
    """Leaves what a finished training leaves: the losses, the adapter, and last the mark that says so."""
    storage, config = job.run.storage, job.run.config
    about = {
        "universe": job.run.universe.name,
        "base": config.backbone.path,
        "rank": str(config.training.rank),
        "caption_format": config.training.caption_format,
        "steps": str(state.step),
        "recipe": job.recipe,
    }
    storage.write_json(LOSSES, state.history)
    with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
        path = Path(folder, "adapter.safetensors")
        backbone.family(config.backbone).save_adapter(path, state.weights, config.training, about)
        storage.upload(path, ADAPTER)
    storage.write_json(DONE, about)


def _common_start(job: Job) -> Checkpoint | None:
    """The checkpoint that rank 0 finds newest, on every worker."""
    found = [checkpoint.newest(job.run.storage, job.recipe, job.steps)]
    dist.broadcast_object_list(found)
    return checkpoint.read(job.run.storage, found[0]) if found[0] else None


def _mean(value: Tensor, world: int) -> Tensor:
    dist.all_reduce(value)
    return value / world
