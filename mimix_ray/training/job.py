"""What driver and workers share about one training. Light to import: the driver needs no PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mimix_ray import tables
from mimix_ray.run import Run
from mimix_ray.storage import Storage
from mimix_ray.synthesis import Parameters
from mimix_ray.training.plan import Plan, mix, set_aside

ADAPTER = "training/pytorch_lora_weights.safetensors"
LOSSES = "training/losses.json"
DONE = "training/adapter.json"
"""Written last: what the adapter was made of. An adapter without it is not finished."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one clear line. The last checkpoint stays as it is."""


class FatalError(TrainingError):
    """One that all workers meet alike, and would again after a restart."""


@dataclass(frozen=True)
class Job:
    """What every worker gets. Plain data."""

    run: Run
    recipe: str
    """Of all that shapes the weights but the number of steps."""
    steps: int
    shows: tuple[str, ...] = ()
    """Ids of the shows that the adapter knows in the end."""
    learned: tuple[str, ...] = ()
    """Those of them that the adapter of a warm start knows already."""
    data: str = ""
    """`digest_of` what is trained on."""
    samples: tuple[tuple[str, Parameters], ...] = ()
    """Of the sample videos: prompt ids, and what is asked of the model for each."""


def usable(storage: Storage, caption_format: str) -> tuple[list[tables.Row], dict[str, tables.Row]]:
    """The samples that have both a latent and a text in this format, and the texts by sample; "" is the empty one.

    Raises TableError when the stage `latents` has not ended.
    """
    texts = {
        row["sample_id"] or "": row
        for row in tables.read(storage, tables.TEXTS)
        if row["format"] in (caption_format, None)
    }
    return [row for row in tables.read(storage, tables.LATENTS) if row["sample_id"] in texts], texts


def digest_of(rows: Sequence[tables.Row], texts: Mapping[str, tables.Row]) -> str:
    """A short text that changes with any sample, its latent or its text."""
    lines = (f"{row['sample_id']} {row['recipe']} {texts[row['sample_id']]['recipe']}" for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def plan_of(job: Job, rows: Sequence[tables.Row]) -> tuple[Plan, list[tables.Row]]:
    """The plan over usable rows, and the rows held out; raises PlanError."""
    config = job.run.config.training
    aside = set_aside(rows, config)
    held_out = {row["sample_id"] for row in aside}
    rest = [row for row in rows if row["sample_id"] not in held_out]
    shapes = {row["sample_id"]: tuple(row["shape"]) for row in rest}
    return Plan(mix(rest, config, job.learned), config.batch_size, config.seed, config.micro_batch, shapes), aside
