"""The adapter that a training begins with, in place of a fresh LoRA."""

from __future__ import annotations

import hashlib

from mimix_ray import backbone
from mimix_ray.backbone.wan_adapter import Lora
from mimix_ray.run import Run
from mimix_ray.storage import Storage, StorageError, split
from mimix_ray.training.job import FatalError


def read_adapter(run: Run) -> Lora:
    """The adapter at `training.warm_start`, in whichever layout that the backbone's family reads.

    Raises FatalError when it is not there, is damaged, or has another rank or strength than the run's LoRA.
    """
    config = run.config.training
    address = config.warm_start or ""
    folder, name = split(address)
    try:
        with Storage(folder, run.config.storage).local(name) as path:
            found = backbone.family(run.config.backbone).read_adapter(path)
    except (StorageError, backbone.BackboneError) as error:
        raise FatalError(f"training.warm_start {address}: {error}") from None
    wanted = config.rank, float(config.alpha or config.rank)
    if (found.rank, found.alpha) != wanted:
        raise FatalError(
            f"training.warm_start {address}: its rank and alpha are {found.rank} and {found.alpha:g}, the run's "
            f"{wanted[0]} and {wanted[1]:g}; set training.rank and training.alpha to the adapter's"
        )
    return found


def learned_shows(found: Lora) -> tuple[str, ...]:
    """Ids of the shows that the adapter's header says it was trained on."""
    return tuple(show for show in found.metadata.get("shows", "").split(",") if show)


def digest(found: Lora) -> str:
    """A short text that changes with the adapter's weights."""
    total = hashlib.sha256()
    for name, tensor in sorted(found.tensors.items()):
        total.update(name.encode() + tensor.float().numpy().tobytes())
    return total.hexdigest()[:16]
