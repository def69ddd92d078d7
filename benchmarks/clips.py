"""Stage `clips` on one film, against bare ffmpeg doing one pass, and against PySceneDetect's own command.

    python jobs/footage.py footage
    python benchmarks/clips.py [--film footage/big_buck_bunny/film.mp4]

Peers, on the same cores and to the same size, rate and encoder settings:
    ffmpeg       one pass over the film: crop, 16 fps, scale, x264; no shots, one long file
    scenedetect  its command: adaptive detection, then its splitter, with the same crop, rate and size

The stage runs as a cluster runs it, on a local Ray. What Ray and Ray Data take to start is measured apart, and told: it
is the same for a minute of film and for a series. Then each part of the work is run alone, to see where time goes. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import ray.data

from mimix_ray import tables
from mimix_ray._ffmpeg import ffmpeg
from mimix_ray.clips import detectors, stage
from mimix_ray.clips.content import unusable
from mimix_ray.clips.cutting import fit, watched
from mimix_ray.clips.survey import Area, survey
from mimix_ray.config import ClipsConfig, RunConfig
from mimix_ray.run import Run
from mimix_ray.stage import connect
from mimix_ray.storage import Storage
from mimix_ray.video import count_frames, probe, stream_frames, write_video

TARGET = 1.3
"""Most times the wall time of bare ffmpeg."""
UNIVERSE = """
name: film
shows:
  - {id: film, title: Film, style: cartoon, episodes: {videos: "{root}/../film/*.mp4"}}
"""


def timed(what: Callable[[], Any]) -> float:
    """Wall seconds of a call."""
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Largest sum of the resident memory of cutting tasks and their ffmpeg children, GB, looked at twice a second."""
    most, ended = [0.0], threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not ended.wait(0.5):
            total = 0
            for child in me.children(recursive=True):
                try:
                    if "ffmpeg" in child.name() or any("ray::" in word and "Map" in word for word in child.cmdline()):
                        total += child.memory_info().rss
                except psutil.Error:
                    continue
            most[0] = max(most[0], total / 1e9)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def start_ray() -> None:
    """A local Ray, and Ray Data's own actors and a worker a core, by a data set of nothing."""
    connect()
    cores = int(ray.cluster_resources()["CPU"])
    ray.data.range(cores, override_num_blocks=cores).map(lambda row: row, num_cpus=1).materialize()


def filters(area: Area, size: tuple[int, int], config: ClipsConfig) -> str:
    """What both peers do to the picture."""
    crop = f"crop={area.width}:{area.height}:{area.x}:{area.y}"
    return f"fps={config.fps},{crop},scale={size[0]}:{size[1]}:flags=bicubic"


def one_pass(film: Path, area: Area, size: tuple[int, int], config: ClipsConfig, target: Path) -> float:
    """Bare ffmpeg: the same crop, rate, size and encoder, in one go."""
    command = [ffmpeg(), "-v", "error", "-y", "-i", film, "-an", "-vf", filters(area, size, config), "-c:v", "libx264"]
    return timed(
        lambda: subprocess.run(
            [*map(str, command), "-preset", config.preset, "-crf", str(config.crf), str(target)], check=True
        )
    )


def scenedetect(film: Path, area: Area, size: tuple[int, int], config: ClipsConfig, folder: Path) -> float:
    """PySceneDetect's command: adaptive detection and splitting into shots."""
    arguments = f"-v error -an -vf {filters(area, size, config)} -c:v libx264 -preset {config.preset} -crf {config.crf}"
    command = [sys.executable, "-m", "scenedetect", "-q", "-i", str(film), "-o", str(folder), "detect-adaptive"]
    # Its splitter takes the ffmpeg that is first on the path.
    (folder / "bin").mkdir()
    (folder / "bin" / "ffmpeg").symlink_to(ffmpeg())
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return timed(
        lambda: subprocess.run([*command, "split-video", "-a", arguments], check=True, env={**os.environ, "PATH": path})
    )


def parts(film: Path, config: ClipsConfig, judged: int, kept: int) -> dict[str, float]:
    """Seconds that each part of the work takes alone, for so many clips judged and kept."""
    found = probe(film)
    seconds = {"survey": timed(lambda: survey(film, found, config.crop_bottom))}
    area, size = fit(survey(film, found, config.crop_bottom), config.pixel_sizes)
    crop = (area.x, area.y, area.width, area.height)
    options: dict[str, Any] = {"fps": config.fps, "size": size, "crop": crop, "pixel_format": "yuv420p"}
    seconds["decode, crop, scale"] = timed(lambda: [None for _ in stream_frames(film, source=found, **options)])
    sample = list(islice(stream_frames(film, start_s=60, **options), 30 * config.fps))
    share = found.duration_s / (len(sample) / config.fps)
    detector = detectors.load(config.detector, config.threshold, config.fps)
    seconds["detect"] = share * timed(lambda: [detector.push(watched(planes)) for planes in sample])
    windows: list[list[np.ndarray]] = [sample[at : at + 81] for at in range(0, len(sample) - 80, 81)]
    unusable(windows[0])
    seconds["judge"] = judged / len(windows) * timed(lambda: [unusable(window) for window in windows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")

        def encode() -> None:
            for window in windows:
                write_video(path, window, config.fps, config.crf, config.preset, pixel_format="yuv420p")

        seconds["encode"] = kept / len(windows) * timed(encode)
        seconds["count"] = kept * timed(lambda: count_frames(path, decode=False))
    return {name: round(value, 1) for name, value in seconds.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--film", type=Path, default=Path("footage/big_buck_bunny/film.mp4"))
    film = options.parse_args().film.absolute()
    config = ClipsConfig()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "film").mkdir()
        (folder / "film" / "film.mp4").symlink_to(film)
        (folder / "universe.yaml").write_text(UNIVERSE)
        area, size = fit(survey(film, probe(film), None), config.pixel_sizes)
        bare = one_pass(film, area, size, config, folder / "bare.mp4")
        print(f"ffmpeg, one pass: {bare:.1f} s", flush=True)

        run = Run.open(RunConfig(root=str(folder / "run"), universe=str(folder / "universe.yaml"), clips=config))
        start = timed(start_ray)
        print(f"start of Ray and Ray Data: {start:.1f} s", flush=True)
        with peak_memory() as memory:
            ours = timed(lambda: stage.run(run))
        judged = tables.read(Storage.open(run.config.root), tables.CLIPS, status=None)
        clips = [row for row in judged if row["status"] == "ok"]
        cores = os.cpu_count() or 1
        rate = len(clips) / ours / cores
        print(f"stage clips: {ours:.1f} s, {len(clips)} clips, {rate:.2f} clips/s/core", flush=True)
        print(f"largest memory of tasks and their children: {memory[0]:.2f} GB", flush=True)

        (folder / "shots").mkdir()
        peer = scenedetect(film, area, size, config, folder / "shots")
        print(f"scenedetect, detection and split: {peer:.1f} s", flush=True)
        alone = parts(film, config, len(judged), len(clips))
        for part, seconds in alone.items():
            print(f"  {part:<20} {seconds:6.1f} s alone, {100 * seconds / sum(alone.values()):3.0f} %")
    result = {
        "name": "clips",
        "peer": "ffmpeg, one pass",
        "ratio": round(ours / bare, 2),
        "target": TARGET,
        "seconds": round(ours, 1),
        "start_s": round(start, 1),
        "clips": len(clips),
        "clips_per_s_per_core": round(rate, 3),
        "peak_gb": round(memory[0], 2),
        "scenedetect_times_slower": round(peer / ours, 2),
        "parts_s": alone,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
