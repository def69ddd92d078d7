"""Cuts a character out of a clip: one interface, one file a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from mimix_ray.config import CompositesConfig

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1: shares 0..1 of the frame's width and height."""


class MaskError(RuntimeError):
    """A mask backend that cannot work: weights that are not there, no memory; the message is one clear line."""


class Masker(Protocol):
    """Follows one subject through a clip."""

    def masks(self, frames: np.ndarray, boxes: Mapping[int, Box]) -> np.ndarray:
        """Where the subject is in every frame.

        Args:
            frames: The clip, uint8 [F, H, W, 3] RGB.
            boxes: By frame number, one or more: boxes around the whole subject, a little room allowed.

        Returns:
            bool [F, H, W]; all False in frames where it is not seen.
        """
        ...


def load_masker(config: CompositesConfig) -> Masker:
    """The backend that the config names, ready to work; raises MaskError when its weights are not there."""
    if config.masks == "sam2":
        from mimix_ray.composites.masks.sam2 import Sam2

        return Sam2.load(config.sam2_path)
    from mimix_ray.composites.masks.grabcut import GrabCut

    return GrabCut()


def check(config: CompositesConfig) -> None:
    """Before any work: raises MaskError when the backend's weights are neither here nor to be had from the hub."""
    if config.masks == "sam2":
        from mimix_ray.composites.masks import sam2

        sam2.find(config.sam2_path)
