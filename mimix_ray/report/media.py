"""Videos as they lie inside a page."""

from __future__ import annotations

import base64
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mimix_ray.storage import Storage, StorageError
from mimix_ray.video import VideoError, read_frames, stream_frames, write_video

LARGEST = 400_000
"""Bytes of a video that goes onto the page as it is; of a larger one goes a small copy."""
COPY_WIDTH, COPY_CRF = 320, 28
"""Pixels and x264 quality of such a copy."""


@dataclass(frozen=True)
class Player:
    """A video for a <video> element."""

    label: str
    """What is seen, for who cannot see it."""
    video: str | None = None
    """data: URI of the mp4; None when it cannot be shown."""
    poster: str | None = None
    """data: URI of a JPEG from its middle."""
    width: int | None = None
    height: int | None = None
    problem: str | None = None
    """Why it cannot be shown."""


def player(storage: Storage, name: str | None, label: str, frames: int, fps: float) -> Player:
    """The video of that name under the root; one that is missing or damaged becomes a player that says so.

    Args:
        storage: The run's.
        name: None when a row has no video.
        label: What is seen.
        frames: How many the video should have; its poster is the middle one, or the first if it is shorter.
        fps: Frames a second.
    """
    if name is None:
        return Player(label, problem="There is no video.")
    try:
        with storage.local(name) as path:
            middle = _frame_at(path, frames / fps / 2)
            height, width = middle.shape[:2]
            data = path.read_bytes() if path.stat().st_size <= LARGEST else _small_copy(path, width, height, fps)
    except (StorageError, VideoError, OSError) as error:
        return Player(label, problem=str(error))
    poster = io.BytesIO()
    small = Image.fromarray(middle).resize((COPY_WIDTH, max(1, round(height * COPY_WIDTH / width))))
    small.save(poster, "JPEG", quality=80)
    return Player(label, data_uri("video/mp4", data), data_uri("image/jpeg", poster.getvalue()), width, height)


def _frame_at(path: Path, time_s: float) -> np.ndarray:
    try:
        return read_frames(path, start_s=time_s, count=1)[0]
    except VideoError as error:
        if error.code != "too_short":
            raise
        return read_frames(path, count=1)[0]


def _small_copy(path: Path, width: int, height: int, fps: float) -> bytes:
    size = (COPY_WIDTH, max(2, round(height * COPY_WIDTH / width / 2) * 2))
    with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
        copy = Path(folder, "copy.mp4")
        write_video(copy, stream_frames(path, size=size), fps, crf=COPY_CRF)
        return copy.read_bytes()


def data_uri(kind: str, data: bytes) -> str:
    """A file as an address that holds it; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
