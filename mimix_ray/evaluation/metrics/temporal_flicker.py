"""How steady the picture is from frame to frame."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from mimix_ray.evaluation.metrics.pairs import mean_over_pairs


def temporal_flicker(frames: Iterable[np.ndarray], fps: float) -> float:
    """(255 - mean |x[t+1] - x[t]|) / 255, the mean over all pixels, channels and pairs of neighbouring frames.

    0..1; 1 is a still picture, about 2/3 is uniform noise. Higher is steadier, not better: a video in which nothing
    happens has the best value, so read it beside flow_dynamics.

    The formula of VBench's `temporal_flickering` (Huang et al., CVPR 2024, section 3.1), which needs no weights there
    either. Not a VBench number: VBench scores it on its own prompts, after dropping videos that do not move.

    Args:
        frames: uint8 [H, W, 3] RGB, in time order.
        fps: Not used: the value is per pair of frames.
    """
    difference = mean_over_pairs(frames, lambda before, after: float(cv2.absdiff(before, after).mean()))
    return (255.0 - difference) / 255.0
