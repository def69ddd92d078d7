"""Samples: what a clip or a composite gives the trainer, a latent and one text embedding per caption format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from mimix_ray import backbone, tables
from mimix_ray.config import RunConfig
from mimix_ray.prompts import Caption, render
from mimix_ray.storage import Storage, StorageError
from mimix_ray.video import VideoError, read_frames


@dataclass(frozen=True)
class Sample:
    """One sample to encode; plain data."""

    sample_id: str
    kind: str
    show: str | None
    video: str
    """Name of the mp4 on the run's storage."""
    texts: dict[str, str]
    """Caption by format."""
    recipe: str

    def row(self) -> tables.Row:
        """The columns of the table `latents` that are known before encoding."""
        values = asdict(self)
        return {key: values[key] for key in ("sample_id", "kind", "show", "recipe")}


def list_samples(
    clips: Iterable[tables.Row], captions: Iterable[tables.Row], composites: Iterable[tables.Row], config: RunConfig
) -> list[Sample]:
    """Every captioned clip and every composite, in the tables' order; only rows that are `ok` may be given."""
    clip_of = {clip["clip_id"]: clip for clip in clips}
    captioned = [(clip_of[row["clip_id"]], row) for row in captions if row["clip_id"] in clip_of]
    shows = {row["composite_id"]: clip_of.get(row["background_clip"], {}).get("show") for row in composites}
    encoder = backbone.identity(config.backbone, "flow_shift")

    def sample(kind: str, key: str, show: str | None, video: tables.Row, caption: tables.Row) -> Sample:
        said = Caption.from_rows(caption["characters"], caption["setting"], caption["scene_style"])
        texts: dict[str, str] = {name: render(said, name) for name in config.latents.formats}
        recipe = tables.recipe(config.latents, encoder, video["recipe"], *texts.values())
        return Sample(key, kind, show, video["video"], texts, recipe)

    return [
        *(sample("clip", clip["clip_id"], clip["show"], clip, row) for clip, row in captioned),
        *(sample("composite", row["composite_id"], shows[row["composite_id"]], row, row) for row in composites),
    ]


def encode_samples(
    samples: Sequence[Sample], encoders: backbone.Encoders, storage: Storage, size: tuple[int, int, int]
) -> list[tables.Row]:
    """Encodes samples together, puts their files on storage, gives their rows of table `latents`; bad input is a row.

    Args:
        size: Frames, height and width that every clip must have.
    """
    films: dict[str, np.ndarray] = {}
    failed: list[tables.Row] = []
    for sample in samples:
        try:
            with storage.local(sample.video) as path:
                frames = read_frames(path)
        except VideoError as error:
            failed.append(_failed(sample, error.code, str(error)))
            continue
        except StorageError as error:
            failed.append(_failed(sample, "storage", str(error)))
            continue
        if frames.shape[:3] == size:
            films[sample.sample_id] = frames
        else:
            what = f"{sample.video} is {_size(frames.shape)}, not {_size(size)}; run the stage that makes it again"
            failed.append(_failed(sample, "wrong_size", what))
    good = [sample for sample in samples if sample.sample_id in films]
    latents = encoders.encode_videos([films[sample.sample_id] for sample in good]) if good else []
    return failed + [_finish(sample, latent, encoders, storage) for sample, latent in zip(good, latents, strict=True)]


def _finish(sample: Sample, latent: Tensor, encoders: backbone.Encoders, storage: Storage) -> tables.Row:
    """Encodes the texts of a sample, checks and writes both."""
    said = {**sample.texts, "empty": ""}  # the empty prompt, for caption dropout
    texts = dict(zip(said, encoders.encode_text(list(said.values())), strict=True))
    for name, tensor in {"latent": latent, **texts}.items():
        if not torch.isfinite(tensor).all():
            return _failed(sample, "not_finite", f"NaN or infinity in {name}; try backbone.dtype fp32")
    names = {key: f"latents/{sample.sample_id}{end}.safetensors" for key, end in (("latent", ""), ("texts", ".texts"))}
    try:
        storage.write_bytes(names["latent"], save({"latent": latent.contiguous()}))
        storage.write_bytes(names["texts"], save({name: text.contiguous() for name, text in texts.items()}))
    except StorageError as error:
        return _failed(sample, "storage", str(error))
    return {**sample.row(), **names, "shape": list(latent.shape), "status": "ok"}


def _failed(sample: Sample, code: str, what: str) -> tables.Row:
    return {**sample.row(), "status": "failed", "error": tables.error_text(code, what)}


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} frames of {shape[2]}x{shape[1]}"
