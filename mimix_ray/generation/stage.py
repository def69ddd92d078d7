"""Prompts -> videos: a pool of actors, each with the whole pipeline, works through the prompt table."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import ray

from mimix_ray import backbone, synthesis, tables
from mimix_ray.generation.actors import VideoMaker
from mimix_ray.prompts import Prompt, PromptError, load_prompts
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress


def run(run: Run) -> StageReport:
    """Makes one video a prompt; videos that an earlier run made with the same recipe are kept."""
    config = run.config.generation
    try:
        prompts = load_prompts(config.prompts, run.universe)
    except PromptError as error:
        raise StageError(str(error)) from None
    adapter = synthesis.find_adapter(run, config.adapter)
    report = StageReport("generation", rows_in=len(prompts))

    model = backbone.identity(run.config.backbone)
    items = [plan(run, prompt, place, model, adapter) for place, prompt in enumerate(prompts)]
    done = tables.finished(run.storage, tables.GENERATIONS)
    there = set(run.storage.list("generations", ".mp4"))
    todo = [item for item in items if not _is_done(done.get(item["id"]), item["recipe"], there)]
    if todo:
        dataset = ray.data.from_items(
            [{"parameters": json.dumps(item["parameters"]), "row": json.dumps(item["row"])} for item in todo],
            # A video takes minutes: one a block, so that the pool shares them out evenly and a replay redoes only one.
            override_num_blocks=len(todo),
        ).map(
            VideoMaker,  # type: ignore[arg-type]  # a class is fine here: each actor of the pool makes one
            fn_constructor_args=(run, adapter),
            compute=ray.data.ActorPoolStrategy(size=min(config.workers, len(todo)), max_tasks_in_flight_per_actor=1),
            # The pipeline owns its device; the cores are for the mp4 encoder and, without a GPU, for the model.
            num_gpus=config.gpus,
            num_cpus=config.cpus,
        )
        kept = len(items) - len(todo)
        for made in progress(dataset.iter_rows(), "generation", total=len(todo), unit="videos", done=kept):
            if made["fatal"]:
                raise StageError(made["fatal"])
    rows = tables.seal(run.storage, tables.GENERATIONS, [item["id"] for item in items])
    seconds = [row["seconds"] for row in rows if row["status"] == "ok"]
    report.extra = {
        "adapter": adapter.digest if adapter else None,
        "seconds_a_video": round(sum(seconds) / len(seconds), 2) if seconds else None,
    }
    return report.close(run.storage, rows, reused=len(items) - len(todo))


def plan(run: Run, prompt: Prompt, place: int, model: str, adapter: synthesis.Adapter | None) -> dict[str, Any]:
    """One prompt's work: its `id`, its `recipe`, the `parameters` of its video and what its `row` holds beforehand.

    `model` is the base model's identity.
    """
    config = run.config.generation
    parameters = synthesis.parameters_of(run.config, prompt, place)
    digest = adapter.digest if adapter else None
    recipe = tables.recipe(config, model, digest or "base model", parameters.prompt, str(parameters.seed))
    row = {
        "generation_id": f"{prompt.id}/{parameters.seed}",
        "prompt": parameters.prompt,
        "characters": prompt.caption.rows(),
        "scene_style": prompt.caption.scene_style,
        "adapter": digest,
        "recipe": recipe,
        **{name: getattr(parameters, name) for name in ("seed", "frames", "fps", "width", "height")},
    }
    return {"id": row["generation_id"], "recipe": recipe, "parameters": asdict(parameters), "row": row}


def _is_done(row: tables.Row | None, recipe: str, there: set[str]) -> bool:
    """Whether a row still holds; a video that has gone from storage is made again."""
    return row is not None and row["recipe"] == recipe and row["status"] == "ok" and row["video"] in there
