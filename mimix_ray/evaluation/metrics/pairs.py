"""Neighbouring frames, the unit of every metric of motion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np


class TooFewFrames(ValueError):
    """A video without two frames to compare."""


def mean_over_pairs(frames: Iterable[np.ndarray], measure: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """Mean of `measure(frame, next frame)` over the video; two frames are held at a time. Raises TooFewFrames."""
    values = [measure(before, after) for before, after in pairwise(frames)]
    if not values:
        raise TooFewFrames("one frame or none; a metric of change needs two")
    return float(np.mean(values))
