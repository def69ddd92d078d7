"""Frames as the JPEG files that a vision-language model is shown."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image


def to_jpegs(frames: Iterable[np.ndarray], height: int, quality: int) -> list[bytes]:
    """One JPEG a frame, the same bytes for the same pixels.

    Args:
        frames: uint8 [H, W, 3] RGB each.
        height: Taller frames are shrunk to so many pixels, keeping their shape; smaller ones are never enlarged.
        quality: JPEG quality, 1..95 and up.
    """
    return [_to_jpeg(Image.fromarray(frame), height, quality) for frame in frames]


def _to_jpeg(image: Image.Image, height: int, quality: int) -> bytes:
    if image.height > height:
        width = max(1, round(image.width * height / image.height))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
