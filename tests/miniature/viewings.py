"""Fresh clips of the miniature's world for the viewer's tests: shots of a season that nobody learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from mimix_ray import video
from mimix_ray.miniature.cast import SHOWS
from mimix_ray.miniature.episodes import plan
from mimix_ray.miniature.viewer.recognise import Box, View, look
from mimix_ray.miniature.world import Actor, Shot, render_shot, true_masks

SEASON = 2026
FRAMES, FPS = 10, 2


@dataclass(frozen=True)
class Viewing:
    """A clip as the captioner sends it, what is true of it, and what the viewer says."""

    shot: Shot
    frames: list[np.ndarray]
    boxes: list[tuple[Box | None, ...]]
    areas: list[tuple[float, ...]]
    """Share of the frame in which each actor is seen, by frame."""
    view: View


@cache
def season() -> list[Viewing]:
    """Both shows, three episodes, every other shot."""
    shots = [shot for show in SHOWS for number in (1, 2, 3) for shot in plan(show, number, SEASON).shots]
    return [viewing(shot) for shot in shots[::2]]


def viewing(shot: Shot) -> Viewing:
    frames = through_codecs(render(shot))
    truths = list(islice(true_masks(shot, fps=FPS), FRAMES))
    areas = [tuple(float(mask.mean()) for mask in truth.masks) for truth in truths]
    return Viewing(shot, frames, [truth.boxes for truth in truths], areas, look(frames))


@cache
def clip(show: str, background: str, *actors: Actor) -> tuple[np.ndarray, ...]:
    """A clip of one shot as the viewer gets it."""
    return tuple(through_codecs(render(Shot(show, background, actors, 6.0, SEASON))))


def actor(name: str, action: str, x: float = 0.5, to: float | None = None, size: float = 0.6) -> Actor:
    return Actor(name, action, (x, 0.92), (x if to is None else to, 0.92), size, 0.2)


def render(shot: Shot, size: tuple[int, int] = (192, 112)) -> list[np.ndarray]:
    """Ten frames over five seconds, painted large and shrunk as `clips` does."""
    pictures = islice(render_shot(shot, fps=FPS), FRAMES)
    return [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]


def through_codecs(pictures: Sequence[np.ndarray], crf: int = 18, quality: int = 90) -> list[np.ndarray]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        video.write_video(path, pictures, FPS, crf=crf)
        pictures = list(video.read_frames(path, count=len(pictures)))
    encoded = [cv2.imencode(".jpg", one[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for one in pictures]
    return [np.asarray(cv2.imdecode(one, cv2.IMREAD_COLOR_RGB)) for one in encoded]


def iou(a: Box, b: Box) -> float:
    """Area that two boxes share, of the area of either."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
