"""Kill -9 of the whole job in the middle of captioning; then the same command. Calls are counted at the server."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from mimix_ray import tables
from tests.captions.test_stage import CLIPS, captions, clip_id, make_clips
from tests.vlm.hostile import hostile_server

CONCURRENCY = 3


def start(root: str, base_url: str) -> psutil.Popen:
    command = [sys.executable, "jobs/captions.py", "--config", "configs/miniature.yaml", "--root", root]
    command += ["--captions.vlm.base_url", base_url, "--captions.vlm.concurrency", str(CONCURRENCY)]
    return psutil.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def end(process: psutil.Popen) -> None:
    """Kill -9 of the driver and of all that it started."""
    family = process.children(recursive=True)
    for one in [process, *family]:
        if one.is_running():
            os.kill(one.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_no_finished_clip_is_asked_about_again(run_factory, tmp_path: Path) -> None:
    with hostile_server() as server:
        run = make_clips(run_factory("--captions.vlm.base_url", server.base_url, "--captions.vlm.concurrency", 3))
        server.delay = 1.0
        first = start(run.config.root, server.base_url)
        while len(run.storage.list("answers")) < 5:
            assert first.poll() is None
            time.sleep(0.01)
        end(first)
        kept, asked = len(run.storage.list("answers")), Counter(server.clips)
        assert 5 <= kept < CLIPS and len(asked) <= kept + 2 * CONCURRENCY
        second = start(run.config.root, server.base_url)
        assert second.wait(200) == 0
    assert len(server.clips) - asked.total() == CLIPS - kept, "what was kept was not asked again"
    rows = captions(run)
    assert [row["characters"][0]["action"] for row in rows.values()] == [f"does thing {n}" for n in range(CLIPS)]
    assert list(rows) == [clip_id(n) for n in range(CLIPS)] and len(tables.read(run.storage, tables.CAPTIONS)) == CLIPS
