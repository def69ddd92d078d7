"""Stage `composites`: characters cut out of one style and pasted into the other, by Ray Data actors (paper 3.2)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy

from mimix_ray import tables
from mimix_ray.composites import sheet
from mimix_ray.composites.actors import Compositor
from mimix_ray.composites.choose import ChoiceError, candidates, choose
from mimix_ray.composites.compositing import Job, make_job
from mimix_ray.composites.masks import MaskError, check
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.vlm import api_key, check_endpoint
from mimix_ray.vlm.actors import shared_limits


def run(run: Run) -> StageReport:
    """Makes the composites that are not made yet; one that comes to nothing is a row.

    Raises:
        TableError: The stages `clips` and `captions` have not ended.
        StageError: No captioned clip, nothing to mix, or no weights for the mask backend.
        VlmError: The endpoint is away, or its key is not set.
    """
    config = run.config.composites
    clips = {row["clip_id"]: row for row in tables.read(run.storage, tables.CLIPS)}
    captions = tables.read(run.storage, tables.CAPTIONS)
    if not captions:
        raise StageError(f"composites: no captioned clip in {run.storage / 'captions'}; see its reports/captions.json")
    report = StageReport("composites", rows_in=len(captions))
    try:
        choices = choose(candidates(captions, clips.values()), run.universe, config.ratio, config.seed)
    except ChoiceError as error:
        raise StageError(f"composites: {error}") from None
    jobs = [make_job(run, choice, clips) for choice in choices]
    done = tables.finished(run.storage, tables.COMPOSITES)
    there = set(run.storage.list("composites/videos", ".mp4"))
    todo = [job for job in jobs if not _holds(job, done.get(job.composite_id), there)]
    counts = _make(run, todo, len(jobs)) if todo else []
    rows = tables.seal(run.storage, tables.COMPOSITES, [job.composite_id for job in jobs])
    if todo and any(row["status"] == "ok" for row in rows):
        run.storage.write_bytes(sheet.NAME, sheet.draw(run.storage, rows, clips))
    report.extra = {
        "ratio": config.ratio,
        "directions": dict(Counter(f"into {row['scene_style']}" for row in rows if row["status"] == "ok")),
        **{key: sum(int(count[key]) for count in counts) for key in ("calls", "tokens_in", "tokens_out")},
    }
    return report.close(run.storage, rows, reused=len(jobs) - len(todo))


def _make(run: Run, todo: list[Job], total: int) -> list[dict[str, Any]]:
    config = run.config.composites
    try:
        check(config)
    except MaskError as error:
        raise StageError(f"composites: {error}") from None
    key = api_key(config.vlm)
    check_endpoint(config.vlm)
    # One composite a block: rows are published as they come, and a dead worker takes one with it. An actor holds the
    # mask model (SAM 2.1 large: 1 GB, and 1 GB more for a clip's frames at its input size), decodes and encodes on its
    # core, and makes one composite at a time.
    made = ray.data.from_items([{"job": json.dumps(asdict(job))} for job in todo], override_num_blocks=len(todo)).map(
        Compositor,  # type: ignore[arg-type]  # a class is fine here: each actor of the pool makes one
        fn_constructor_args=(run, key, shared_limits(config.vlm)),
        num_cpus=config.cpus,
        num_gpus=config.gpus,
        compute=ActorPoolStrategy(size=min(config.workers, len(todo))),
    )
    return list(progress(made.iter_rows(), "composites", total=len(todo), unit="composites", done=total - len(todo)))


def _holds(job: Job, row: tables.Row | None, there: set[str]) -> bool:
    """Whether a row still holds; a composite that has gone from storage is made again."""
    if row is None or row["recipe"] != job.recipe:
        return False
    return row["status"] == "skipped" or (row["status"] == "ok" and row["video"] in there)
