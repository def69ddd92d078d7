"""Synthetic episodes with known cuts: each shot has a colour of its own, a moving square, and a bar of text below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mimix_ray.video import write_video

COLOURS = ((200, 60, 50), (40, 160, 80), (50, 80, 200), (220, 200, 60), (120, 40, 140), (60, 200, 210))
WIDTH, HEIGHT, BAR = 320, 180, 20


def shots(lengths: Sequence[int], fps: float) -> Iterator[np.ndarray]:
    """Frames of shots of these lengths in frames; shot n is filled with COLOURS[n % 6], the last BAR rows are white."""
    for shot, length in enumerate(lengths):
        for number in range(length):
            frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
            frame[:] = COLOURS[shot % len(COLOURS)]
            x, y = int(40 + 60 * np.sin(number / fps)) + 20, int(60 + 30 * np.cos(number / fps))
            frame[y : y + 30, x : x + 40] = 20
            frame[HEIGHT - BAR :] = 255
            yield frame


def episode(path: Path, seconds: Sequence[float], fps: float = 24.0) -> Path:
    """Writes an episode of shots of these lengths in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, shots([round(length * fps) for length in seconds], fps), fps)
    return path


def shot_of(frame: np.ndarray) -> int:
    """Which shot's colour fills a frame's corner."""
    corner = frame[:20, -20:].reshape(-1, 3).astype(int).mean(0)
    return int(np.argmin(np.abs(np.array(COLOURS) - corner).sum(1)))
