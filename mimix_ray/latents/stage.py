"""Stage `latents`: videos and captions to what the trainer reads, by the VAE and the text encoder, once."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeVar

import ray.data
from ray.data import ActorPoolStrategy

from mimix_ray import backbone, tables
from mimix_ray.latents.actors import TextEncoder, VideoEncoder
from mimix_ray.latents.samples import Sample, Text, list_samples
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.storage import Storage

Item = TypeVar("Item", Sample, Text)

VIDEOS, TEXTS = 16, 32
"""Most of each a block: they share a shard and a part of the table, and are lost together with a worker that dies.

16 latents of 81x480x832 are 67 MB, and the paper's 57,000 samples so few shards that a trainer can remember all their
footers. 32 texts of 512 tokens go through umT5-xxl at once: by estimate 7 GB for its 64 heads, beside 11 of weights."""


def run(run: Run) -> StageReport:
    """Encodes the videos, then the texts, that are not encoded yet. The report counts samples, that is videos.

    Raises:
        TableError: The stages before have not ended.
        StageError: There is nothing to encode, or no base model.
    """
    storage = run.storage
    composites = f"{tables.COMPOSITES.name}/table.parquet"
    samples, texts = list_samples(
        tables.read(storage, tables.CLIPS),
        tables.read(storage, tables.CAPTIONS),
        # A run without composites (ratio 0) need not run their stage.
        tables.read(storage, tables.COMPOSITES) if storage.exists(composites) else [],
        run.config,
    )
    if not samples:
        raise StageError(f"latents: no clip in {storage.uri} has a caption; see reports/captions.json there")
    report = StageReport("latents", rows_in=len(samples))
    new_samples, new_texts = _todo(storage, tables.LATENTS, samples), _todo(storage, tables.TEXTS, texts)
    if new_samples or new_texts:
        try:
            backbone.check(run.config.backbone)
        except backbone.BackboneError as error:
            raise StageError(str(error)) from None
    # One after the other: a GPU then holds either the VAE with its activations or umT5-xxl, and only what is needed.
    _encode(run, VideoEncoder, new_samples, VIDEOS, "samples", reused=len(samples) - len(new_samples))
    _encode(run, TextEncoder, new_texts, TEXTS, "texts", reused=len(texts) - len(new_texts))
    text_rows = tables.seal(storage, tables.TEXTS, [text.text_id for text in texts])
    rows = tables.seal(storage, tables.LATENTS, [sample.sample_id for sample in samples])
    for table, kept in ((tables.LATENTS, rows), (tables.TEXTS, text_rows)):
        for shard in _shards(storage, table) - {row["shard"] for row in kept}:
            storage.delete(shard)
    failed = sum(row["status"] == "failed" for row in text_rows)
    report.extra = {
        "texts_encoded": len(new_texts) - failed,
        "texts_reused": len(texts) - len(new_texts),
        "texts_failed": failed,
        # They may have lost their end, where the scene style stands.
        "texts_at_full_length": sum(row["tokens"] == run.config.backbone.text_tokens for row in text_rows),
    }
    return report.close(storage, rows, reused=len(samples) - len(new_samples))


def _encode(run: Run, encoder: type, items: Sequence[Item], most: int, unit: str, reused: int) -> None:
    """Has items encoded in blocks of at most so many by actors that publish their rows."""
    if not items:
        return
    config = run.config.latents
    # A small run is spread over all actors.
    blocks = max(math.ceil(len(items) / most), min(len(items), config.workers))
    encoded = ray.data.from_items(
        [{"item": json.dumps(asdict(item))} for item in items], override_num_blocks=blocks
    ).map_batches(
        encoder,
        fn_constructor_args=(run,),
        batch_size=None,
        # An encoder fills its GPU; cores read and decode the clips.
        compute=ActorPoolStrategy(size=min(config.workers, blocks)),
        num_gpus=config.gpus,
        num_cpus=config.cpus,
    )
    for _ in progress(encoded.iter_rows(), "latents", total=len(items), unit=unit, done=reused):
        pass


def _todo(storage: Storage, table: tables.Table, items: Sequence[Item]) -> list[Item]:
    """The items without a tensor that still holds: none yet, other input, failed, or its shard has gone."""
    done, there = tables.finished(storage, table), _shards(storage, table)

    def holds(item: Item) -> bool:
        row = done.get(item.row()[table.key])
        return row is not None and row["recipe"] == item.recipe and row["status"] == "ok" and row["shard"] in there

    return [item for item in items if not holds(item)]


def _shards(storage: Storage, table: tables.Table) -> set[str]:
    return set(storage.list(f"{table.name}/shards", ".parquet"))
