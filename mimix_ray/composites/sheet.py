"""The contact sheet: what was cut out of what, and pasted where."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image

from mimix_ray import tables
from mimix_ray.storage import Storage
from mimix_ray.video import contact_sheet, read_frames_at

NAME = "reports/composites.jpg"
ROWS = 8
"""Composites shown; the first ones, in both directions by turns."""


def draw(storage: Storage, rows: Sequence[tables.Row], clips: Mapping[str, tables.Row]) -> bytes:
    """A JPEG with a row for each composite: source with its box, mask, background, composite, all at one moment."""
    pictures: list[np.ndarray] = []
    labels: list[str] = []
    for row in [row for row in rows if row["status"] == "ok"][:ROWS]:
        videos = (clips[row["subject_clip"]]["video"], row["mask_video"], clips[row["background_clip"]]["video"])
        source, mask, background, composite = (_at(storage, name, row["box_frame"]) for name in (*videos, row["video"]))
        height, width = source.shape[:2]
        x0, y0, x1, y1 = (round(share * size) for share, size in zip(row["box"], (width, height) * 2, strict=True))
        pictures += [cv2.rectangle(source, (x0, y0), (x1 - 1, y1 - 1), (255, 40, 40), 1), mask, background, composite]
        labels += [f"{row['character']}: {row['subject_clip']}", "mask", row["background_clip"], row["composite_id"]]
    buffer = io.BytesIO()
    Image.fromarray(contact_sheet(pictures, 4, labels)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _at(storage: Storage, name: str, frame: int) -> np.ndarray:
    with storage.local(name) as path:
        return read_frames_at(path, [frame])[0]
