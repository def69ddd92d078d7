"""Windows and crops, on plain numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_ray.clips.cutting import MARGIN, WHOLE, Cut, Part, fit, tile, watched
from mimix_ray.clips.survey import Area


def windows(
    total: int, cuts: list[int], delay: int, length: int, margin: int = MARGIN, part: Part = WHOLE, begin: int = 0
) -> list[tuple[int, list[int]]]:
    """Shot and frames of each window; frames are their own numbers, cuts become known `delay` frames late."""

    def find(number: int, frame: int) -> list[Cut]:
        assert frame == min(number, total - 1)
        return [Cut(number - delay)] if number - delay in cuts and number - delay > begin else []

    found = list(tile(((n, n) for n in range(begin, total)), find, delay, length, part, margin))
    assert all(window.frames[0] == window.start and window.cuts == 0 for window in found)
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
    frames = [(number, number) for number in range(10)]
    found = list(tile(frames, lambda number, frame: [Cut(12)] if number == 9 else [], 3, 4, margin=1))
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


@given(
    total=st.integers(1, 300),
    cuts=st.lists(st.integers(1, 299), unique=True).map(sorted),
    breaking=st.sets(st.integers(1, 299)),
    delay=st.integers(0, 9),
    length=st.integers(1, 60),
    origin=st.integers(0, 80),
    bounds=st.lists(st.integers(0, 299), max_size=4).map(sorted),
    lead=st.integers(1, 40),
)
def test_parts_together_give_what_the_whole_gives(
    total: int,
    cuts: list[int],
    breaking: set[int],
    delay: int,
    length: int,
    origin: int,
    bounds: list[int],
    lead: int,
) -> None:
    """However an episode is split, and although each part begins to look a little earlier; also within scenes."""

    def tiles(part: Part) -> tuple[list[tuple[int, int, list[int]]], int]:
        begin, owned = max(0, part.begin - lead), 0

        def find(number: int, frame: int) -> list[Cut]:
            nonlocal owned
            cut = number - delay
            if cut not in cuts or cut <= begin:
                return []
            owned += part.owns(cut) and cut < total
            return [Cut(cut, cut in breaking)]

        found = tile(((n, n) for n in range(begin, total)), find, delay, length, part)
        return [(window.shot, window.cuts, window.frames) for window in found], owned

    bounds = [origin, *(bound for bound in bounds if bound > origin), math.inf]
    whole, shots = tiles(Part(origin, math.inf, origin))
    together, before = [], 0
    for begin, end in pairwise(bounds):
        found, owned = tiles(Part(begin, end, origin))
        together += [(before + shot, inner, frames) for shot, inner, frames in found]
        before += owned
    assert together == whole and before == shots
    for _, inner, frames in whole:
        assert inner == sum(frames[0] < cut <= frames[-1] for cut in cuts)
        assert not any(frames[0] <= cut <= frames[-1] for cut in cuts if cut in breaking and cut > origin)


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

    def look(number: int, frame: Frame) -> list[Cut]:
        nonlocal most
        most = max(most, alive)
        return []

    for part in (WHOLE, Part(400)):
        for _ in tile(((number, Frame()) for number in range(500)), look, 2, 50, part):
            pass
        assert most <= 50 + (50 + 1 + 2) + 1  # the window given away, those held, the one that comes


SIZES = ((832, 480), (640, 480), (480, 832))


@pytest.mark.parametrize(
    "picture, part, size",
    [
        pytest.param(Area(0, 0, 1280, 720), Area(16, 0, 1248, 720), (832, 480), id="16:9 loses its sides"),
        pytest.param(Area(0, 0, 1280, 634), Area(90, 0, 1099, 634), (832, 480), id="without the text at the bottom"),
        pytest.param(Area(0, 0, 640, 480), Area(0, 0, 640, 480), (640, 480), id="4:3 has a size of its own"),
        pytest.param(Area(160, 0, 960, 720), Area(160, 0, 960, 720), (640, 480), id="4:3 between bars"),
        pytest.param(Area(0, 0, 720, 1280), Area(0, 16, 720, 1248), (480, 832), id="upright"),
        pytest.param(Area(3, 5, 2, 1), Area(3, 5, 2, 1), (832, 480), id="tiny"),
    ],
)
def test_a_clip_takes_the_size_of_nearest_aspect(picture: Area, part: Area, size: tuple[int, int]) -> None:
    assert fit(picture, SIZES) == (part, size)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 4000), st.integers(1, 4000))
def test_a_clip_shows_as_much_of_the_picture_as_its_aspect_allows(x: int, y: int, width: int, height: int) -> None:
    part, size = fit(Area(x, y, width, height), SIZES)
    assert part.x >= x and part.y >= y and part.width >= 1 and part.height >= 1
    assert part.x + part.width <= x + width and part.y + part.height <= y + height
    assert part.width == width or part.height == height
    assert abs(part.width - part.height * size[0] / size[1]) <= max(1, size[0] / size[1])


def test_detectors_see_small_pictures_in_bgr() -> None:
    planes = np.full((480 * 3 // 2, 832), 128, np.uint8)
    planes[480 * 5 // 4 :] = 240  # the plane V: red
    picture = watched(planes)
    assert picture.shape == (148, 256, 3) and picture[0, 0, 2] > picture[0, 0, 0]
    assert watched(np.zeros((112 * 3 // 2, 192), np.uint8)).shape == (112, 192, 3)
