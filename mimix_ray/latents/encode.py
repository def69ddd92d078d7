"""What a sample gives the trainer: a latent and one text embedding per caption format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from mimix_ray import backbone, tables
from mimix_ray.latents.samples import Sample
from mimix_ray.storage import Storage, StorageError
from mimix_ray.video import VideoError, read_frames


def encode_samples(samples: Sequence[Sample], encoders: backbone.Encoders, storage: Storage) -> list[tables.Row]:
    """Encodes samples together, puts their files on storage, gives their rows of table `latents`; bad input is one."""
    rows: list[tables.Row] = []
    films: dict[tuple[int, ...], list[tuple[Sample, np.ndarray]]] = defaultdict(list)
    for sample in samples:
        try:
            with storage.local(sample.video) as path:
                frames = read_frames(path)
        except VideoError as error:
            rows.append(_failed(sample, error.code, str(error)))
            continue
        except StorageError as error:
            rows.append(_failed(sample, "storage", str(error)))
            continue
        if frames.shape[:3] == tuple(sample.size):
            films[frames.shape].append((sample, frames))
        else:
            what = (
                f"{sample.video} is {_size(frames.shape)}, not {_size(sample.size)}; run the stage that makes it again"
            )
            rows.append(_failed(sample, "wrong_size", what))
    for same_size in films.values():
        latents = encoders.encode_videos([frames for _, frames in same_size])
        for (sample, _), latent in zip(same_size, latents, strict=True):
            rows.append(_finish(sample, latent, encoders, storage))
    return rows


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


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} frames of {shape[2]}x{shape[1]}"
