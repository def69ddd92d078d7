"""The stage on a real Ray: two workers, ZeRO-2, one of them killed."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from mimix_ray.run import Run
from mimix_ray.stage import StageError
from mimix_ray.training import stage
from mimix_ray.training.job import ADAPTER, LOSSES, Job
from mimix_ray.training.loop import train
from tests.training.conftest import publish_latents

STEPS = 20
TWO = (
    "--training.batch_size", 4, "--training.micro_batch", 1, "--training.workers", 2, "--training.cpus", 1,
    "--training.checkpoint_every", 2, "--training.learning_rate", 0.01, "--training.epochs", 100,
    "--training.max_steps", STEPS,
)  # fmt: skip


def kill_a_worker_after_the_first_checkpoint(run: Run, killed: list[int]) -> None:
    """kill -9, as an out-of-memory killer does it."""
    while not run.storage.list("training/checkpoints", ".safetensors"):
        time.sleep(0.05)
    workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
    workers[-1].kill()
    killed.append(workers[-1].pid)


def losses(run: Run) -> list[float]:
    records = run.storage.read_json(LOSSES)
    assert [record["step"] for record in records] == list(range(1, STEPS + 1)), "each step once"
    return [record["loss"] for record in records]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_killed_worker_changes_nothing(
    ray_cluster: str, alone: None, tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    """The reference is one process without Ray, which nobody disturbs: the same noise and order, only other sums."""
    calm, storm = (tiny_run(*TWO, "--root", tmp_path / name) for name in ("calm", "storm"))
    for run in (calm, storm):
        rows = publish_latents(run.storage, 5, 1)
    train(Job(calm, "calm", STEPS), 0, 1, torch.device("cpu"), lambda record: None)

    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker_after_the_first_checkpoint, args=(storm, killed), daemon=True)
    killer.start()
    report = stage.run(storm)
    killer.join(1)
    assert killed, "the training ended before it could be disturbed"
    assert losses(storm) == pytest.approx(losses(calm), abs=1e-6)
    assert storm.storage.exists(ADAPTER)
    assert report.rows_in == report.ok == len(rows) and report.extra["steps"] == STEPS
    assert stage.run(storm).reused == len(rows), "a finished training is not done twice"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--training.batch_size", 3), "no multiple of workers x micro_batch"),
        (("--training.caption_format", "plain"), r"not among latents\.formats"),
        (("--training.composite_ratio", 0.5), "no composite"),
        (("--backbone.path", "/nowhere/wan"), r"backbone\.path"),
    ],
    ids=["batch", "format", "ratio", "base"],
)
def test_what_cannot_work_is_told_before_any_worker_starts(
    tiny_run: Callable[..., Run], arguments: tuple[object, ...], message: str
) -> None:
    run = tiny_run(*TWO, *arguments)
    publish_latents(run.storage, 4)
    with pytest.raises(StageError, match=message):
        stage.run(run)


def test_latents_that_have_gone_are_told(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*TWO)
    rows = publish_latents(run.storage, 4)
    run.storage.delete(rows[2]["latent"])
    with pytest.raises(StageError, match="files of 1 latents have gone"):
        stage.run(run)
