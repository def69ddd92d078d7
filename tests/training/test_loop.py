"""The loop with a real DeepSpeed on one process: it learns, resumes exactly, leaves an adapter that takes effect."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mimix_ray import backbone
from mimix_ray.run import Run
from mimix_ray.training.batch import batch_loss, load_batch
from mimix_ray.training.job import ADAPTER, LOSSES, Job, LossError, plan_of
from mimix_ray.training.loop import train
from tests.training.conftest import publish_latents

pytestmark = pytest.mark.usefixtures("alone")
CPU = torch.device("cpu")
SMALL = ("--training.batch_size", 2, "--training.micro_batch", 1, "--training.checkpoint_every", 2)


def losses(run: Run, steps: int, recipe: str = "r") -> list[float]:
    told: list[dict[str, Any]] = []
    train(Job(run, recipe, steps), 0, 1, CPU, told.append)
    assert run.storage.read_json(LOSSES) == told
    assert [record["step"] for record in told] == list(range(1, steps + 1))
    return [record["loss"] for record in told]


def test_it_learns_one_sample(tiny_run: Callable[..., Run]) -> None:
    batch = ("--training.batch_size", 4, "--training.micro_batch", 4, "--training.rank", 16)
    run = tiny_run(*batch, "--training.checkpoint_every", 100, "--training.learning_rate", 0.01)
    publish_latents(run.storage, 1)
    seen = losses(run, 60)
    assert np.mean(seen[-10:]) < 0.85 * np.mean(seen[:10])


def test_resuming_equals_never_stopping(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, "--training.learning_rate", 0.01)
    publish_latents(run.storage, 5)
    whole = losses(run, 7, "whole")
    assert losses(run, 3, "parts") == whole[:3]
    assert losses(run, 7, "parts") == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("strategy", ["ddp", "zero1", "zero3"])
def test_strategies_agree_and_continue_one_another(tiny_run: Callable[..., Run], strategy: str) -> None:
    run = tiny_run(*SMALL, "--training.learning_rate", 0.01)
    publish_latents(run.storage, 5)
    expected = losses(run, 4, "zero2")
    other = tiny_run(*SMALL, "--training.learning_rate", 0.01, "--training.strategy", strategy)
    assert losses(other, 4, "other") == pytest.approx(expected, abs=1e-4)
    losses(run, 2, "first zero2")
    assert losses(other, 4, "first zero2") == pytest.approx(expected, abs=1e-4)


def test_bf16_trains_the_model_that_generation_loads(tiny_run: Callable[..., Run]) -> None:
    """Wan keeps norms and time embedding in fp32; DeepSpeed's cast of everything must not change that."""
    run = tiny_run(*SMALL, "--backbone.dtype", "bf16", "--training.learning_rate", 0.01)
    config, family = run.config, backbone.family(run.config.backbone)
    rows = {row["sample_id"]: row for row in publish_latents(run.storage, 2)}
    model = family.load_transformer(config.backbone)
    first = []
    for place, name in enumerate(plan_of(config.training, list(rows.values())).batch(0)):
        batch = load_batch([(place, rows[name])], 0, run.storage, config.training, config.backbone.flow_shift, CPU)
        first.append(batch_loss(model, family, config.backbone, batch).item())
    seen = losses(run, 3)
    assert seen[0] == pytest.approx(np.mean(first), abs=1e-6)
    assert np.isfinite(seen).all()


def test_the_curve_is_there_for_tensorboard(tiny_run: Callable[..., Run]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tiny_run(*SMALL)
    publish_latents(run.storage, 2)
    seen = losses(run, 3)
    found = EventAccumulator(run.storage / "training/tensorboard").Reload().Scalars("training/loss")
    assert [(event.step, event.value) for event in found] == [(n + 1, pytest.approx(v)) for n, v in enumerate(seen)]


def test_the_adapter_changes_the_video_and_says_what_it_is(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, "--training.learning_rate", 0.01)
    publish_latents(run.storage, 2)
    losses(run, 3, "0123456789abcdef")
    with run.storage.local(ADAPTER) as path:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            assert file.get_tensor("transformer.blocks.0.attn1.to_q.lora_B.weight").abs().max() > 0
        adapted, plain = (backbone.load_generator(run.config.backbone, adapter) for adapter in (path, None))
    assert header["universe"] == "miniature" and header["steps"] == "3" and header["recipe"] == "0123456789abcdef"
    request = {"frames": 5, "width": 48, "height": 32, "steps": 2, "guidance": 1.0, "seed": 0}
    videos = [generator.generate("Pip hops.", **request) for generator in (adapted, plain)]
    assert not np.array_equal(*videos)


def test_a_loss_that_is_not_finite_ends_it_and_keeps_the_last_checkpoint(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, "--training.learning_rate", 1e30, "--training.warmup_steps", 0)
    publish_latents(run.storage, 2)
    with pytest.raises(LossError, match=r"step .: the loss is"):
        losses(run, 10)
    assert not run.storage.exists(ADAPTER)
