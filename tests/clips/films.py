"""Films with overlays: a moving picture, text on it, bars around it; and what OCR still finds after a crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mimix_ray.video import write_video

WIDTH, HEIGHT, FPS = 640, 360, 6
TALK = (
    "Where have you been all day?",
    "I was looking for the other boat.",
    "Nobody told me that it was gone.",
    "Then we shall have to walk home.",
    "Wait, what is that over there?",
    "It looks like my grandmother.",
)

Overlay = Callable[[ImageDraw.ImageDraw, int], None]
"""Draws on frame number n."""


def scenery(number: int, width: int = WIDTH, height: int = HEIGHT, brightness: float | np.ndarray = 1.0) -> np.ndarray:
    """A picture with soft hills of colour that drift and, every 20 frames, change: RGB, uint8 [height, width, 3]."""
    shot = number // 20
    y, x = np.mgrid[0 : height // 8, 0 : width // 8] / 12
    waves = [np.sin(x * (1 + 0.3 * c) + y * (c - 1) + 0.1 * number + shot * (c + 1.7)) for c in range(3)]
    hills = cv2.resize(128 + 90 * np.stack(waves, -1), (width, height), interpolation=cv2.INTER_CUBIC)
    return (hills * brightness).clip(0, 255).astype(np.uint8)


def text(draw: ImageDraw.ImageDraw, line: str, middle: float, bottom: float, size: int) -> None:
    """White text with a black outline, centred at `middle`, standing on `bottom`."""
    font = ImageFont.load_default(size=size)
    draw.text((middle, bottom), line, "white", font, anchor="md", stroke_width=2, stroke_fill="black")


def subtitles(bottom: int, two: bool = False, share: int = 3, size: int = 20) -> Overlay:
    """Lines of talk, each on screen for ten frames, in one of `share` such times; every other time `two` rows."""

    def draw(draw: ImageDraw.ImageDraw, number: int) -> None:
        time = number // 10
        if time % share == 0:
            said = time // share
            text(draw, TALK[said % len(TALK)], WIDTH / 2, bottom, size)
            if two and said % 2:
                text(draw, TALK[(said + 1) % len(TALK)], WIDTH / 2, bottom - 1.3 * size, size)

    return draw


def film(
    path: Path,
    seconds: float = 40,
    bars: tuple[int, int, int, int] = (0, 0, 0, 0),
    overlays: Sequence[Overlay] = (),
    brightness: float | np.ndarray = 1.0,
    pages: Sequence[range] = (),
) -> Path:
    """Writes a film of WIDTH x HEIGHT at FPS with bars (left, top, right, bottom); `pages` are frames of credits."""
    left, top, right, bottom = bars

    def frame(number: int) -> np.ndarray:
        canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        if any(number in page for page in pages):
            image = Image.fromarray(canvas)
            for row in range(9):
                text(ImageDraw.Draw(image), TALK[row % 6], WIDTH / 2, 36 + 38 * row, 18)
            return np.asarray(image)
        canvas[top : HEIGHT - bottom, left : WIDTH - right] = scenery(
            number, WIDTH - left - right, HEIGHT - top - bottom, brightness
        )
        image = Image.fromarray(canvas)
        for overlay in overlays:
            overlay(ImageDraw.Draw(image), number)
        return np.asarray(image)

    write_video(path, (frame(number) for number in range(round(seconds * FPS))), FPS, crf=20)
    return path
