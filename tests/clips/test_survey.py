"""Black bars and text below the picture, on films made here; the engine that reads text says what is left."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from mimix_ray import _ffmpeg
from mimix_ray.clips.survey import Area, survey
from mimix_ray.clips.text import find_text, readable
from mimix_ray.video import VideoError, probe, stream_frames
from tests.clips.films import FPS, HEIGHT, WIDTH, film, subtitles, text

WHOLE = Area(0, 0, WIDTH, HEIGHT)


def looked_over(path: Path, crop_bottom: float | None = None, **skips: float) -> Area:
    return survey(path, probe(path), crop_bottom, **skips)


def has_text(luma: np.ndarray) -> bool:
    return any(readable([(luma, box)]) for box in find_text(luma))


def frames_with_text(path: Path, area: Area) -> list[int]:
    """Numbers of the frames, of every tenth one, in which text can be read inside the area."""
    crop = (area.x, area.y, area.width, area.height)
    frames = enumerate(stream_frames(path, crop=crop))
    return [
        number for number, frame in frames if number % 10 == 5 and has_text(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
    ]


def has_bar(path: Path, area: Area) -> bool:
    """Whether one of the area's outer rows or columns never shows anything."""
    crop = (area.x, area.y, area.width, area.height)
    brightest = np.maximum.reduce(list(stream_frames(path, crop=crop, fps=1))).max(2)
    return min(brightest[0].max(), brightest[-1].max(), brightest[:, 0].max(), brightest[:, -1].max()) < 60


@pytest.mark.parametrize(
    "bars",
    [
        pytest.param((0, 45, 0, 45), id="letterbox"),
        pytest.param((80, 0, 80, 0), id="pillarbox"),
        pytest.param((80, 40, 80, 60), id="both"),
        pytest.param((3, 0, 0, 0), id="a narrow one"),
    ],
)
def test_bars_go_and_nothing_else(tmp_path: Path, bars: tuple[int, int, int, int]) -> None:
    path = film(tmp_path / "film.mp4", bars=bars)
    area = looked_over(path)
    found = (area.x, area.y, WIDTH - area.x - area.width, HEIGHT - area.y - area.height)
    assert all(bar <= cut <= bar + (4 if bar else 0) for bar, cut in zip(bars, found, strict=True)), found
    assert not has_bar(path, area)


def test_a_clean_film_loses_nothing(tmp_path: Path) -> None:
    assert looked_over(film(tmp_path / "film.mp4")) == WHOLE


@pytest.mark.parametrize("brightness", [0.4, 0.1])
def test_a_dark_film_has_no_bars(tmp_path: Path, brightness: float) -> None:
    assert looked_over(film(tmp_path / "film.mp4", brightness=brightness)) == WHOLE


def test_a_dark_edge_that_fades_is_no_bar(tmp_path: Path) -> None:
    shade = np.clip(np.arange(WIDTH) / 300, 0, 1)
    assert looked_over(film(tmp_path / "film.mp4", brightness=shade[None, :, None])) == WHOLE


@pytest.mark.parametrize("two", [False, True], ids=["one row", "two rows"])
def test_subtitles_on_the_picture(tmp_path: Path, two: bool) -> None:
    path = film(tmp_path / "film.mp4", 60, overlays=[subtitles(HEIGHT - 20, two, share=4)])
    area = looked_over(path)
    assert frames_with_text(path, area) == []
    rows = 2 if two else 1
    assert (area.x, area.y, area.width) == (0, 0, WIDTH) and area.height > HEIGHT - 20 - rows * 40


@pytest.mark.parametrize("bottom", [HEIGHT - 15, HEIGHT - 40], ids=["on the bar", "half on the picture"])
def test_subtitles_and_bars(tmp_path: Path, bottom: int) -> None:
    path = film(tmp_path / "film.mp4", 60, (0, 50, 0, 50), [subtitles(bottom, share=3)])
    area = looked_over(path)
    assert frames_with_text(path, area) == [] and not has_bar(path, area)
    assert 50 <= area.y <= 54 and HEIGHT - 50 - 30 <= area.y + area.height <= HEIGHT - 50


@pytest.mark.soak
def test_a_logo_in_the_corner(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", overlays=[lambda draw, number: text(draw, "CHANNEL 4", 560, 340, 18)])
    area = looked_over(path)
    assert frames_with_text(path, area) == [] and area.height > HEIGHT - 75


@pytest.mark.soak
def test_text_in_scenes_stays(tmp_path: Path) -> None:
    def seen_once(draw, number):
        if 60 <= number < 75:
            text(draw, "GREEN STREET", 300, 330, 24)

    def moving(draw, number):
        if number >= 180:
            text(draw, "LAUNDRY", 3 * number - 400, 6 * number - 880, 24)

    assert looked_over(film(tmp_path / "once.mp4", overlays=[seen_once])) == WHOLE
    assert looked_over(film(tmp_path / "moving.mp4", overlays=[moving])) == WHOLE


@pytest.mark.soak
def test_credits_are_no_subtitles(tmp_path: Path) -> None:
    assert looked_over(film(tmp_path / "film.mp4", 60, pages=[range(280, 360)])) == WHOLE


@pytest.mark.soak
def test_head_and_tail_are_not_looked_at(tmp_path: Path) -> None:
    def ends(draw, number):
        if not 15 * FPS <= number < 45 * FPS:
            text(draw, "PREVIOUSLY ON THIS SHOW", 320, 340, 20)

    path = film(tmp_path / "film.mp4", 60, overlays=[ends])
    assert looked_over(path).height < HEIGHT
    assert looked_over(path, head_s=16, tail_s=16) == WHOLE
    assert looked_over(path, head_s=40, tail_s=40).height < HEIGHT  # nothing lies between: all is looked at


def test_a_fixed_crop_needs_no_reading(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", bars=(0, 45, 0, 45), overlays=[subtitles(HEIGHT - 70)])
    assert looked_over(path, 0.25) == Area(0, 47, WIDTH, HEIGHT - 90 - 47)
    assert looked_over(path, 0.0) == Area(0, 47, WIDTH, HEIGHT - 94)


def test_pixels_are_those_displayed(tmp_path: Path) -> None:
    """A picture that is squeezed and turned in the file, and larger than what is looked at."""
    flat = film(tmp_path / "flat.mp4", 10, bars=(0, 45, 0, 45))
    path = tmp_path / "large.mkv"
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", flat, "-vf", "scale=1440:1080,setsar=4/3", "-g", "4", path]
    subprocess.run(command, check=True)
    area = looked_over(path)
    assert area.x == 0 and area.width == 1920
    assert 135 <= area.y <= 144 and 936 <= area.y + area.height <= 945


@pytest.mark.soak
def test_another_container(tmp_path: Path) -> None:
    whole = film(tmp_path / "film.mp4", bars=(0, 45, 0, 45), overlays=[subtitles(HEIGHT - 60)])
    path = tmp_path / "film.ts"
    subprocess.run([_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", whole, "-c", "copy", path], check=True)
    area = looked_over(path)
    assert frames_with_text(path, area) == [] and not has_bar(path, area)


def test_a_file_that_is_no_film(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", 5)
    found = probe(path)
    path.write_bytes(b"no film" * 1000)
    with pytest.raises(VideoError) as error:
        survey(path, found, None)
    assert error.value.code in ("not_a_video", "truncated")
