"""Stage `training`: latents to an adapter, a LoRA on the frozen transformer (paper 3.3), by Ray Train and DeepSpeed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mimix_ray import backbone, tables
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError
from mimix_ray.training.job import ADAPTER, DONE, LOSSES, Job, TrainingError, plan_of
from mimix_ray.training.plan import Plan, PlanError, share


def run(run: Run) -> StageReport:
    """Trains the adapter unless it is there; a training that was interrupted goes on from its last checkpoint.

    Raises:
        TableError: The stage `latents` has not ended.
        StageError: Nothing to train on, a batch that cannot be split, no base model, or training failed.
    """
    config, storage = run.config.training, run.storage
    rows = tables.read(storage, tables.LATENTS)
    report = StageReport("training", rows_in=len(rows))
    try:
        plan = plan_of(config, rows)
        _check(run, plan, rows)
        job = Job(run, recipe(run, rows), plan.steps(config.epochs, config.max_steps))
        finished = _is_finished(job)
        if not finished:
            backbone.check(run.config.backbone)
            from mimix_ray.training.trainer import fit  # here: it brings PyTorch along, which a finished run needs not

            fit(job)
    except (PlanError, TrainingError, backbone.BackboneError) as error:
        raise StageError(f"training: {error}") from None
    report.extra = _summary(plan, storage.read_json(LOSSES))
    return report.close(storage, rows, reused=len(rows) if finished else 0)


def recipe(run: Run, rows: Sequence[tables.Row]) -> str:
    """Of all that shapes the weights but how long they are trained: more epochs go on from where fewer ended."""
    config = run.config.training.model_copy(update={"epochs": 1, "max_steps": None})
    samples = [f"{row['sample_id']} {row['recipe']}" for row in rows]
    return tables.recipe(config, backbone.identity(run.config.backbone), *samples)


def _is_finished(job: Job) -> bool:
    storage = job.run.storage
    if not all(storage.exists(name) for name in (DONE, ADAPTER, LOSSES)):
        return False
    mark = storage.read_json(DONE)
    return bool(mark["recipe"] == job.recipe and mark["steps"] == str(job.steps))


def _check(run: Run, plan: Plan, rows: Sequence[tables.Row]) -> None:
    """Before any worker starts: does the batch split, do captions and files exist, do the shapes fit together?"""
    config = run.config.training
    share(plan.batch(0), 0, config.workers, config.micro_batch)
    if config.caption_format not in run.config.latents.formats:
        raise TrainingError(f"caption_format {config.caption_format!r} is not among latents.formats; add it there")
    there = set(run.storage.list("latents", ".safetensors"))
    if gone := [row["sample_id"] for row in rows if not {row["latent"], row["texts"]} <= there]:
        raise TrainingError(
            f"the files of {len(gone)} latents have gone, first {gone[0]!r}; run the stage latents again"
        )
    shapes = {tuple(row["shape"]) for row in rows}
    if len(shapes) > 1 and config.micro_batch > 1:
        raise TrainingError(f"latents have {len(shapes)} shapes, which do not stack; set training.micro_batch to 1")


def _summary(plan: Plan, losses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seconds = sorted(record["seconds"] for record in losses)
    return {
        "steps": len(losses),
        "samples_an_epoch": plan.epoch_size,
        "composites_an_epoch": plan.composites_an_epoch,
        "first_loss": losses[0]["loss"],
        "last_loss": losses[-1]["loss"],
        "seconds_a_step": seconds[len(seconds) // 2],
    }
