"""The loop with a real DeepSpeed on one process: it learns, resumes exactly, leaves an adapter that takes effect.

The base model has random weights: what is proved is that all is wired right and exact, not that a cast can be taught.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepspeed.accelerator import get_accelerator
from safetensors import safe_open
from torch import nn

from mimix_ray import backbone, tensors
from mimix_ray.backbone import lora
from mimix_ray.backbone.wan_adapter import read
from mimix_ray.run import Run
from mimix_ray.synthesis import Parameters
from mimix_ray.training import checkpoint
from mimix_ray.training.batch import Samples, batch_losses, load_batch
from mimix_ray.training.engine import Engine
from mimix_ray.training.job import ADAPTER, DONE, LOSSES, FatalError, Job, plan_of, usable
from mimix_ray.training.loop import train
from mimix_ray.training.publish import BEST, COMFYUI
from tests.training.conftest import CPU, Told, publish_latents, train_alone

pytestmark = pytest.mark.usefixtures("alone")
SMALL = ("--training.batch_size", 2, "--training.micro_batch", 1, "--training.checkpoint_every", 2)
FAST = ("--training.learning_rate", 0.01)
VIDEO = {"frames": 5, "width": 48, "height": 32, "steps": 2, "guidance": 1.0, "seed": 0}
GOLDEN = Path(__file__).with_name("golden.json")


def losses(run: Run, steps: int, recipe: str = "r", **job: Any) -> list[float]:
    told = train_alone(run, steps, recipe, **job).records
    assert run.storage.read_json(LOSSES) == told
    assert [record["step"] for record in told] == list(range(1, steps + 1))
    return [record["loss"] for record in told]


def test_golden_losses(tiny_run: Callable[..., Run]) -> None:
    """No change may move the losses of a fixed seed."""
    run = tiny_run(*SMALL, *FAST, "--training.timestep_sampling", "logit_normal", "--training.weighting", "bell")
    publish_latents(run.storage, 4, 1)
    assert losses(run, 6) == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-4)


def test_a_tiny_model_overfits_one_sample(tiny_run: Callable[..., Run]) -> None:
    """One sample with its one noise and time, over and over: the LoRA can learn it by heart."""
    run = tiny_run()
    config, family = run.config, backbone.family(run.config.backbone)
    publish_latents(run.storage, 1, shapes=[(16, 1, 4, 4)])
    rows, texts = usable(run.storage, "full")
    source = Samples(run.storage, rows, texts, empty=False)
    batch = load_batch([(0, rows[0]["sample_id"])], 0, source, config.training, 3.0)
    model = family.load_transformer(config.backbone)
    # The frozen head of random weights is too quiet for any hidden state behind its norm to say what is asked.
    model.proj_out.weight.data.mul_(4)
    lora.attach(model, 32, 32, family.lora_targets("attention_ffn"), seed=0)
    optimizer = torch.optim.AdamW(lora.parameters(model).values(), 0.01, weight_decay=0.0)
    seen = []
    for _ in range(80):
        loss = batch_losses(model, family, config.backbone, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(lora.parameters(model).values(), 1.0)
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.001 * seen[0]


def test_resuming_equals_never_stopping(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, *FAST, "--training.ema", 0.9)
    publish_latents(run.storage, 5)
    whole = losses(run, 7, "whole")
    average = checkpoint.read(run.storage, "whole", 7).adapter
    assert losses(run, 3, "parts") == whole[:3]
    assert losses(run, 7, "parts") == pytest.approx(whole, abs=1e-6)
    for name, tensor in checkpoint.read(run.storage, "parts", 7).adapter.items():
        torch.testing.assert_close(tensor, average[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("strategy", ["ddp", "zero1", pytest.param("zero3", marks=pytest.mark.soak)])
def test_strategies_agree_and_continue_one_another(tiny_run: Callable[..., Run], strategy: str) -> None:
    run = tiny_run(*SMALL, *FAST)
    publish_latents(run.storage, 5)
    expected = losses(run, 4, "zero2")
    other = tiny_run(*SMALL, *FAST, "--training.strategy", strategy)
    assert losses(other, 4, "other") == pytest.approx(expected, abs=1e-4)
    losses(run, 2, "first zero2")
    assert losses(other, 4, "first zero2") == pytest.approx(expected, abs=1e-4)


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["ddp", "zero1", "zero3"])
def test_strategies_agree_and_continue_one_another_in_bf16(tiny_run: Callable[..., Run], strategy: str) -> None:
    """To what bf16 can hold: the losses of two steps apart differ by far more."""
    bf16 = (*SMALL, *FAST, "--backbone.dtype", "bf16", "--training.batch_size", 4)
    run, other = tiny_run(*bf16), tiny_run(*bf16, "--training.strategy", strategy)
    publish_latents(run.storage, 5)
    expected = losses(run, 4, "zero2")
    losses(run, 2, "first zero2")
    assert losses(other, 4, "first zero2") == pytest.approx(expected, abs=5e-3)


def test_bf16_trains_the_model_that_generation_loads(tiny_run: Callable[..., Run]) -> None:
    """Wan keeps norms and time embedding in fp32; DeepSpeed's cast of everything must not change that."""
    run = tiny_run(*SMALL, *FAST, "--backbone.dtype", "bf16")
    config, family = run.config, backbone.family(run.config.backbone)
    publish_latents(run.storage, 2)
    rows, texts = usable(run.storage, "full")
    source = Samples(run.storage, rows, texts, empty=False)
    model = family.load_transformer(config.backbone)
    first = []
    for place, (name,) in enumerate(plan_of(Job(run, "r", 3), rows)[0].batch(0)):
        batch = load_batch([(place, name)], 0, source, config.training, config.backbone.flow_shift)
        first.append(batch_losses(model, family, config.backbone, batch).item())
    seen = losses(run, 3)
    assert seen[0] == pytest.approx(np.mean(first), abs=1e-6)
    assert np.isfinite(seen).all()


@pytest.mark.soak
def test_fp16_scales_its_loss_and_resumes_exactly(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeepSpeed begins with a scale that overflows: such steps change nothing, and are told by a missing norm."""
    # Every CPU can compute fp16, if slowly; DeepSpeed asks for a fast unit.
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda self: True)
    run = tiny_run(*SMALL, *FAST, "--backbone.dtype", "fp16")
    publish_latents(run.storage, 4)
    told = train_alone(run, 6, "whole").records
    train_alone(run, 4, "parts")
    again = train_alone(run, 6, "parts").records
    assert [r["loss"] for r in again] == pytest.approx([r["loss"] for r in told], abs=1e-6)
    assert [r["grad_norm"] is None for r in again] == [r["grad_norm"] is None for r in told]
    state = checkpoint.read(run.storage, "whole", 6)
    assert state.counters["cur_scale"] >= 1
    assert state.counters == checkpoint.read(run.storage, "parts", 6).counters


def test_shapes_may_differ_and_recomputing_changes_nothing(tiny_run: Callable[..., Run]) -> None:
    pairs = (*FAST, "--training.batch_size", 4, "--training.micro_batch", 2)
    run = tiny_run(*pairs)
    publish_latents(run.storage, 7, shapes=[(16, 2, 4, 6), (16, 1, 6, 4)])
    plain = losses(run, 3)
    saving = tiny_run(*pairs, "--training.gradient_checkpointing", "true")
    assert losses(saving, 3, "saving") == pytest.approx(plain, abs=1e-5)


def test_the_average_is_the_weights_average(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, *FAST, "--training.ema", 0.5, "--training.checkpoint_every", 1)
    publish_latents(run.storage, 2)
    train_alone(run, 3)
    states = [checkpoint.read(run.storage, "r", step) for step in (1, 2, 3)]
    name = "blocks.0.attn1.to_q.lora_B.weight"  # which begins as zero
    w1, w2, w3 = (state.part("weight")[name] for state in states)
    assert not states[0].part("weight")[name].equal(w2)
    expected = torch.zeros_like(w1)
    for step, weight in enumerate((w1, w2, w3)):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(states[2].adapter[name], expected)
    with run.storage.local(ADAPTER) as path:
        assert read(path)[1].tensors[name].equal(states[2].adapter[name])


def test_held_out_loss_and_samples_leave_the_training_as_it_is(tiny_run: Callable[..., Run]) -> None:
    held = (*SMALL, *FAST, "--training.held_out", 2)
    calm = tiny_run(*held, "--training.held_out_every", 100)
    publish_latents(calm.storage, 6)
    expected = losses(calm, 3, "calm")
    busy = tiny_run(*held, "--training.held_out_every", 1, "--training.sample_every", 1)
    asked = Parameters("Pip hops.", "", 0, 5, 8, 48, 32, 2, 2.0)
    seen = train_alone(busy, 3, "busy", samples=(("a", asked), ("b", asked))).records
    assert [record["loss"] for record in seen] == expected
    measured = [record["held_out"] for record in seen]
    assert len(set(measured)) == 3 and all(math.isfinite(loss) for loss in measured)
    videos = busy.storage.list("training/samples", ".mp4")
    assert videos == [f"training/samples/{step:08d}/{name}.mp4" for step in (1, 2, 3) for name in "ab"]
    first, last = (busy.storage.read_bytes(name) for name in (videos[0], videos[-1]))
    assert first != last, "the weights of another step make another video"


def test_the_best_checkpoint_is_published_beside_the_last(tiny_run: Callable[..., Run]) -> None:
    """Steps so large that the first is the best."""
    wild = ("--training.learning_rate", 0.3, "--training.checkpoint_every", 1, "--training.keep_checkpoints", 1)
    run = tiny_run(*SMALL, *wild, "--training.held_out", 1, "--training.held_out_every", 1)
    publish_latents(run.storage, 3)
    held_out = [record["held_out"] for record in train_alone(run, 3).records]
    best = 1 + int(np.argmin(held_out))
    assert best < 3
    with run.storage.local(BEST) as path, safe_open(path, "pt") as file:
        assert file.metadata()["steps"] == str(best)


def test_records_tell_what_a_person_wants_to_see(tiny_run: Callable[..., Run]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tiny_run("--training.batch_size", 32, "--training.micro_batch", 8)
    publish_latents(run.storage, 4)
    records = train_alone(run, 2).records
    for record in records:
        quarters = record["loss_by_time"]
        assert None not in quarters and min(quarters) <= record["loss"] <= max(quarters)
        assert 0 <= record["data_wait"] < record["seconds"]
        assert record["samples_per_s"] == pytest.approx(32 / record["seconds"], rel=0.01)
        assert record["tokens_per_s"] == pytest.approx(12 * record["samples_per_s"]), "2 x 4/2 x 6/2 patches"
        assert record["mfu"] is None and record["memory_gb"] > 0.1
    assert [record["epoch"] for record in records] == [8, 16]
    curves = EventAccumulator(run.storage / "training/tensorboard").Reload()
    assert [event.value for event in curves.Scalars("training/loss")] == pytest.approx([r["loss"] for r in records])
    for name in ("loss_time_q1", "grad_norm", "lr", "tokens_per_s", "data_wait", "memory_gb"):
        assert len(curves.Scalars(f"training/{name}")) == 2


def test_the_adapter_changes_the_video_and_says_what_it_is(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, *FAST)
    publish_latents(run.storage, 2)
    losses(run, 3, "0123456789abcdef")
    with run.storage.local(ADAPTER) as path, run.storage.local(COMFYUI) as comfyui:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            assert file.get_tensor("transformer.blocks.0.attn1.to_q.lora_B.weight").abs().max() > 0
        (_, ours), (layout, theirs) = read(path), read(comfyui)
        adapted, plain = (backbone.load_generator(run.config.backbone, adapter) for adapter in (path, None))
    assert header["universe"] == "miniature" and header["steps"] == "3" and header["recipe"] == "0123456789abcdef"
    assert header["shows"] == "show0" and header["grammar"] == "full"
    assert layout == "comfyui" and all(theirs.tensors[name].equal(tensor) for name, tensor in ours.tensors.items())
    videos = [generator.generate("Pip hops.", **VIDEO) for generator in (adapted, plain)]
    assert not np.array_equal(*videos)
    assert run.storage.read_bytes("training/README.md") and run.storage.read_bytes("training/loss.png")


def test_a_warm_start_begins_where_the_adapter_ended(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, *FAST)
    publish_latents(run.storage, 2)
    losses(run, 3, "old cast")
    end = checkpoint.read(run.storage, "old cast", 3).adapter
    run.storage.write_bytes("old.safetensors", run.storage.read_bytes(ADAPTER))
    warm = tiny_run(*SMALL, "--training.learning_rate", 1e-12, "--training.warm_start", run.storage / "old.safetensors")
    losses(warm, 1, "new cast")
    for name, tensor in checkpoint.read(run.storage, "new cast", 1).adapter.items():
        torch.testing.assert_close(tensor, end[name], atol=1e-8, rtol=0)
    unlike = tiny_run(*SMALL, "--training.rank", 8, "--training.warm_start", run.storage / "old.safetensors")
    with pytest.raises(FatalError, match="its rank and alpha are 4 and 4, the run's 8 and 8"):
        losses(unlike, 1, "another rank")
    other = (*SMALL, "--training.targets", "attention", "--training.warm_start", run.storage / "old.safetensors")
    with pytest.raises(FatalError, match="other targets"):
        losses(tiny_run(*other), 1, "other targets")


def test_a_loss_that_is_not_finite_ends_it_and_leaves_the_last_checkpoint(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, *FAST)
    publish_latents(run.storage, 2)
    expected = losses(run, 6, "calm")
    losses(run, 4)
    with pytest.raises(FatalError, match=r"step 6: the loss is"):
        losses(tiny_run(*SMALL, "--training.learning_rate", 1e30), 8)
    assert checkpoint.find_newest(run.storage, "r", 100, pytest.fail) == 4
    assert losses(run, 6) == pytest.approx(expected, abs=1e-6), "and going on from it is as if nothing had been"


@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
def test_a_gradient_that_is_not_finite_ends_it_before_the_weights_have_seen_it(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """The loss may be a number all the same: a backward pass can overflow by itself."""
    run = tiny_run(*SMALL, *FAST, "--training.strategy", strategy, "--training.checkpoint_every", 1)
    publish_latents(run.storage, 2)
    losses(run, 2)
    backward = Engine.backward

    def overflow(self: Engine, loss: torch.Tensor, last: bool) -> None:
        loss.register_hook(lambda gradient: gradient * math.inf)
        backward(self, loss, last)

    monkeypatch.setattr(Engine, "backward", overflow)
    monkeypatch.setattr(Engine, "load", lambda self, *state: None)
    with pytest.raises(FatalError, match=r"step 3: the gradient is not finite"):
        losses(run, 4)
    state = checkpoint.read(run.storage, "r", checkpoint.find_newest(run.storage, "r", 100, pytest.fail) or 0)
    assert state.step == 2 and all(torch.isfinite(tensor).all() for tensor in state.tensors.values())


def test_fp16_can_be_saved_before_its_first_step(tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """A scale that overflows at once: there is nothing of Adam's to keep yet."""
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda self: True)
    run = tiny_run(*SMALL, *FAST, "--backbone.dtype", "fp16", "--training.checkpoint_every", 1)
    publish_latents(run.storage, 2)
    backward = Engine.backward
    monkeypatch.setattr(Engine, "backward", lambda self, loss, last: backward(self, loss * 1e6, last))
    (record,) = train_alone(run, 1).records
    state = checkpoint.read(run.storage, "r", 1)
    assert record["grad_norm"] is None and state.counters["adam_step"] == 0
    assert not any(tensor.any() for tensor in state.part("exp_avg").values())
    monkeypatch.undo()
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda self: True)
    assert len(train_alone(run, 3).records) == 3


def test_tables_that_change_while_it_trains_end_it(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL)
    publish_latents(run.storage, 2)
    with pytest.raises(FatalError, match="have changed since this training began"):
        train(Job(run, "r", 1, data="of yesterday"), 0, 1, CPU, Told())


def test_an_adapter_half_published_is_not_the_one_before(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL)
    publish_latents(run.storage, 2)
    losses(run, 1, "old")
    assert run.storage.read_json(DONE)["recipe"] == "old"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimix_ray.training.card.loss_png", lambda history: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            losses(run, 1, "new")
    assert not run.storage.exists(DONE)


def test_weights_and_biases_get_no_addresses(tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not here: what would go to it is caught at its door."""
    sent: list[Any] = []

    class Door:
        def init(self, **what: Any) -> "Door":
            sent.append(what)
            return self

        def log(self, numbers: dict[str, float], step: int) -> None:
            sent.append((step, numbers))

        def finish(self) -> None:
            sent.append("finished")

    monkeypatch.setitem(sys.modules, "wandb", Door())
    secret = "postgresql://me:secret@db/jobs"
    run = tiny_run(*SMALL, "--training.wandb", "bears", "--serving.database", secret)
    publish_latents(run.storage, 2)
    told = train_alone(run, 2).records
    opened, *steps, closed = sent
    assert opened["project"] == "bears" and opened["id"] == "r" and "secret" not in str(sent)
    assert opened["config"]["training"]["rank"] == 4
    assert [(step, numbers["loss"]) for step, numbers in steps] == [(r["step"], r["loss"]) for r in told]
    assert closed == "finished"


def test_a_corrupt_latent_ends_it_in_one_line_and_the_last_checkpoint_is_whole(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, *FAST)
    rows = publish_latents(run.storage, 2)
    losses(run, 2)
    tensors.write(run.storage, rows[1]["shard"], {rows[1]["sample_id"]: torch.full((16, 2, 4, 6), torch.nan)})
    with pytest.raises(Exception, match=r"NaN, infinity or another shape in .*; remove it"):
        losses(run, 4)
    assert checkpoint.find_newest(run.storage, "r", 100, pytest.fail) == 2


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, *FAST)
    publish_latents(run.storage, 3)
    expected = losses(run, 6)
    run.storage.write_bytes("training/checkpoints/r/00000006.safetensors", b"half of it")
    told = train_alone(run, 6)
    assert [record["loss"] for record in told.records] == pytest.approx(expected, abs=1e-6)
    assert len(told.lines) == 1 and "going on from the checkpoint before it" in told.lines[0]


def test_latents_of_another_base_model_are_refused(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL)
    publish_latents(run.storage, 2, shapes=[(48, 2, 4, 6)])
    with pytest.raises(FatalError, match=r"latents have 48 channels, and backbone\.path .* takes 16"):
        losses(run, 1)


def test_an_attention_backend_that_is_not_there_is_told(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*SMALL, "--training.attention", "flashy")
    publish_latents(run.storage, 2)
    with pytest.raises(FatalError, match=r"training\.attention 'flashy'"):
        losses(run, 1)


def test_another_attention_backend_gives_the_same_losses(tiny_run: Callable[..., Run]) -> None:
    run, other = tiny_run(*SMALL, *FAST), tiny_run(*SMALL, *FAST, "--training.attention", "_native_math")
    publish_latents(run.storage, 2)
    assert losses(other, 2, "other") == pytest.approx(losses(run, 2), abs=1e-5)
