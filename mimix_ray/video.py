"""mp4 <-> frames, exact counts and times.

Frames are `uint8 [F, H, W, 3]` RGB. ffmpeg (the binary that comes with imageio-ffmpeg) reads and writes them in a child
process, and files are probed in one too: a decoder that crashes, hangs or is killed raises VideoError here and does
no other harm. Frames come as they are displayed: rotation metadata applied, pixels square.

Times are seconds from the beginning of the file as a player shows it, whatever the first time stamp in it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mimix_ray._ffmpeg import STALL_S, THREADS, Child, VideoError, check_file, failed, unreadable
from mimix_ray._filters import DEINTERLACE, PixelFormat, Size, even, picture, timing

SEEK_LEAD_S = 1.0
"""How far before a wanted time decoding begins: longer than a frame is on screen, but for slide shows."""


@dataclass(frozen=True)
class Probe:
    """What a file says about its first video stream."""

    width: int
    """Pixels, as displayed: turned by `rotation`, pixels made square."""
    height: int
    """Pixels, as displayed."""
    fps: float
    """Average frames a second; 0 when the file does not say."""
    duration_s: float
    """End of the picture, seconds from the file's beginning; of the whole file when only that is known; or 0."""
    frames: int | None
    """Frames according to the container; an estimate, None when it does not say."""
    codec: str
    pix_fmt: str
    """Pixel format of the stored frames, e.g. yuv420p10le."""
    rotation: int
    """Degrees by which the stored frames are turned for display, 0..359."""
    matrix: int
    """Colour matrix as ISO 23091 numbers them: 1 BT.709, 5 and 6 BT.601, 9 BT.2020, 2 the file does not say."""
    transfer: int
    """Transfer function as ISO 23091 numbers them: 1 BT.709, 16 PQ, 18 HLG, 2 the file does not say."""
    interlaced: bool
    """Whether frames are two half pictures of different times; known from the first ones."""
    seekable: bool
    """Whether a seek surely lands before its time: MPEG-TS has no index of keyframes."""
    audio: bool


def probe(path: str | Path) -> Probe:
    """What the file's first video stream is, one decoded frame included; raises VideoError."""
    check_file(path)
    command = [sys.executable, "-I", str(Path(__file__).with_name("_probe.py")), str(Path(path).absolute())]
    try:
        child = subprocess.run(command, capture_output=True, timeout=STALL_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise VideoError("timeout", f"{path}: could not be probed in {STALL_S:.0f} s; leave the file out") from None
    if child.returncode != 0:
        raise failed(path, child.returncode, child.stderr)
    found = json.loads(child.stdout.splitlines()[-1])
    if "error" in found:
        raise unreadable(path, found["error"], found.get("detail", ""))
    width, height, aspect = found["width"], found["height"], found.pop("aspect")
    width = even(width * aspect) if aspect != 1 else width  # as _filters.py makes pixels square
    found["width"], found["height"] = (height, width) if found["rotation"] in (90, 270) else (width, height)
    return Probe(**found)


def stream_frames(
    path: str | Path,
    *,
    start_s: float = 0.0,
    fps: float | None = None,
    size: Size | None = None,
    crop: tuple[int, int, int, int] | None = None,
    pixel_format: PixelFormat = "rgb24",
    source: Probe | None = None,
) -> Iterator[np.ndarray]:
    """Frames one after another, as many as the file gives; one is held at a time.

    Args:
        path: A local video file.
        start_s: Time of the first frame, seconds; without `fps`, the first frame that begins then or later.
        fps: Frames a second of the result: frame n is the one that a player shows at start_s + n / fps, also where
            the source's rate varies. None: every frame of the source as it comes.
        size: Width and height that frames are scaled to, without keeping the aspect. None: as displayed.
        crop: x, y, width, height of the part to keep, pixels of the displayed frame, applied before `size`; x and y are
            taken as the even number below.
        pixel_format: See PixelFormat. `yuv420p` comes as BT.709, limited range, whatever the source's matrix.
        source: What `probe` says of the file: with it interlaced frames become whole pictures, HDR is tone-mapped to
            SDR, and HD that names no colour matrix is taken for BT.709, as players do. None: colours are converted by
            what the frames say, else as BT.601.

    Raises:
        VideoError: When the file cannot be read or its decoder dies. Of a file cut short all frames there are come
            first, then the error, code `truncated`.
    """
    check_file(path)
    # Seeking lands on the first frame after a time; what is shown at `start_s` may have begun before it.
    seek = max(0.0, start_s - SEEK_LEAD_S) if source is None or source.seekable else 0.0
    weave = [DEINTERLACE] if source is not None and source.interlaced else []
    filters = [*weave, *timing(start_s - seek, fps), *picture(size, crop, pixel_format, source)]
    arguments = [*_INPUT, "-ss", f"{seek:.6f}", "-i", _url(path), "-map", "0:V:0", "-vf", ",".join(filters)]
    shape: tuple[int, ...] | None = None
    with Child(path, [*arguments, "-fps_mode", "passthrough", *_RAW[pixel_format], "-"], reads=True) as child:
        while (new := _read_header(child, pixel_format)) is not None:
            shape = new or shape
            assert shape is not None  # the first header holds it
            frame = np.empty(shape, np.uint8)
            child.read(frame.reshape(-1).data)
            yield frame
        child.finish()
    if shape is None and start_s == 0:
        raise unreadable(path, "undecodable")


def read_keyframe(
    path: str | Path, time_s: float, size: Size | None = None, pixel_format: PixelFormat = "rgb24"
) -> np.ndarray | None:
    """One frame from about `time_s`, found fast: the keyframe that a seek to that time lands on, which may lie
    seconds before or after it. None when none is found, as at a time after the end or in a file without keyframes.

    Arguments as in `stream_frames`. Raises VideoError when the file is not there or ffmpeg stands still.
    """
    check_file(path)
    arguments = [*_INPUT, "-skip_frame", "nokey", "-noaccurate_seek", "-ss", f"{time_s:.6f}", "-i", _url(path)]
    arguments += ["-map", "0:V:0", "-vf", ",".join(picture(size, None, pixel_format, None)), "-frames:v", "1"]
    with Child(path, [*arguments, "-fps_mode", "passthrough", *_RAW[pixel_format], "-"], reads=True) as child:
        if not (shape := _read_header(child, pixel_format)):
            return None
        frame = np.empty(shape, np.uint8)
        child.read(frame.reshape(-1).data)
        return frame


def read_frames(
    path: str | Path,
    *,
    start_s: float = 0.0,
    count: int | None = None,
    fps: float | None = None,
    size: Size | None = None,
    crop: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Frames by time, uint8 [F, H, W, 3] RGB; arguments as in `stream_frames`.

    `count` frames, or all up to the end (mind the memory: 720p is 2.8 MB a frame). Raises VideoError, code `too_short`
    when there are fewer than `count`.
    """
    frames: list[np.ndarray] = []
    stream = stream_frames(path, start_s=start_s, fps=fps, size=size, crop=crop)
    while count is None or len(frames) < count:
        frame = next(stream, None)
        if frame is None:
            break
        frames.append(frame)
    stream.close()  # type: ignore[attr-defined]
    if not frames or (count is not None and len(frames) < count):
        wanted = f"{count or 'any'} frames from {start_s:.3f} s"
        raise VideoError("too_short", f"{path}: {wanted} wanted, {len(frames)} there; ask for less or an earlier time")
    return np.stack(frames)


def read_frames_at(path: str | Path, indices: Sequence[int]) -> np.ndarray:
    """Frames by number in display order, from 0; as many as `indices`, in that order, also twice the same.

    Raises VideoError, code `too_short`, when the file has no such frame.
    """
    if not indices or min(indices) < 0:
        raise ValueError(f"indices must be 0 or more and at least one, not {list(indices)}")
    wanted, last = set(indices), max(indices)
    found: dict[int, np.ndarray] = {}
    stream = stream_frames(path)
    number = -1
    for number, frame in enumerate(stream):
        if number in wanted:
            found[number] = frame
        if number == last:
            break
    stream.close()  # type: ignore[attr-defined]
    if number < last:
        raise VideoError("too_short", f"{path}: frame {last} wanted, the file has {number + 1}")
    return np.stack([found[index] for index in indices])


def sample_frames(path: str | Path, count: int) -> np.ndarray:
    """`count` frames spread evenly over the whole video, each from the middle of its share, in time order."""
    total = count_frames(path)
    return read_frames_at(path, [int((place + 0.5) * total / count) for place in range(count)])


def count_frames(path: str | Path, decode: bool = True) -> int:
    """Frames of the first video stream; raises VideoError.

    Args:
        decode: Count what decodes. False: what the container holds, several times faster, and the same in a file that
            `write_video` has finished.
    """
    check_file(path)
    how = ["-fps_mode", "passthrough"] if decode else ["-c", "copy"]
    arguments = [*_INPUT, "-i", _url(path), "-map", "0:V:0", *how]
    with Child(path, [*arguments, "-progress", "pipe:1", "-f", "null", "-"], reads=True) as child:
        frames = 0
        while line := child.read_line():
            key, _, value = line.partition("=")
            frames = int(value) if key == "frame" else frames
        child.finish()
    if not frames:
        raise unreadable(path, "undecodable")
    return frames


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    crf: int = 18,
    preset: str = "veryfast",
    metadata: Mapping[str, str] | None = None,
    pixel_format: PixelFormat = "rgb24",
) -> int:
    """Writes an H.264 mp4 (yuv420p, BT.709) of exactly these frames at exactly this rate; returns how many.

    An odd width or height, which H.264 in yuv420p cannot hold, gains one column or row that repeats the last. The file
    appears under its name as it grows: write to a temporary name where others may read it.

    Args:
        path: The mp4 to write; an existing one is replaced.
        frames: uint8 [F, H, W, 3], or one frame after another; all of one size, in `pixel_format`.
        fps: Frames a second; fractions such as 24000 / 1001 are kept exactly.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's preset, `ultrafast` to `veryslow`.
        metadata: Tags to store in the file, any keys.
        pixel_format: Format of the frames given, see PixelFormat; `yuv420p` is taken to be BT.709, limited range.

    Raises:
        VideoError: Code `bad_frames` on no frame, mixed sizes or another type; `encoder_failed` when ffmpeg fails.
    """
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise VideoError("bad_frames", f"{path}: no frame to write")
    shape, written = first.shape, 0
    rate = Fraction(fps).limit_denominator(1001)
    tags = [item for key, value in (metadata or {}).items() for item in ("-metadata", f"{key}={value}")]
    with Child(path, [*_encoder(shape, rate, crf, preset, pixel_format), *tags, _url(path)], writes=True) as child:
        frame: np.ndarray | None = first
        while frame is not None:
            if frame.shape != shape or frame.dtype != np.uint8:
                raise VideoError("bad_frames", f"{path}: frame {written} is {frame.dtype} {frame.shape}, not {shape}")
            if pixel_format == "rgb24" and (shape[0] % 2 or shape[1] % 2):
                frame = np.pad(frame, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
            child.write(np.ascontiguousarray(frame).reshape(-1).data)
            written += 1
            frame = next(stream, None)
        child.finish()
    return written


def contact_sheet(images: Sequence[np.ndarray], columns: int, labels: Sequence[str] | None = None) -> np.ndarray:
    """Pictures in rows of `columns`, uint8 [H, W, 3], each with its label below; all take the first one's size."""
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    height, width = images[0].shape[:2]
    gap, font = 6, ImageFont.load_default(size=max(11, min(16, width // 18)))
    label_height = 22 if labels else 0
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (gap + columns * (width + gap), gap + rows * (height + label_height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        x, y = gap + number % columns * (width + gap), gap + number // columns * (height + label_height + gap)
        sheet.paste(Image.fromarray(image).resize((width, height)), (x, y))
        if labels:
            draw.text((x + 2, y + height + 3), _fitting(labels[number], width, font.getlength), fill="black", font=font)
    return np.asarray(sheet)


def _fitting(text: str, width: float, length: Callable[[str], float]) -> str:
    """The text, or its end after dots: ids tell most at their end."""
    start = 0
    while start < len(text) and length("…" * bool(start) + text[start:]) > width:
        start += 1
    return "…" * bool(start) + text[start:]


# Below: how ffmpeg is called.

# A picture that changes its size midway (broadcasts do) is scaled to its first size; without reinit_filter 0 the
# filters would begin anew there, and their time at zero.
_INPUT = ["-nostdin", "-reinit_filter", "0", "-threads", str(THREADS), "-protocol_whitelist", "file,pipe"]

# How frames leave ffmpeg: each says its size, or the stream does.
_RAW = {"rgb24": ["-f", "image2pipe", "-c:v", "ppm"], "yuv420p": ["-f", "yuv4mpegpipe"]}


def _url(path: str | Path) -> str:
    # With the protocol spelt out, no name is taken for an option, a pattern or an address.
    return f"file:{Path(path).absolute()}"


def _encoder(shape: tuple[int, ...], rate: Fraction, crf: int, preset: str, pixel_format: PixelFormat) -> list[str]:
    if pixel_format == "rgb24":
        if len(shape) != 3 or shape[2] != 3:
            raise VideoError("bad_frames", f"frames must be [H, W, 3], not {shape}")
        height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    else:
        if len(shape) != 2 or shape[0] % 3 or shape[1] % 2:
            raise VideoError("bad_frames", f"yuv420p frames must be [H * 3 / 2, W] with even sizes, not {shape}")
        height, width = shape[0] * 2 // 3, shape[1]
    convert = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd," if pixel_format == "rgb24" else ""
    tag = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    return [
        *("-y", "-nostdin", "-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{width}x{height}"),
        *("-framerate", str(rate), "-i", "pipe:0", "-vf", f"{convert}format=yuv420p,{tag}", "-fps_mode", "passthrough"),
        *("-c:v", "libx264", "-preset", preset, "-crf", str(crf), "-threads", str(THREADS)),
        # A clock that divides a frame: in the default milliseconds 81 frames at 16 fps would last 5.062 s, not 5.0625.
        *("-movie_timescale", str(rate.numerator * 1000)),
        *("-movflags", "+faststart+use_metadata_tags", "-f", "mp4"),
    ]


def _read_header(child: Child, pixel_format: PixelFormat) -> tuple[int, ...] | None:
    """Shape of the next frame; () when it is as before; None at the end of the stream."""
    line = child.read_line()
    if not line:
        return None
    if pixel_format == "rgb24":  # PPM: each frame begins `P6`, `width height`, `255`
        width, height = map(int, child.read_line().split())
        child.read_line()
        return height, width, 3
    if line == "FRAME":  # Y4M: one header, `YUV4MPEG2 W832 H480 ...`, then each frame begins `FRAME`
        return ()
    sizes = {field[0]: int(field[1:]) for field in line.split() if field[0] in "WH"}
    if not child.read_line():  # a stream without a frame has a header too
        return None
    return sizes["H"] * 3 // 2, sizes["W"]
