"""What driver and workers share about one training. Light to import: the driver needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mimix_ray import tables
from mimix_ray.config import TrainingConfig
from mimix_ray.run import Run
from mimix_ray.training.plan import Plan

ADAPTER = "training/pytorch_lora_weights.safetensors"
LOSSES = "training/losses.json"
DONE = "training/adapter.json"
"""Written last: what the adapter was made of. An adapter without it is not finished."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one clear line. The last checkpoint stays as it is."""


class LossError(TrainingError):
    """The loss is not finite: all workers see it alike, and would again after a restart."""


@dataclass(frozen=True)
class Job:
    """What every worker gets. Plain data."""

    run: Run
    recipe: str
    """Of all that shapes the weights but the number of steps."""
    steps: int


def plan_of(config: TrainingConfig, rows: Sequence[tables.Row]) -> Plan:
    """The plan over the usable rows of table `latents`; raises PlanError."""
    of_kind = {kind: tuple(row["sample_id"] for row in rows if row["kind"] == kind) for kind in ("clip", "composite")}
    return Plan(of_kind["clip"], of_kind["composite"], config.composite_ratio, config.batch_size, config.seed)
