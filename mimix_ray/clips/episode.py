"""One episode's file -> its clips' files: one decode, two children, three windows in memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimix_ray.clips import detectors
from mimix_ray.clips.cutting import Window, crop_to, tile, watched
from mimix_ray.config import ClipsConfig
from mimix_ray.video import Probe, VideoError, count_frames, probe, stream_frames, write_video

HD_HEIGHT = 720
"""Pixels; a file of this height or more that names no colour matrix is taken for BT.709, as players do."""


@dataclass(frozen=True)
class Clip:
    """One clip, written."""

    start_s: float
    """Its first frame's time in the episode, seconds."""
    end_s: float
    """The end of its last frame, seconds."""
    shot: int
    """Number of its shot in the episode, from 0."""
    frames: int
    """Frames, counted in the written file."""
    path: Path


@dataclass(frozen=True)
class Cut:
    """What became of an episode."""

    seconds: float
    """Length of the episode's picture, as decoded."""
    clips: tuple[Clip, ...]


def cut_episode(path: Path, folder: Path, config: ClipsConfig) -> Cut:
    """Cuts a video file into clips, mp4 files in `folder`; raises VideoError.

    Memory: three windows of frames, 150 MB for 81 frames of 832x480, and the decoder's own.
    """
    detector = detectors.load(config.detector, config.threshold, config.fps)
    decoded = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal decoded
        for planes in _frames(path, probe(path), config):
            decoded += 1
            yield planes

    windows = tile(frames(), lambda planes: detector.push(watched(planes)), detector.delay, config.frames)
    clips: list[Future[Clip]] = []
    # The decoder goes on while one window is encoded; a second one waits for its turn, no more.
    with ThreadPoolExecutor(1) as encoder:
        for window in windows:
            if len(clips) > 1:
                clips[-2].result()
            clips.append(encoder.submit(_write, window, folder, config))
    return Cut(decoded / config.fps, tuple(clip.result() for clip in clips))


def _frames(path: Path, found: Probe, config: ClipsConfig) -> Iterator[np.ndarray]:
    size = (config.width, config.height)
    crop = crop_to((found.width, found.height), size, config.crop_bottom)
    matrix = "bt709" if found.matrix == 2 and found.height >= HD_HEIGHT else None
    return stream_frames(path, fps=config.fps, size=size, crop=crop, pixel_format="yuv420p", matrix=matrix)


def _write(window: Window[np.ndarray], folder: Path, config: ClipsConfig) -> Clip:
    start_s = window.start / config.fps
    path = folder / f"{round(start_s * 1000):08d}.mp4"
    write_video(path, window.frames, config.fps, config.crf, config.preset, pixel_format="yuv420p")
    if (frames := count_frames(path)) != config.frames:
        raise VideoError("encoder_failed", f"{path.name}: {frames} frames written, not {config.frames}; run again")
    return Clip(start_s, (window.start + config.frames) / config.fps, window.shot, frames, path)
