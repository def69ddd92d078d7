"""Stage `evaluation`: every generated video to its scores, by weight-free metrics and by the VLM judge (paper 4.1)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from pydantic import SecretStr

from mimix_ray import tables
from mimix_ray.evaluation import metrics, scoring
from mimix_ray.evaluation.actors import Judge
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.vlm import api_key, check_endpoint
from mimix_ray.vlm.actors import shared_limits
from mimix_ray.vlm.questions.judge import AXES

Item = dict[str, Any]


def run(run: Run) -> StageReport:
    """Scores what has no score yet, one row a video and metric; a video that cannot be read is rows that say so.

    Raises:
        TableError: The stage `generation` has not ended.
        StageError: There is no video, or a metric is not known.
        VlmError: The judge's endpoint is away, or its key is not set.
    """
    generations = tables.read(run.storage, tables.GENERATIONS, status=None)
    if not any(row["status"] == "ok" for row in generations):
        raise StageError(f"evaluation: there is no video in {run.storage / 'generations'}; see reports/generation.json")
    try:
        planned = {row["generation_id"]: scoring.plan(run, row) for row in generations}
    except metrics.UnknownMetric as error:
        raise StageError(str(error)) from None
    wanted = [row for rows in planned.values() for row in rows]
    report = StageReport("evaluation", rows_in=len(wanted))

    done = tables.finished(run.storage, tables.SCORES)
    todo = {
        name: [row for row in rows if not _is_done(done.get(row["score_id"]), row)] for name, rows in planned.items()
    }
    fresh = sum(map(len, todo.values()))
    for generation in generations:
        if generation["status"] != "ok":
            rows = scoring.without_video(todo.pop(generation["generation_id"]), generation)
            tables.publish(run.storage, tables.SCORES, rows)
    videos = [row for row in generations if row["generation_id"] in todo]
    to_judge = _jobs(videos, todo, lambda row: row["metric"] in AXES)
    key = None
    if to_judge:  # before any work: an endpoint that is away must not be found after an hour of it
        key = api_key(run.config.evaluation.vlm)
        check_endpoint(run.config.evaluation.vlm)
    _measure_videos(run, _jobs(videos, todo, lambda row: row["metric"] not in AXES))
    counts = _judge_videos(run, to_judge, key) if key else []
    rows = tables.seal(run.storage, tables.SCORES, [row["score_id"] for row in wanted])
    report.extra = {"matrix": scoring.matrix(generations, rows), **spending(counts)}
    return report.close(run.storage, rows, reused=len(wanted) - fresh)


def _measure_videos(run: Run, jobs: Sequence[Item]) -> None:
    if not jobs:
        return

    def measure(item: Item) -> Item:
        job = json.loads(item["job"])
        rows = scoring.measure(run, job["generation"], job["rows"])
        tables.publish(run.storage, tables.SCORES, rows)
        return {"rows": len(rows)}

    # Plain tasks of one core, a video each: they spread over the cluster, and a replay redoes one video.
    measured = ray.data.from_items(list(jobs), override_num_blocks=len(jobs)).map(measure, num_cpus=1)
    list(progress(measured.iter_rows(), "metrics", total=len(jobs), unit="videos"))


def _judge_videos(run: Run, jobs: Sequence[Item], key: SecretStr) -> list[Item]:
    # One actor holds the limit of requests in flight; videos enough to fill that limit twice wait in it.
    config = run.config.evaluation
    at_once = math.ceil(2 * config.vlm.concurrency / (len(AXES) * config.samples))
    judged = ray.data.from_items(list(jobs), override_num_blocks=len(jobs)).map(
        Judge,  # type: ignore[arg-type]  # Ray takes a class here; its annotation does not say so
        fn_constructor_args=(run, key, shared_limits(run.config.evaluation.vlm)),
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(
            size=1,
            max_tasks_in_flight_per_actor=at_once,
            max_concurrent_calls_per_actor=at_once,
            enable_true_multi_threading=True,
        ),
    )
    return list(progress(judged.iter_rows(), "judge", total=len(jobs), unit="videos"))


def _jobs(
    videos: Sequence[tables.Row], todo: Mapping[str, Sequence[tables.Row]], chosen: Callable[[tables.Row], bool]
) -> list[Item]:
    """One item a video that has score rows of the chosen kind to do; nested rows travel as JSON."""
    jobs = [(video, [row for row in todo[video["generation_id"]] if chosen(row)]) for video in videos]
    return [{"job": json.dumps({"generation": video, "rows": rows})} for video, rows in jobs if rows]


def spending(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What this run asked the judge and paid for; kept answers cost nothing."""
    outcomes = Counter(kind for row in counts for kind in json.loads(row["outcomes"]))
    totals = {name: sum(int(row[name]) for row in counts) for name in ("calls", "tokens_in", "tokens_out")}
    return {"outcomes": dict(outcomes), "answers_from_cache": sum(int(row["kept"]) for row in counts), **totals}


def _is_done(row: tables.Row | None, wanted: tables.Row) -> bool:
    return row is not None and row["recipe"] == wanted["recipe"] and row["status"] != "failed"
