"""Cuts where a frame differs from the one before it by more than a fixed threshold."""

from __future__ import annotations

from scenedetect import ContentDetector

from mimix_ray.clips.detectors._scenedetect import EVERY_CUT, SceneDetect

THRESHOLD = 27.0
"""Mean change of hue, saturation and value, 0..255 (PySceneDetect's default)."""


def load(threshold: float | None, fps: float) -> SceneDetect:
    """A detector with the arguments of `detectors.load`."""
    return SceneDetect(ContentDetector(threshold or THRESHOLD, min_scene_len=EVERY_CUT), 0, fps)
