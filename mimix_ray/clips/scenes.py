"""Shots grouped into scenes: a cut back to something seen a moment ago, as in a dialogue, does not end the scene."""

from __future__ import annotations

import cv2
import numpy as np

from mimix_ray.clips.cutting import Cut

MEMORY_S = 30.0
"""How long a scene remembers what it showed, seconds: a dialogue's shots come back much sooner."""
EVERY = 8
"""Of what was shown, every so many frames are compared."""
UNLIKE = 0.35
"""Hellinger distance of colour histograms, 0 equal .. 1 nothing in common, above which two frames show other places."""
BINS = (12, 4, 4)
"""Bins of hue, saturation and value."""


class Scenes:
    """Tells which cuts end a scene as well: those after which nothing of the last 30 seconds is seen again.

    What it says of a cut depends on those seconds alone, so that it says the same wherever the frames began earlier.
    """

    def __init__(self, fps: float) -> None:
        self._memory = round(MEMORY_S * fps)
        self._looks: dict[int, np.ndarray] = {}

    def push(self, number: int, frame: np.ndarray, cuts: list[int]) -> list[Cut]:
        """Takes the next frame, uint8 [h, w, 3] BGR, and the cuts that have become known with it."""
        self._looks[number] = _look(frame)
        self._looks.pop(number - 2 * self._memory, None)
        return [Cut(cut, self._is_new(cut)) for cut in cuts]

    def _is_new(self, cut: int) -> bool:
        seen = (self._looks.get(cut - 1 - ago) for ago in range(0, self._memory, EVERY))
        new = self._looks[cut]
        return all(cv2.compareHist(new, one, cv2.HISTCMP_BHATTACHARYYA) > UNLIKE for one in seen if one is not None)


def _look(frame: np.ndarray) -> np.ndarray:
    histogram = cv2.calcHist([cv2.cvtColor(frame, cv2.COLOR_BGR2HSV)], [0, 1, 2], None, BINS, [0, 180, 0, 256, 0, 256])
    return histogram / histogram.sum()
