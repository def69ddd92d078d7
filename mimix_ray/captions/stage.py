"""Stage `captions`: every clip to a character-action caption, by a vision-language model (paper 3.1)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy

from mimix_ray import tables
from mimix_ray.captions.actors import Captioner, Previewer
from mimix_ray.captions.captioning import recipe, sidecar_fingerprints
from mimix_ray.captions.preview import NAME, page, sample
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.vlm import api_key, check_endpoint

GROUP = 4
"""Clips a block: their rows are published together, and one slow answer keeps so many waiting, no more."""


def run(run: Run) -> StageReport:
    """Captions the clips that have no caption yet; each row is bound to its clip by id, a failure is a row.

    Raises:
        TableError: The stage `clips` has not ended.
        StageError: There is no usable clip.
        VlmError: The endpoint is away, or its key is not set.
    """
    clips = _clips(run)
    report = StageReport("captions", rows_in=len(clips))
    todo = _todo(run, clips, tables.finished(run.storage, tables.CAPTIONS))
    counts: list[dict[str, Any]] = []
    if todo:
        ended = _captioned(run, todo, Captioner)
        counts = list(progress(ended, "captions", total=len(todo), unit="clips", done=len(clips) - len(todo)))
    rows = tables.seal(run.storage, tables.CAPTIONS, [clip["clip_id"] for clip in clips])
    report.extra = spending(counts) | {"style_disagrees": sum(bool(row["style_disagrees"]) for row in rows)}
    return report.close(run.storage, rows, reused=len(clips) - len(todo))


def preview(run: Run, count: int) -> str:
    """Captions a sample and writes the page that shows it; says so in one line. No row is published.

    The answers are kept where the stage looks for them: it does not ask for them again.

    Args:
        run: The run.
        count: Clips in the sample, at most.

    Raises:
        TableError: The stage `clips` has not ended.
        StageError: There is no usable clip, or `count` is below 1.
        VlmError: The endpoint is away, or its key is not set.
    """
    clips = _clips(run)
    if count < 1:
        raise StageError(f"captions: --preview {count} shows nothing; give how many clips to look at, e.g. 20")
    chosen = sample(clips, count)
    asked = _captioned(run, _todo(run, chosen, {}), Previewer)
    shown = [row["shown"] for row in progress(asked, "preview", total=len(chosen), unit="clips")]
    html = page(shown, chosen, run.universe, len(clips), run.config.captions.vlm.model)
    run.storage.write_bytes(NAME, html)
    ok = sum(one.row["status"] == "ok" for one in shown)
    return f"captions: a preview of {len(shown)} of {len(clips)} clips, {ok} ok: {run.storage / NAME}"


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


def _clips(run: Run) -> list[tables.Row]:
    clips = tables.read(run.storage, tables.CLIPS)
    if not clips:
        raise StageError(f"captions: there is no usable clip in {run.storage / 'clips'}; see its reports/clips.json")
    return clips


def _captioned(run: Run, todo: Sequence[Mapping[str, Any]], captioner: type[Captioner]) -> Iterator[dict[str, Any]]:
    """The captioner's rows, one a clip, in the order in which they end."""
    config = run.config.captions
    key = api_key(config.vlm)
    check_endpoint(config.vlm)
    # One actor holds the limit of requests in flight. Groups for twice as many requests wait inside it, so that one
    # slow answer leaves no slot idle; it decodes and compresses frames on one core while answers are awaited.
    calls = math.ceil(2 * config.vlm.concurrency / GROUP)
    captioned = ray.data.from_items(
        [{"job": json.dumps(job)} for job in todo], override_num_blocks=math.ceil(len(todo) / GROUP)
    ).map_batches(
        captioner,
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
    return iter(captioned.iter_rows())


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
