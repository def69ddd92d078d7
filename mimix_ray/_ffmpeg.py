"""ffmpeg as a child process: started, fed, watched and explained. For `video.py` alone."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import imageio_ffmpeg

STALL_S = 120.0
"""A child that neither gives nor takes a byte for so long is killed. Seeking in a huge file without an index takes
seconds; nothing that works takes minutes."""

THREADS = 2
"""Threads of one decoder or encoder: many run side by side on a node, and each thread holds frames."""


class VideoError(RuntimeError):
    """A video that cannot be read or written: `code` for tables, and a text that says what, where and what to do.

    Codes: missing_file, empty_file, not_a_video, truncated, no_video_stream, undecodable, too_short,
    decoder_crashed, timeout, no_ffmpeg, encoder_failed, bad_frames.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (self.code, str(self))


def ffmpeg() -> str:
    """Path of the ffmpeg binary; IMAGEIO_FFMPEG_EXE in the environment names another one."""
    return imageio_ffmpeg.get_ffmpeg_exe()


class Child:
    """ffmpeg as a child process that is gone when the `with` block is left, and whose end is always explained.

    Args:
        path: The file it works on, for messages.
        arguments: Its command line after the binary.
        reads, writes: Whether we read its stdout or write its stdin.
    """

    def __init__(self, path: str | Path, arguments: list[str], reads: bool = False, writes: bool = False) -> None:
        self._path, self._writes = path, writes
        # Its messages go to a file, as a pipe that nobody empties would block it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [ffmpeg(), "-hide_banner", "-loglevel", "error", *arguments],
                stdin=subprocess.PIPE if writes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if reads else subprocess.DEVNULL,
                stderr=self._errors,
                bufsize=0,
                pipesize=1 << 20,  # a whole small frame fits, so that both sides run on
            )
        except (OSError, RuntimeError) as error:
            self._errors.close()
            raise VideoError(
                "no_ffmpeg", f"{path}: ffmpeg cannot be started ({error}); install imageio-ffmpeg"
            ) from None
        pipe = self._process.stdin if writes else self._process.stdout
        assert pipe is not None
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()  # harmless when it has ended
        self._process.wait()
        self._pipe.close()
        self._errors.close()

    def _wait(self) -> None:
        pipes = [self._pipe]
        if not any(select.select([] if self._writes else pipes, pipes if self._writes else [], [], STALL_S)):
            raise VideoError("timeout", f"{self._path}: ffmpeg stood still for {STALL_S:.0f} s; leave the file out")

    def read(self, into: memoryview) -> None:
        """Fills the buffer; raises VideoError when the stream ends before."""
        done = 0
        while done < len(into):
            self._wait()
            got = os.readv(self._pipe.fileno(), [into[done:]])
            if got == 0:
                self.finish()
                raise VideoError("truncated", f"{self._path}: ffmpeg stopped within a frame; fetch the file again")
            done += got

    def read_line(self) -> str:
        """The next line without its end; empty at the end of the stream."""
        line = bytearray()
        while not line.endswith(b"\n"):
            self._wait()
            byte = os.read(self._pipe.fileno(), 1)  # headers are short; no buffer keeps `read` simple
            if not byte:
                break
            line += byte
        return line.decode("ascii", "replace").rstrip("\n")

    def write(self, data: memoryview) -> None:
        """Gives all bytes; raises VideoError when the child does not take them."""
        done = 0
        while done < len(data):
            self._wait()
            try:
                done += os.write(self._pipe.fileno(), data[done : done + (1 << 20)])
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self.finish()
                raise VideoError("encoder_failed", f"{self._path}: ffmpeg ended before the last frame") from None

    def finish(self) -> None:
        """Waits for the child's own end; raises VideoError when it was not a good one."""
        if self._writes:
            self._pipe.close()
        try:
            code = self._process.wait(STALL_S)
        except subprocess.TimeoutExpired:
            raise VideoError("timeout", f"{self._path}: ffmpeg did not end in {STALL_S:.0f} s") from None
        self._errors.seek(0)
        errors = self._errors.read(1 << 16)
        if code != 0:
            error = failed(self._path, code, errors)
            raise VideoError("encoder_failed", str(error)) if self._writes else error
        # ffmpeg itself takes a file cut short for one that ends early: its exit code is 0.
        if b"partial file" in errors or b"File ended prematurely" in errors:
            raise VideoError("truncated", f"{self._path}: ends before its index says; fetch it again")


def check_file(path: str | Path) -> None:
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise VideoError("missing_file", f"{path}: {error.strerror}; check the path") from None
    if not Path(path).is_file():
        raise VideoError("missing_file", f"{path}: is not a file; check the path")
    if size == 0:
        raise VideoError("empty_file", f"{path}: has no bytes; fetch it again")


_UNREADABLE = {
    "not_a_video": "is no video that ffmpeg can open; leave it out or convert it",
    "truncated": "its index is missing, as of a download cut short; fetch it again",
    "no_video_stream": "has no picture, only sound or data; leave it out",
    "undecodable": "no frame of it can be decoded; fetch it again or leave it out",
}


def unreadable(path: str | Path, code: str, detail: str = "") -> VideoError:
    """The error of a file that cannot be read, in one line with what to do about it."""
    if code == "not_a_video":
        with open(path, "rb") as file:
            code = "truncated" if file.read(8)[4:] == b"ftyp" else code  # an mp4 begins so; its index may come last
    return VideoError(code, f"{path}: {_UNREADABLE[code]}" + (f" ({detail})" if detail else ""))


def failed(path: str | Path, code: int, errors: bytes) -> VideoError:
    """The reason for which ffmpeg (or the prober) ended badly, from its exit code and its last words."""
    text = errors.decode("utf-8", "replace")
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else f"signal {-code}"
        return VideoError("decoder_crashed", f"{path}: ffmpeg died of {name}; the file is damaged, leave it out")
    if "matches no streams" in text:
        return unreadable(path, "no_video_stream")
    if "Error opening input" in text:
        return unreadable(path, "not_a_video")
    words = text.split("] ")[-1].split()  # the last message, without the part of ffmpeg that speaks
    return unreadable(path, "undecodable", " ".join(words)[:200] or f"exit code {code}")
