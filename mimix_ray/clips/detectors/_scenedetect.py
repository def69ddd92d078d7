"""PySceneDetect's detectors behind our interface, without its video reading and its scene manager."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scenedetect import FrameTimecode, SceneDetector

EVERY_CUT = 1
"""Shortest shot, frames. PySceneDetect's default (15) stays silent about a cut soon after another; such a cut would end
up inside a clip. A shot too short for a clip costs nothing but its own frames."""


class SceneDetect:
    """One of PySceneDetect's detectors.

    Args:
        detector: The detector, fresh.
        delay: See `Detector.delay`.
        fps: Rate of the frames.
    """

    def __init__(self, detector: SceneDetector, delay: int, fps: float) -> None:
        self.delay = delay
        self._detector, self._fps, self._pushed = detector, Fraction(fps).limit_denominator(1001), 0

    def push(self, frame: np.ndarray) -> list[int]:
        cuts = self._detector.process_frame(FrameTimecode(self._pushed, self._fps), frame)
        self._pushed += 1
        return [cut.frame_num for cut in cuts]
