"""The losses as a TensorBoard file: `tensorboard --logdir <root>/training/tensorboard`, also on s3://."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mimix_ray.storage import Storage
from mimix_ray.training.checkpoint import History


def write(storage: Storage, history: History) -> None:
    """Publishes the whole history as one event file, in place of the one before: after a restart no step is twice."""
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
        with SummaryWriter(folder) as writer:
            for record in history:
                for name in ("loss", "grad_norm", "lr", "seconds"):
                    writer.add_scalar(f"training/{name}", record[name], record["step"])
        (events,) = Path(folder).iterdir()
        storage.upload(events, "training/tensorboard/events.out.tfevents.training")
