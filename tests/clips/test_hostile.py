"""Files as they come: each gives the right clips, or one row that says what is wrong with it and where."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimix_ray import _ffmpeg, tables
from mimix_ray.clips.episode import Piece
from mimix_ray.clips.rows import cut_piece, episode_rows
from mimix_ray.config import ClipsConfig, RunConfig
from mimix_ray.storage import Storage
from mimix_ray.universe import Episode
from mimix_ray.video import read_frames, write_video
from tests.clips.footage import COLOURS, episode

CONFIG = RunConfig(clips=ClipsConfig(sizes=("192x96", "96x192"), crop_bottom=0.15))


def rows_of(path: Path, storage: Storage, pieces: int = 1) -> list[tables.Row]:
    """The episode's rows, checked against the table's schema, as the stage makes them."""
    one = Episode(show="show", id="e01", video=str(path), style="cartoon")
    cuts = [cut_piece(one, Piece(number, pieces), "0123456789abcdef", CONFIG, storage) for number in range(pieces)]
    rows = episode_rows(one, "0123456789abcdef", cuts, CONFIG.clips)
    tables.to_arrow(tables.CLIPS, rows)
    return rows


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "run"))


def convert(source: Path, target: Path, *options: str) -> Path:
    subprocess.run([_ffmpeg.ffmpeg(), "-loglevel", "error", "-y", "-i", source, *options, target], check=True)
    return target


def rotated(folder: Path) -> Path:
    upright = convert(episode(folder / "a.mp4", [6.0, 6.0]), folder / "b.mp4", "-vf", "transpose=1")
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-display_rotation", "90", "-i", upright, "-c", "copy"]
    subprocess.run([*command, folder / "rotated.mp4"], check=True)
    return folder / "rotated.mp4"


def edited(folder: Path) -> Path:
    """Begins in the middle of a group of pictures: what comes before is in the file, and an edit list hides it."""
    source = episode(folder / "source.mp4", [6.5, 6.0])
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-ss", "0.5", "-i", source, "-c", "copy", folder / "a.mp4"]
    subprocess.run(command, check=True)
    return folder / "a.mp4"


def plain(name: str, *options: str) -> Callable[[Path], Path]:
    return lambda folder: convert(episode(folder / "source.mp4", [6.0, 6.0]), folder / name, *options)


GOOD: dict[str, Callable[[Path], Path]] = {
    "ten bits": plain("a.mkv", "-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-x265-params", "log-level=none"),
    "4:4:4": plain("a.mkv", "-pix_fmt", "yuv444p"),
    "rate varies": plain("a.mkv", "-vf", "select='not(between(t,1,3))+not(mod(n,5))'", "-fps_mode", "vfr"),
    "interlaced": plain("a.mp4", "-vf", "fps=50,interlace", "-flags", "+ilme+ildct", "-c:v", "mpeg2video", "-q:v", "2"),
    "pixels not square": plain("a.mp4", "-vf", "scale=240:180,setsar=4/3"),
    "odd size": plain("a.mkv", "-vf", "scale=321:181", "-pix_fmt", "yuv444p"),
    "edit list": edited,
    "B frames and a late start": plain("a.ts", "-bf", "5", "-output_ts_offset", "70"),
    "spaces, colons and 片": plain("Spaß: 片 %d [1] 'x'.mp4", "-c", "copy"),
    "rotated": rotated,
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_but_good_files_give_exact_clips(name: str, tmp_path: Path, storage: Storage) -> None:
    rows = rows_of(GOOD[name](tmp_path), storage)
    assert [(row["status"], row["shot"]) for row in rows] == [("ok", 0), ("ok", 1)], rows
    for row in rows:
        frames = read_frames(Path(storage / row["video"]))
        assert frames.shape == (81, 96, 192, 3)
        colour = frames[:, :8, -8:].astype(float).mean((0, 1, 2))
        assert np.abs(colour - COLOURS[row["shot"]]).max() < 12, name


def without_length(folder: Path) -> Path:
    """As a recorder leaves it that could not go back to the file's head."""
    source = episode(folder / "source.mp4", [6.0, 6.5, 6.0, 7.0])
    with open(folder / "a.mkv", "wb") as out:
        command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-i", source, "-c", "copy", "-f", "matroska", "pipe:1"]
        subprocess.run(command, check=True, stdout=out)
    return folder / "a.mkv"


def broadcast(folder: Path) -> Path:
    """No index, and keyframes far apart; begins in the middle of a group of pictures, as a recording does."""
    source = episode(folder / "source.mp4", [6.0, 6.5, 6.0, 17.0, 6.0])
    options = ["-x264-params", "keyint=480:scenecut=0:min-keyint=480", "-output_ts_offset", "70"]
    whole = convert(source, folder / "whole.ts", *options).read_bytes()
    (folder / "a.ts").write_bytes(whole[188 * 30 :])
    return folder / "a.ts"


def size_changes(folder: Path) -> Path:
    large = episode(folder / "large.mp4", [6.0, 6.5, 6.0])
    first = convert(large, folder / "1.ts", "-q:v", "2")
    second = convert(large, folder / "2.ts", "-q:v", "2", "-vf", "scale=160:90", "-output_ts_offset", "18.5")
    (folder / "a.ts").write_bytes(first.read_bytes() + second.read_bytes())
    return folder / "a.ts"


@pytest.mark.soak
@pytest.mark.parametrize("make", [without_length, broadcast, size_changes])
def test_pieces_of_odd_files_give_what_the_whole_gives(
    make: Callable[[Path], Path], tmp_path: Path, storage: Storage
) -> None:
    path = make(tmp_path)
    whole = rows_of(path, storage)
    before = {row["video"]: Path(storage / row["video"]).read_bytes() for row in whole if row["status"] == "ok"}
    assert len(before) >= 4
    for pieces in (2, 5):
        assert rows_of(path, storage, pieces) == whole
        assert before == {name: Path(storage / name).read_bytes() for name in before}


def test_a_fault_of_ours_is_a_row_too(tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimix_ray.clips.episode.fit", lambda *_: 1 / 0)
    (row,) = rows_of(episode(tmp_path / "a.mp4", [6.0]), storage)
    assert row["error"].startswith("internal: ") and "ZeroDivisionError" in row["error"]


def cut_short(folder: Path) -> Path:
    path = episode(folder / "a.mp4", [6.0, 6.0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def bad_index(folder: Path) -> Path:
    path = episode(folder / "a.mp4", [6.0])
    path.write_bytes(path.read_bytes().replace(b"moov", b"m\0\0v"))
    return path


def written(data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "a.mp4").write_bytes(data)
        return folder / "a.mp4"

    return write


def sound(folder: Path) -> Path:
    command = [_ffmpeg.ffmpeg(), "-loglevel", "error", "-f", "lavfi", "-i", "sine=d=6", folder / "a.mp4"]
    subprocess.run(command, check=True)
    return folder / "a.mp4"


def one_frame(folder: Path) -> Path:
    write_video(folder / "a.mp4", np.zeros((1, 64, 64, 3), np.uint8), 16)
    return folder / "a.mp4"


def one_pixel(folder: Path) -> Path:
    Image.new("RGB", (1, 1)).save(folder / "a.gif")
    return folder / "a.gif"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no bytes": (written(b""), "empty_file"),
    "text": (written(b"this is a script and no video\n" * 50), "not_a_video"),
    "cut short": (cut_short, "truncated"),
    "no index": (bad_index, "truncated"),
    "sound alone": (sound, "no_video_stream"),
    "one frame": (one_frame, "no_window"),
    "one pixel": (one_pixel, "no_window"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_row_that_says_what_and_where(name: str, tmp_path: Path, storage: Storage) -> None:
    make, code = BAD[name]
    path = make(tmp_path)
    (row,) = rows_of(path, storage, pieces=2)
    assert (row["clip_id"], row["status"] != "ok") == ("show/e01", True)
    assert row["error"].startswith(f"{code}: ") and "\n" not in row["error"]
    assert str(path) in row["error"] or code == "no_window"


def test_damage_in_the_middle_ends_in_clips_or_in_a_row(tmp_path: Path, storage: Storage) -> None:
    """A decoder conceals some damage; whatever it gives, clips are whole and the rest is told."""
    path = episode(tmp_path / "a.mp4", [6.0, 6.0, 6.0])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(bytes(data))
    for row in rows_of(path, storage):
        if row["status"] == "ok":
            assert read_frames(Path(storage / row["video"])).shape == (81, 96, 192, 3)
        else:
            assert row["error"]


def test_a_decoder_that_crashes_takes_nothing_else_down(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "ffmpeg"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *crash.mp4*) kill -SEGV $$;; esac\nexec {_ffmpeg.ffmpeg()} "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    good, bad = episode(tmp_path / "good.mp4", [6.0]), episode(tmp_path / "crash.mp4", [6.0])
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(wrapper))
    (row,) = rows_of(bad, storage)
    assert row["error"].startswith("decoder_crashed: ") and "SIGSEGV" in row["error"] and str(bad) in row["error"]
    assert [row["status"] for row in rows_of(good, storage)] == ["ok"]
