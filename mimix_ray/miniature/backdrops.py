"""The places of the two shows, painted once a shot."""

from __future__ import annotations

import random
from collections.abc import Callable

import cv2
import numpy as np

from mimix_ray.miniature.cast import SHOWS
from mimix_ray.miniature.draw import BRUSHES, texture
from mimix_ray.miniature.places_cartoon import garden, kitchen, living_room
from mimix_ray.miniature.places_realistic import park, parlour, street
from mimix_ray.miniature.scene import Scene

BACKGROUNDS: dict[str, dict[str, str]] = {
    "pip_and_momo": {"kitchen": "a kitchen", "garden": "a garden", "living room": "a living room"},
    "mr_plum": {"street": "a street", "park": "a park", "parlour": "a parlour"},
}
"""What each show has: background -> its setting, as said in scripts."""

PLACES: dict[str, Callable[[Scene], None]] = {
    "kitchen": kitchen,
    "garden": garden,
    "living room": living_room,
    "street": street,
    "park": park,
    "parlour": parlour,
}


def backdrop(show: str, background: str, width: int, height: int, seed: int) -> np.ndarray:
    """A place, uint8 RGB [height, width, 3]; `seed` moves things about and mirrors it."""
    picture = np.zeros((height, width, 3), np.uint8)
    rng = random.Random(f"{seed}/{background}")
    brush = BRUSHES[SHOWS[show]](picture, height / 224)
    PLACES[background](Scene(brush, rng))
    if SHOWS[show] == "realistic":
        picture = _photographed(picture, brush.unit)
    return np.ascontiguousarray(picture[:, ::-1]) if rng.random() < 0.5 else picture


def _photographed(picture: np.ndarray, unit: float) -> np.ndarray:
    """What a lens makes of a place: the far part out of focus, light falling in from the upper left."""
    height, width = picture.shape[:2]
    soft = cv2.GaussianBlur(picture, (0, 0), 1.7 * unit)
    row, column = np.mgrid[:height, :width].astype(np.float32)
    row, column = row / height, column / width
    near = np.clip((row - 0.66) / 0.2, 0, 1)[..., None]
    light = 1.12 - 0.2 * np.hypot(row, column * 0.8) + 0.1 * np.exp(-(((column - 0.35 - 0.5 * row) / 0.14) ** 2))
    grain = (texture("wall", 0, 0, width, height).astype(np.float32) - 128) * 0.25
    mixed = (picture * near + soft * (1 - near)) * light[..., None] + grain[..., None]
    return np.clip(mixed, 0, 255).astype(np.uint8)
