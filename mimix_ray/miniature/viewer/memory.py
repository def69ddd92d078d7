"""What the viewer knows by heart: linear readings of what `segment` measures, learned by `learn` and kept in a file.

A reading is `features @ weights`. Six kinds: how much a figure looks like its character, where its box is, what it does
over a clip, and, of the empty scene, which setting it is and whether it is drawn or filmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from mimix_ray.miniature.backdrops import BACKGROUNDS
from mimix_ray.miniature.cast import ACTIONS
from mimix_ray.miniature.viewer.segment import Figure, Scan, unevenness

FILE = Path(__file__).with_name("memory.npz")

SETTINGS: dict[str, str] = {name: said for places in BACKGROUNDS.values() for name, said in places.items()}
"""The places it knows, and how they are said."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1: shares of the frame's width and height."""

Reading = Literal["likeness", "box", "action", "setting", "style"]


@dataclass(frozen=True)
class Memory:
    """Weights by reading, and by character where they differ: float32 [features, outputs]."""

    weights: dict[tuple[Reading, str], np.ndarray]

    def likeness(self, figure: Figure) -> float:
        """How much a figure looks like its character, 0..1; from 0.5 on it is more likely it than not."""
        return float(sigmoid(figure_features(figure) @ self.weights["likeness", figure.name][:, 0]))

    def box(self, figure: Figure) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the whole figure, pixels of the working size, not clipped to the frame."""
        edges = figure_features(figure) @ self.weights["box", figure.name] * figure.size
        left, top, right, bottom = edges.tolist()
        x, y = figure.centre
        return x + left, y + top, x + right, y + bottom

    def odds(self, name: str, figures: Sequence[Figure], frames: int) -> dict[str, float]:
        """How likely each action of a character is, from its figures in a clip of so many frames; the sum is 1."""
        scores = track_features(figures, frames) @ self.weights["action", name]
        return dict(zip(ACTIONS[name], softmax(scores).tolist(), strict=True))

    def settings(self, scene: Scan) -> dict[str, float]:
        """How much the scene's colours are those of each of the known places, 0..1."""
        return dict(zip(SETTINGS, (colour_features(scene) @ self.weights["setting", ""]).tolist(), strict=True))

    def realism(self, scene: Scan, boxes: Sequence[Sequence[Box]]) -> float:
        """How the scene around the figures' boxes, by frame, is made: 0 drawn flat, 1 filmed."""
        return float(sigmoid(surface_features(scene, boxes) @ self.weights["style", ""][:, 0]))

    def save(self, path: Path = FILE) -> None:
        """Writes the file."""
        arrays = {"/".join(key).rstrip("/"): value.astype(np.float32) for key, value in self.weights.items()}
        np.savez_compressed(path, allow_pickle=False, **arrays)


@cache
def load(path: Path = FILE) -> Memory:
    """Reads the file."""
    with np.load(path) as arrays:
        weights = {}
        for key in arrays.files:
            reading, _, name = key.partition("/")
            weights[reading, name] = arrays[key]
    return Memory(weights)


def figure_features(figure: Figure) -> np.ndarray:
    """float32 [features] of one figure, with a constant 1 first."""
    return np.concatenate([[1.0], figure.cells.ravel(), figure.extents, figure.marks]).astype(np.float32)


def track_features(figures: Sequence[Figure], frames: int) -> np.ndarray:
    """float32 [features] of a figure over a clip of `frames` frames: its mean picture, how it changes, how it moves."""
    cells = np.stack([figure.cells for figure in figures])
    extents = np.stack([figure.extents[:8] for figure in figures])
    sizes = np.array([figure.size for figure in figures])
    size = np.median(sizes)
    places = np.array([figure.centre for figure in figures]) / size
    away = places - np.median(places, axis=0)
    steps = np.abs(np.diff(places, axis=0)) if len(places) > 1 else np.zeros((1, 2))
    moves = [away.std(axis=0), np.ptp(away, axis=0), steps.mean(axis=0), steps.max(axis=0)]
    moves += [away.max(axis=0), -away.min(axis=0), np.array([sizes.std() / size, len(figures) / frames])]
    # Someone who crosses the picture goes many sizes: further than 4 says no more about what it does.
    motion = np.minimum(np.concatenate(moves), 4.0)
    parts = [[1.0], cells.mean(axis=0).ravel(), 2 * cells.std(axis=0).ravel()]
    return np.concatenate([*parts, extents.mean(axis=0), extents.std(axis=0), motion]).astype(np.float32)


BANDS = 4
"""Bands of a scene, from top to bottom, whose colours are counted: sky or ceiling, wall, furniture, floor."""


def colour_features(scene: Scan) -> np.ndarray:
    """float32 [BANDS * 256]: the colours in each band of the empty scene, the same for its mirror image; length 1."""
    lab = cv2.cvtColor(scene.plate, cv2.COLOR_RGB2Lab).astype(np.int32)
    # Hue says more of a place than light: 4 steps of lightness, 8 of each colour axis about its neutral middle.
    codes = (lab[..., 0] // 64) * 64 + ((lab[..., 1] - 96) // 8).clip(0, 7) * 8 + ((lab[..., 2] - 96) // 8).clip(0, 7)
    bands = zip(np.array_split(codes, BANDS), np.array_split(scene.seen, BANDS), strict=True)
    counts = np.stack([np.bincount(band[seen], minlength=256) for band, seen in bands])
    # Square roots of shares: the product of two such vectors is 1 for the same colours, 0 for none in common.
    return np.sqrt(counts / max(1, counts.sum())).ravel().astype(np.float32)


STEPS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 40, 256)
"""Bounds of the differences within 3 x 3 pixels that are counted: flat paint has 0 to 2, film 4 to 24, edges more."""


def surface_features(scene: Scan, boxes: Sequence[Sequence[Box]]) -> np.ndarray:
    """float32 [features]: how flat or uneven a scene is around the boxes of each frame's figures."""
    height, width = scene.frames.shape[1:3]
    counts = np.zeros(len(STEPS) - 1)
    # Scenes stand still: a few frames, with the figures in different places, show nearly all there is.
    for index in range(0, len(scene.frames), 3):
        outside = np.ones((height, width), bool)
        for x0, y0, x1, y1 in boxes[index]:
            outside[
                max(0, int(y0 * height) - 2) : int(y1 * height) + 3, max(0, int(x0 * width) - 2) : int(x1 * width) + 3
            ] = 0
        counts += np.histogram(unevenness(scene.frames[index])[outside], STEPS)[0]
    return np.concatenate([[1.0], np.sqrt(counts / max(1, counts.sum()))]).astype(np.float32)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(scores, -30, 30)))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()
