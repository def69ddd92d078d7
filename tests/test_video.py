"""Real files made by ffmpeg, read back through a real ffmpeg."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimix_ray import _ffmpeg, video
from mimix_ray.video import VideoError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make("name.mp4", *ffmpeg arguments): a file made by ffmpeg's own command line."""

    def run(name: str, *arguments: str) -> Path:
        path = tmp_path / name
        subprocess.run([_ffmpeg.ffmpeg(), "-y", "-loglevel", "error", *arguments, f"file:{path}"], check=True)
        return path

    return run


def lavfi(source: str) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", source)


def numbered(count: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Frames that tell their number in binary: eight stripes, white for 1, the highest bit on the left."""
    bits = np.arange(count)[:, None] >> np.arange(7, -1, -1) & 1
    row = np.repeat(bits * 215 + 20, -(-width // 8), axis=1)[:, :width].astype(np.uint8)
    return np.broadcast_to(row[:, None, :, None], (count, height, width, 3)).copy()


def number(frame: np.ndarray) -> int:
    width = frame.shape[1] // 8
    stripes = [frame[:, place * width : (place + 1) * width].mean() > 128 for place in range(8)]
    return sum(int(bit) << 7 - place for place, bit in enumerate(stripes))


def numbers(frames: np.ndarray) -> list[int]:
    return [number(frame) for frame in frames]


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    """81 numbered frames at 16 fps."""
    path = tmp_path / "counting.mp4"
    assert video.write_video(path, numbered(81), 16, crf=10) == 81
    return path


class TestWriting:
    @pytest.mark.parametrize("count, fps", [(1, 16.0), (2, 25.0), (81, 16.0), (30, 24000 / 1001), (7, 12.5)])
    def test_exactly_these_frames_at_exactly_this_rate(self, tmp_path: Path, count: int, fps: float) -> None:
        path = tmp_path / "a.mp4"
        assert video.write_video(path, numbered(count), fps) == count
        found = video.probe(path)
        assert video.count_frames(path) == found.frames == count
        assert found.fps == pytest.approx(fps, abs=1e-9)
        assert found.duration_s == pytest.approx(count / fps, abs=1e-6)
        assert (found.codec, found.pix_fmt, found.matrix, found.audio) == ("h264", "yuv420p", 1, False)
        assert numbers(video.read_frames(path)) == list(range(count))

    @pytest.mark.parametrize("width, height", [(63, 48), (64, 47), (63, 47), (2, 2), (1, 1)])
    def test_an_odd_size_repeats_its_last_column_or_row(self, tmp_path: Path, width: int, height: int) -> None:
        video.write_video(tmp_path / "a.mp4", np.full((3, height, width, 3), 180, np.uint8), 16)
        frames = video.read_frames(tmp_path / "a.mp4")
        assert frames.shape == (3, height + height % 2, width + width % 2, 3)
        assert abs(frames.astype(int) - 180).max() <= 3  # no black line at the edge

    @pytest.mark.parametrize("colour", [(220, 30, 30), (30, 200, 40), (40, 60, 220), (255, 255, 255), (0, 0, 0)])
    def test_colours_survive(self, tmp_path: Path, colour: tuple[int, int, int]) -> None:
        video.write_video(tmp_path / "a.mp4", np.full((4, 32, 32, 3), colour, np.uint8), 16, crf=4)
        assert np.abs(video.read_frames(tmp_path / "a.mp4").astype(int) - colour).max() <= 4

    def test_takes_frames_one_by_one_and_keeps_tags(self, tmp_path: Path) -> None:
        tags = {"prompt": "[Character: Pip], hops.", "seed": "7"}
        video.write_video(tmp_path / "a.mp4", iter(numbered(5)), 16, metadata=tags)
        assert video.count_frames(tmp_path / "a.mp4") == 5
        text = tmp_path / "tags.txt"
        command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", tmp_path / "a.mp4", "-f", "ffmetadata", text]
        subprocess.run(command, check=True)
        assert "prompt=[Character: Pip], hops." in text.read_text() and "seed=7" in text.read_text()

    def test_planes_pass_through(self, counting: Path, tmp_path: Path) -> None:
        planes = list(video.stream_frames(counting, pixel_format="yuv420p"))
        assert planes[0].shape == (72, 64)
        video.write_video(tmp_path / "b.mp4", planes, 16, crf=4, pixel_format="yuv420p")
        assert numbers(video.read_frames(tmp_path / "b.mp4")) == list(range(81))

    @pytest.mark.parametrize(
        "frames",
        [
            pytest.param([], id="none"),
            pytest.param([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], id="mixed sizes"),
            pytest.param(np.zeros((2, 4, 4, 3), np.float32), id="floats"),
            pytest.param(np.zeros((2, 4, 4), np.uint8), id="grey"),
        ],
    )
    def test_frames_that_are_none_are_refused(self, tmp_path: Path, frames: np.ndarray) -> None:
        with pytest.raises(VideoError) as error:
            video.write_video(tmp_path / "a.mp4", frames, 16)
        assert error.value.code == "bad_frames"

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match="No such file") as error:
            video.write_video(tmp_path / "no" / "a.mp4", numbered(400), 16)
        assert error.value.code == "encoder_failed"


class TestReading:
    @pytest.mark.parametrize("start", [0.0, 1 / 16, 0.5, 2.0, 79 / 16])
    def test_by_time(self, counting: Path, start: float) -> None:
        assert numbers(video.read_frames(counting, start_s=start, count=2)) == [start * 16, start * 16 + 1]

    def test_at_another_rate(self, counting: Path) -> None:
        assert numbers(video.read_frames(counting, start_s=1, count=4, fps=4)) == [16, 20, 24, 28]
        assert numbers(video.read_frames(counting, start_s=1.03, count=2, fps=4)) == [16, 20]
        assert numbers(video.read_frames(counting, start_s=0.03, count=2, fps=4)) == [0, 4]
        assert numbers(video.read_frames(counting, count=4, fps=32)) == [0, 0, 1, 1]
        assert len(video.read_frames(counting, fps=8)) == 41  # at 5.0 s the last frame is on

    def test_by_number_in_the_order_asked(self, counting: Path) -> None:
        assert numbers(video.read_frames_at(counting, [80, 0, 7, 7])) == [80, 0, 7, 7]

    def test_samples_spread_over_the_whole(self, counting: Path) -> None:
        assert numbers(video.sample_frames(counting, 3)) == [13, 40, 67]
        assert numbers(video.sample_frames(counting, 1)) == [40]
        assert len(video.sample_frames(counting, 200)) == 200

    def test_keyframes_near_a_time(self, make: Make, counting: Path) -> None:
        """Every 20th frame is a keyframe; a seek lands on the one before."""
        path = make("keys.mp4", "-i", str(counting), "-g", "20", "-sc_threshold", "0", "-crf", "10")
        found = [video.read_keyframe(path, time) for time in (0, 1.0, 1.3, 3.0, 4.9)]
        assert numbers(np.stack([frame for frame in found if frame is not None])) == [0, 0, 20, 40, 60]
        planes = video.read_keyframe(path, 1.3, (32, 24), "yuv420p")
        assert planes is not None and planes.shape == (36, 32)
        assert video.read_keyframe(path, 0.0, pixel_format="yuv420p") is not None

    def test_no_keyframe_after_the_end(self, make: Make, counting: Path) -> None:
        path = make("keys.ts", "-i", str(counting), "-g", "100", "-sc_threshold", "0")
        for pixel_format in ("rgb24", "yuv420p"):
            assert video.read_keyframe(path, 4.0, pixel_format=pixel_format) is None

    def test_size_and_crop(self, tmp_path: Path) -> None:
        frames = np.full((3, 48, 64, 3), 40, np.uint8)
        frames[:, 40:] = 255  # a bar at the bottom
        video.write_video(tmp_path / "a.mp4", frames, 16, crf=1)
        assert video.read_frames(tmp_path / "a.mp4", size=(32, 20)).shape == (3, 20, 32, 3)
        cropped = video.read_frames(tmp_path / "a.mp4", crop=(3, 0, 61, 40))
        assert cropped.shape == (3, 40, 61, 3) and cropped.max() < 60
        assert video.read_frames(tmp_path / "a.mp4", crop=(0, 40, 64, 8), size=(16, 16)).min() > 220

    def test_more_than_there_is(self, counting: Path) -> None:
        for ask in (
            lambda: video.read_frames(counting, count=82),
            lambda: video.read_frames(counting, start_s=9),
            lambda: video.read_frames_at(counting, [81]),
        ):
            with pytest.raises(VideoError) as error:
                ask()
            assert error.value.code == "too_short"


class TestOddFiles:
    def test_variable_frame_rate_is_read_by_time(self, make: Make, counting: Path) -> None:
        # Frames 0-15 last 1/16 s each, then every fourth is left: 1/4 s each.
        path = make("vfr.mp4", "-i", str(counting), "-vf", "select='lt(n,16)+not(mod(n,4))'", "-fps_mode", "vfr")
        assert video.count_frames(path) == 16 + 17
        assert numbers(video.read_frames(path, fps=8, count=10, start_s=0))[-4:] == [12, 14, 16, 16]
        assert numbers(video.read_frames(path, fps=16, start_s=3, count=5)) == [48, 48, 48, 48, 52]

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_rotation_is_applied(self, make: Make, degrees: int) -> None:
        upright = make("a.mp4", *lavfi("color=red:s=64x48:d=1:r=8,drawbox=0:0:64:8:blue:fill"))
        path = make("r.mp4", "-display_rotation", str(degrees), "-i", str(upright), "-c", "copy")
        found, frame = video.probe(path), video.read_frames(path, count=1)[0]
        assert found.rotation == degrees
        assert (found.height, found.width) == frame.shape[:2] == ((64, 48) if degrees != 180 else (48, 64))
        edges = {90: frame[:, :6], 180: frame[-6:], 270: frame[:, -6:]}
        assert edges[degrees][..., 2].min() > 200  # the blue bar has moved

    def test_pixels_are_made_square(self, make: Make) -> None:
        path = make("pal.mp4", *lavfi("testsrc=s=720x576:d=1:r=8"), "-vf", "setsar=64/45")
        assert (video.probe(path).width, video.probe(path).height) == (1024, 576)
        assert video.read_frames(path, count=1).shape == (1, 576, 1024, 3)

    def test_a_start_offset_is_not_time(self, make: Make, counting: Path) -> None:
        path = make("late.ts", "-i", str(counting), "-c", "copy", "-output_ts_offset", "100", "-f", "mpegts")
        assert numbers(video.read_frames(path, fps=16, count=3)) == [0, 1, 2]
        assert numbers(video.read_frames(path, start_s=2, count=2)) == [32, 33]

    def test_a_picture_that_begins_after_the_sound_keeps_its_time(self, make: Make, counting: Path) -> None:
        path = make("av.mp4", *lavfi("sine=d=6"), "-itsoffset", "0.5", "-i", str(counting), "-map", "0", "-map", "1")
        assert numbers(video.read_frames(path, fps=16, count=10)) == [0] * 8 + [0, 1]
        assert video.probe(path).duration_s == pytest.approx(81 / 16 + 0.5, abs=0.05) and video.probe(path).audio

    def test_time_goes_on_when_the_picture_changes_its_size(self, make: Make, tmp_path: Path) -> None:
        first = make("1.ts", *lavfi("testsrc2=s=320x240:r=24:d=2"))
        second = make("2.ts", *lavfi("testsrc2=s=640x360:r=24:d=2"), "-output_ts_offset", "2")
        (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
        assert video.read_frames(tmp_path / "both.ts", fps=16).shape == (64, 240, 320, 3)

    def test_ten_bits(self, make: Make) -> None:
        path = make("ten.mkv", *lavfi("color=0x808080:s=64x48:d=1:r=8"), "-pix_fmt", "yuv420p10le", "-c:v", "libx265")
        assert video.probe(path).pix_fmt == "yuv420p10le"
        assert abs(int(video.read_frames(path, count=1).mean()) - 128) <= 2

    def test_one_frame(self, make: Make) -> None:
        path = make("one.mp4", *lavfi("testsrc=s=64x48:r=8"), "-frames:v", "1")
        assert video.count_frames(path) == 1 and video.sample_frames(path, 3).shape == (3, 48, 64, 3)

    def test_odd_sizes(self, make: Make) -> None:
        path = make("odd.mkv", *lavfi("testsrc=s=63x47:d=1:r=8"), "-pix_fmt", "yuv444p", "-c:v", "ffv1")
        assert video.read_frames(path, count=1).shape == (1, 47, 63, 3)

    def test_names_with_spaces_colons_and_unicode(self, tmp_path: Path, counting: Path) -> None:
        for name in ("a b.mp4", "-i.mp4", "http:x.mp4", "%03d.mp4", "ärger 片.mp4", "a'b.mp4"):
            path = tmp_path / name
            shutil.copy(counting, path)
            assert video.count_frames(path) == 81 and video.probe(path).width == 64

    def test_a_cover_picture_is_no_video(self, make: Make) -> None:
        cover = make("cover.png", *lavfi("color=red:s=32x32"), "-frames:v", "1")
        args = ("-i", str(cover), "-map", "0", "-map", "1", "-c:v", "mjpeg", "-disposition:v:0", "attached_pic")
        path = make("song.mp4", *lavfi("sine=d=1"), *args)
        assert codes(path) == {"no_video_stream"}


def codes(path: Path) -> set[str]:
    """The error codes of all ways to look at a file."""
    found = set()
    for look in (video.probe, video.read_frames, video.count_frames, lambda path: video.sample_frames(path, 2)):
        with pytest.raises(VideoError) as error:
            look(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        found.add(error.value.code)
    return found


class TestBadFiles:
    def test_missing_empty_and_folder(self, tmp_path: Path) -> None:
        assert codes(tmp_path / "none.mp4") == codes(tmp_path) == {"missing_file"}
        (tmp_path / "zero.mp4").touch()
        assert codes(tmp_path / "zero.mp4") == {"empty_file"}

    @pytest.mark.parametrize("data", [b"hello, this is a script\n" * 100, os.urandom(50_000)], ids=["text", "noise"])
    def test_no_video(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.mp4").write_bytes(data)
        assert codes(tmp_path / "a.mp4") == {"not_a_video"}

    def test_a_playlist_reaches_no_address(self, tmp_path: Path) -> None:
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:5", "#EXTINF:5,", "http://127.0.0.1:9/a.ts", "#EXT-X-ENDLIST"]
        (tmp_path / "a.mp4").write_text("\n".join(lines))
        assert codes(tmp_path / "a.mp4") <= {"not_a_video", "no_video_stream"}

    def test_sound_only(self, make: Make) -> None:
        assert codes(make("sound.mp4", *lavfi("sine=d=1"))) == {"no_video_stream"}

    def test_cut_short_before_its_index(self, make: Make) -> None:
        path = make("a.mp4", *lavfi("testsrc2=s=320x240:d=3"))
        path.write_bytes(path.read_bytes()[:50_000])
        assert codes(path) == {"truncated"}

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_cut_short_after_its_index_gives_what_is_there_and_says_so(self, make: Make, name: str) -> None:
        path = make(name, *lavfi("testsrc2=s=320x240:d=4:r=25"), "-movflags", "+faststart", "-g", "10")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert video.read_frames(path, count=10).shape == (10, 240, 320, 3)
        frames = 0
        with pytest.raises(VideoError) as error:
            for _ in video.stream_frames(path):
                frames += 1
        assert error.value.code == "truncated" and 10 < frames < 90
        with pytest.raises(VideoError):
            video.count_frames(path)

    def test_no_frame_decodes(self, make: Make) -> None:
        path = make("a.mp4", *lavfi("testsrc2=s=320x240:d=2"))
        data = bytearray(path.read_bytes())
        begin = data.index(b"mdat") + 4
        data[begin : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - begin)
        path.write_bytes(data)
        assert codes(path) == {"undecodable"}

    def test_errors_travel_between_processes(self, tmp_path: Path) -> None:
        import pickle

        with pytest.raises(VideoError) as error:
            video.probe(tmp_path / "none.mp4")
        again = pickle.loads(pickle.dumps(error.value))
        assert (again.code, str(again)) == (error.value.code, str(error.value))


class TestBadChildren:
    """The decoder dies or hangs: an error here, and nothing else."""

    @pytest.fixture
    def fake(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        def install(script: str) -> None:
            path = tmp_path / "ffmpeg"
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
            monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))

        return install

    @pytest.mark.parametrize("name", ["SEGV", "KILL", "ABRT"])
    def test_dies_at_once(self, counting: Path, fake: Callable[[str], None], name: str) -> None:
        fake(f"kill -{name} $$")
        for look in (video.read_frames, video.count_frames):
            with pytest.raises(VideoError, match=f"SIG{name}") as error:
                look(counting)
            assert error.value.code == "decoder_crashed"
        with pytest.raises(VideoError, match=f"SIG{name}") as error:
            video.write_video(counting.with_name("b.mp4"), numbered(3), 16)
        assert error.value.code == "encoder_failed"

    def test_dies_within_a_frame(self, counting: Path, fake: Callable[[str], None]) -> None:
        fake(r"printf 'P6\n64 48\n255\nabc'; kill -SEGV $$")
        with pytest.raises(VideoError) as error:
            video.read_frames(counting)
        assert error.value.code == "decoder_crashed"

    def test_is_killed_in_the_middle(self, make: Make) -> None:
        path = make("long.mp4", *lavfi("testsrc2=s=640x360:d=20"))
        stream = video.stream_frames(path)
        next(stream)
        for child in children():
            os.kill(child, signal.SIGKILL)
        with pytest.raises(VideoError) as error:
            list(stream)
        assert error.value.code == "decoder_crashed"

    def test_hangs(self, counting: Path, fake: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_ffmpeg, "STALL_S", 0.3)
        fake("exec sleep 60")
        for work in (
            lambda: video.read_frames(counting),
            lambda: video.count_frames(counting),
            lambda: video.write_video(counting.with_name("b.mp4"), numbered(2000), 16),
        ):
            begin = time.monotonic()
            with pytest.raises(VideoError) as error:
                work()
            assert error.value.code == "timeout" and time.monotonic() - begin < 5
        assert not children()

    def test_is_not_there(self, counting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(counting.with_name("nothing")))
        with pytest.raises(VideoError) as error:
            video.read_frames(counting)
        assert error.value.code == "no_ffmpeg"

    def test_none_is_left_when_reading_stops_early(self, make: Make) -> None:
        path = make("long.mp4", *lavfi("testsrc2=s=640x360:d=20"))
        video.read_frames(path, count=2)
        assert not children()

    def test_a_prober_that_crashes(self, counting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "_probe.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
        monkeypatch.setattr(video, "__file__", str(tmp_path / "video.py"))
        with pytest.raises(VideoError, match="SIGSEGV") as error:
            video.probe(counting)
        assert error.value.code == "decoder_crashed"


SERVERS: set[int] = set()
"""Children that other tests' fixtures started before this test: S3, Postgres, Ray."""


@pytest.fixture(autouse=True)
def servers() -> None:
    SERVERS.clear()
    SERVERS.update(children())


def children() -> list[int]:
    """This process's living children, but for the session's servers."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [pid for task in tasks for pid in map(int, task.read_text().split()) if pid not in SERVERS]


class TestContactSheet:
    def test_rows_columns_and_labels(self) -> None:
        images = [np.full((48, 64, 3), 10 * n, np.uint8) for n in range(5)]
        plain = video.contact_sheet(images, 3)
        assert plain.shape == (6 + 2 * 54, 6 + 3 * 70, 3)
        labelled = video.contact_sheet(images, 3, [f"clip {n}" for n in range(5)])
        assert labelled.shape[0] == plain.shape[0] + 2 * 22
        assert (labelled[10, 80] == 10).all()

    def test_a_long_label_keeps_its_end_and_its_place(self) -> None:
        images = [np.zeros((48, 64, 3), np.uint8)] * 2
        sheet = video.contact_sheet(images, 2, ["a/very/long/name/00005062", ""])
        assert (sheet[6 + 48 :, 6 + 64 + 6 :] == 255).all() and (sheet[6 + 48 :, : 6 + 64] < 128).any()

    def test_nothing_to_show(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            video.contact_sheet([], 3)
