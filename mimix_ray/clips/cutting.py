"""From frames and cuts to windows, and from a picture's size to its crop. Pure: no files, no processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np

Frame = TypeVar("Frame")

MARGIN = 1
"""Frames left out on both sides of a cut: a frame blended from two shots belongs to neither."""

WATCHED_WIDTH = 256
"""Width at which detectors see frames, pixels; PySceneDetect scales to the same."""


@dataclass(frozen=True)
class Window(Generic[Frame]):
    """Consecutive frames inside one shot."""

    shot: int
    """The shot's number, from 0."""
    start: int
    """Number of the first frame, from 0."""
    frames: list[Frame]


def tile(
    frames: Iterable[Frame], find_cuts: Callable[[Frame], list[int]], delay: int, length: int, margin: int = MARGIN
) -> Iterator[Window[Frame]]:
    """Windows of `length` frames, one after another from each shot's start, none across a cut.

    Holds at most `length + margin + delay` frames. What is left at a shot's end is dropped. At the end of all, the
    detector is shown the last frame `delay` times more, so that it tells what it still holds back.

    Args:
        frames: The frames in order.
        find_cuts: Called with each frame; returns the numbers of frames, in order, now known to begin a shot.
        delay: How many frames late it may say so.
        length: Frames a window.
        margin: Frames left out after a shot's first cut and before its last; at most `delay + 1`.
    """
    held: deque[Frame] = deque()
    cuts: deque[int] = deque()
    shot, first = 0, 0  # `held` begins with frame `first`

    def complete(settled: int) -> Iterator[Window[Frame]]:
        """Windows before frame `settled`, up to which all cuts are known."""
        nonlocal shot, first
        while True:
            end = cuts[0] if cuts else settled
            if first + length + margin <= end:
                yield Window(shot, first, [held.popleft() for _ in range(length)])
                first += length
            elif cuts:
                shot, begin = shot + 1, max(first, cuts.popleft() + margin)
                for _ in range(min(begin - first, len(held))):
                    held.popleft()
                first = begin
            else:
                break

    number = -1
    for number, frame in enumerate(frames):
        held.append(frame)
        cuts.extend(find_cuts(frame))
        yield from complete(number + 1 - delay)
    for _ in range(delay if held else 0):
        cuts.extend(cut for cut in find_cuts(held[-1]) if cut <= number)
    yield from complete(number + 1)


def crop_to(source: tuple[int, int], target: tuple[int, int], bottom: float) -> tuple[int, int, int, int]:
    """The part of a picture that becomes a clip: the largest of the target's aspect, centred, above the text.

    Args:
        source: Width and height of the displayed picture, pixels.
        target: Width and height of the clip, pixels; only their ratio counts.
        bottom: Share of the picture's height that is cut off below.

    Returns:
        x, y, width, height in pixels of the source.
    """
    width, height = source[0], max(1, source[1] - round(source[1] * bottom))
    aspect = target[0] / target[1]
    kept_width = max(1, min(width, round(height * aspect)))
    kept_height = max(1, min(height, round(width / aspect)))
    return (width - kept_width) // 2, (height - kept_height) // 2, kept_width, kept_height


def watched(planes: np.ndarray) -> np.ndarray:
    """A frame as detectors see it: yuv420p planes, uint8 [H * 3 / 2, W] -> BGR uint8 [h, w, 3], w at most 256."""
    picture = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
    height, width = picture.shape[:2]
    if width <= WATCHED_WIDTH:
        return picture
    size = (WATCHED_WIDTH, max(1, round(height * WATCHED_WIDTH / width)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
