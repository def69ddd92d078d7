"""What captions clips on the cluster: frames and context to questions, questions to rows or to a batch's requests."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import numpy as np
from pydantic import SecretStr

from mimix_ray import tables
from mimix_ray.captions.captioning import failed_row, make_question, make_row
from mimix_ray.captions.context import SidecarError
from mimix_ray.run import Run
from mimix_ray.storage import StorageError
from mimix_ray.universe import Episode
from mimix_ray.video import VideoError
from mimix_ray.vlm import AnswerCache, Question, Vlm, request_line
from mimix_ray.vlm.questions.caption import CaptionAnswer

DECODERS = 2
"""Clips decoded at once: keeps the core busy that the actor asks for, however many threads wait for answers."""


class Captioner:
    """Captions groups of clips; several threads call it at once and share one endpoint and its limit of requests.

    Safe to repeat: rows are published under their clip's id, and an answer that came once is found in the cache.
    """

    def __init__(self, run: Run, key: SecretStr) -> None:
        self.run = run
        self.decoders = threading.Semaphore(DECODERS)
        self.vlm = Vlm(run.config.captions.vlm, run.storage, key, kept_only=run.config.captions.vlm.batch)

    def __call__(self, group: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Publishes the rows of one group; gives back per clip what the report counts.

        Args:
            group: `job`: one JSON text a clip, `{clip, episode, recipe}`.
        """
        unasked: list[tables.Row] = []
        asked: list[tuple[dict[str, Any], Question[CaptionAnswer]]] = []
        for job in map(json.loads, group["job"]):
            episode = Episode(**job["episode"]) if job["episode"] else None
            try:
                with self.decoders:
                    asked.append((job, make_question(self.run, job["clip"], episode)))
            except (VideoError, SidecarError, StorageError) as error:
                unasked.append(failed_row(self.run, job["clip"], job["recipe"], error))
        outcomes = self.vlm.ask_all([question for _, question in asked])
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
            question = make_question(run, job["clip"], Episode(**job["episode"]) if job["episode"] else None)
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
