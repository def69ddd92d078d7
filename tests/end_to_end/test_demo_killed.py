"""The demo, killed in the middle of each stage and run again: it finishes, without a row twice or a call repeated."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimix_ray import tables
from mimix_ray.storage import Storage

REPO = Path(__file__).parents[2]
QUICK = ["--training.max_steps", "12", "--training.checkpoint_every", "3", "--generation.steps", "2"]
# What a stage leaves first: when it is there and the stage's report is not, the stage is in its middle.
BEGUN = {
    "clips": "clips/parts/*.parquet",
    "captions": "answers/**/*.json",
    "composites": "composites/videos/*.mp4",
    "latents": "latents/parts/*.parquet",
    "training": "training/checkpoints/*/*",
    "generation": "generations/**/*.mp4",
    "evaluation": "scores/parts/*.parquet",
}


def demo(root: Path) -> list[str]:
    return [sys.executable, "jobs/demo.py", "--root", str(root), "--backbone.path", str(root / "base"), *QUICK]


def kill_in(stage: str, root: Path) -> set[str]:
    """Runs the demo, kills it with -9 once the stage has begun; returns the names of the answers kept by then."""
    process = subprocess.Popen(demo(root), cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 900
        while not list(root.glob(BEGUN[stage])):
            assert process.poll() is None and time.monotonic() < deadline, f"{stage} never began"
            time.sleep(0.05)
        assert not (root / f"reports/{stage}.json").exists(), f"{stage} was over before it could be killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return {path.name for path in (root / "answers").rglob("*.json")}


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_demo_survives_a_kill_in_every_stage(tmp_path):
    """One run, killed seven times on its way, then let through: what it leaves is whole."""
    root = tmp_path / "run"
    kept: dict[str, set[str]] = {stage: kill_in(stage, root) for stage in BEGUN}
    asked = {path: path.stat().st_mtime_ns for path in (root / "answers").rglob("*.json")}
    done = subprocess.run(demo(root), cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == str(root / "report.html")

    storage = Storage.open(str(root))
    for table in tables.TABLES.values():
        rows = tables.read(storage, table, status=None)
        keys = [row[table.key] for row in rows]
        assert rows and len(set(keys)) == len(keys), table.name
        assert not list((root / table.name / "parts").glob("*.parquet")), table.name
    clips = {row["clip_id"] for row in tables.read(storage, tables.CLIPS)}
    assert {row["clip_id"] for row in tables.read(storage, tables.CAPTIONS)} == clips
    # No answer that was kept is asked, and so written, again.
    assert all(path.stat().st_mtime_ns == when for path, when in asked.items())
    assert kept["captions"] <= kept["composites"] <= kept["evaluation"]
    losses = json.loads((root / "training/losses.json").read_text())
    assert [record["step"] for record in losses] == list(range(1, 13))

    began = time.monotonic()
    again = subprocess.run(demo(root), cwd=REPO, capture_output=True, text=True)
    assert again.returncode == 0 and time.monotonic() - began < 120, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in (root / "answers").rglob("*.json")}.keys() >= asked.keys()
    assert (root / "served.json").stat().st_mtime < time.time() - (time.monotonic() - began)
