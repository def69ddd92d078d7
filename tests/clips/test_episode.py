"""An episode's file to clips, with real ffmpeg; each clip is judged by decoding it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from mimix_ray import _ffmpeg
from mimix_ray.clips.episode import Cutting, Piece, cut_episode
from mimix_ray.config import ClipsConfig
from mimix_ray.video import VideoError, probe, read_frames, stream_frames, write_video
from tests.clips.footage import BAR, HEIGHT, WIDTH, episode, shot_of, shots

CONFIG = ClipsConfig(sizes=("192x96",), crop_bottom=BAR / HEIGHT, crf=10)


def check(cut: Cutting, bounds: list[float]) -> None:
    """Each clip: 81 frames at 16 fps by decoding, of one shot, inside its bounds (seconds), without the white bar."""
    for clip in cut.clips:
        frames, found = read_frames(clip.path), probe(clip.path)
        assert frames.shape == (81, 96, 192, 3)
        assert (found.fps, round(found.duration_s, 4)) == (16.0, 5.0625)
        assert {shot_of(frame) for frame in frames} == {clip.shot % 6}
        assert bounds[clip.shot] <= clip.start_s < clip.end_s <= bounds[clip.shot + 1]
        assert clip.end_s - clip.start_s == pytest.approx(81 / 16)
        assert frames[:, -2:].mean((0, 1, 2)).max() < 240


@pytest.mark.parametrize("fps", [24000 / 1001, 12.0, 60.0])
def test_clips_are_exact_and_inside_shots(tmp_path: Path, fps: float) -> None:
    seconds = [5.5, 3.1, 11.3, 5.1, 0.4, 6.0]
    path = episode(tmp_path / "e01.mp4", seconds, fps)
    cut = cut_episode(path, tmp_path, CONFIG)
    bounds = [0, *(np.cumsum([round(length * fps) for length in seconds]) / fps)]
    check(cut, bounds)
    assert [clip.shot for clip in cut.clips] == [0, 2, 2, 5]
    assert cut.seconds == pytest.approx(bounds[-1], abs=1 / 16)
    assert [clip.path.name for clip in cut.clips] == [f"{round(clip.start_s * 1000):08d}.mp4" for clip in cut.clips]


@pytest.mark.parametrize(("within", "fps"), [("shot", 24000 / 1001), ("scene", 25.0)])
def test_pieces_give_the_same_clips_byte_for_byte(tmp_path: Path, fps: float, within: str) -> None:
    path = episode(tmp_path / "e01.mp4", [5.5, 3.1, 17.3, 0.4, 6.0, 5.6], fps)
    config = CONFIG.model_copy(update={"within": within})

    def cut(of: int) -> tuple[list[tuple[float, int, int, bytes]], float | None]:
        clips, shots = [], 0
        for number in range(of):
            folder = tmp_path / f"{number}-of-{of}"
            folder.mkdir()
            made = cut_episode(path, folder, config, 1.0, 2.0, Piece(number, of))
            clips += [(clip.start_s, shots + clip.shot, clip.cuts, clip.path.read_bytes()) for clip in made.clips]
            shots += made.shots
        return clips, made.seconds

    whole = cut(1)
    assert len(whole[0]) > 3
    assert cut(2) == cut(5) == whole


def test_scenes_keep_cuts_back_to_what_was_seen(tmp_path: Path) -> None:
    """Two shots by turns, as in a dialogue, then another place."""
    views = list(shots([40, 40], 16))
    there = list(shots([1] * 6, 16))[5:] * 90
    frames = [*views * 3, *there]
    write_video(tmp_path / "e01.mp4", frames, 16)
    config = CONFIG.model_copy(update={"within": "scene"})
    cut = cut_episode(tmp_path / "e01.mp4", tmp_path, config)
    # The first cut shows something new; from then on both views are known.
    assert [(round(clip.start_s * 16), clip.shot, clip.cuts) for clip in cut.clips] == [
        (41, 1, 2),
        (122, 3, 2),
        (241, 6, 0),
    ]
    assert cut_episode(tmp_path / "e01.mp4", tmp_path, CONFIG).clips[0].start_s > 240 / 16


def test_head_and_tail_give_no_clip(tmp_path: Path) -> None:
    path = episode(tmp_path / "e01.mp4", [30.0])
    clips = cut_episode(path, tmp_path, CONFIG, head_s=7.5, tail_s=6.0)
    assert [clip.start_s for clip in clips.clips] == [7.5, 12.5625, 17.625]
    assert clips.seconds == pytest.approx(30.0, abs=1 / 16)
    assert cut_episode(path, tmp_path, CONFIG, head_s=20.0, tail_s=20.0).clips == ()


def test_a_picture_between_bars_is_cut_out_and_takes_its_own_size(tmp_path: Path) -> None:
    narrow = [frame[:, 40:280] for frame in shots([100], 16)]
    write_video(tmp_path / "e01.mp4", [np.pad(frame, ((20, 20), (64, 64), (0, 0))) for frame in narrow], 16)
    config = ClipsConfig(sizes=("192x96", "128x96"), crop_bottom=0.0)
    (clip,) = cut_episode(tmp_path / "e01.mp4", tmp_path, config).clips
    assert clip.size == (128, 96)
    frames = read_frames(clip.path)
    assert frames.shape == (81, 96, 128, 3)
    assert frames.min(axis=(0, 3)).max() > 0 and frames[:, :2].mean() > 60 and frames[:, :, :2].mean() > 60


def test_what_shows_nothing_is_told_and_not_written(tmp_path: Path) -> None:
    dark = np.zeros((180, 320, 3), np.uint8)
    frames = [*shots([100], 16), *[dark] * 100, *list(shots([100, 1], 16))[100:] * 100]
    write_video(tmp_path / "e01.mp4", frames, 16)
    clips = cut_episode(tmp_path / "e01.mp4", tmp_path, CONFIG).clips
    assert [(clip.problem or ("ok",))[0] for clip in clips] == ["ok", "black", "frozen"]
    assert [clip.path is None for clip in clips] == [False, True, True]


def test_interlaced_pictures_are_woven(tmp_path: Path) -> None:
    """An edge that moves between two half pictures is combed: every other row is of another time."""
    source, path = tmp_path / "even.mp4", tmp_path / "interlaced.mp4"
    frames = np.full((300, HEIGHT, WIDTH, 3), 60, np.uint8)
    for number, frame in enumerate(frames):
        frame[:, (6 * number) % WIDTH :][:, :40] = 220
    write_video(source, frames, 50)
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", source, "-vf", "interlace=lowpass=off"]
    subprocess.run([*command, "-flags", "+ilme+ildct", "-c:v", "mpeg2video", "-q:v", "2", path], check=True)

    def combed(frames: np.ndarray) -> float:
        rows = frames[..., 0].astype(float)
        return float(np.abs(2 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]).mean())

    assert probe(path).interlaced and not probe(source).interlaced
    raw = np.stack(list(stream_frames(path, fps=16)))
    woven = np.stack(list(stream_frames(path, fps=16, source=probe(path))))
    assert combed(raw) > 5 and combed(woven) < combed(raw) / 3
    (clip,) = cut_episode(path, tmp_path, CONFIG.model_copy(update={"threshold": 100.0})).clips
    assert combed(read_frames(clip.path)) < combed(raw) / 3


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_becomes_sdr(tmp_path: Path, transfer: str) -> None:
    """From SDR to HDR by ffmpeg, and back by us: colours and their order come back, white stays below clipping."""
    source, path = episode(tmp_path / "sdr.mp4", [6.0], 16), tmp_path / "hdr.mp4"
    to_hdr = (
        f"zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=2020:t={transfer}:m=2020_ncl:npl=100,format=yuv420p10le"
    )
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", source, "-vf", to_hdr, "-c:v", "libx265", "-x265-params"]
    tags = f"log-level=none:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    subprocess.run([*command, tags, path], check=True)
    assert probe(path).transfer in (16, 18) and probe(path).pix_fmt == "yuv420p10le"
    (clip,) = cut_episode(path, tmp_path, CONFIG).clips
    corner = read_frames(clip.path)[40, 5, 5].astype(int)
    wrong = read_frames(path, start_s=2.5, count=1)[0, 5, 5].astype(int)
    assert np.abs(corner - (200, 60, 50)).max() < np.abs(wrong - (200, 60, 50)).max()
    assert corner[0] > 120 and corner[1] < 100 and corner[2] < 100


@pytest.mark.parametrize("tags", [["-color_range", "pc", "-pix_fmt", "yuvj420p"], ["-pix_fmt", "yuv420p10le"]])
def test_full_range_and_ten_bits_keep_their_colours(tmp_path: Path, tags: list[str]) -> None:
    source, path = episode(tmp_path / "even.mp4", [6.0]), tmp_path / "other.mp4"
    scale = ["-vf", "scale=out_range=full"] if "pc" in tags else []
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", source, *scale, "-crf", "10", *tags, path]
    subprocess.run(command, check=True)
    frames = read_frames(cut_episode(path, tmp_path, CONFIG).clips[0].path)
    assert np.abs(frames[40, 5, 5].astype(int) - (200, 60, 50)).max() <= 4


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
