"""Text in a picture: where it stands, and whether there is so much of it that the picture is a page, not a scene.

Finding text costs 15 to 30 ms a picture, reading it some 40 ms a box. So all is decided by where text stands, and a few
boxes are read in the end, to be sure that they hold text and no leaves or railings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import cv2
import numpy as np

FIND_SIDE = 480
"""Longest side at which text is looked for, pixels: subtitles are 13 pixels high then, enough to find them. They are
read at the picture's own size."""

READ_BOXES = 4
"""Boxes that are read; half of them must hold text."""

READ_ASPECT = 6
"""Width of what is read of a box, in its heights, from its middle: some ten letters are enough."""

SCORE = 0.6
"""Smallest certainty of what is read, 0..1; leaves that look like writing are read with less."""

LETTERS = 2
"""Fewest letters or digits of a text: a pole or a ring alone is easily read as I or O."""

PAGE_ROWS = 4
"""Rows of text that make a picture a page of credits. Scenes seldom have more than a sign of two rows; subtitles are
cut off before."""

PAGE_SHARE = 0.12
"""Share of the picture under text that makes it a title card. Two rows of subtitles cover 0.08, a shop sign less."""

TALL = 0.3
"""Largest height of a row of text, share of the picture's; taller boxes are drawn around leaves and fur."""


@dataclass(frozen=True)
class Box:
    """Where a piece of text seems to be, in pixels of the picture."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def find_text(luma: np.ndarray) -> list[Box]:
    """Where text seems to be in a picture, uint8 [H, W]; one line may give several boxes."""
    found = _engine()(cv2.cvtColor(luma, cv2.COLOR_GRAY2BGR), use_det=True, use_cls=False, use_rec=False).boxes
    boxes = [] if found is None else [Box(*map(float, (*box.min(0), *box.max(0)))) for box in found]
    return [box for box in boxes if box.height < TALL * luma.shape[0]]


def readable(places: Sequence[tuple[np.ndarray, Box]]) -> bool:
    """Whether half of these boxes or more, each with its picture, uint8 [H, W], hold text; looks at READ_BOXES of them,
    and reads no more of these than it must."""
    read = min(READ_BOXES, len(places))
    chosen = [places[number * len(places) // read] for number in range(read)]
    needed = -(-read // 2)
    return read > 0 and len(list(islice((True for luma, box in chosen if _is_text(luma, box)), needed))) == needed


def is_page(boxes: Sequence[Box], width: int, height: int) -> bool:
    """Whether a picture of this size with text in these boxes is a title card or a page of credits."""
    covered = sum((box.right - box.left) * box.height for box in boxes)
    return _rows(boxes) >= PAGE_ROWS or covered >= PAGE_SHARE * width * height


def _rows(boxes: Sequence[Box]) -> int:
    count, bottom = 0, float("-inf")
    for box in sorted(boxes, key=lambda box: box.middle):
        if box.middle > bottom:
            count, bottom = count + 1, box.bottom
    return count


def _is_text(luma: np.ndarray, box: Box) -> bool:
    middle, half = (box.left + box.right) / 2, max(1.0, box.height) * READ_ASPECT / 2
    left, right = max(box.left, middle - half), min(box.right, middle + half)
    part = luma[int(box.top) : int(box.bottom) + 1, int(left) : int(right) + 1]
    found = _engine()(cv2.cvtColor(part, cv2.COLOR_GRAY2BGR), use_det=False, use_cls=False, use_rec=True)
    return any(
        score >= SCORE and sum(map(str.isalnum, text)) >= LETTERS
        for text, score in zip(found.txts or (), found.scores or (), strict=True)
    )


@functools.cache
def _engine() -> Callable[..., Any]:
    """One a process, not for two threads at once; it takes half a second to load. What it gives depends on what it is
    asked for: `boxes`, or `txts` and `scores`."""
    from rapidocr import RapidOCR  # here, so that the driver does without its two seconds

    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Det.limit_type": "max",
            "Det.limit_side_len": FIND_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        }
    )
