"""Kill -9 of the driver, of a worker and of the raylet, each in the middle of a run; then the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mimix_ray import tables
from mimix_ray.storage import Storage
from tests.clips.footage import episode

UNIVERSE = """
name: synthetic
shows:
  - {id: squares, title: Squares, style: cartoon, episodes: {videos: "{root}/../footage/*.mp4"}}
"""
SHOTS = [6.0, 5.5, 3.0, 6.0, 7.0, 11.0]
CLIPS_AN_EPISODE = 6


def driver(process: psutil.Process) -> psutil.Process:
    return process


def worker(process: psutil.Process) -> psutil.Process:
    """The one that works: ffmpeg is its child."""
    found = None
    while found is None:
        found = next((child for child in process.children(recursive=True) if "ffmpeg" in child.name()), None)
    return found.parent()


def raylet(process: psutil.Process) -> psutil.Process:
    return next(child for child in process.children(recursive=True) if child.name() == "raylet")


def start(folder: Path) -> psutil.Popen:
    command = [sys.executable, "jobs/clips.py", "--root", folder / "run", "--universe", folder / "universe.yaml"]
    command += ["--clips.sizes", "192x96", "--clips.crop_bottom", "0.12"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return psutil.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


def end(process: psutil.Popen) -> str:
    """Waits for the process; what it leaves behind after a kill of its own raylet goes too."""
    family = process.children(recursive=True)
    try:
        said, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    for child in family:
        if child.is_running():
            child.kill()
    return said.decode()


def videos(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (root / "clips" / "videos").rglob("*.mp4")}


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", [driver, worker, raylet])
def test_the_same_command_again_ends_with_the_same_clips(
    tmp_path: Path, victim: Callable[[psutil.Process], psutil.Process]
) -> None:
    (tmp_path / "universe.yaml").write_text(UNIVERSE)
    for number in range(5):
        episode(tmp_path / "footage" / f"e{number}.mp4", SHOTS, fps=25)
    storage = Storage.open(str(tmp_path / "run"))

    first = start(tmp_path)
    while not tables.finished(storage, tables.CLIPS):
        assert first.poll() is None, end(first)
        time.sleep(0.05)
    published = {row["video"] for row in tables.finished(storage, tables.CLIPS).values()}
    before = {name: at for name, at in videos(tmp_path / "run").items() if any(name.endswith(v) for v in published)}
    assert len(before) % CLIPS_AN_EPISODE == 0 and before
    os.kill(victim(first).pid, signal.SIGKILL)
    said = end(first)
    if victim is worker:
        assert first.returncode == 0, said  # Ray repeats the task
    else:
        assert first.returncode != 0
        assert len(videos(tmp_path / "run")) < 5 * CLIPS_AN_EPISODE, "killed too late to tell anything"
        second = start(tmp_path)
        said = end(second)
        assert second.returncode == 0, said

    rows = tables.read(storage, tables.CLIPS, status=None)
    ids = [row["clip_id"] for row in rows]
    assert len(set(ids)) == len(ids) == 5 * CLIPS_AN_EPISODE and {row["status"] for row in rows} == {"ok"}
    assert len({tuple(row["start_s"] for row in rows[first : first + 6]) for first in range(0, 30, 6)}) == 1
    after = videos(tmp_path / "run")
    assert sorted(after) == sorted(str(tmp_path / "run" / row["video"]) for row in rows)
    assert before.items() <= after.items(), "a finished clip was encoded again"
    assert storage.list("clips/pieces") == []
