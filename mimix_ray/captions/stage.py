"""Stage `captions`: every clip to a character-action caption, by a vision-language model (paper 3.1)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import Any

import ray.data
from pydantic import SecretStr
from ray.data import ActorPoolStrategy
from tqdm import tqdm

from mimix_ray import tables
from mimix_ray.captions.actors import BATCH_PARTS, Captioner, write_requests
from mimix_ray.captions.captioning import recipe, sidecar_fingerprints
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.storage import Storage
from mimix_ray.vlm import Batches, api_key, check_endpoint

GROUP = 4
"""Clips a block: their rows are published together, and one slow answer keeps so many waiting, no more."""
PART = 16
"""Clips whose requests to a batch are one file on storage: some 15 MB at 10 frames of 480 rows."""


def run(run: Run) -> StageReport:
    """Captions the clips that have no caption yet; each row is bound to its clip by id, a failure is a row.

    Raises:
        TableError: The stage `clips` has not ended.
        StageError: There is no usable clip.
        VlmError: The endpoint is away, or its key is not set.
    """
    config = run.config.captions
    clips = tables.read(run.storage, tables.CLIPS)
    if not clips:
        raise StageError(f"captions: there is no usable clip in {run.storage / 'clips'}; see its reports/clips.json")
    report = StageReport("captions", rows_in=len(clips))
    todo = _todo(run, clips, tables.finished(run.storage, tables.CAPTIONS))
    counts: list[dict[str, Any]] = []
    batched: dict[str, Any] = {}
    if todo:
        key = api_key(config.vlm)
        check_endpoint(config.vlm)
        if config.vlm.batch:
            batched = {"batch": answer_by_batches(run, key, todo)}
        # One actor holds the limit of requests in flight. Groups for twice as many requests wait inside it, so that one
        # slow answer leaves no slot idle; it decodes and compresses frames on one core while answers are awaited.
        calls = math.ceil(2 * config.vlm.concurrency / GROUP)
        captioned = ray.data.from_items(
            [{"job": json.dumps(job)} for job in todo], override_num_blocks=math.ceil(len(todo) / GROUP)
        ).map_batches(
            Captioner,
            fn_constructor_args=(run, key),
            batch_size=None,
            num_cpus=1,
            compute=ActorPoolStrategy(
                size=1,
                max_tasks_in_flight_per_actor=calls,
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=True,
            ),
        )
        ended = captioned.iter_rows()
        counts = list(progress(ended, "captions", total=len(todo), unit="clips", done=len(clips) - len(todo)))
    rows = tables.seal(run.storage, tables.CAPTIONS, [clip["clip_id"] for clip in clips])
    report.extra = spending(counts) | {"style_disagrees": sum(bool(row["style_disagrees"]) for row in rows)} | batched
    return report.close(run.storage, rows, reused=len(clips) - len(todo))


def answer_by_batches(run: Run, key: SecretStr, todo: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fills the answer cache with the answers to what `todo` asks; gives back what the batches brought and cost."""
    batches = Batches(run.config.captions.vlm, run.storage, key)
    try:
        # First what an earlier run has sent: what is asked then is in no batch.
        _follow(batches.finish())
        for left in run.storage.list(BATCH_PARTS):
            run.storage.delete(left)
        # Decoding and compressing frames takes a core; a group's lines, some 15 MB, are all it holds.
        written = ray.data.from_items(
            [{"job": json.dumps(job)} for job in todo], override_num_blocks=math.ceil(len(todo) / PART)
        ).map_batches(partial(write_requests, run=run), batch_size=None, num_cpus=1)
        ended = progress(written.iter_rows(), "requests", total=len(todo), unit="clips")
        asked = [row for row in ended if row["key"]]
        _follow(batches.ask(_request_lines(run.storage, asked)), total=len({row["key"] for row in asked}))
    finally:
        batches.close()
    return asdict(batches.tally)


def _request_lines(storage: Storage, asked: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, bytes]]:
    """The lines of `write_requests` with their keys; each part is removed once it is read."""
    for part, rows in groupby(asked, key=lambda row: row["part"]):
        lines = storage.read_bytes(part).splitlines(keepends=True)
        yield from zip([row["key"] for row in rows], lines, strict=True)
        storage.delete(part)


def _follow(looks: Iterator[tuple[int, int]], total: int = 0) -> None:
    """A bar of the answers that the server counts; `total`: those awaited, when it is known."""
    with tqdm(desc=f"{'batches':<11}", unit=" answers", smoothing=0.1) as bar:
        for answered, accepted in looks:
            bar.total, bar.n = max(total, accepted), answered
            bar.refresh()


def spending(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What this run asked and paid for; `counts` are the captioner's rows, one a clip. Kept answers cost nothing."""
    paid = [row for row in counts if row["calls"]]
    return {
        "outcomes": dict(Counter(str(row["outcome"]) for row in counts)),
        "calls": sum(int(row["calls"]) for row in paid),
        "retries": sum(int(row["calls"]) - 1 for row in paid),
        "answers_from_cache": sum(bool(row["cached"]) for row in counts),
        "tokens_in": sum(int(row["tokens_in"]) for row in paid),
        "tokens_out": sum(int(row["tokens_out"]) for row in paid),
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
