"""Hard cuts as `adaptive` finds them, and gradual transitions: cross-dissolves, and fades to and from a plain picture.

In a cross-dissolve every frame is a mix of two pictures, (1 - a) A + a B, with a weight that grows steadily; in a fade
one of the two is plain. Taken as points, such frames lie on a straight line, at an even pace. Hardly anything else does
that for long: what moves puts its details where they are in neither picture, a cut is one leap, a flash comes back. So
a stretch of frames is in a transition when its ends differ a lot and every frame between is near its place on the line.

A transition is reported as a shot of its own, from its first mixed frame to its last. That is too short for a clip, and
so no mixed frame gets into one.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from mimix_ray.clips.detectors import adaptive

HALVES = (3, 6, 12)
"""Half lengths of the stretches looked at, frames: at 16 fps, quick fades of a third of a second to slow dissolves of
two. The middle of a longer transition is as straight, and found while it changes enough in 1.5 s."""

REACH = max(HALVES)

SIZE = (32, 18)
"""Frames are compared at this width and height, pixels: the two shots of a dissolve move a little, too."""

CHANGE = 32.0
"""How much a stretch's ends must differ: root mean square, 0..255. Slow camera moves stay below."""

ASIDE = 0.3
"""How far from the line a frame may lie, as a share of its length: what moves in the two shots takes frames off it."""

UNEVEN = 0.2
"""How far along the line a frame may be from its place, as a share of its length; at a cut it is half of it."""

ENDS = 0.15
"""A transition reaches as far as frames go on along the line at this share of the stretch's pace, or more."""

PIECE = 16
"""A transition longer than this, frames, is reported in pieces: as one shot it could be long enough for a clip."""


def mixed(frames: np.ndarray) -> np.ndarray:
    """Which frames are in a transition that the middle one is in.

    Args:
        frames: float32 [2 * REACH + 1, D], consecutive small pictures.

    Returns:
        bool [2 * REACH + 1]; with them the last frame before the transition and the first one after it.
    """
    found = np.zeros(len(frames), bool)
    for half in HALVES:
        first, last = REACH - half, REACH + half
        line = frames[last] - frames[first]
        length2 = float(line @ line)
        if length2 < CHANGE**2 * line.size:
            continue
        way = frames - frames[first]
        along = way @ line / length2
        aside = np.sqrt(np.maximum((way**2).sum(1) / length2 - along**2, 0))
        stretch = slice(first, last + 1)
        uneven = np.abs(along[stretch] - np.linspace(0, 1, 2 * half + 1))
        if uneven.max() > UNEVEN or aside[stretch].max() > ASIDE:
            continue
        onward, near = np.diff(along) > ENDS / (2 * half), aside <= ASIDE
        while not onward[first]:
            first += 1
        while not onward[last - 1]:
            last -= 1
        while first > 0 and onward[first - 1] and near[first - 1]:
            first -= 1
        while last < 2 * REACH and onward[last] and near[last + 1]:
            last += 1
        found[first : last + 1] = True
    return found


class Dissolve:
    """Watches `2 * REACH + 1` frames at a time; what it says of a frame rests on so many before it and after it."""

    delay = 2 * REACH

    def __init__(self, threshold: float | None, fps: float) -> None:
        self._hard = adaptive.load(threshold, fps)
        self._cuts: deque[int] = deque()
        self._seen = np.zeros((0, SIZE[0] * SIZE[1] * 3), np.float32)
        self._mixed = np.zeros(self.delay + 1, bool)
        self._settled = -self.delay - 1
        self._run = 0  # mixed frames up to the settled one

    def push(self, frame: np.ndarray) -> list[int]:
        small = _small(frame).astype(np.float32).reshape(1, -1)
        if not len(self._seen):  # as if the first frame had stood still before
            self._seen = small.repeat(self.delay + 1, 0)
        self._seen = np.concatenate([self._seen[1:], small])
        self._mixed = np.append(self._mixed[1:], False) | mixed(self._seen)
        self._cuts.extend(self._hard.push(frame))
        self._settled += 1
        return [self._settled] if self._begins() else []

    def _begins(self) -> bool:
        """Whether the settled frame begins a shot: all stretches that it can be in have been looked at."""
        run, self._run = self._run, self._run + 1 if self._mixed[0] else 0
        cut = bool(self._cuts) and self._cuts[0] == self._settled
        if cut:
            self._cuts.popleft()
        changed = run % PIECE == 0 if self._mixed[0] else run > 0
        return self._settled > 0 and (cut or changed)


def _small(frame: np.ndarray) -> np.ndarray:
    width, height = (side // small * small or side for side, small in zip(frame.shape[1::-1], SIZE, strict=True))
    # Whole pixels to average, without the last few rows and columns, take a tenth of the time.
    return cv2.resize(frame[:height, :width], SIZE, interpolation=cv2.INTER_AREA)


def load(threshold: float | None, fps: float) -> Dissolve:
    """A detector with the arguments of `detectors.load`; the threshold is that of `adaptive`, for hard cuts."""
    return Dissolve(threshold, fps)
