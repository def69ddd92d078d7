"""The stage on a real Ray: two workers and more, of which some are killed, stopped, added and taken away."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mimix_ray import tables
from mimix_ray.run import Run
from mimix_ray.stage import StageError
from mimix_ray.training import stage
from mimix_ray.training.job import ADAPTER, LOSSES, digest_of
from tests.training.conftest import publish_latents, train_alone

STEPS = 20
TWO = (
    "--training.batch_size", 4, "--training.micro_batch", 1, "--training.workers", 2, "--training.cpus", 1,
    "--training.checkpoint_every", 2, "--training.learning_rate", 0.01, "--training.epochs", 100,
    "--training.max_steps", STEPS, "--training.schedule", "constant",
)  # fmt: skip


def losses(run: Run) -> list[float]:
    records = run.storage.read_json(LOSSES)
    assert [record["step"] for record in records] == list(range(1, len(records) + 1)), "each step once"
    return [record["loss"] for record in records]


@pytest.fixture
def calm(alone: None, tiny_run: Callable[..., Run], tmp_path: Path) -> list[float]:
    """The reference: one process without Ray, which nobody disturbs: the same noise and order, only other sums."""
    run = tiny_run(*TWO, "--root", tmp_path / "calm")
    publish_latents(run.storage, 5, 1)
    train_alone(run, STEPS)
    return losses(run)


@pytest.fixture
def storm(tiny_run: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """A run of its own with the same latents."""

    def make(*arguments: Any) -> Run:
        run = tiny_run(*TWO, *arguments, "--root", tmp_path / "storm")
        if not run.storage.exists("latents/table.parquet"):
            publish_latents(run.storage, 5, 1)
        return run

    return make


def workers() -> list[psutil.Process]:
    """The processes of Ray Train's workers on this machine."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def after_step(run: Run, step: int, act: Callable[[], None]) -> threading.Thread:
    """Acts from a thread once a checkpoint of at least so many steps is there."""

    def watch() -> None:
        while not any(int(Path(n).stem) >= step for n in run.storage.list("training/checkpoints", ".json")):
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["zero2", "zero3", "ddp"])
def test_workers_killed_in_mid_epoch_change_nothing(
    ray_cluster: str, calm: list[float], storm: Callable[..., Run], strategy: str
) -> None:
    """kill -9, as an out-of-memory killer does it: twice, another one each time. Sample videos are made meanwhile."""
    small = ("--generation.frames", 5, "--generation.width", 48, "--generation.height", 32, "--generation.steps", 2)
    run = storm("--training.strategy", strategy, "--training.sample_every", 10, "--training.sample_prompts", 3, *small)
    killed: list[int] = []

    def kill(which: int) -> None:
        process = sorted(workers(), key=lambda p: p.pid)[which]
        process.kill()
        killed.append(process.pid)

    after_step(run, 4, lambda: kill(0))
    after_step(run, 12, lambda: kill(-1))
    report = stage.run(run)
    assert len(set(killed)) == 2, "the training ended before it could be disturbed"
    assert losses(run) == pytest.approx(calm, abs=1e-6)
    assert run.storage.exists(ADAPTER)
    assert report.rows_in == report.ok == 6 and report.extra["steps"] == STEPS
    assert len(run.storage.list("training/samples", ".mp4")) == 6, "three prompts at steps 10 and 20"
    assert stage.run(run).reused == 6, "a finished training is not done twice"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_worker_that_hangs_is_restarted_without_a_person(
    ray_cluster: str, calm: list[float], storm: Callable[..., Run]
) -> None:
    """SIGSTOP: alive to the kernel and to Ray, but it does nothing; the others wait for it in a collective."""
    run = storm("--training.step_timeout_s", 20)
    stopped: list[psutil.Process] = []

    def stop() -> None:
        stopped.append(workers()[-1])
        stopped[0].send_signal(signal.SIGSTOP)

    after_step(run, 4, stop)
    stage.run(run)
    assert stopped and losses(run) == pytest.approx(calm, abs=1e-6)
    assert not stopped[0].is_running() or stopped[0].status() == psutil.STATUS_ZOMBIE


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_two_workers_then_one_then_three_and_another_strategy(
    ray_cluster: str, calm: list[float], storm: Callable[..., Run]
) -> None:
    """Three do not divide the batch of four: some work for nothing, and the losses are the same."""
    for most, workers_now, strategy in ((6, 2, "zero2"), (10, 1, "zero3"), (14, 3, "zero3"), (STEPS, 2, "zero1")):
        run = storm(
            "--training.max_steps", most, "--training.workers", workers_now, "--training.strategy", strategy
        )  # fmt: skip
        stage.run(run)
        assert losses(run) == pytest.approx(calm[:most], abs=1e-4)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_elastic_training_takes_what_the_cluster_has(
    ray_cluster: str, alone: None, storm: Callable[..., Run], tmp_path: Path, tiny_run: Callable[..., Run]
) -> None:
    """Three of four cores are taken at first: one worker begins. Then they are free: two go on, without a person."""
    import ray

    steps = ("--training.max_steps", 500, "--training.checkpoint_every", 20)
    calm = tiny_run(*TWO, *steps, "--root", tmp_path / "calm")
    publish_latents(calm.storage, 5, 1)
    train_alone(calm, 500)

    @ray.remote(num_cpus=3)
    class Guest:
        def here(self) -> bool:
            return True

    guest = Guest.remote()  # type: ignore[attr-defined]
    assert ray.get(guest.here.remote())
    run = storm("--training.min_workers", 1, *steps)
    after_step(run, 20, lambda: ray.kill(guest))
    stage.run(run)
    assert {record["workers"] for record in run.storage.read_json(LOSSES)} == {1, 2}
    assert losses(run)[:100] == pytest.approx(losses(calm)[:100], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--training.batch_size", 3, "--training.micro_batch", 2), r"no multiple of training\.micro_batch"),
        (("--training.caption_format", "plain"), r"not among latents\.formats"),
        (("--training.composite_ratio", 0.5), "no composite"),
        (("--training.held_out", 4), "leave some to train on"),
        (("--training.rehearsal", 0.5), r"name it by training\.warm_start"),
        (("--training.warm_start", "/nowhere/old.safetensors"), r"training\.warm_start /nowhere/old\.safetensors"),
        (("--training.wandb", "bears"), "wandb is not installed"),
        (("--backbone.dtype", "fp16", "--training.strategy", "ddp"), "needs a loss scale"),
        (("--backbone.path", "/nowhere/wan"), r"backbone\.path"),
        (("--training.caption_dropout", 0.1), "needs the empty prompt"),
    ],
    ids=["batch", "format", "ratio", "held out", "rehearsal", "warm start", "wandb", "fp16", "base", "empty prompt"],
)
def test_what_cannot_work_is_told_before_any_worker_starts(
    tiny_run: Callable[..., Run], arguments: tuple[object, ...], message: str
) -> None:
    run = tiny_run(*TWO, *arguments)
    publish_latents(run.storage, 4)
    if message == "needs the empty prompt":
        fail_text(run, "empty")
    with pytest.raises(StageError, match=message):
        stage.run(run)


def fail_text(run: Run, text_id: str) -> None:
    """As if the text encoder had given NaN for it."""
    texts = {row["text_id"]: row for row in tables.read(run.storage, tables.TEXTS)}
    texts[text_id] |= {"status": "failed", "error": "not_finite: NaN", "shard": None, "row_group": None, "tokens": None}
    tables.publish(run.storage, tables.TEXTS, list(texts.values()))
    tables.seal(run.storage, tables.TEXTS, list(texts))


def test_a_warm_start_with_ones_own_adapter_is_refused(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*TWO)
    publish_latents(run.storage, 4)
    own = tiny_run(*TWO, "--training.warm_start", run.storage / ADAPTER)
    with pytest.raises(StageError, match="this run's own adapter"):
        stage.run(own)


@pytest.mark.parametrize("kind", ["latents", "texts"])
def test_a_shard_that_has_gone_is_told(tiny_run: Callable[..., Run], kind: str) -> None:
    run = tiny_run(*TWO)
    publish_latents(run.storage, 4)
    run.storage.delete(f"{kind}/shards/00000002.parquet")
    with pytest.raises(StageError, match=f"1 files of latents have gone, first {kind}/shards/00000002.parquet"):
        stage.run(run)


def test_samples_without_a_text_are_left_out_and_counted(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*TWO, "--backbone.path", "/nowhere/wan")
    rows = publish_latents(run.storage, 4)
    fail_text(run, f"{rows[1]['sample_id']}/full")
    usable, _ = stage.usable(run.storage, "full")
    assert [row["sample_id"] for row in usable] == [row["sample_id"] for row in (rows[0], *rows[2:])]


@pytest.fixture
def recipe(tiny_run: Callable[..., Run]) -> Iterator[Callable[..., str]]:
    """The recipe of a training with these arguments on the same latents."""

    def of(*arguments: Any, steps: int = 10) -> str:
        run = tiny_run(*arguments)
        if not run.storage.exists("latents/table.parquet"):
            publish_latents(run.storage, 3)
        rows, texts = stage.usable(run.storage, "full")
        return stage.recipe(run, rows, digest_of(rows, texts), steps)

    yield of


def test_what_makes_another_training(recipe: Callable[..., str]) -> None:
    first = recipe()
    for how in ("workers", "prefetch", "checkpoint_every", "held_out_every", "max_failures"):
        assert recipe(f"--training.{how}", 7) == first
    assert recipe("--training.strategy", "zero3") == first and recipe("--training.micro_batch", 4) == first
    assert recipe(steps=20) == first, "more epochs go on from where fewer ended"
    assert recipe("--training.held_out", 1) != first and recipe("--training.seed", 1) != first
    falling = ("--training.schedule", "cosine")
    assert recipe(*falling) != recipe(*falling, steps=20), "a rate that ends at the last step knows the steps"
