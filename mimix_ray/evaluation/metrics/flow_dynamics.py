"""How much moves, and how fast."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import cv2
import numpy as np

from mimix_ray.evaluation.metrics.pairs import mean_over_pairs

RATE = 8.0
"""Frames a second compared; as in VBench's `dynamic_degree`, so that slow motion adds up to something visible."""
SHORT_SIDE = 256
"""Larger frames are shrunk so that their short side has so many pixels: one scale of motion, and bounded time."""
FASTEST = 0.05
"""Share of the pixels that counts: what moves is rarely the whole picture."""


def flow_dynamics(frames: Iterable[np.ndarray], fps: float) -> float:
    """Speed of the fastest 5 % of the pixels, in short sides of the picture per second, mean over pairs of frames.

    For each pair, 1/8 s apart, DIS optical flow gives every pixel's shift; v = mean of its 5 % longest vectors, over
    the short side and the time between the frames. 0 is a still picture, 1 is across the picture in a second; a figure
    that walks through comes to some 0.2-0.5. No upper bound; cuts and noise raise it as motion does.

    Own metric. VBench's `dynamic_degree` asks the same of RAFT's flow and answers yes or no per video (its threshold
    would be 0.19 here); DIS (Kroeger et al., ECCV 2016, in OpenCV) needs no weights and sees large motion less well.

    Args:
        frames: uint8 [H, W, 3] RGB, in time order.
        fps: Frames a second of the video.
    """
    step = max(1, round(fps / RATE))
    seconds = step / fps
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def speed(before: np.ndarray, after: np.ndarray) -> float:
        flow = dis.calc(before, after, np.zeros((*before.shape, 2), np.float32))
        lengths = np.linalg.norm(flow, axis=2).ravel()
        count = max(1, int(FASTEST * lengths.size))
        return float(np.partition(lengths, -count)[-count:].mean()) / min(before.shape) / seconds

    return mean_over_pairs(map(_grey, islice(frames, 0, None, step)), speed)


def _grey(frame: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = SHORT_SIDE / min(grey.shape)
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
