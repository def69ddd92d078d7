"""The actor that captions clips: frames and context to questions, questions to rows."""

from __future__ import annotations

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
from mimix_ray.vlm import LocalVlm, Question, Vlm
from mimix_ray.vlm.limits import Gate
from mimix_ray.vlm.questions.caption import CaptionAnswer

DECODERS = 2
"""Clips decoded at once: keeps the core busy that the actor asks for, however many threads wait for answers."""


class Captioner:
    """Captions groups of clips; several threads call it at once and share one endpoint and its limit of requests,
    or one model.

    Safe to repeat: rows are published under their clip's id, and an answer that came once is found in the cache.
    """

    def __init__(self, run: Run, key: SecretStr | None, gate: Gate | None) -> None:
        """`key` and `gate` are the endpoint's; no key: the actor holds the model itself."""
        config = run.config.captions
        share = config.vlm.model_copy(update={"concurrency": max(1, config.vlm.concurrency // config.workers)})
        self.run = run
        self.decoders = threading.Semaphore(DECODERS)
        self.vlm = LocalVlm(config.vlm, run.storage) if key is None else Vlm(share, run.storage, key, gate)

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
            "cached": [False] * len(unasked) + [outcome.calls == 0 for outcome in outcomes],
            "tokens_in": [0] * len(unasked) + [outcome.tokens_in for outcome in outcomes],
            "tokens_out": [0] * len(unasked) + [outcome.tokens_out for outcome in outcomes],
        }
