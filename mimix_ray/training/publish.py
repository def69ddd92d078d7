"""What a finished training leaves: adapters, losses, the model card, and last the mark that says so."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import Tensor

from mimix_ray import backbone
from mimix_ray.training import card, checkpoint
from mimix_ray.training.checkpoint import Checkpoint
from mimix_ray.training.job import ADAPTER, DONE, LOSSES, Job

COMFYUI = "training/comfyui.safetensors"
"""The same adapter with ComfyUI's names."""
BEST = "training/best/pytorch_lora_weights.safetensors"
"""The adapter of the checkpoint of least held-out loss, where that is not the last one."""


def publish(job: Job, state: Checkpoint) -> None:
    """Leaves adapter, ComfyUI's copy of it, the best checkpoint's, losses, card and mark, in this order."""
    storage, recipe = job.run.storage, job.recipe
    storage.delete(DONE)  # of another training: what comes now is no longer its
    about = header(job, state.step)
    best = checkpoint.find_best(storage, recipe, state.step)
    _publish_adapter(job, state.adapter, about, {"diffusers": ADAPTER, "comfyui": COMFYUI})
    if best not in (None, state.step):
        better = checkpoint.read(storage, recipe, best)
        _publish_adapter(job, better.adapter, header(job, best), {"diffusers": BEST})
    else:
        storage.delete(BEST)
    storage.write_json(LOSSES, state.history)
    storage.write_bytes("training/loss.png", card.loss_png(state.history))
    storage.write_bytes("training/README.md", card.render(about, state.history, job.run.config).encode())
    storage.write_json(DONE, about)


def header(job: Job, steps: int) -> dict[str, str]:
    """What an adapter's file tells of itself."""
    universe, config = job.run.universe, job.run.config
    return {
        "universe": universe.name,
        "shows": ",".join(job.shows),
        "characters": ", ".join(c.name for show in universe.shows if show.id in job.shows for c in show.characters),
        "grammar": config.training.caption_format,
        "base": config.backbone.path,
        "rank": str(config.training.rank),
        "alpha": str(config.training.alpha or config.training.rank),
        "targets": config.training.targets,
        "steps": str(steps),
        "recipe": job.recipe,
    }


def _publish_adapter(job: Job, lora: dict[str, Tensor], about: dict[str, str], names: dict[str, str]) -> None:
    """Puts the adapter on storage, by layout."""
    config, storage = job.run.config, job.run.storage
    with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
        for layout, name in names.items():
            path = Path(folder, f"{layout}.safetensors")
            backbone.family(config.backbone).save_adapter(path, lora, config.training, about, layout)
            storage.upload(path, name)
