"""Job scripts as people run them: submitted to a running cluster, and straight from the shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mimix_ray import tables, video
from mimix_ray.miniature.episodes import write_episodes
from mimix_ray.storage import Storage

REPO = Path(__file__).parents[2]
RAY_SUBMIT = [str(Path(sys.executable).parent / "ray"), "job", "submit"]
JOBS = sorted(path for path in (REPO / "jobs").glob("*.py") if path.stem not in ("adapter", "demo", "footage", "serve"))


@pytest.fixture
def root(tmp_path):
    write_episodes(tmp_path / "footage", episodes=1, seconds=8)
    return tmp_path


def test_a_submitted_job_cuts_clips_and_reports(ray_cluster, root):
    """`ray job submit --working-dir . -- python jobs/clips.py`: its log tells the result, its table holds it."""
    job = ["python", "jobs/clips.py", "--config", "configs/miniature.yaml", "--root", str(root)]
    done = subprocess.run(
        [*RAY_SUBMIT, "--address", ray_cluster, "--working-dir", ".", "--", *job],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "RAY_ADDRESS": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((root / "reports/clips.json").read_text())
    assert f"clips: {report['rows_in']} in, {report['rows_out']} out" in done.stdout
    rows = tables.read(Storage.open(str(root)), tables.CLIPS)
    assert len(rows) == report["ok"] >= 2
    assert all(video.count_frames(root / row["video"]) == 81 for row in rows)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_every_job_explains_itself(job):
    done = subprocess.run([sys.executable, job, "--help"], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0 and "--clips.fps" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips.fsp", "3"], "did you mean 'clips.fps'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--universe", "nowhere.yaml", "--root", "{tmp}"], "nowhere.yaml"),
        (["--config", "configs/miniature.yaml", "--root", "{tmp}"], "no video matches"),
    ],
)
def test_a_job_that_cannot_begin_says_why_in_one_line(tmp_path, arguments, message):
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    done = subprocess.run([sys.executable, "jobs/clips.py", *given], cwd=REPO, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and lines[-1].startswith("error: ") and message in lines[-1], done.stderr
    assert "Traceback" not in done.stderr
