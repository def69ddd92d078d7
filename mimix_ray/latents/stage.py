"""Stage `latents`: clips and composites with their captions to what the trainer reads, by VAE and text encoder."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import ray.data
from ray.data import ActorPoolStrategy

from mimix_ray import backbone, tables
from mimix_ray.latents.actors import Encoder
from mimix_ray.latents.samples import Sample, list_samples
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress

GROUP = 4
"""Samples a block: they are encoded together, their rows are published together, and lost with a worker that dies."""


def run(run: Run) -> StageReport:
    """Encodes the samples that have no latent yet; every actor holds VAE and text encoder.

    Raises:
        TableError: The stages before have not ended.
        StageError: There is nothing to encode, or no base model.
    """
    config, storage = run.config.latents, run.storage
    composites = f"{tables.COMPOSITES.name}/table.parquet"
    samples = list_samples(
        tables.read(storage, tables.CLIPS),
        tables.read(storage, tables.CAPTIONS),
        # A run without composites (ratio 0) need not run their stage.
        tables.read(storage, tables.COMPOSITES) if storage.exists(composites) else [],
        run.config,
    )
    if not samples:
        raise StageError(f"latents: no clip in {storage.uri} has a caption; see reports/captions.json there")
    report = StageReport("latents", rows_in=len(samples))
    todo = _todo(run, samples)
    if todo:
        try:
            backbone.check(run.config.backbone)
        except backbone.BackboneError as error:
            raise StageError(str(error)) from None
        encoded = ray.data.from_items(
            [{"sample": json.dumps(asdict(sample))} for sample in todo],
            override_num_blocks=math.ceil(len(todo) / GROUP),
        ).map_batches(
            Encoder,
            fn_constructor_args=(run,),
            batch_size=None,
            # The encoders fill the GPU (umT5-xxl: 11 GB); cores read and decode the clips.
            compute=ActorPoolStrategy(size=min(config.workers, math.ceil(len(todo) / GROUP))),
            num_gpus=config.gpus,
            num_cpus=config.cpus,
        )
        done = len(samples) - len(todo)
        for _ in progress(encoded.iter_rows(), "latents", total=len(todo), unit="samples", done=done):
            pass
    rows = tables.seal(storage, tables.LATENTS, [sample.sample_id for sample in samples])
    return report.close(storage, rows, reused=len(samples) - len(todo))


def _todo(run: Run, samples: list[Sample]) -> list[Sample]:
    """The samples without a latent that still holds: none yet, other input, failed, or its file has gone."""
    done = tables.finished(run.storage, tables.LATENTS)
    there = set(run.storage.list("latents", ".safetensors"))

    def holds(sample: Sample) -> bool:
        row = done.get(sample.sample_id)
        return (
            row is not None
            and row["recipe"] == sample.recipe
            and row["status"] == "ok"
            and {row["latent"], row["texts"]} <= there
        )

    return [sample for sample in samples if not holds(sample)]
