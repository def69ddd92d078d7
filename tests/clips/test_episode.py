"""An episode's file to clips, with real ffmpeg; each clip is judged by decoding it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from mimix_ray import _ffmpeg
from mimix_ray.clips.episode import Cut, cut_episode
from mimix_ray.config import ClipsConfig
from mimix_ray.video import VideoError, probe, read_frames
from tests.clips.footage import BAR, HEIGHT, episode, shot_of

CONFIG = ClipsConfig(width=192, height=96, crop_bottom=BAR / HEIGHT, crf=10)


def check(cut: Cut, bounds: list[float]) -> None:
    """Each clip: 81 frames at 16 fps by decoding, of one shot, inside its bounds (seconds), without the white bar."""
    for clip in cut.clips:
        frames, found = read_frames(clip.path), probe(clip.path)
        assert frames.shape == (81, 96, 192, 3) and clip.frames == 81
        assert (found.fps, round(found.duration_s, 4)) == (16.0, 5.0625)
        assert {shot_of(frame) for frame in frames} == {clip.shot % 6}
        assert bounds[clip.shot] <= clip.start_s < clip.end_s <= bounds[clip.shot + 1]
        assert clip.end_s - clip.start_s == pytest.approx(81 / 16)
        assert frames[:, -2:].mean((0, 1, 2)).max() < 240


@pytest.mark.parametrize("fps", [24.0, 25.0, 24000 / 1001, 16.0, 12.0, 60.0])
@pytest.mark.parametrize("detector", ["adaptive", "dissolve"])
def test_clips_are_exact_and_inside_shots(tmp_path: Path, fps: float, detector: str) -> None:
    seconds = [5.5, 3.1, 11.3, 5.1, 0.4, 6.0]
    path = episode(tmp_path / "e01.mp4", seconds, fps)
    cut = cut_episode(path, tmp_path, CONFIG.model_copy(update={"detector": detector}))
    bounds = [0, *(np.cumsum([round(length * fps) for length in seconds]) / fps)]
    check(cut, bounds)
    assert [clip.shot for clip in cut.clips] == [0, 2, 2, 5]
    assert cut.seconds == pytest.approx(bounds[-1], abs=1 / 16)
    assert [clip.path.name for clip in cut.clips] == [f"{round(clip.start_s * 1000):08d}.mp4" for clip in cut.clips]


def test_times_hold_when_the_frame_rate_varies(tmp_path: Path) -> None:
    even = episode(tmp_path / "even.mp4", [6.0, 6.0, 6.0], 24)
    path = tmp_path / "vfr.mkv"
    drop = "select='not(between(t,1,5))+not(mod(n,5))'"
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", even, "-vf", drop, "-fps_mode", "vfr", path]
    subprocess.run(command, check=True)
    cut = cut_episode(path, tmp_path, CONFIG)
    check(cut, [0, 6, 12, 18])
    assert [clip.shot for clip in cut.clips] == [0, 1, 2]


def test_a_late_start_shifts_nothing(tmp_path: Path) -> None:
    even = episode(tmp_path / "even.mp4", [6.0, 6.0], 24)
    path = tmp_path / "late.ts"
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", even, "-c", "copy", "-output_ts_offset", "70", path]
    subprocess.run(command, check=True)
    check(cut_episode(path, tmp_path, CONFIG), [0, 6, 12])


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = episode(tmp_path / "e01.mp4", [6.0, 6.0])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first, second = (cut_episode(path, tmp_path / folder, CONFIG) for folder in ("a", "b"))
    assert [clip.path.read_bytes() for clip in first.clips] == [clip.path.read_bytes() for clip in second.clips]


def test_colours_stay(tmp_path: Path) -> None:
    path = episode(tmp_path / "e01.mp4", [6.0])
    frames = read_frames(cut_episode(path, tmp_path, CONFIG).clips[0].path)
    assert np.abs(frames[40, 5, 5].astype(int) - (200, 60, 50)).max() <= 4


def test_no_shot_is_long_enough(tmp_path: Path) -> None:
    assert cut_episode(episode(tmp_path / "e01.mp4", [2.0, 4.0, 5.0]), tmp_path, CONFIG).clips == ()


def test_a_file_cut_short_fails(tmp_path: Path) -> None:
    path = episode(tmp_path / "e01.mp4", [6.0, 6.0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(VideoError) as error:
        cut_episode(path, tmp_path, CONFIG)
    assert error.value.code == "truncated"
