"""Windows and crops, on plain numbers."""

from __future__ import annotations

import itertools
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_ray.clips.cutting import MARGIN, crop_to, tile, watched


def windows(total: int, cuts: list[int], delay: int, length: int, margin: int = MARGIN) -> list[tuple[int, list[int]]]:
    """Shot and frames of each window; frames are their own numbers, cuts become known `delay` frames late."""
    shown = itertools.count(-delay)

    def find(frame: int) -> list[int]:
        settled = next(shown)
        assert frame == min(settled + delay, total - 1)
        return [settled] if settled in cuts else []

    found = list(tile(range(total), find, delay, length, margin))
    assert all(window.frames[0] == window.start for window in found)
    return [(window.shot, window.frames) for window in found]


def test_tiles_each_shot_from_its_start() -> None:
    found = [(shot, frames[0]) for shot, frames in windows(100, [30, 35, 77], delay=2, length=10, margin=1)]
    assert found == [
        (0, 0),
        (0, 10),
        (2, 36),
        (2, 46),
        (2, 56),
        (2, 66),
        (3, 78),
        (3, 88),
    ]


@pytest.mark.parametrize(
    "total, starts",
    [(0, []), (1, []), (81, []), (82, [0]), (162, [0]), (163, [0, 81])],
)
@pytest.mark.parametrize("delay", [0, 2, 24, 200])
def test_what_the_detector_holds_back_is_told_at_the_end(total: int, starts: list[int], delay: int) -> None:
    assert [frames[0] for _, frames in windows(total, [], delay, length=81)] == starts


def test_a_cut_that_the_repeated_last_frame_makes_up_is_none() -> None:
    found = list(tile(range(10), lambda frame: [12] if frame == 9 else [], 3, 4, 1))
    assert [window.frames for window in found] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@given(
    total=st.integers(0, 300),
    cuts=st.lists(st.integers(1, 299), unique=True).map(sorted),
    delay=st.integers(0, 9),
    length=st.integers(1, 90),
    margin=st.integers(0, 1),
)
def test_no_window_touches_a_cut_and_none_is_lost(
    total: int, cuts: list[int], delay: int, length: int, margin: int
) -> None:
    found = windows(total, cuts, delay, length, margin)
    bounds = [0, *(cut for cut in cuts if cut < total), total]
    expected = []
    for shot, (begin, end) in enumerate(pairwise(bounds)):
        first = begin + (margin if shot else 0)
        while first + length + margin <= end:
            expected.append((shot, list(range(first, first + length))))
            first += length
    assert found == expected


def test_holds_no_more_frames_than_it_says() -> None:
    alive = 0

    class Frame:
        def __init__(self) -> None:
            nonlocal alive
            alive += 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    most = 0

    def look(frame: Frame) -> list[int]:
        nonlocal most
        most = max(most, alive)
        return []

    for _ in tile((Frame() for _ in range(500)), look, 2, 50, 1):
        pass
    assert most <= 50 + (50 + 1 + 2) + 1  # the window given away, those held, the one that comes


@pytest.mark.parametrize(
    "source, target, bottom, crop",
    [
        pytest.param((1280, 720), (832, 480), 0.0, (16, 0, 1248, 720), id="16:9 loses its sides"),
        pytest.param((1280, 720), (832, 480), 0.12, (90, 0, 1099, 634), id="without the text at the bottom"),
        pytest.param((640, 480), (832, 480), 0.0, (0, 55, 640, 369), id="4:3 loses top and bottom"),
        pytest.param((384, 256), (192, 112), 0.125, (0, 0, 384, 224), id="the miniature fits"),
        pytest.param((100, 1000), (832, 480), 0.0, (0, 471, 100, 58), id="upright"),
        pytest.param((2, 2), (832, 480), 0.4, (0, 0, 2, 1), id="tiny"),
    ],
)
def test_crop(source: tuple[int, int], target: tuple[int, int], bottom: float, crop: tuple[int, int, int, int]) -> None:
    assert crop_to(source, target, bottom) == crop


@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0, 0.49))
def test_a_crop_is_inside_the_picture_above_the_text(width: int, height: int, bottom: float) -> None:
    x, y, w, h = crop_to((width, height), (832, 480), bottom)
    assert x >= 0 and y >= 0 and w >= 1 and h >= 1
    assert x + w <= width and y + h <= max(1, height - round(height * bottom))


def test_detectors_see_small_pictures_in_bgr() -> None:
    planes = np.full((480 * 3 // 2, 832), 128, np.uint8)
    planes[480 * 5 // 4 :] = 240  # the plane V: red
    picture = watched(planes)
    assert picture.shape == (148, 256, 3) and picture[0, 0, 2] > picture[0, 0, 0]
    assert watched(np.zeros((112 * 3 // 2, 192), np.uint8)).shape == (112, 192, 3)
