"""The actors that hold the VAE, and those that hold the text encoder."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mimix_ray import backbone, tables
from mimix_ray.latents.samples import Sample, Text
from mimix_ray.run import Run

# `mimix_ray.latents.encode` is imported late, so that the driver does without PyTorch.


class VideoEncoder:
    """Encodes groups of videos, given as `item`, one JSON text each, and publishes their rows.

    Safe to repeat: of rows with one key the last counts, and a shard that no row names is deleted in the end.
    """

    def __init__(self, run: Run) -> None:
        self.storage = run.storage
        self.vae = backbone.load_vae(run.config.backbone)

    def __call__(self, group: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Gives back the id of each."""
        from mimix_ray.latents.encode import encode_videos

        samples = [Sample(**{**values, "size": tuple(values["size"])}) for values in map(json.loads, group["item"])]
        tables.publish(self.storage, tables.LATENTS, encode_videos(samples, self.vae, self.storage))
        return {"id": [sample.sample_id for sample in samples]}


class TextEncoder:
    """Encodes groups of texts; else as `VideoEncoder`."""

    def __init__(self, run: Run) -> None:
        self.storage = run.storage
        self.encoder = backbone.load_text_encoder(run.config.backbone)

    def __call__(self, group: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Gives back the id of each."""
        from mimix_ray.latents.encode import encode_texts

        texts = [Text(**json.loads(text)) for text in group["item"]]
        tables.publish(self.storage, tables.TEXTS, encode_texts(texts, self.encoder, self.storage))
        return {"id": [text.text_id for text in texts]}
