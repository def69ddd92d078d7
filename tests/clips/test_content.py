"""Clips that teach nothing, and clips that only look like it; all went through a coder as real ones do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mimix_ray.clips.content import unusable
from mimix_ray.video import stream_frames, write_video
from tests.clips.films import TALK, scenery, text

WIDTH, HEIGHT, COUNT = 832, 480, 81
Paint = Callable[[int], np.ndarray]


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[Paint], str | None]:
    """The code for a clip whose frame n is painted by a function; None when the clip is kept."""

    def coded(paint: Paint) -> str | None:
        write_video(tmp_path / "clip.mp4", (paint(number) for number in range(COUNT)), 16, crf=26)
        found = unusable(list(stream_frames(tmp_path / "clip.mp4", pixel_format="yuv420p")))
        assert found is None or (found[1] and "\n" not in found[1])
        return found and found[0]

    return coded


def scene(number: int, brightness: float = 1.0) -> np.ndarray:
    return scenery(number % 20, WIDTH, HEIGHT, brightness)


def written(picture: np.ndarray, lines: list[tuple[str, float, float, int]]) -> np.ndarray:
    """The picture with lines of text: what, middle, bottom, size."""
    image = Image.fromarray(picture)
    for line in lines:
        text(ImageDraw.Draw(image), *line)
    return np.asarray(image)


def noise(number: int, strength: float) -> np.ndarray:
    return np.random.default_rng(number).normal(0, strength, (HEIGHT, WIDTH, 1))


def test_a_scene_is_kept(judge):
    assert judge(scene) is None


def test_black(judge):
    assert judge(lambda number: np.full((HEIGHT, WIDTH, 3), 4, np.uint8)) == "black"
    assert judge(lambda number: scene(number, 0 if number > 6 else 1)) == "black"


def test_night_and_a_late_beginning_are_kept(judge):
    assert judge(lambda number: scene(number, 0.25)) is None
    assert judge(lambda number: scene(number, 1 if number > 30 else 0)) is None


def test_frozen_also_under_grain(judge):
    assert judge(lambda number: scene(0)) == "frozen"
    assert judge(lambda number: (scene(0) + noise(number, 4)).clip(0, 255).astype(np.uint8)) == "frozen"


def test_a_mouth_that_moves_in_a_held_picture_is_kept(judge):
    def talks(number: int) -> np.ndarray:
        picture = scene(0)
        picture[300 : 304 + 6 * (number // 3 % 3), 400:440] = 30  # drawn on threes, 0.1 to 0.2 % of the picture
        return picture

    assert judge(talks) is None


def test_a_slow_zoom_is_kept(judge):
    picture = Image.fromarray(scene(0))

    def zoom(number: int) -> np.ndarray:
        return np.asarray(picture.resize((WIDTH, HEIGHT), box=(number, number, WIDTH - number, HEIGHT - number)))

    assert judge(zoom) is None


def credits(number: int) -> Iterator[tuple[str, float, float, int]]:
    """Lines that roll upwards."""
    return ((TALK[row % 6], WIDTH / 2, 60 + 50 * row - 2 * number, 20) for row in range(12))


def test_credits_and_title_cards(judge):
    dark = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    assert judge(lambda number: written(dark, list(credits(number)))) == "text"
    assert judge(lambda number: written(scene(number), list(credits(number)))) == "text"
    title = [("THE VERY LONG", WIDTH / 2, 220, 90), ("JOURNEY", WIDTH / 2, 340, 90)]
    assert judge(lambda number: written(scene(number), title)) == "text"


def test_signs_in_a_scene_are_kept(judge):
    signs = [("GREEN GROCER", 300, 120, 40), ("open", 560, 300, 24)]
    assert judge(lambda number: written(scene(number), signs)) is None


def test_a_title_that_soon_goes_is_kept(judge):
    assert judge(lambda number: written(scene(number), list(credits(number)) if number < 40 else [])) is None
