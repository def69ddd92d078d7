"""The actors and tasks: clips to questions, questions to rows or to a batch's requests; episodes to transcripts."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import numpy as np
from pydantic import SecretStr

from mimix_ray import tables
from mimix_ray.captions import speech
from mimix_ray.captions.captioning import failed_row, make_question, make_row
from mimix_ray.captions.context import SidecarError
from mimix_ray.captions.preview import Shown, show
from mimix_ray.run import Run
from mimix_ray.storage import StorageError
from mimix_ray.universe import Episode
from mimix_ray.video import VideoError
from mimix_ray.vlm import AnswerCache, LocalVlm, Outcome, Question, Vlm, request_line
from mimix_ray.vlm.limits import Gate
from mimix_ray.vlm.questions.caption import CaptionAnswer

DECODERS = 2
"""Clips decoded at once: keeps the core busy that the actor asks for, however many threads wait for answers."""


class Captioner:
    """Captions groups of clips; several threads call it at once and share one endpoint and its limit of requests,
    or one model.

    Safe to repeat: rows are published under their clip's id, and an answer that came once is found in the cache.
    """

    batches = True
    """Whether batches, where the config asks for them, have filled the cache before."""

    def __init__(self, run: Run, key: SecretStr | None, gate: Gate | None) -> None:
        """`key` and `gate` are the endpoint's; no key: the actor holds the model itself."""
        config = run.config.captions
        share = config.vlm.model_copy(update={"concurrency": max(1, config.vlm.concurrency // config.workers)})
        self.run = run
        self.decoders = threading.Semaphore(DECODERS)
        self.vlm: Vlm | LocalVlm
        if key is None:
            self.vlm = LocalVlm(config.vlm, run.storage)
        else:
            self.vlm = Vlm(share, run.storage, key, gate, kept_only=config.vlm.batch and self.batches)

    def __call__(self, group: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Publishes the rows of one group; gives back per clip what the report counts.

        Args:
            group: `job`: one JSON text a clip, `{clip, episode, transcript, recipe}`.
        """
        unasked, asked, outcomes = self._ask(group)
        ended = [
            make_row(self.run, job["clip"], job["recipe"], outcome)
            for (job, _), outcome in zip(asked, outcomes, strict=True)
        ]
        tables.publish(self.run.storage, tables.CAPTIONS, unasked + ended)
        return {
            "clip_id": [row["clip_id"] for row in unasked + ended],
            "outcome": [(row.get("error") or "ok").split(":")[0] for row in unasked + ended],
            "calls": [0] * len(unasked) + [outcome.calls for outcome in outcomes],
            "cached": [False] * len(unasked)
            + [outcome.calls == 0 and outcome.kind != "endpoint_error" for outcome in outcomes],
            "tokens_in": [0] * len(unasked) + [outcome.tokens_in for outcome in outcomes],
            "tokens_out": [0] * len(unasked) + [outcome.tokens_out for outcome in outcomes],
        }

    def _ask(
        self, group: dict[str, np.ndarray]
    ) -> tuple[list[tables.Row], list[tuple[dict[str, Any], Question[CaptionAnswer]]], list[Outcome[CaptionAnswer]]]:
        """Rows of the clips about which nothing could be asked; the others' jobs and questions, and their outcomes."""
        unasked: list[tables.Row] = []
        asked: list[tuple[dict[str, Any], Question[CaptionAnswer]]] = []
        for job in map(json.loads, group["job"]):
            episode = Episode(**job["episode"]) if job["episode"] else None
            try:
                with self.decoders:
                    asked.append((job, make_question(self.run, job["clip"], episode, job["transcript"])))
            except (VideoError, SidecarError, StorageError) as error:
                unasked.append(failed_row(self.run, job["clip"], job["recipe"], error))
        return unasked, asked, self.vlm.ask_all([question for _, question in asked])


class Previewer(Captioner):
    """Asks about clips as the stage does, and keeps the answers, but publishes no row."""

    batches = False  # a few clips are asked at once

    def __call__(self, group: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """One group's `shown`. Frames come back with it, but small, and of a sample."""
        unasked, asked, outcomes = self._ask(group)
        shown = [Shown(row) for row in unasked]
        for (job, question), outcome in zip(asked, outcomes, strict=True):
            shown.append(show(make_row(self.run, job["clip"], job["recipe"], outcome), question, outcome))
        return {"shown": shown}


class Transcriber:
    """Transcribes one episode a call and keeps its lines. Safe to repeat: the same job writes the same file."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.model = speech.load(run.config.captions.speech)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """`row`: `episode` as JSON text, and `transcript`, the name to keep its lines under.

        Gives back `transcript` and `error`, one line, "" where there is none.
        """
        episode = Episode.model_validate_json(row["episode"])
        try:
            lines = speech.transcribe_episode(self.model, episode, self.run.config.storage)
        except speech.SpeechError as error:
            return {"transcript": row["transcript"], "error": str(error)}
        speech.keep(self.run.storage, row["transcript"], lines)
        return {"transcript": row["transcript"], "error": ""}


BATCH_PARTS = "captions/batch"
"""Folder of the request lines on their way to a batch: bigger than the clips themselves, so not in anyone's memory."""


def write_requests(group: dict[str, np.ndarray], run: Run) -> dict[str, list[str]]:
    """Publishes the request lines of one group's clips, those not in the answer cache, as one part; safe to repeat.

    Args:
        group: As the captioner's.

    Returns, per clip, its question's `key` and the `part` that holds the line, in the rows' order; both "" when there
    is nothing to ask, or nothing that can be asked: the captioner makes that clip's row.
    """
    vlm, cache = run.config.captions.vlm, AnswerCache(run.storage)
    keys: list[str] = []
    lines: list[bytes] = []
    jobs = [json.loads(job) for job in group["job"]]
    for job in jobs:
        try:
            episode = Episode(**job["episode"]) if job["episode"] else None
            question = make_question(run, job["clip"], episode, job["transcript"])
            key = question.key(vlm.model, vlm.temperature)
            if cache.get(key, vlm.max_tokens) is None:
                keys.append(key)
                lines.append(request_line(vlm, key, question))
        except (VideoError, SidecarError, StorageError):
            continue
    clips = "\n".join(job["clip"]["clip_id"] for job in jobs)
    part = f"{BATCH_PARTS}/{hashlib.sha256(clips.encode()).hexdigest()[:32]}.jsonl"
    if keys:
        run.storage.write_bytes(part, b"".join(lines))
    nothing = [""] * (len(jobs) - len(keys))
    return {"key": keys + nothing, "part": [part] * len(keys) + nothing}
