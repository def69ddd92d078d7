"""Cuts where a frame's change stands out from the change of its neighbours: fast motion alone is none."""

from __future__ import annotations

from scenedetect import AdaptiveDetector

from mimix_ray.clips.detectors._scenedetect import EVERY_CUT, SceneDetect

THRESHOLD = 2.2
"""How many times its neighbours' mean change a frame's change must be. PySceneDetect's 3 is for full frame rates; at 16
fps the motion before a cut weighs more. Of the 45 cuts of docs/shots.md 3 misses three, 2.5 one and 2.2 none, with one
false cut more: a false cut costs footage, a missed one spoils a clip."""

NEIGHBOURS = 2
"""Frames before and after that are compared; a cut is known so many frames late (PySceneDetect's default)."""


def load(threshold: float | None, fps: float) -> SceneDetect:
    """A detector with the arguments of `detectors.load`."""
    detector = AdaptiveDetector(threshold or THRESHOLD, min_scene_len=EVERY_CUT, window_width=NEIGHBOURS)
    return SceneDetect(detector, NEIGHBOURS, fps)
