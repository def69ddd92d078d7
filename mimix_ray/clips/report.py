"""What a person wants to know of the clips: how much of the footage they keep, and how they look."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from mimix_ray.storage import Storage, StorageError
from mimix_ray.tables import Row
from mimix_ray.video import VideoError, contact_sheet, read_frames

SHEET = "reports/clips.jpg"
"""The contact sheet, relative to the run's root."""

SHOWN = 40
"""Clips on the contact sheet."""

COLUMNS, WIDTH = 5, 256
"""The sheet's columns, and the width of one picture in pixels."""


def yields(rows: Sequence[Row]) -> dict[str, Any]:
    """Hours of the episodes that could be read, hours of their clips, and the share kept in per cent."""
    lengths = {(row["show"], row["episode"]): row["episode_s"] or 0.0 for row in rows}
    footage = sum(lengths.values())
    kept = sum(row["end_s"] - row["start_s"] for row in rows if row["status"] == "ok")
    return {
        "episodes": len(lengths),
        "footage_hours": round(footage / 3600, 4),
        "clip_hours": round(kept / 3600, 4),
        "yield_percent": round(100 * kept / footage, 1) if footage else 0.0,
    }


def contact_sheet_of(storage: Storage, rows: Sequence[Row]) -> bytes:
    """A JPEG with the first frame of up to `SHOWN` clips, spread evenly over the table, with their ids."""
    clips = [row for row in rows if row["status"] == "ok"]
    shown = min(SHOWN, len(clips))
    chosen = [clips[place * len(clips) // shown] for place in range(shown)]
    with ThreadPoolExecutor(4) as readers:
        pictures = list(readers.map(partial(_first_frame, storage), chosen))
    pictures = pictures or [np.full((144, WIDTH, 3), 200, np.uint8)]
    labels = [row["clip_id"] for row in chosen] or ["no clip"]
    data = io.BytesIO()
    Image.fromarray(contact_sheet(pictures, COLUMNS, labels)).save(data, "JPEG", quality=88)
    return data.getvalue()


def _first_frame(storage: Storage, row: Row) -> np.ndarray:
    size = (WIDTH, max(1, round(WIDTH * row["height"] / row["width"])))
    try:
        with storage.local(row["video"]) as path:
            return read_frames(path, count=1, size=size)[0]
    except (VideoError, StorageError):  # a preview is no reason to fail a stage
        return np.full((size[1], size[0], 3), 200, np.uint8)
