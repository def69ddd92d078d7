"""Fixtures that all tests share: one Ray cluster a session, and runs of the miniature in a fresh folder."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mimix_ray import config
from mimix_ray.run import Run

REPO = Path(__file__).parents[1]
pytest_plugins = ["tests.base_model", "tests.s3"]

# Ray must be told before it is imported anywhere: stay on loopback, and leave an empty CUDA_VISIBLE_DEVICES alone.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A submitted job's `python` is the cluster's, and the cluster is started from here.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A local Ray of 4 logical CPUs with its dashboard (for `ray job submit`); yields the dashboard's address."""
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    context = ray.init(
        address="local",
        num_cpus=4,
        _node_ip_address="127.0.0.1",
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=0,
        log_to_driver=False,
        logging_level=logging.WARNING,
        object_store_memory=512 * 1024**2,
    )
    from mimix_ray.stage import connect

    connect()
    yield f"http://{context.dashboard_url}"
    from ray import serve

    serve.shutdown()
    ray.shutdown()


@pytest.fixture
def run_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """`run_factory("--clips.fps", "12")` opens a run of the miniature with its root in this test's folder."""
    monkeypatch.chdir(REPO)

    def make(*arguments: Any) -> Run:
        given = ["--root", str(tmp_path / "run"), *map(str, arguments)]
        return Run.open(config.load(REPO / "configs/miniature.yaml", given))

    return make
