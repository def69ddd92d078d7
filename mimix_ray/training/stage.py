"""Stage `training`: latents to an adapter, a LoRA on the frozen transformer (paper 3.3), by Ray Train and DeepSpeed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from mimix_ray import backbone, synthesis, tables
from mimix_ray.prompts import PromptError, load_prompts
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError
from mimix_ray.training.job import ADAPTER, DONE, LOSSES, Job, TrainingError, digest_of, plan_of, usable
from mimix_ray.training.plan import Plan, PlanError


def run(run: Run) -> StageReport:
    """Trains the adapter unless it is there; a training that was interrupted goes on from its last checkpoint.

    Raises:
        TableError: The stage `latents` has not ended.
        StageError: Nothing to train on, a mix that cannot be made, no base model, or training failed.
    """
    config, storage = run.config.training, run.storage
    every = tables.read(storage, tables.LATENTS)
    report = StageReport("training", rows_in=len(every))
    try:
        _check(run)
        rows, texts = usable(storage, config.caption_format)
        if config.caption_dropout and "" not in texts:
            raise TrainingError("caption_dropout needs the empty prompt, which failed; see table texts")
        _check_files(run, [*rows, *(texts[row["sample_id"]] for row in rows)])
        job, plan = _job(run, rows, texts)
        finished = _is_finished(job)
        if not finished:
            backbone.check(run.config.backbone)
            from mimix_ray.training.trainer import fit  # here: it brings PyTorch along, which a finished run needs not

            fit(job)
    except (PlanError, TrainingError, PromptError, backbone.BackboneError) as error:
        raise StageError(f"training: {error}") from None
    report.extra = {
        "without_text": len(every) - len(rows),
        "never_trained_on": plan.missed(job.steps),
        **_summary(plan, storage.read_json(LOSSES)),
    }
    return report.close(storage, rows, reused=len(rows) if finished else 0)


def _job(run: Run, rows: Sequence[tables.Row], texts: dict[str, tables.Row]) -> tuple[Job, Plan]:
    """What the workers get, and their plan."""
    config = run.config.training
    learned: tuple[str, ...] = ()
    adapter = ""
    if config.warm_start:
        if run.storage / ADAPTER in (config.warm_start, os.path.abspath(config.warm_start)):
            raise TrainingError("training.warm_start is this run's own adapter, which it would replace; copy it first")
        from mimix_ray.training.warm import digest, learned_shows, read_adapter  # here: it brings PyTorch along

        found = read_adapter(run)
        learned, adapter = learned_shows(found), digest(found)
    samples = []
    if config.sample_every:
        prompts = load_prompts(run.config.generation.prompts, run.universe)[: config.sample_prompts]
        samples = [(p.id, synthesis.parameters_of(run.config, p, place)) for place, p in enumerate(prompts)]
    shows = {row["show"]: None for row in rows if row["kind"] == "clip"}
    data = digest_of(rows, texts)
    job = Job(run, "", 0, tuple(dict.fromkeys([*learned, *shows])), learned, data, tuple(samples))
    plan, _ = plan_of(job, rows)
    steps = plan.steps(config.epochs, config.max_steps)
    return replace(job, recipe=recipe(run, rows, data, steps, adapter), steps=steps), plan


def recipe(run: Run, rows: Sequence[tables.Row], data: str, steps: int, warm_start: str = "") -> str:
    """Of all that shapes the weights.

    How long they are trained does so only where the learning rate ends with the last step: else more epochs go on from
    where fewer ended. How many samples a worker holds at once does so only where shapes differ.
    """
    config = run.config.training.model_copy(update={"epochs": 1, "max_steps": None, "warm_start": None})
    if len({tuple(row["shape"]) for row in rows}) == 1:
        config = config.model_copy(update={"micro_batch": 1})
    ends = "" if config.schedule == "constant" else str(steps)
    return tables.recipe(config, backbone.identity(run.config.backbone), ends, warm_start, data)


def _is_finished(job: Job) -> bool:
    storage = job.run.storage
    if not all(storage.exists(name) for name in (DONE, ADAPTER, LOSSES)):
        return False
    mark = storage.read_json(DONE)
    return bool(mark["recipe"] == job.recipe and mark["steps"] == str(job.steps))


def _check(run: Run) -> None:
    """Before any worker starts: what the config alone can tell."""
    config = run.config.training
    if config.caption_format not in run.config.latents.formats:
        raise TrainingError(f"caption_format {config.caption_format!r} is not among latents.formats; add it there")
    if run.config.backbone.dtype == "fp16" and config.strategy == "ddp":
        raise TrainingError("backbone.dtype fp16 needs a loss scale, which strategy ddp lacks; use zero1 or bf16")
    if config.rehearsal is not None and config.warm_start is None:
        raise TrainingError("training.rehearsal is of shows that an adapter knows; name it by training.warm_start")
    if config.wandb and not importlib.util.find_spec("wandb"):
        raise TrainingError(f"training.wandb {config.wandb!r}: the package wandb is not installed; pip install wandb")


def _check_files(run: Run, rows: Sequence[tables.Row]) -> None:
    there = {*run.storage.list("latents/shards"), *run.storage.list("texts/shards")}
    if gone := sorted({row["shard"] for row in rows} - there):
        raise TrainingError(f"{len(gone)} files of latents have gone, first {gone[0]}; run the stage latents again")


def _summary(plan: Plan, losses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    held_out = [record["held_out"] for record in losses if record.get("held_out") is not None]
    return {
        "steps": len(losses),
        "samples_an_epoch": plan.epoch_size,
        "by_source": {source.name: source.an_epoch for source in plan.sources},
        "first_loss": losses[0]["loss"],
        "last_loss": losses[-1]["loss"],
        "held_out_loss": held_out[-1] if held_out else None,
        "seconds_a_step": median(record["seconds"] for record in losses),
        "data_wait": round(sum(r["data_wait"] for r in losses) / sum(r["seconds"] for r in losses), 4),
    }
