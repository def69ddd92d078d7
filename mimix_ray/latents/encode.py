"""What the trainer reads of a group of videos, or of texts: one file of tensors, and a table row for each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mimix_ray import backbone, tables, tensors
from mimix_ray.latents.samples import Sample, Text
from mimix_ray.storage import Storage, StorageError
from mimix_ray.video import VideoError, read_frames

BATCH = 4
"""Videos that go through the VAE together. Its fp32 activations take, by estimate, 5 GB for each at 480x832."""

NAN = tables.error_text("not_finite", "NaN or infinity; check the weights at backbone.path, and backbone.dtype")

Found = dict[str, Tensor | str]
"""What became of each key: its tensor, or the error why there is none."""
T = TypeVar("T")


def encode_videos(samples: Sequence[Sample], vae: backbone.Vae, storage: Storage) -> list[tables.Row]:
    """Encodes videos, puts the latents on storage, gives their rows of table `latents`; bad input is a failed row."""
    found: Found = {}
    ordered = sorted(samples, key=lambda sample: sample.size)
    with ThreadPoolExecutor(BATCH) as readers:  # the next videos are decoded while the VAE works
        films = zip(ordered, readers.map(lambda sample: _read(sample, storage), ordered), strict=True)
        for _, same_size in groupby(films, key=lambda pair: pair[0].size):
            while batch := [(sample.sample_id, film) for sample, film in islice(same_size, BATCH)]:
                found |= {key: film for key, film in batch if isinstance(film, str)}
                found |= _encode(vae.encode, {key: film for key, film in batch if not isinstance(film, str)})
    return _keep(storage, tables.LATENTS, {sample.sample_id: sample.row() for sample in samples}, found)


def encode_texts(texts: Sequence[Text], encoder: backbone.TextEncoder, storage: Storage) -> list[tables.Row]:
    """Encodes texts together, puts them on storage without padding, gives their rows of table `texts`."""
    found = _encode(encoder.encode, {text.text_id: text.text for text in texts})
    return _keep(storage, tables.TEXTS, {text.text_id: text.row() for text in texts}, found)


def _read(sample: Sample, storage: Storage) -> np.ndarray | str:
    """A sample's frames, or the error why there are none that fit."""
    try:
        with storage.local(sample.video) as path:
            frames = read_frames(path)
    except VideoError as error:
        return tables.error_text(error.code, str(error))
    except StorageError as error:
        return tables.error_text("storage", str(error))
    if frames.shape[:3] == sample.size:
        return frames
    what = f"{sample.video} is {_size(frames.shape)}, not {_size(sample.size)}; run the stage that makes it again"
    return tables.error_text("wrong_size", what)


def _encode(encode: Callable[[list[T]], list[Tensor]], inputs: Mapping[str, T]) -> Found:
    """Encodes inputs together. Where that fails, each for itself: one may be bad, or all be too much for the memory."""
    if not inputs:
        return {}
    try:
        encoded = dict(zip(inputs, encode(list(inputs.values())), strict=True))
    except RuntimeError as error:  # a size that the VAE cannot take, out of memory, a fault of the GPU
        problem = tables.error_text("not_encoded", str(error))
    else:
        return {key: tensor if torch.isfinite(tensor).all() else NAN for key, tensor in encoded.items()}
    if len(inputs) == 1:
        return dict.fromkeys(inputs, problem)
    # Here, where the exception is gone: it would hold the memory of what has failed.
    alone = [_encode(encode, {key: one}) for key, one in inputs.items()]
    return {key: what for one in alone for key, what in one.items()}


def _keep(storage: Storage, table: tables.Table, rows: Mapping[str, tables.Row], found: Found) -> list[tables.Row]:
    """Writes the tensors as one shard and completes their rows; a row without a tensor is a failed one."""
    kept = {key: what for key in rows if isinstance(what := found[key], Tensor)}
    # A name of its own: what is written again replaces nothing that a reader may hold, or have its footer of.
    shard = f"{table.name}/shards/{uuid.uuid4().hex}.parquet"
    try:
        if kept:
            tensors.write(storage, shard, kept)
    except StorageError as error:
        found = dict.fromkeys(rows, tables.error_text("storage", str(error)))
    places = {key: place for place, key in enumerate(kept)}

    def complete(key: str, row: tables.Row) -> tables.Row:
        what = found[key]
        if isinstance(what, str):
            return {**row, "status": "failed", "error": what}
        size = {"shape": list(what.shape)} if table is tables.LATENTS else {"tokens": len(what)}
        return {**row, "status": "ok", "shard": shard, "row_group": places[key], **size}

    return [complete(key, row) for key, row in rows.items()]


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} frames of {shape[2]}x{shape[1]}"
