"""The miniature's world: shots of actors before backgrounds, as frames and as true masks.

Everything follows from the `Shot`: the same shot gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from mimix_ray.miniature.backdrops import backdrop
from mimix_ray.miniature.cast import LOOKS, SHOWS, Colour
from mimix_ray.miniature.draw import BRUSHES, Brush, texture
from mimix_ray.miniature.figures import FIGURES
from mimix_ray.miniature.motion import Pose, pose, travel
from mimix_ray.miniature.rig import Rig

WIDTH, HEIGHT, FPS = 384, 224, 24
SCALE = 2
"""The world is painted at this multiple of the asked size and shrunk: smooth edges."""


@dataclass(frozen=True)
class Actor:
    """A character's part in a shot. Places are shares of the picture's width and height, of the point it stands on."""

    name: str
    action: str
    start_xy: tuple[float, float]
    end_xy: tuple[float, float]
    size: float
    """Its height, share of the picture's height."""
    phase: float = 0.0
    """Where in its cycle the action begins, 0..1."""


@dataclass(frozen=True)
class Shot:
    """One uncut piece of film."""

    show: str
    background: str
    actors: tuple[Actor, ...]
    seconds: float
    seed: int

    def frames(self, fps: int = FPS) -> int:
        """Its length in frames."""
        return round(self.seconds * fps)


@dataclass(frozen=True)
class Truth:
    """Where the actors of a shot are in one frame, in the order of `Shot.actors`."""

    masks: tuple[np.ndarray, ...]
    """bool [H, W] each: the pixels in which the actor is seen; what stands before it is left out."""
    boxes: tuple[tuple[float, float, float, float] | None, ...]
    """x0, y0, x1, y1 of each mask as shares of width and height; None when nothing of it is seen."""


def render_shot(shot: Shot, width: int = WIDTH, height: int = HEIGHT, fps: int = FPS) -> Iterator[np.ndarray]:
    """The frames of a shot, uint8 RGB [H, W, 3]."""
    for frame, _ in _paint(shot, width, height, fps, masks=False):
        yield frame


def true_masks(shot: Shot, width: int = WIDTH, height: int = HEIGHT, fps: int = FPS) -> Iterator[Truth]:
    """Where each actor is in each frame of `render_shot` with the same arguments."""
    for _, covers in _paint(shot, width, height, fps, masks=True):
        masks = tuple(cover > 127 for cover in covers)
        yield Truth(masks, tuple(_box(mask) for mask in masks))


def reference_image(name: str, size: int = 192) -> np.ndarray:
    """A portrait of a character before a plain ground, uint8 RGB [size, size, 3]."""
    look = LOOKS[name]
    picture = np.empty((size * SCALE, size * SCALE, 3), np.uint8)
    picture[:] = (236, 230, 226)
    brush = BRUSHES[look.style](picture, size * SCALE / HEIGHT)
    foot = (size * SCALE * 0.5, size * SCALE * 0.94)
    brush.shadow(*foot, size * SCALE * 0.2, size * SCALE * 0.03)
    FIGURES[name](Rig(brush, foot, size * SCALE * 0.82, Pose(yaw=0.35, arms=(0.25, 0.25), mouth=0.5)))
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def _paint(shot: Shot, width: int, height: int, fps: int, masks: bool) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Each frame and, with `masks`, the coverage (uint8 [H, W]) of each actor."""
    large = (width * SCALE, height * SCALE)
    empty = backdrop(shot.show, shot.background, *large, shot.seed)
    count = shot.frames(fps)
    # Who stands lower in the picture is nearer and is painted later.
    back_to_front = sorted(range(len(shot.actors)), key=lambda i: shot.actors[i].start_xy[1])
    for index in range(count):
        picture = empty.copy()
        layers: list[tuple[int, np.ndarray]] = []
        for order in back_to_front:
            for paint in (_act, _hide) if shot.actors[order].action == "peeks" else (_act,):
                brush = BRUSHES[SHOWS[shot.show]](picture, large[1] / HEIGHT)
                if masks:
                    brush.cover = np.zeros(picture.shape[:2], np.uint8)
                    layers.append((order if paint is _act else -1, brush.cover))
                paint(brush, shot.actors[order], index / fps, index / max(1, count - 1))
        frame = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        if SHOWS[shot.show] == "realistic":
            frame = _filmed(frame, shot.seed + index)
        yield frame, _seen(layers, (width, height))


def _filmed(frame: np.ndarray, number: int) -> np.ndarray:
    """What a film camera adds: darker corners and a grain that is another in each frame."""
    height, width = frame.shape[:2]
    frame = cv2.multiply(frame, _vignette(width, height), scale=1 / 255)
    grain = cv2.merge([texture("film", number * 197, number * 331, width, height)] * 3)
    return cv2.addWeighted(frame, 1.0, grain, 1.0, -128)


@lru_cache(maxsize=4)
def _vignette(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius = np.hypot((x / width - 0.5) * 1.25, y / height - 0.5)
    light = 255 * (1 - 0.42 * np.clip(radius - 0.3, 0, 1) ** 1.5 * 1.8)
    return cv2.merge([light.astype(np.uint8)] * 3)


def _seen(layers: list[tuple[int, np.ndarray]], size: tuple[int, int]) -> list[np.ndarray]:
    """What is seen of each actor of layers from back to front: its number (-1 for a thing) and its coverage."""
    seen: dict[int, np.ndarray] = {}
    taken = np.zeros((size[1] * SCALE, size[0] * SCALE), np.uint8)
    for actor, cover in reversed(layers):
        if actor >= 0:
            seen[actor] = cv2.resize(cv2.subtract(cover, taken), size, interpolation=cv2.INTER_AREA)
        taken = np.maximum(taken, cover)
    return [seen[actor] for actor in sorted(seen)]


def _act(brush: Brush, actor: Actor, t: float, progress: float) -> None:
    """Paints one actor at a moment of its action, with its shadow."""
    way, forward = travel(actor.action, progress)
    (x0, y0), (x1, y1) = actor.start_xy, actor.end_xy
    x, y = x0 + (x1 - x0) * way, y0 + (y1 - y0) * way
    facing = forward * (1.0 if x1 > x0 else -1.0) if x1 != x0 else (1.0 if x < 0.5 else -1.0)
    stance = pose(actor.action, t, actor.phase, facing)
    canvas = brush.picture.shape[1::-1]
    foot, height = (x * canvas[0], y * canvas[1]), actor.size * canvas[1]
    if actor.action == "peeks":
        # Nothing of who crouches behind the box is seen below the ground it stands on.
        ground = int(foot[1])
        brush = type(brush)(brush.picture[:ground], brush.unit, None if brush.cover is None else brush.cover[:ground])
    else:
        wide = height * (0.42 if stance.low > 0.5 else LOOKS[actor.name].girth) * (1 - 0.6 * min(1.0, stance.lift))
        brush.shadow(foot[0] + stance.shift * height, foot[1], wide, height * 0.055)
    FIGURES[actor.name](Rig(brush, foot, height, stance))


def _hide(brush: Brush, actor: Actor, t: float, progress: float) -> None:
    """The wooden box that an actor hides behind: four planks between two posts."""
    rows, columns = brush.picture.shape[:2]
    height = actor.size * rows
    x, bottom = actor.start_xy[0] * columns, actor.start_xy[1] * rows + 0.03 * height
    wide, plank = (LOOKS[actor.name].girth + 0.12) * height, 0.13 * height
    brush.shadow(x, bottom, wide, height * 0.05)

    def beam(x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        brush.paint(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), colour, surface="wood", shade=0.6)

    for row in range(4):
        top = bottom - (4 - row) * plank
        beam(x - wide, top, x + wide, top + plank, ((184, 116, 84), (170, 104, 74))[row % 2])
    for left in (x - wide, x + wide - 0.6 * plank):
        beam(left, bottom - 4.15 * plank, left + 0.6 * plank, bottom + 0.1 * plank, (140, 84, 60))


def _box(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = mask.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
