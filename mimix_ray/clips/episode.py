"""One episode's file, or a part of it -> its clips' files: one decode, two children, three windows in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimix_ray.clips import detectors
from mimix_ray.clips.content import unusable
from mimix_ray.clips.cutting import Cut, Part, Window, fit, tile, watched
from mimix_ray.clips.scenes import MEMORY_S, Scenes
from mimix_ray.clips.survey import Area, survey
from mimix_ray.config import ClipsConfig
from mimix_ray.video import Probe, VideoError, count_frames, probe, stream_frames, write_video

LEAD = 150
"""Frames that are watched before a part begins, so that detectors say of it what they would have said anyway: more than
any of them looks back. Within scenes, what a scene remembers comes on top."""


@dataclass(frozen=True)
class Piece:
    """Which of how many equal parts of an episode."""

    number: int = 0
    of: int = 1


@dataclass(frozen=True)
class Clip:
    """One clip, written or not worth it."""

    start_s: float
    """Its first frame's time in the episode, seconds."""
    end_s: float
    """The end of its last frame, seconds."""
    shot: int
    """Number of its first frame's shot, counted from the shot in which its piece begins."""
    cuts: int
    """Cuts inside it."""
    size: tuple[int, int]
    """Width and height, pixels."""
    path: Path | None
    """Its mp4; None: not written."""
    problem: tuple[str, str] | None = None
    """Why it was not written: code and words."""


@dataclass(frozen=True)
class Cutting:
    """What became of an episode's piece."""

    seconds: float | None
    """Length of the episode's picture; None: this piece did not see its end."""
    shots: int
    """Shots that begin in the piece."""
    clips: tuple[Clip, ...]


def cut_episode(
    path: Path, folder: Path, config: ClipsConfig, head_s: float = 0.0, tail_s: float = 0.0, piece: Piece = Piece()
) -> Cutting:
    """Cuts a video file into clips, mp4 files in `folder`; raises VideoError.

    Whatever the number of pieces, together they give the same clips. Memory: three windows of frames, 150 MB for 81
    frames of 832x480, and the decoder's own.

    Args:
        head_s: Seconds at the beginning that give no clip.
        tail_s: Seconds at the end that give none.
        piece: The part of the episode to be cut.
    """
    found = probe(path)
    area, size = fit(survey(path, found, config.crop_bottom, head_s, tail_s), config.pixel_sizes)
    length_s = found.duration_s or count_frames(path) / (found.fps or config.fps)
    part, last = _part(length_s, config.fps, head_s, tail_s, piece)
    lead = LEAD + (round(MEMORY_S * config.fps) if config.within == "scene" else 0)
    begin = max(0, part.begin - lead) // detectors.STRIDE * detectors.STRIDE
    detector = detectors.load(config.detector, config.threshold, config.fps)
    scenes = Scenes(config.fps) if config.within == "scene" else None
    number, shots, ended = begin - 1, 0, False

    def frames() -> Iterator[tuple[int, np.ndarray]]:
        nonlocal number, ended
        for planes in _frames(path, found, config.fps, begin, area, size):
            if last is not None and number + 1 >= last:
                break
            number += 1
            yield number, planes
        ended = True

    def find_cuts(place: int, planes: np.ndarray) -> list[Cut]:
        nonlocal shots
        picture = watched(planes)
        # After the last frame `place` goes on: cuts there are none of the film's.
        cuts = [begin + cut for cut in detector.push(picture) if begin + cut <= number]
        shots += sum(part.owns(cut) for cut in cuts)
        return scenes.push(place, picture, cuts) if scenes else [Cut(cut) for cut in cuts]

    clips: list[Future[Clip]] = []
    # The decoder goes on while one window is encoded; a second one waits for its turn, no more.
    with ThreadPoolExecutor(1) as encoder:
        for window in tile(frames(), find_cuts, detector.delay, config.frames, part):
            if len(clips) > 1:
                clips[-2].result()
            clips.append(encoder.submit(_write, window, size, folder, config))
    seconds = (number + 1) / config.fps + tail_s if ended and number >= begin else None
    return Cutting(seconds, shots, tuple(clip.result() for clip in clips))


def _part(length_s: float, fps: int, head_s: float, tail_s: float, piece: Piece) -> tuple[Part, int | None]:
    """A piece's part, and the number of the first frame of the tail; None: all frames that there are."""
    total = math.floor((length_s - tail_s) * fps)
    origin = math.ceil(head_s * fps)
    # At least a frame each: what begins at the origin belongs to the first piece alone.
    bounds = [origin + max(piece.of, total - origin) * number // piece.of for number in range(piece.of)]
    ends = [*bounds[1:], math.inf]
    return Part(bounds[piece.number], ends[piece.number], origin), total if tail_s else None


def _frames(path: Path, found: Probe, fps: int, begin: int, area: Area, size: tuple[int, int]) -> Iterator[np.ndarray]:
    crop = (area.x, area.y, area.width, area.height)
    return stream_frames(path, start_s=begin / fps, fps=fps, size=size, crop=crop, pixel_format="yuv420p", source=found)


def _write(window: Window[np.ndarray], size: tuple[int, int], folder: Path, config: ClipsConfig) -> Clip:
    start_s, end_s = window.start / config.fps, (window.start + config.frames) / config.fps
    path = folder / f"{round(start_s * 1000):08d}.mp4"
    if problem := unusable(window.frames):
        return Clip(start_s, end_s, window.shot, window.cuts, size, None, problem)
    write_video(path, window.frames, config.fps, config.crf, config.preset, pixel_format="yuv420p")
    if (frames := count_frames(path, decode=False)) != config.frames:
        raise VideoError("encoder_failed", f"{path.name}: {frames} frames written, not {config.frames}; run again")
    return Clip(start_s, end_s, window.shot, window.cuts, size, path)
