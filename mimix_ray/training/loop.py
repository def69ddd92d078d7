"""The training loop of one worker, read top to bottom. No Ray: whoever calls has made the process group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mimix_ray import backbone, tables
from mimix_ray.backbone import flow, lora
from mimix_ray.training import checkpoint
from mimix_ray.training.batch import Batch, Samples, ahead, batch_losses, learning_rate, load_batch
from mimix_ray.training.checkpoint import AVERAGE, Checkpoint, Writer
from mimix_ray.training.engine import Engine
from mimix_ray.training.held_out import held_out_loss
from mimix_ray.training.job import FatalError, Job, TrainingError, digest_of, plan_of, usable
from mimix_ray.training.listener import Listener
from mimix_ray.training.meter import Meter, peak_flops
from mimix_ray.training.publish import publish
from mimix_ray.training.samples import Sampler
from mimix_ray.training.tracking import WandB, write_curves
from mimix_ray.training.warm import read_adapter

T = TypeVar("T")

QUARTERS = 4
"""The loss is also told by quarter of the distribution of flow times."""

LESS = "lower training.learning_rate, or use bf16"

CURVES_EVERY = 60.0
"""Seconds after which TensorBoard gets a fresh look between checkpoints."""


def train(job: Job, rank: int, world: int, device: torch.device, listener: Listener) -> None:
    """Trains from the newest checkpoint of the job's recipe to its last step; rank 0 leaves adapter and losses.

    Raises:
        FatalError: What all workers meet alike, such as a loss that is not finite.
        TrainingError: A sample's file is damaged or has gone.
        StorageError: A checkpoint could not be written; those before it are whole.
    """
    config = job.run.config.training
    worker = Worker(job, rank, world, device, listener)
    batches = worker.batches()
    for step in range(len(worker.history), job.steps):
        listener.beat()
        record = worker.step(step, batches)
        done, last = step + 1, step + 1 == job.steps
        due = last or done % config.checkpoint_every == 0
        if worker.aside and (due or done % config.held_out_every == 0):  # every regular checkpoint can be the best
            record["held_out"] = worker.held_out()
        worker.add(record)
        if listener.preempted() or due:
            worker.save()
        if worker.sampler and (last or done % (config.sample_every or 1) == 0):
            worker.sampler.make(done)
    worker.close()


class Worker:
    """The model, the data and the state of one worker. Every worker must make the same calls."""

    def __init__(self, job: Job, rank: int, world: int, device: torch.device, listener: Listener) -> None:
        self.job, self.rank, self.world, self.device, self.listener = job, rank, world, device, listener
        self.config, self.storage = job.run.config.training, job.run.storage
        self.base = job.run.config.backbone.model_copy(update={"device": str(device)})
        self.family = backbone.family(self.base)
        self.shift = self.config.flow_shift or self.base.flow_shift

        rows, texts = usable(self.storage, self.config.caption_format)
        if digest_of(rows, texts) != job.data:
            raise FatalError("the tables latents or texts have changed since this training began; run it again")
        self.shapes: dict[str, tuple[int, ...]] = {row["sample_id"]: tuple(row["shape"]) for row in rows}
        self.source = Samples(self.storage, rows, texts, empty=self.config.caption_dropout > 0)
        self.plan, self.aside = plan_of(job, rows)

        start = _common_start(job, listener)
        self.history = list(start.history) if start else []
        model = _together(world, lambda: self._model(rows, start))
        self.engine = Engine(model, self.base, self.config, accumulate=len(self.plan.share(0, rank, world)))
        if start:
            first = self._load((0, self.plan.share(0, rank, world)[0].samples)).to(device).corner()
            self.engine.load(start.tensors, start.counters, lambda: self._losses(first).mean())
        self.average = (start.part(AVERAGE) if start else self.engine.whole()) if self.config.ema else {}
        self.state = start  # what was saved last
        self.sampler = (
            Sampler(job.samples, self.storage, self.base, model, rank, world, listener) if job.samples else None
        )
        self.meter = self._meter()
        self.writer, self.shown = Writer(), time.monotonic()
        self.wandb = WandB(self.config.wandb if rank == 0 else None, job)
        for record in self.history:
            listener.tell(record)

    def batches(self) -> Iterator[Batch]:
        """This worker's micro-batches of all steps to come, read ahead."""
        steps = range(len(self.history), self.job.steps)
        work = ((step, part.samples) for step in steps for part in self.plan.share(step, self.rank, self.world))
        return ahead(self._load, work, depth=max(1, self.config.prefetch // self.config.micro_batch))

    def step(self, step: int, batches: Iterator[Batch]) -> dict[str, Any]:
        """One optimiser step; its record.

        The record holds step (from 1), epoch (passes over the data so far), loss, loss_by_time (by quarter of the
        distribution of flow times, None where none fell), grad_norm (None where fp16 overflowed), lr, workers, and what
        `Meter` measures; held_out where that was measured.
        """
        self.meter.begin()
        parts = self.plan.share(step, self.rank, self.world)
        tally = torch.zeros(1 + 2 * QUARTERS, device=self.device)
        for turn, part in enumerate(parts, start=1):
            self.listener.beat()
            with self.meter.waiting():
                batch = next(batches)
            batch = batch.to(self.device)
            losses_B = self._losses(batch)
            loss = part.weight * (self._weights(batch) * losses_B).mean()
            self.engine.backward(loss, last=turn == len(parts))
            if part.weight:
                tally += _tally(loss.detach() / len(parts) / self.world, losses_B.detach(), batch.quantile_B)
        dist.all_reduce(tally)
        loss_now, sums, counts = tally[0].item(), *tally[1:].view(2, QUARTERS).tolist()
        if not torch.isfinite(tally).all():  # and the weights have not seen it
            raise FatalError(f"step {step + 1}: the loss is {loss_now}; {LESS}")
        rate = learning_rate(self.config, step, self.job.steps)
        norm = self.engine.step(rate)
        if norm == torch.inf and self.base.dtype != "fp16":
            raise FatalError(f"step {step + 1}: the gradient is not finite, the loss is {loss_now}; {LESS}")
        if self.config.ema:
            weights = self.engine.whole()  # gathered: every worker must call
            for name, mean in self.average.items() if self.rank == 0 else ():
                # The first steps count more than the decay says: else it would long be mostly the start.
                mean.lerp_(weights[name], 1 - min(self.config.ema, (1 + step) / (10 + step)))
        return {
            "step": step + 1,
            "epoch": round((step + 1) * self.config.batch_size / self.plan.epoch_size, 4),
            "loss": loss_now,
            "loss_by_time": [total / n if n else None for total, n in zip(sums, counts, strict=True)],
            "grad_norm": norm if norm < torch.inf else None,
            "lr": rate,
            "workers": self.world,
            **self.meter.end([self.shapes[name] for unit in self.plan.batch(step) for name in unit]),
        }

    def held_out(self) -> float:
        """The loss on the clips held out, with the weights as they are."""

        def losses_of(batch: Batch) -> Tensor:
            self.listener.beat()
            return self._losses(batch)

        return held_out_loss(
            self.aside, self.source, self.config, self.shift, losses_of, self.rank, self.world, self.device
        )

    def add(self, record: dict[str, Any]) -> None:
        """Tells a step's record to everybody who looks."""
        self.history.append(record)
        self.listener.tell(record)
        if self.rank == 0:
            self.wandb.log(record)
            self.writer.look()
            if time.monotonic() - self.shown > CURVES_EVERY:
                self._write(lambda history=list(self.history): write_curves(self.storage, history))

    def save(self) -> None:
        """Gathers the state on all workers; rank 0 writes it while training goes on."""
        tensors = self.engine.state() | {f"{AVERAGE}/{name}": mean.clone() for name, mean in self.average.items()}
        state = self.state = Checkpoint(tensors, list(self.history), self.engine.counters())

        def write() -> None:
            checkpoint.write(self.storage, self.job.recipe, state, self.config.keep_checkpoints)
            write_curves(self.storage, state.history)

        if self.rank == 0:
            self._write(write)

    def close(self) -> None:
        """All steps are done: rank 0 publishes the adapter."""
        self.writer.wait()
        self.wandb.close()
        if self.rank == 0 and self.state:
            publish(self.job, self.state)

    def _write(self, task: Any) -> None:
        self.shown = time.monotonic()
        self.writer.submit(task)

    def _load(self, item: tuple[int, Sequence[tuple[int, str]]]) -> Batch:
        return load_batch(item[1], item[0], self.source, self.config, self.shift)

    def _losses(self, batch: Batch) -> Tensor:
        return batch_losses(self.engine.module, self.family, self.base, batch)

    def _weights(self, batch: Batch) -> Tensor:
        return flow.weights(batch.s_B, self.config.weighting, self.config.timestep_sampling, self.shift)

    def _model(self, rows: Sequence[tables.Row], start: Checkpoint | None) -> nn.Module:
        """The frozen transformer with its LoRA: fresh, of a warm start, or where the checkpoint left it."""
        config, family = self.config, self.family
        model = family.load_transformer(self.base)
        if (channels := rows[0]["shape"][0]) != family.channels(model):
            raise FatalError(
                f"latents have {channels} channels, and backbone.path {self.base.path!r} takes "
                f"{family.channels(model)}: another base model made them; run the stage latents with this one"
            )
        lora.attach(model, config.rank, config.alpha or config.rank, family.lora_targets(config.targets), config.seed)
        if start:
            lora.load(model, start.part("weight"))
        elif config.warm_start:
            lora.load(model, read_adapter(self.job.run).tensors)
        family.prepare(model, config)
        return model.train()

    def _meter(self) -> Meter:
        size, config = backbone.size(self.base), self.config
        peak = peak_flops(self.device)

        def flops(shape: tuple[int, ...]) -> float:
            how = {"rank": config.rank, "targets": config.targets, "recompute": config.gradient_checkpointing}
            return size.training_flops(shape, self.base.text_tokens, **how).total  # type: ignore[arg-type]

        return Meter(
            tokens=size.tokens,
            flops=flops,
            peak=peak * self.world if peak else None,
            device=self.device,
        )


def _tally(loss: Tensor, losses_B: Tensor, quantile_B: Tensor) -> Tensor:
    """[loss, sum of losses by quarter, number of samples by quarter], to be added up over micro-batches and workers."""
    quarter_B = (quantile_B * QUARTERS).long().clamp(0, QUARTERS - 1)
    sums = torch.zeros(QUARTERS, device=loss.device).index_add_(0, quarter_B, losses_B)
    return torch.cat([loss[None], sums, torch.bincount(quarter_B, minlength=QUARTERS).to(sums)])


def _together(world: int, build: Callable[[], T]) -> T:
    """What `build` makes. What it raises on one worker is raised on all: none waits for another that has gone."""
    made, error = None, ""
    try:
        made = build()
    except (TrainingError, backbone.BackboneError, OSError) as caught:
        error = str(caught)
    errors = [""] * world
    dist.all_gather_object(errors, error)
    if first := next(filter(None, errors), ""):
        raise FatalError(first)
    assert made is not None
    return made


def _common_start(job: Job, listener: Listener) -> Checkpoint | None:
    """The checkpoint that rank 0 finds newest and sound, on every worker."""
    found: list[int | None] = [None]
    if dist.get_rank() == 0:
        found = [checkpoint.find_newest(job.run.storage, job.recipe, job.steps, listener.say)]
    dist.broadcast_object_list(found)
    return None if found[0] is None else checkpoint.read(job.run.storage, job.recipe, found[0])
