"""The actor that asks the judge."""

from __future__ import annotations

import json
from typing import Any

from pydantic import SecretStr

from mimix_ray import tables
from mimix_ray.evaluation import scoring
from mimix_ray.run import Run
from mimix_ray.vlm import Vlm
from mimix_ray.vlm.limits import Gate


class Judge:
    """Judges one video at a time; several threads share one endpoint and its limit of requests.

    Safe to repeat: rows are published under their id, and an answer that came once is found in the cache.
    """

    def __init__(self, run: Run, key: SecretStr, gate: Gate) -> None:
        self.run = run
        self.vlm = Vlm(run.config.evaluation.vlm, run.storage, key, gate)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """`item`: `job` is JSON `{generation, rows}`. Returns what the report counts."""
        job = json.loads(item["job"])
        rows, outcomes = scoring.ask(self.run, self.vlm, job["generation"], job["rows"])
        tables.publish(self.run.storage, tables.SCORES, rows)
        return {
            "outcomes": json.dumps([outcome.kind for outcome in outcomes]),
            "calls": sum(outcome.calls for outcome in outcomes),
            "kept": sum(not outcome.calls for outcome in outcomes),
            "tokens_in": sum(outcome.tokens_in for outcome in outcomes if outcome.calls),
            "tokens_out": sum(outcome.tokens_out for outcome in outcomes if outcome.calls),
        }
