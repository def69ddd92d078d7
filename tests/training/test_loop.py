"""The loop with a real DeepSpeed on one process: it learns, resumes exactly, leaves an adapter that takes effect."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mimix_ray import backbone
from mimix_ray.run import Run
from mimix_ray.training.job import ADAPTER, LOSSES, FatalError
from tests.training.conftest import publish_latents, train_alone

pytestmark = pytest.mark.usefixtures("alone")
SMALL = ("--training.batch_size", 2, "--training.micro_batch", 1, "--training.checkpoint_every", 2)
FAST = ("--training.learning_rate", 0.01)


def losses(run: Run, steps: int, recipe: str = "r", **job: Any) -> list[float]:
    told = train_alone(run, steps, recipe, **job).records
    assert run.storage.read_json(LOSSES) == told
    assert [record["step"] for record in told] == list(range(1, steps + 1))
    return [record["loss"] for record in told]


def test_resuming_equals_never_stopping(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, *FAST)
    publish_latents(run.storage, 5)
    whole = losses(run, 7, "whole")
    assert losses(run, 3, "parts") == whole[:3]
    assert losses(run, 7, "parts") == pytest.approx(whole, abs=1e-6)
