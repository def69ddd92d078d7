"""One video's scores as rows. Plain functions on plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from mimix_ray import tables
from mimix_ray.evaluation import judge, metrics
from mimix_ray.run import Run
from mimix_ray.storage import StorageError
from mimix_ray.universe import UniverseError
from mimix_ray.video import VideoError, sample_frames, stream_frames
from mimix_ray.vlm import Outcome, Vlm, to_jpegs
from mimix_ray.vlm.questions.judge import AXES, rubric_hash


def plan(run: Run, generation: tables.Row) -> list[tables.Row]:
    """The score rows that a generation shall get, still without values: metrics first, then the judge's axes."""
    config = run.config.evaluation

    def row(metric: str, judged_by: str, recipe: str, rubric: str | None = None) -> tables.Row:
        return {
            "score_id": f"{generation['generation_id']}/{metric}",
            "generation_id": generation["generation_id"],
            "metric": metric,
            "judge": judged_by,
            "rubric_hash": rubric,
            "recipe": recipe,
        }

    found = [metrics.find(name) for name in config.metrics]
    rows = [row(one.name, f"{one.name} {one.version}", tables.recipe(one, generation["recipe"])) for one in found]
    for axis in AXES:
        try:
            recipe = judge.recipe(config, axis, generation, run.universe)
        except UniverseError:
            recipe = ""  # the row will fail, and a failed row is always tried again
        rows.append(row(axis, config.vlm.model, recipe, rubric_hash(axis)))
    return rows


def measure(run: Run, generation: tables.Row, rows: Sequence[tables.Row]) -> list[tables.Row]:
    """The rows of weight-free metrics, each with its value or with why there is none."""
    return [_measured(run, generation, row) for row in rows]


def _measured(run: Run, generation: tables.Row, row: tables.Row) -> tables.Row:
    try:
        with run.storage.local(generation["video"]) as path:
            value = metrics.find(row["metric"]).measure(stream_frames(path), generation["fps"])
    except (VideoError, StorageError, metrics.TooFewFrames) as error:
        return failed(row, error)
    return row | {"value": value, "samples": 1, "status": "ok"}


def ask(
    run: Run, vlm: Vlm, generation: tables.Row, rows: Sequence[tables.Row]
) -> tuple[list[tables.Row], list[Outcome[Any]]]:
    """The rows of the judge's axes, all questions asked at once; and every outcome, for what the report counts."""
    config = run.config.evaluation
    try:
        characters = judge.cast(run.universe, generation)
        with run.storage.local(generation["video"]) as path:
            frames = to_jpegs(sample_frames(path, config.frames), judge.FRAME_HEIGHT, judge.JPEG_QUALITY)
    except (VideoError, StorageError, UniverseError) as error:
        return [failed(row, error) for row in rows], []
    asked = [judge.questions(row["metric"], frames, characters, generation["prompt"], config.samples) for row in rows]
    outcomes = vlm.ask_all([question for axis in asked for question in axis])
    taken = [outcomes[start : start + config.samples] for start in range(0, len(outcomes), config.samples)]
    return [_judged(row, judge.combine(answers)) for row, answers in zip(rows, taken, strict=True)], outcomes


def _judged(row: tables.Row, judgement: judge.Judgement) -> tables.Row:
    values = {name: getattr(judgement, name) for name in ("value", "spread", "samples", "reasoning", "error")}
    told_so = (judgement.error or "").startswith("cannot_tell")
    return row | values | {"status": "ok" if judgement.error is None else "skipped" if told_so else "failed"}


def failed(row: tables.Row, error: Exception) -> tables.Row:
    """The row of a video that cannot be scored."""
    codes = {StorageError: "storage", UniverseError: "unknown_character", metrics.TooFewFrames: "too_few_frames"}
    code = (
        error.code if isinstance(error, VideoError) else next(c for kind, c in codes.items() if isinstance(error, kind))
    )
    return row | {"status": "failed", "error": tables.error_text(code, str(error))}


def without_video(rows: Iterable[tables.Row], generation: tables.Row) -> list[tables.Row]:
    """The rows of a generation that has no video; their recipe never holds, so that a later video is scored."""
    error = tables.error_text("no_video", f"its generation ended as {generation['status']} ({generation['error']})")
    return [row | {"status": "skipped", "error": error, "recipe": "no_video"} for row in rows]


def matrix(generations: Iterable[tables.Row], scores: Iterable[tables.Row]) -> dict[str, dict[str, Any]]:
    """Per metric the mean over videos, over prompts of one character and of several (as the paper's Table 1 has it).

    Returns metric -> {"single", "multi"} -> {"mean", "videos"}; a group in which nothing was scored is left out.
    """
    cast_size = {row["generation_id"]: len({actor["name"] for actor in row["characters"] or ()}) for row in generations}
    groups: dict[str, dict[str, list[float]]] = {}
    for score in scores:
        if score["status"] == "ok":
            group = "multi" if cast_size[score["generation_id"]] > 1 else "single"
            groups.setdefault(score["metric"], {}).setdefault(group, []).append(score["value"])

    def summary(values: Mapping[str, list[float]]) -> dict[str, Any]:
        return {group: {"mean": round(mean(found), 4), "videos": len(found)} for group, found in values.items()}

    return {metric: summary(values) for metric, values in groups.items()}
