"""Whether a clip shows anything worth learning: not black, not frozen, not a page of text."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mimix_ray.clips.text import Box, find_text, is_page, readable

SMALL_WIDTH = 104
"""Width at which frames are compared, pixels: 8 x 8 of a 832 wide frame in one, which averages grain and coding noise
to a level or so, and still shows a mouth that moves."""

BLACK = 40
"""Luma, 16 is black: a frame is black when all but `BLACK_BUT` of it is darker. Night scenes reach 60 and more."""

BLACK_BUT = 0.01
"""Share of a black frame that may be brighter: a logo in its corner."""

BLACK_SHARE = 0.9
"""Share of black frames that makes a clip black; a scene that fades in within half a second is kept."""

STILL = 5
"""Change of luma that is none: coding noise and grain, averaged, stay below it."""

STILL_BUT = 0.001
"""Share of a still frame that may change more, 6 of 6240 small pixels. A talking mouth in a held cartoon picture is
0.3 % and more."""

STILL_LAG = 8
"""Frames between two that are compared, half a second: slow pans and zooms add up, and drawings that are held for two
or three frames have changed."""

STILL_SHARE = 0.9
"""Share of still comparisons that makes a clip frozen."""


def unusable(frames: Sequence[np.ndarray]) -> tuple[str, str] | None:
    """Why a clip is not worth keeping, code and text, or None when it is.

    Codes: `black` (nearly all of it), `frozen` (nothing moves in nearly all of it), `text` (a title card or credits).

    Args:
        frames: The clip's frames, yuv420p planes, uint8 [H * 3 / 2, W].
    """
    height, width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
    small_size = (min(width, SMALL_WIDTH), max(1, round(height * min(1.0, SMALL_WIDTH / width))))
    small = [cv2.resize(frame[:height], small_size, interpolation=cv2.INTER_AREA) for frame in frames]
    black = np.mean([np.quantile(picture, 1 - BLACK_BUT) < BLACK for picture in small])
    if black >= BLACK_SHARE:
        return "black", f"{black:.0%} of its frames show nothing; nothing to do"
    pairs = zip(small, small[STILL_LAG:], strict=False)
    still = np.mean([np.quantile(cv2.absdiff(one, later), 1 - STILL_BUT) < STILL for one, later in pairs])
    if still >= STILL_SHARE:
        return "frozen", f"nothing moves in {still:.0%} of it; nothing to do"
    if _is_page_of_text(frames[len(frames) // 3][:height], frames[len(frames) * 2 // 3][:height]):
        return "text", "a title card or credits; nothing to do, or skip them with skip_head_s and skip_tail_s"
    return None


def _is_page_of_text(*looks: np.ndarray) -> bool:
    """Whether there is text in all of these pictures and one of them is a page of it: pages fade, roll and change."""
    found: list[tuple[np.ndarray, list[Box]]] = []
    for luma in looks:
        if not (boxes := find_text(luma)):
            return False
        found.append((luma, boxes))
    page = next(((luma, boxes) for luma, boxes in found if is_page(boxes, luma.shape[1], luma.shape[0])), None)
    return page is not None and readable([(page[0], box) for box in page[1]])
