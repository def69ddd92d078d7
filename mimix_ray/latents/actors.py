"""The actor that holds VAE and text encoder."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mimix_ray import backbone, tables
from mimix_ray.latents.samples import Sample
from mimix_ray.run import Run


class Encoder:
    """Encodes groups of samples. Safe to repeat: files and rows stand under their sample's id."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.encoders = backbone.load_encoders(run.config.backbone)

    def __call__(self, group: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Publishes the rows of one group, given as `sample`, one JSON text each; gives back id and status of each."""
        from mimix_ray.latents.encode import encode_samples  # here, so that the driver does without PyTorch

        samples = [Sample(**json.loads(text)) for text in group["sample"]]
        rows = encode_samples(samples, self.encoders, self.run.storage)
        tables.publish(self.run.storage, tables.LATENTS, rows)
        return {name: [row[name] for row in rows] for name in ("sample_id", "status")}
