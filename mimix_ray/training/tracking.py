"""What is seen of a training: TensorBoard (`tensorboard --logdir <root>/training/tensorboard`, also on s3://), W&B."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from mimix_ray.storage import Storage
from mimix_ray.training.checkpoint import History
from mimix_ray.training.job import Job

EVENTS = "training/tensorboard/events.out.tfevents.training"


def write_curves(storage: Storage, history: History) -> None:
    """Publishes the whole history as one event file, in place of the one before: after a restart no step is twice."""
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
        with SummaryWriter(folder) as writer:
            for record in history:
                for name, value in scalars(record).items():
                    writer.add_scalar(f"training/{name}", value, record["step"])
        (events,) = Path(folder).iterdir()
        storage.upload(events, EVENTS)


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of one step's record by the name that a curve has; what was not measured is left out."""
    flat = {name: value for name, value in record.items() if name not in ("step", "loss_by_time")}
    quarters = enumerate(record["loss_by_time"], start=1)
    return {n: v for n, v in (*flat.items(), *((f"loss_time_q{q}", v) for q, v in quarters)) if v is not None}


class WandB:
    """The same numbers at Weights & Biases, where a project is named; a restarted training goes on in the same run."""

    def __init__(self, project: str | None, job: Job) -> None:
        self.run = None
        if project:
            import wandb

            # Its own files go to a folder of the system's: the working folder is not ours to fill.
            folder = os.environ.get("WANDB_DIR", tempfile.gettempdir())
            # Of the config what shapes the weights: the rest may hold addresses with passwords.
            config = {part: getattr(job.run.config, part).identity() for part in ("training", "backbone")}
            self.run = wandb.init(project=project, id=job.recipe, resume="allow", config=config, dir=folder)

    def log(self, record: dict[str, Any]) -> None:
        """Adds one step."""
        if self.run:
            self.run.log(scalars(record), step=record["step"])

    def close(self) -> None:
        """Sends what is left."""
        if self.run:
            self.run.finish()
