"""The Ray Train side: workers, restarts, and what the driver sees of them."""

from __future__ import annotations

import faulthandler
import os
import re
import sys
import tempfile
import threading
import uuid
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context, get_preemption_info
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from mimix_ray.config import TrainingConfig
from mimix_ray.training.job import FatalError, Job, TrainingError
from mimix_ray.training.listener import Listener


@ray.remote(num_cpus=0)
class Scoreboard:
    """What rank 0 tells the driver. Workers restart; this stays."""

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}
        self.error: str | None = None
        self.lines: list[str] = []

    def tell(self, record: dict[str, Any]) -> None:
        self.record = record

    def say(self, line: str) -> None:
        self.lines.append(line)

    def fail(self, error: str) -> None:
        self.error = error

    def look(self) -> tuple[dict[str, Any], str | None, list[str]]:
        """The newest record, what ended the training, and what has been said since the last look."""
        lines, self.lines = self.lines, []
        return self.record, self.error, lines


def fit(job: Job) -> None:
    """Trains on the cluster; workers that die, hang or lose their node are replaced and go on from the last checkpoint.

    Raises TrainingError when training cannot go on.
    """
    config = job.run.config.training
    # Ray Train moves its workers to a folder of their own, where a relative `backbone.path` leads nowhere.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    # On the driver's own node: workers' nodes may go away.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    board = Scoreboard.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]  # ray adds it
    # Ray Train keeps its own notes under (storage_path, name), and a name used before would resume an old run; all that
    # we need to resume is in our checkpoints.
    with tempfile.TemporaryDirectory(prefix="mimix-train-") as folder:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job, "board": board},
            scaling_config=_scaling(config),
            torch_config=TorchConfig(backend="nccl" if config.gpus else "gloo", timeout_s=round(config.step_timeout_s)),
            run_config=RunConfig(
                name=f"{job.run.config.name}-{uuid.uuid4().hex[:8]}",
                storage_path=folder,
                # Nodes that are taken away cost no try: there is no end to them on spot instances.
                failure_config=FailureConfig(max_failures=config.max_failures, max_preemption_failures=-1),  # type: ignore[call-arg]  # mypy reads an older class
            ),
        )
        try:
            with _Bar(board, job.steps):
                trainer.fit()
        except Exception as error:  # Ray wraps whatever a worker raised
            raise TrainingError(_reason(error)) from error
    _, failure, _ = ray.get(board.look.remote())
    if failure:
        raise TrainingError(failure)


def _work(config: dict[str, Any]) -> None:
    """One worker. An error that all workers see alike ends the job here: a restart would only meet it again."""
    from mimix_ray.training.loop import train  # here, so that the driver does without PyTorch and DeepSpeed

    job, board = config["job"], config["board"]
    context = get_context()
    rank = context.get_world_rank()

    class ToDriver(Listener):
        saved_for: Any = None

        def beat(self) -> None:
            # A worker that hangs, in a collective, in its storage or in a kernel, tells where and ends itself, and Ray
            # Train starts all anew. Those who wait for one that was stopped from outside do the same.
            faulthandler.dump_traceback_later(job.run.config.training.step_timeout_s, exit=True, file=2)

        def tell(self, record: dict[str, Any]) -> None:
            if rank == 0:
                board.tell.remote(record)

        def say(self, line: str) -> None:
            board.say.remote(line)

        def preempted(self) -> bool:
            notice = get_preemption_info()
            fresh = notice is not None and notice != self.saved_for
            self.saved_for = notice
            return fresh

    try:
        train(job, rank, context.get_world_size(), get_device(), ToDriver())
    except FatalError as error:
        if rank == 0:
            ray.get(board.fail.remote(str(error)))
    finally:
        faulthandler.cancel_dump_traceback_later()


def _scaling(config: TrainingConfig) -> ScalingConfig:
    """As many workers as asked for; of a range, as many as the cluster has place for, looked at every minute."""
    resources = {"CPU": config.cpus, **({"GPU": config.gpus} if config.gpus else {})}
    workers = (config.min_workers, config.workers) if config.min_workers else config.workers
    return ScalingConfig(num_workers=workers, use_gpu=config.gpus > 0, resources_per_worker=resources)  # type: ignore[arg-type]  # a pair is fine


class _Bar(threading.Thread):
    """A progress line on stderr, fed from the scoreboard while `fit` blocks."""

    def __init__(self, board: Any, steps: int) -> None:
        super().__init__(daemon=True)
        self.board, self.ended = board, threading.Event()
        self.bar = tqdm(total=steps, desc=f"{'training':<11}", unit=" steps", smoothing=0.1)

    def run(self) -> None:
        while not self.ended.wait(0.5):
            self.show()

    def show(self) -> None:
        record, _, lines = ray.get(self.board.look.remote())
        for line in lines:
            self.bar.write(f"training: {line}", file=sys.stderr)
        if record and record["step"] != self.bar.n:
            if not self.bar.n:
                self.bar.initial = self.bar.n = record["step"] - 1  # steps of an earlier start took no time now
            self.bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
            self.bar.update(record["step"] - self.bar.n)

    def __enter__(self) -> _Bar:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()
        self.show()
        self.bar.close()


def _reason(error: Exception) -> str:
    """What a worker raised last, on one line, out of what Ray wraps around it."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    lines = str(next(iter(failures.values()))).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^mimix_ray[\w.]*: ", "", lines[-1])
