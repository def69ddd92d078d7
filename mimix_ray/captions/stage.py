"""Stage `captions`: every clip to a character-action caption, by a vision-language model (paper 3.1)."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy
from tqdm import tqdm

from mimix_ray import tables
from mimix_ray.captions import estimate as estimates
from mimix_ray.captions import speech
from mimix_ray.captions.actors import BATCH_PARTS, Captioner, Previewer, Transcriber, write_requests
from mimix_ray.captions.captioning import recipe, sidecar_fingerprints
from mimix_ray.captions.lint import lint
from mimix_ray.captions.preview import NAME, page, sample
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.storage import Storage
from mimix_ray.universe import Episode
from mimix_ray.vlm import Batches, VlmError, api_key, check_endpoint, check_model
from mimix_ray.vlm.actors import shared_limits
from mimix_ray.vlm.cost import BATCH_PRICE, Price, price_of

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""An episode's show and id."""

GROUP = 4
"""Clips a block: their rows are published together, and one slow answer keeps so many waiting, no more."""
PART = 16
"""Clips whose requests to a batch are one file on storage: some 15 MB at 10 frames of 480 rows."""


def run(run: Run) -> StageReport:
    """Captions the clips that have no caption yet; each row is bound to its clip by id, a failure is a row.

    Raises:
        TableError: The stage `clips` has not ended.
        StageError: There is no usable clip.
        VlmError: The endpoint is away, its key is not set, or money is limited and the model's price is not known; or
            the model that the actors should hold cannot be used.
        ConfigError: There is speech to transcribe, and the package or the model is missing.
    """
    clips = _clips(run)
    report = StageReport("captions", rows_in=len(clips))
    episodes = _episodes(run, clips)
    transcripts, heard = _transcripts(run, episodes)
    todo = _todo(run, clips, episodes, transcripts, tables.finished(run.storage, tables.CAPTIONS))
    counts: list[dict[str, Any]] = []
    batched: dict[str, Any] = {}
    if todo:
        if run.config.captions.vlm.batch:
            batched = {"batch": answer_by_batches(run, todo)}
        ended = _captioned(run, todo, Captioner)
        counts = list(progress(ended, "captions", total=len(todo), unit="clips", done=len(clips) - len(todo)))
    rows = tables.seal(run.storage, tables.CAPTIONS, [clip["clip_id"] for clip in clips])
    report.extra = (
        spending(counts, price_of(run.config.captions.vlm))
        | heard
        | batched
        | {
            "style_disagrees": sum(bool(row["style_disagrees"]) for row in rows),
            "lint": lint(rows, run.universe),
        }
    )
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
    episodes = _episodes(run, chosen)
    transcripts, _ = _transcripts(run, episodes)
    asked = _captioned(run, _todo(run, chosen, episodes, transcripts, {}), Previewer)
    shown = [row["shown"] for row in progress(asked, "preview", total=len(chosen), unit="clips")]
    html = page(shown, chosen, run.universe, len(clips), run.config.captions.vlm.model)
    run.storage.write_bytes(NAME, html)
    ok = sum(one.row["status"] == "ok" for one in shown)
    return f"captions: a preview of {len(shown)} of {len(clips)} clips, {ok} ok: {run.storage / NAME}"


def estimate(run: Run) -> str:
    """What a run of the stage would cost, from a sample; asks nobody, and transcribes no speech for it.

    Raises TableError and StageError as `run` does.
    """
    clips = _clips(run)
    episodes, done = _episodes(run, clips), tables.finished(run.storage, tables.CAPTIONS)
    transcripts, _ = _transcripts(run, episodes, make=False)
    return str(estimates.estimate(run, _todo(run, clips, episodes, transcripts, done), done))


def answer_by_batches(run: Run, todo: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fills the answer cache with the answers to what `todo` asks; gives back what the batches brought and cost."""
    config = run.config.captions.vlm
    if config.backend == "transformers":
        raise VlmError("vlm.batch is an endpoint's: leave it out with vlm.backend transformers")
    if config.max_usd is not None:
        raise VlmError("vlm.max_usd cannot be held in batch mode: look at --estimate, and leave it out")
    key = api_key(config)
    check_endpoint(config)
    batches = Batches(config, run.storage, key)
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
    tally, price = batches.tally, price_of(config)
    usd = BATCH_PRICE * price.usd(tally.tokens_in, tally.tokens_out) if price else None
    return asdict(tally) | {"usd": usd}


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


def _clips(run: Run) -> list[tables.Row]:
    clips = tables.read(run.storage, tables.CLIPS)
    if not clips:
        raise StageError(f"captions: there is no usable clip in {run.storage / 'clips'}; see its reports/clips.json")
    return clips


def _captioned(run: Run, todo: Sequence[Mapping[str, Any]], captioner: type[Captioner]) -> Iterator[dict[str, Any]]:
    """The captioner's rows, one a clip, in the order in which they end."""
    config = run.config.captions
    if config.vlm.backend == "transformers":
        # Each actor holds the model and answers a group at a time; meanwhile it decodes the next group's frames.
        check_model(config.vlm)
        key, gate, group, calls, gpus = None, None, config.vlm.batch_size, 2, config.gpus
    else:
        key = api_key(config.vlm)
        check_endpoint(config.vlm)
        # Each actor has its share of the requests in flight. Groups for twice as many wait inside it, so that one slow
        # answer leaves no slot idle; it decodes and compresses frames on one core while answers are awaited.
        gate, group, gpus = shared_limits(config.vlm), GROUP, 0.0
        calls = math.ceil(2 * config.vlm.concurrency / config.workers / GROUP)
    groups = math.ceil(len(todo) / group)
    captioned = ray.data.from_items([{"job": json.dumps(job)} for job in todo], override_num_blocks=groups).map_batches(
        captioner,
        fn_constructor_args=(run, key, gate),
        batch_size=None,
        num_cpus=config.cpus,
        num_gpus=gpus or None,
        compute=ActorPoolStrategy(
            size=min(config.workers, groups, config.vlm.concurrency),
            max_tasks_in_flight_per_actor=calls,
            max_concurrent_calls_per_actor=calls,
            enable_true_multi_threading=True,
        ),
    )
    yield from captioned.iter_rows()  # here, so that what holds the limits lives as long


def _episodes(run: Run, clips: Sequence[tables.Row]) -> dict[Key, Episode]:
    """The clips' episodes, as far as their footage is still there."""
    used = {(clip["show"], clip["episode"]) for clip in clips}
    found = run.universe.episodes(run.storage.uri, run.config.storage)
    return {(one.show, one.id): one for one in found if (one.show, one.id) in used}


def _transcripts(run: Run, episodes: Mapping[Key, Episode], make: bool = True) -> tuple[dict[Key, str], dict[str, Any]]:
    """Names of the transcripts of episodes without subtitles, made where they are not kept yet (unless not to `make`);
    and what the report says of them. An episode that fails has none, and is tried again by the next run."""
    config = run.config.captions.speech
    silent = {key: one for key, one in episodes.items() if not one.subtitles}
    if config.model is None or not silent:
        return {}, {}
    names = {key: speech.transcript_name(one, config, run.config.storage) for key, one in silent.items()}
    kept = set(run.storage.list(speech.TRANSCRIPTS, ".json"))
    if not make:
        return {key: name for key, name in names.items() if name in kept}, {}
    todo = [
        {"episode": silent[key].model_dump_json(), "transcript": name}
        for key, name in names.items()
        if name not in kept
    ]
    errors: dict[str, str] = {}
    if todo:
        speech.check(config)
        made = ray.data.from_items(todo, override_num_blocks=len(todo)).map(
            Transcriber,  # type: ignore[arg-type]  # a class is fine here: each actor of the pool makes one
            fn_constructor_args=(run,),
            num_cpus=config.cpus,
            num_gpus=config.gpus,
            compute=ActorPoolStrategy(size=min(config.workers, len(todo))),
        )
        for row in progress(made.iter_rows(), "speech", len(todo), "episodes", len(names) - len(todo)):
            if row["error"]:
                log.warning("captions: %s; its clips are captioned without dialogue", row["error"])
                errors[row["transcript"]] = row["error"]
    told = {"episodes": len(names), "transcribed": len(todo) - len(errors), "errors": sorted(errors.values())}
    return {key: name for key, name in names.items() if name not in errors}, {"speech": told}


def _todo(
    run: Run,
    clips: Sequence[tables.Row],
    episodes: Mapping[Key, Episode],
    transcripts: Mapping[Key, str],
    done: Mapping[str, tables.Row],
) -> list[dict[str, Any]]:
    """`{clip, episode, transcript, recipe}` of each clip without a caption that still holds; plain data for the
    captioner."""
    config = run.config
    sidecars = {key: sidecar_fingerprints(one, config.storage) for key, one in episodes.items()}
    todo, away = [], set[str]()
    for clip in clips:
        key = (clip["show"], clip["episode"])
        transcript = transcripts.get(key)
        inputs = (*sidecars.get(key, ()), *([transcript] if transcript else []))
        wanted = recipe(config.captions, run.universe.show(clip["show"]), clip["recipe"], inputs)
        row = done.get(clip["clip_id"])
        if row is not None and row["status"] == "ok" and key not in episodes:
            away.add("/".join(key))
            continue
        if row is None or row["recipe"] != wanted or row["status"] == "failed":
            episode = episodes.get(key)
            told = episode and episode.model_dump(mode="json")
            todo.append({"clip": clip, "episode": told, "transcript": transcript, "recipe": wanted})
    if away:
        # With the footage its dialogue is away: that is no reason to replace captions by poorer ones.
        log.warning("captions: %d episodes are away, first %s: their captions stay as they are", len(away), min(away))
    return todo
