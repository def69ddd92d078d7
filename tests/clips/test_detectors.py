"""Detectors against cuts that are known."""

from __future__ import annotations

import numpy as np
import pytest

from mimix_ray.clips import detectors
from tests.clips.footage import shots

NAMES = ("adaptive", "content")


def found_cuts(name: str, frames: list[np.ndarray], threshold: float | None = None) -> list[int]:
    detector = detectors.load(name, threshold, 16)
    found = []
    for number, frame in enumerate(frames):
        for cut in detector.push(np.ascontiguousarray(frame[..., ::-1])):
            assert number - detector.delay <= cut <= number  # known as late as it says, not later
            found.append(cut)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_finds_each_cut_at_its_frame(name: str) -> None:
    frames = list(shots([40, 20, 5, 30, 12], 16))
    assert found_cuts(name, frames) == [40, 60, 65, 95]


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
