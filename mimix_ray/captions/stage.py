"""Stage `captions`: every clip to a character-action caption, by a vision-language model (paper 3.1)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy

from mimix_ray import tables
from mimix_ray.captions.actors import Captioner
from mimix_ray.captions.captioning import recipe, sidecar_fingerprints
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.vlm import api_key, check_endpoint, check_model
from mimix_ray.vlm.actors import shared_limits
from mimix_ray.vlm.cost import Price, price_of

GROUP = 4
"""Clips a block: their rows are published together, and one slow answer keeps so many waiting, no more."""


def run(run: Run) -> StageReport:
    """Captions the clips that have no caption yet; each row is bound to its clip by id, a failure is a row.

    Raises:
        TableError: The stage `clips` has not ended.
        StageError: There is no usable clip.
        VlmError: The endpoint is away, its key is not set, or money is limited and the model's price is not known; or
            the model that the actors should hold cannot be used.
    """
    config = run.config.captions
    clips = tables.read(run.storage, tables.CLIPS)
    if not clips:
        raise StageError(f"captions: there is no usable clip in {run.storage / 'clips'}; see its reports/clips.json")
    report = StageReport("captions", rows_in=len(clips))
    todo = _todo(run, clips, tables.finished(run.storage, tables.CAPTIONS))
    counts: list[dict[str, Any]] = []
    if todo:
        if config.vlm.backend == "transformers":
            # Each actor holds the model and answers a group at a time; meanwhile it decodes the next group's frames.
            check_model(config.vlm)
            key, gate, group, calls, gpus = None, None, config.vlm.batch_size, 2, config.gpus
        else:
            key = api_key(config.vlm)
            check_endpoint(config.vlm)
            # Each actor has its share of the requests in flight. Groups for twice as many wait inside it, so that one
            # slow answer leaves no slot idle; it decodes and compresses frames on one core while answers are awaited.
            gate, group, gpus = shared_limits(config.vlm), GROUP, 0.0
            calls = math.ceil(2 * config.vlm.concurrency / config.workers / GROUP)
        groups = math.ceil(len(todo) / group)
        captioned = ray.data.from_items(
            [{"job": json.dumps(job)} for job in todo], override_num_blocks=groups
        ).map_batches(
            Captioner,
            fn_constructor_args=(run, key, gate),
            batch_size=None,
            num_cpus=config.cpus,
            num_gpus=gpus or None,
            compute=ActorPoolStrategy(
                size=min(config.workers, groups),
                max_tasks_in_flight_per_actor=calls,
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=True,
            ),
        )
        ended = captioned.iter_rows()
        counts = list(progress(ended, "captions", total=len(todo), unit="clips", done=len(clips) - len(todo)))
    rows = tables.seal(run.storage, tables.CAPTIONS, [clip["clip_id"] for clip in clips])
    report.extra = spending(counts, price_of(config.vlm)) | {
        "style_disagrees": sum(bool(row["style_disagrees"]) for row in rows)
    }
    return report.close(run.storage, rows, reused=len(clips) - len(todo))


def spending(counts: Sequence[Mapping[str, Any]], price: Price | None) -> dict[str, Any]:
    """What this run asked and paid for; `counts` are the captioner's rows, one a clip. Kept answers cost nothing."""
    paid = [row for row in counts if row["calls"]]
    tokens = sum(int(row["tokens_in"]) for row in paid), sum(int(row["tokens_out"]) for row in paid)
    return {
        "outcomes": dict(Counter(str(row["outcome"]) for row in counts)),
        "calls": sum(int(row["calls"]) for row in paid),
        "retries": sum(int(row["calls"]) - 1 for row in paid),
        "answers_from_cache": sum(bool(row["cached"]) for row in counts),
        "tokens_in": tokens[0],
        "tokens_out": tokens[1],
        "usd": round(price.usd(*tokens), 4) if price else None,
    }


def _todo(run: Run, clips: Sequence[tables.Row], done: Mapping[str, tables.Row]) -> list[dict[str, Any]]:
    """`{clip, episode, recipe}` of each clip without a caption that still holds; plain data for the captioner."""
    config = run.config
    episodes = {(one.show, one.id): one for one in run.universe.episodes(run.storage.uri, config.storage)}
    sidecars = {key: sidecar_fingerprints(one, config.storage) for key, one in episodes.items()}
    todo = []
    for clip in clips:
        key = (clip["show"], clip["episode"])
        wanted = recipe(config.captions, run.universe.show(clip["show"]), clip["recipe"], sidecars.get(key, ()))
        row = done.get(clip["clip_id"])
        if row is None or row["recipe"] != wanted or row["status"] == "failed":
            episode = episodes.get(key)
            todo.append({"clip": clip, "episode": episode and episode.model_dump(mode="json"), "recipe": wanted})
    return todo
