"""The Ray Data actor that holds the generating pipeline."""

from __future__ import annotations

import json
from typing import Any

from mimix_ray import synthesis, tables
from mimix_ray.backbone import BackboneError
from mimix_ray.run import Run
from mimix_ray.storage import StorageError


class VideoMaker:
    """Makes the video of one row at a time and publishes its row. Safe to replay: same id, same seed, same video."""

    def __init__(self, run: Run, adapter: synthesis.Adapter | None) -> None:
        self.run, self.adapter = run, adapter
        self.fatal = ""
        try:
            self.generator = synthesis.open_generator(run, adapter)
        except (BackboneError, StorageError) as error:
            # Raised here it would be retried by Ray and reach the person as a stack of its frames.
            self.fatal = str(error)

    def __call__(self, item: dict[str, Any]) -> dict[str, str]:
        """`item`: `parameters` and `row` as JSON. Returns the id, the status, and `fatal` when no video can be made."""
        row = json.loads(item["row"])
        if self.fatal:
            return {"generation_id": row["generation_id"], "status": "failed", "fatal": self.fatal}
        parameters = synthesis.Parameters(**json.loads(item["parameters"]))
        name = f"generations/{row['generation_id']}.mp4"
        try:
            seconds = synthesis.make_video(self.generator, parameters, self.run.storage, name, self.adapter)
            row |= {"status": "ok", "video": name, "seconds": seconds}
        except Exception as error:  # whatever one prompt runs into, the other prompts go on
            row |= {"status": "failed", "error": tables.error_text(*synthesis.explain(error))}
        tables.publish(self.run.storage, tables.GENERATIONS, [row])
        return {"generation_id": row["generation_id"], "status": row["status"], "fatal": ""}
