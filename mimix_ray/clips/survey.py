"""One look over an episode before it is cut: where its picture is, without black bars and without text below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from mimix_ray.clips.text import Box, find_text, is_page, readable
from mimix_ray.video import Probe, Size, count_frames, read_keyframe, stream_frames

SAMPLES = 24
"""Frames looked at; once more as many, between them, when there is text in some."""

SHORT_S = 40.0
"""A film no longer than this, seconds, is decoded at once: it has too few keyframes."""

DISTINCT = 16
"""Fewest different keyframes that tell enough; a short film, or one with few keyframes, is decoded instead."""

LOOKED_WIDTH = 1280
"""Largest width at which frames are looked at, pixels; larger ones show no more bars and no more text."""

TEXT_PART = 0.4
"""Share of the height, from the bottom, in which text is looked for."""

TEXT_FRAMES = 3
"""Fewest frames with text at one height, and ..."""

TEXT_SHARE = 0.1
"""... smallest share of all frames, that make it persistent. A sign in a scene is in one or two frames."""

LIKE = 1.7
"""Largest ratio of the heights of two boxes of one kind of text: `no one` is lower than `Big boy`."""

TEXT_MARGIN = 0.3
"""Room left above text, in line heights: accents and outlines reach beyond the box."""

BLACK = 32
"""Luma below which a pixel is black: 16 by the standard, more in bars that went through lossy coders."""

CAP = 0.4
"""Largest share of the height or width that a bar takes on one side; a wider one is no bar but a dark film."""

EDGE = 16
"""How much brighter than a bar the picture beside it is at least, in luma: a dark scene fades, a bar has an edge."""

SOFT = 2
"""Rows or columns beside a bar that are cut off too: scaling and coding mix them with the bar."""


Place = tuple[int, Box]
"""A frame's number and where text seems to be in it."""


@dataclass(frozen=True)
class Area:
    """A part of the displayed picture, pixels."""

    x: int
    y: int
    width: int
    height: int


def survey(path: Path, found: Probe, crop_bottom: float | None, head_s: float = 0.0, tail_s: float = 0.0) -> Area:
    """The part of an episode's picture that holds neither black bars nor persistent text at the bottom.

    Looks at some 24 keyframes (48 when there is text in several), so it costs seconds of one core whatever the
    episode's length; a film with few keyframes is decoded.

    Args:
        path: The video file.
        found: What `probe` says of it.
        crop_bottom: Share of the displayed height that is cut off the bottom, 0..0.5; None finds the text there.
        head_s, tail_s: Seconds at both ends that are not looked at; ignored when nothing lies between them.

    Raises:
        VideoError: The file cannot be read.
    """
    scale = min(1.0, LOOKED_WIDTH / found.width)
    size = (max(2, round(found.width * scale / 2) * 2), max(2, round(found.height * scale / 2) * 2))
    duration_s = found.duration_s or count_frames(path) / (found.fps or 25)
    span = (head_s, duration_s - tail_s) if head_s + tail_s < duration_s else (0.0, duration_s)
    pictures = _sample(path, size, span, 0.25)
    if crop_bottom is not None:
        bottom = size[1] - round(size[1] * crop_bottom)
    else:
        texts = [bottom_text(picture) for picture in pictures]
        if _frames(_commonest(_all(texts))) > 1:  # subtitles may be rare, and their second row rarer
            more = _sample(path, size, span, 0.75)
            pictures += more
            texts += [bottom_text(picture) for picture in more]
        bottom = above_text(pictures, texts)
        for picture, boxes in zip(pictures, texts, strict=True):
            for box in boxes:  # text says nothing about bars: subtitles may lie on one
                picture[int(box.top) : int(box.bottom) + 1, int(box.left) : int(box.right) + 1] = 0
    left, top, right, bottom = without_bars(pictures, bottom)
    across, down = found.width / size[0], found.height / size[1]
    x, y = math.ceil(left * across), math.ceil(top * down)
    return Area(x, y, int(right * across) - x, int(bottom * down) - y)


def _sample(path: Path, size: Size, span: tuple[float, float], phase: float) -> list[np.ndarray]:
    """Luma, uint8 [H, W], of up to SAMPLES different frames spread over the span, each `phase` into its share."""
    step = (span[1] - span[0]) / SAMPLES
    times = [span[0] + (number + phase) * step for number in range(SAMPLES)]
    frames: list[np.ndarray] = []
    for time in times if span[1] - span[0] > SHORT_S else []:
        frame = read_keyframe(path, time, size, "yuv420p")
        if frame is not None and not (frames and np.array_equal(frame, frames[-1])):
            frames.append(frame)
    if len(frames) < DISTINCT:
        stream = stream_frames(path, start_s=times[0], fps=max(1 / step, 0.01), size=size, pixel_format="yuv420p")
        frames = list(islice(stream, SAMPLES)) or [next(stream_frames(path, size=size, pixel_format="yuv420p"))]
    return [frame[: size[1]] for frame in frames]


def bottom_text(luma: np.ndarray) -> list[Box]:
    """Where text seems to be in the bottom part of a picture, uint8 [H, W]; none of a page of credits."""
    height, width = luma.shape
    begin = round(height * (1 - TEXT_PART))
    boxes = find_text(luma[begin:])
    if not boxes or is_page(find_text(luma[:begin]), width, begin):
        return []
    return [Box(box.left, box.top + begin, box.right, box.bottom + begin) for box in boxes]


def above_text(pictures: Sequence[np.ndarray], texts: Sequence[Sequence[Box]]) -> int:
    """Rows of the pictures, uint8 [H, W], that are above their persistent text.

    Args:
        texts: Where text seems to be in each picture. Text that stands at one height in several pictures is persistent,
            and so are rows right above it.
    """
    needed = max(TEXT_FRAMES, math.ceil(TEXT_SHARE * len(pictures)))
    places, kept = _all(texts), list[Place]()
    while _frames(row := _commonest(places)) >= needed:
        places = [place for place in places if place not in row]
        if readable([(pictures[frame], box) for frame, box in row]):
            kept += row
    # From the bottom up, so that a third row follows the second.
    for frame, box in sorted(places, key=lambda place: -place[1].middle):
        if any(frame == other and _stacked(box, below) for other, below in kept):
            kept.append((frame, box))
    height = pictures[0].shape[0]
    return max(0, math.floor(min((box.top - TEXT_MARGIN * box.height for _, box in kept), default=height)))


def _all(texts: Sequence[Sequence[Box]]) -> list[Place]:
    return [(frame, box) for frame, boxes in enumerate(texts) for box in boxes]


def _commonest(places: Sequence[Place]) -> list[Place]:
    """The boxes at one height that are in the most frames."""
    rows = ([other for other in places if _level(place[1], other[1])] for place in places)
    return max(rows, key=_frames, default=[])


def _frames(places: Sequence[Place]) -> int:
    return len({frame for frame, _ in places})


def _level(one: Box, other: Box) -> bool:
    """Whether two texts stand at one height and are of about one size."""
    low, high = sorted((one.height, other.height))
    return abs(one.middle - other.middle) < low / 2 and high < LIKE * low


def _stacked(box: Box, below: Box) -> bool:
    """Whether a text stands right above another one of about its size."""
    low, high = sorted((box.height, below.height))
    overlap = min(box.right, below.right) - max(box.left, below.left)
    return low / 2 < below.middle - box.middle < 2 * high and high < LIKE * low and overlap > 0


def without_bars(pictures: Sequence[np.ndarray], bottom: int) -> tuple[int, int, int, int]:
    """The part of the pictures, uint8 [H, W], above row `bottom` that is not black bars: left, top, right, bottom."""
    height, width = pictures[0].shape
    seen = [picture[:bottom] for picture in pictures if (picture >= BLACK).mean() > 0.01]
    if not seen or not bottom:
        return 0, 0, width, bottom
    # The brightest that each place ever is: where nothing ever shows is a bar.
    brightest = np.maximum.reduce(seen)
    top, bottom = _inside(brightest, round(CAP * height))
    left, right = _inside(brightest[top:bottom].T, round(CAP * width))
    return left, top, right, bottom


def _inside(brightest: np.ndarray, cap: int) -> tuple[int, int]:
    """First row after the bar above and first row of the bar below; 0 and the number of rows where there is none."""
    rows = cv2.blur(brightest, (9, 1)).max(1)  # along the rows, against noise
    shown = np.flatnonzero(rows >= BLACK)
    if not len(shown):
        return 0, len(rows)
    means = brightest.mean(1)
    above = _bar(means, int(shown[0]), cap)
    below = _bar(means[::-1], int(len(rows) - 1 - shown[-1]), cap)
    return above, len(rows) - below


def _bar(means: np.ndarray, dark: int, cap: int) -> int:
    """Rows to cut off a side of which the first `dark` rows show nothing; `means` is each row's mean luma."""
    beside = means[dark + SOFT : dark + SOFT + 1]
    if not dark or not len(beside) or beside[0] - means[:dark].mean() < EDGE:
        return 0
    return min(dark + SOFT, cap)
