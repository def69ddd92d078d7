"""From frames and cuts to windows, and from a picture's size to its crop. Pure: no files, no processes."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np

from mimix_ray.clips.survey import Area

Frame = TypeVar("Frame")

MARGIN = 1
"""Frames left out on both sides of a break: a frame blended from two shots belongs to neither."""

WATCHED_WIDTH = 256
"""Width at which detectors see frames, pixels; PySceneDetect scales to the same."""


@dataclass(frozen=True)
class Cut:
    """A frame that begins a shot."""

    frame: int
    breaks: bool = True
    """Whether no window may run across it."""


@dataclass(frozen=True)
class Part:
    """The part of an episode that one task cuts: every run of frames that begins in it, to the run's end.

    A run is what lies between two breaks. However an episode is split into parts, each run belongs to exactly one.
    """

    begin: int
    """Number of its first frame."""
    end: float = math.inf
    """Number of the first frame after it."""
    origin: int = 0
    """Number of the episode's first frame that counts; there a run begins without a break."""

    def owns(self, cut: int) -> bool:
        """Whether a shot that begins with frame `cut` begins in this part."""
        return self.begin <= cut < self.end and cut > self.origin


WHOLE = Part(0)


@dataclass(frozen=True)
class Window(Generic[Frame]):
    """Consecutive frames of one run."""

    shot: int
    """Number of its first frame's shot, counted from the shot in which its part begins."""
    cuts: int
    """Cuts inside it."""
    start: int
    """Number of its first frame."""
    frames: list[Frame]


def tile(
    frames: Iterable[tuple[int, Frame]],
    find_cuts: Callable[[int, Frame], list[Cut]],
    delay: int,
    length: int,
    part: Part = WHOLE,
    margin: int = MARGIN,
) -> Iterator[Window[Frame]]:
    """Windows of `length` frames, one after another from each run's start, none across a break.

    Holds at most `length + margin + delay` frames. What is left at a run's end is dropped. Takes no frame more than the
    part needs. At the end of all, the detector is shown the last frame `delay` times more, so that it tells what it
    still holds back.

    Args:
        frames: Frames with their numbers, in order, without gaps; from the part's begin or earlier.
        find_cuts: Called with each frame; returns the cuts, in order, now known.
        delay: How many frames late it may say so.
        length: Frames a window.
        part: Windows of which runs.
        margin: Frames left out after a run's first break and before its last; at most `delay + 1`.
    """
    held: deque[Frame] = deque()
    breaks: deque[int] = deque()
    cuts: list[int] = []
    # Where the next window begins, once a run of ours has begun; `held` then begins with that frame.
    first = part.begin if part.begin == part.origin else None
    number = -1

    def take(found: Iterable[Cut]) -> None:
        for cut in found:
            if cut.frame > part.origin and cut.frame >= part.begin:
                cuts.append(cut.frame)
                breaks.extend([cut.frame] * cut.breaks)

    def complete(settled: int) -> Iterator[Window[Frame] | None]:
        """Windows before frame `settled`, up to which all cuts are known; None when the part needs no more frames."""
        nonlocal first
        while True:
            end = breaks[0] if breaks else settled
            if first is not None and first + length + margin <= end:
                inside = bisect_left(cuts, first + length) - bisect_right(cuts, first)
                yield Window(bisect_right(cuts, first), inside, first, [held.popleft() for _ in range(length)])
                first += length
            elif end >= part.end and (breaks or first is None):
                yield None
                return
            elif breaks:
                first = max(first or 0, breaks.popleft() + margin)
                for _ in range(min(len(held), len(held) - (number + 1 - first))):
                    held.popleft()
            else:
                return

    for number, frame in frames:
        if number >= part.origin:
            held.append(frame)
        take(find_cuts(number, frame))
        for window in complete(number + 1 - delay):
            if window is None:
                return
            yield window
        if first is None and len(held) > delay + 1:
            held.popleft()
    for more in range(delay if held else 0):
        take(cut for cut in find_cuts(number + 1 + more, held[-1]) if cut.frame <= number)
    yield from (window for window in complete(number + 1) if window)


def fit(area: Area, sizes: Sequence[tuple[int, int]]) -> tuple[Area, tuple[int, int]]:
    """The size whose aspect is nearest to the picture's, and the largest part of the picture with that size's aspect.

    Args:
        area: The picture without bars and text, pixels.
        sizes: Widths and heights that clips may have, pixels.

    Returns:
        The part that becomes a clip, centred in `area`, and its size.
    """
    width, height = min(sizes, key=lambda size: abs(math.log(size[0] / size[1] * area.height / area.width)))
    kept_width = max(1, min(area.width, round(area.height * width / height)))
    kept_height = max(1, min(area.height, round(area.width * height / width)))
    x, y = area.x + (area.width - kept_width) // 2, area.y + (area.height - kept_height) // 2
    return Area(x, y, kept_width, kept_height), (width, height)


def watched(planes: np.ndarray) -> np.ndarray:
    """A frame as detectors see it: yuv420p planes, uint8 [H * 3 / 2, W] -> BGR uint8 [h, w, 3], w at most 256."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    if width <= WATCHED_WIDTH:
        return cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
    # Each plane is made small before colours are computed, which takes a third of the time.
    half = WATCHED_WIDTH // 2, max(1, round(height * WATCHED_WIDTH / width / 2))
    colours = planes[height:].reshape(2, height // 2, width // 2)
    luma = cv2.resize(planes[:height], (2 * half[0], 2 * half[1]), interpolation=cv2.INTER_LINEAR)
    small = [cv2.resize(colour, half, interpolation=cv2.INTER_LINEAR) for colour in colours]
    small_planes = np.concatenate([luma.reshape(-1), *map(np.ravel, small)]).reshape(3 * half[1], 2 * half[0])
    return cv2.cvtColor(small_planes, cv2.COLOR_YUV2BGR_I420)
