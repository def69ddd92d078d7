"""Shot cuts: one detector a file behind one small interface. None of them decodes: frames are pushed in."""

from __future__ import annotations

from typing import Protocol

import numpy as np

STRIDE = 50
"""Streams of one film that begin a multiple of so many frames apart find the same shots (a window of TransNetV2)."""


class Detector(Protocol):
    """Watches frames in order and says which of them begin a shot."""

    delay: int
    """Frames that must have followed a frame before it is settled whether it begins a shot."""

    def push(self, frame: np.ndarray) -> list[int]:
        """Takes the next frame; returns the numbers, counted from 0, of frames now known to begin a shot.

        Args:
            frame: uint8 [h, w, 3] BGR, about 256 pixels wide: detectors compare whole pictures, not details.
        """


def check(name: str) -> None:
    """Before any work: raises ConfigError when the detector needs a package that is not installed."""
    if name == "transnetv2":
        from mimix_ray.clips.detectors import transnetv2

        transnetv2.check()


def load(name: str, threshold: float | None, fps: float) -> Detector:
    """A fresh detector for one video.

    Args:
        name: `adaptive` | `content` | `dissolve` | `transnetv2`, a module of this package.
        threshold: What a frame's score must reach, in the detector's own unit; None for its default.
        fps: Rate of the frames that will be pushed.

    Raises:
        ConfigError: The detector needs a package that is not installed.
    """
    from mimix_ray.clips.detectors import adaptive, content, dissolve, transnetv2

    modules = {"adaptive": adaptive, "content": content, "dissolve": dissolve, "transnetv2": transnetv2}
    detector: Detector = modules[name].load(threshold, fps)
    return detector
