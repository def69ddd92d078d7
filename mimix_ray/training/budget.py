"""What a training will take, told before it is started: memory a GPU, steps, hours. No Ray, no PyTorch, no weights.

FLOPs and bytes of the model are the formulas of `backbone.dit`; docs/training.md says how they are checked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mimix_ray import backbone, tables
from mimix_ray.backbone.dit import DiTSize
from mimix_ray.config import RunConfig
from mimix_ray.storage import Storage

Shape = tuple[int, ...]
"""C, f, h, w of a latent."""

STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
GB = 1e9

LARGEST_BUCKET = 50_000_000
"""Elements that DeepSpeed gathers before it sends them, as `training.engine` sets it (or all of a smaller LoRA)."""

LIVE = 1_000_000_000
"""Elements of the base that ZeRO-3 may hold gathered (DeepSpeed's `stage3_max_live_parameters`)."""

RESERVE = 3e9
"""Bytes for CUDA's context, the libraries' work space, NCCL, and what the allocator cannot use: an assumption."""

UTILISATION = 0.45
"""Share of the peak rate that training reaches: an assumption until it is measured."""


class BudgetError(ValueError):
    """A training that does not fit, or cannot be planned; the message is one clear line."""


@dataclass(frozen=True)
class Gpu:
    """A type of GPU by its maker's data sheet."""

    device: str
    """What its name has in it, as CUDA tells it."""
    memory: int
    """GB of 1e9 bytes; drivers tell up to 7 % more, which is left to them."""
    flops: float
    """Peak of dense bf16 products with fp32 sums, FLOP/s; sheets that give it with sparsity are halved."""


GPUS = {
    "A100-40G": Gpu("A100", 40, 312e12),  # NVIDIA A100 data sheet
    "A100-80G": Gpu("A100", 80, 312e12),
    "H100-PCIe": Gpu("H100 PCIe", 80, 756e12),  # NVIDIA H100 data sheet
    "H100-80G": Gpu("H100 80GB", 80, 989e12),  # SXM
    "H200": Gpu("H200", 141, 989e12),  # NVIDIA H200 data sheet
    "B200": Gpu("B200", 180, 2250e12),  # NVIDIA DGX B200 data sheet, an eighth of it
    "L40S": Gpu("L40S", 48, 362e12),  # NVIDIA L40S data sheet
    "RTX-A6000": Gpu("RTX A6000", 48, 155e12),  # NVIDIA RTX A6000 data sheet
    "RTX-4090": Gpu("RTX 4090", 24, 165e12),  # NVIDIA Ada architecture white paper, appendix A
}


@dataclass(frozen=True)
class Memory:
    """One GPU's memory at the peak of a step, bytes."""

    base: float
    """The frozen transformer, or this GPU's share of it."""
    lora: float
    """LoRA with its gradients, fp32 masters and Adam's two moments."""
    activations: float
    buckets: float
    """What DeepSpeed gathers and sends."""
    loading: float
    """The whole base: every worker loads it before ZeRO-3 divides it."""
    reserve: float = RESERVE

    @property
    def step(self) -> float:
        return self.base + self.lora + self.activations + self.buckets

    @property
    def total(self) -> float:
        return max(self.step, self.loading) + self.reserve


@dataclass(frozen=True)
class Budget:
    """What one config takes on one type of GPU."""

    config: RunConfig
    gpu: str
    size: DiTSize
    shape: Shape
    """The largest latent: it decides about memory."""
    clips: int
    """Trained on, without those held out."""
    flops: float
    """Of the mean clip, forward and backward, recomputation included."""
    utilisation: float

    @property
    def tokens(self) -> int:
        """Of the largest clip."""
        return self.size.tokens(self.shape)

    @property
    def composites(self) -> int:
        """An epoch's; the ratio of the training, else that at which they are made."""
        ratio = self.config.training.composite_ratio
        return round((self.config.composites.ratio if ratio is None else ratio) * self.clips)

    @property
    def steps(self) -> int:
        """As `training.plan` counts them: the last step may begin another epoch."""
        training = self.config.training
        steps = math.ceil(training.epochs * (self.clips + self.composites) / training.batch_size)
        return steps if training.max_steps is None else min(steps, training.max_steps)

    @property
    def workers(self) -> int:
        return least_workers(self.config)

    @property
    def seconds_a_step(self) -> float:
        """Where micro-batches do not divide by workers, those with one less wait."""
        training = self.config.training
        most = math.ceil(training.batch_size / training.micro_batch / self.workers) * training.micro_batch
        return most * self.flops / (GPUS[self.gpu].flops * self.utilisation)

    @property
    def hours(self) -> float:
        return self.steps * self.seconds_a_step / 3600

    @property
    def gpu_hours(self) -> float:
        return self.hours * self.workers

    def check(self) -> None:
        """Raises BudgetError when the config's own strategy does not fit; it says what to change."""
        room, needs = GPUS[self.gpu].memory * GB, memory(self.config, self.size, self.shape).total
        if needs <= room:
            return
        named, advice = [], ""
        for name, value, config in _savings(self.config):
            named.append(f"training.{name} {value}")
            left = memory(config, self.size, self.shape).total
            if left <= room:
                advice = f"set {', '.join(named)} (needs {left / GB:.1f} GB), or "
                break
        larger = [name for name, gpu in GPUS.items() if gpu.memory * GB >= needs]
        advice += f"take one of {', '.join(larger)}" if larger else "take shorter or smaller clips"
        training = self.config.training
        raise BudgetError(
            f"{needs / GB:.1f} GB a GPU do not fit {self.gpu} ({GPUS[self.gpu].memory} GB) with training.strategy "
            f"{training.strategy}: {advice}"
        )

    def __str__(self) -> str:
        training, base, gpu = self.config.training, self.config.backbone, GPUS[self.gpu]
        lora = self.size.lora_parameters(training.rank, training.targets)
        recompute = "recomputation included" if training.gradient_checkpointing else "nothing recomputed"
        epoch = f"{self.clips + self.composites:,} an epoch: {self.clips:,} clips, {self.composites:,} composites"
        rate = f"{self.utilisation:.0%} (assumed) of {gpu.flops / 1e12:,g} TFLOP/s in bf16"
        return "\n".join(
            (
                f"base     {base.path}, {self.size.parameters():,} parameters",
                f"LoRA     {lora:,} parameters, rank {training.rank}, {training.targets}",
                f"clip     {self.tokens:,} tokens in the largest, {base.text_tokens} of text; "
                f"{self.flops / 1e15:.2f} PFLOP on average, {recompute}",
                f"samples  {epoch}",
                f"steps    {self.steps:,} of {training.batch_size} samples",
                f"time     {self.hours:,.1f} h, {self.seconds_a_step:,.1f} s a step, {self.gpu_hours:,.0f} GPU-hours",
                f"GPUs     {self.workers} x {self.gpu} at {rate}",
                "",
                *self._table(),
            )
        )

    def _table(self) -> Iterator[str]:
        """Memory by strategy."""
        training, gpu = self.config.training, GPUS[self.gpu]
        recompute = str(training.gradient_checkpointing).lower()
        yield f"GB a GPU, micro_batch {training.micro_batch}, gradient_checkpointing {recompute}:"
        yield " " * 8 + "base  LoRA, Adam  activations  buckets  reserve   total"
        for strategy in STRATEGIES:
            needs = memory(_with(self.config, strategy=strategy), self.size, self.shape)
            parts = (needs.base, 4), (needs.lora, 12), (needs.activations, 13), (needs.buckets, 9), (needs.reserve, 9)
            cells = "".join(f"{part / GB:{width}.1f}" for part, width in (*parts, (needs.total, 8)))
            fits = "fits" if needs.total <= gpu.memory * GB else "does not fit"
            loading = ", as the base is loaded" * (needs.loading > needs.step)
            chosen = " <- training.strategy" * (strategy == training.strategy)
            yield f"{strategy:<8}{cells}  {fits} {gpu.memory} GB{loading}{chosen}"


def plan(config: RunConfig, gpu: str, clips_of: Mapping[Shape, int], utilisation: float = UTILISATION) -> Budget:
    """The budget of a config.

    Epochs are counted without `training.rehearsal`; hours are of training steps alone, without reading data, held-out
    losses, sample videos and checkpoints.

    Args:
        gpu: A name of `GPUS`.
        clips_of: Clips by latent shape, as `footage` finds them or `imagined` supposes.
        utilisation: Share of the GPU's peak that is reached, above 0 and at most 1.

    Raises:
        BudgetError: Unknown GPU, utilisation out of range, nothing to train on.
        BackboneError: The base model does not say how large it is.
    """
    if gpu not in GPUS:
        raise BudgetError(f"--gpu {gpu}: not known; known: {', '.join(GPUS)}")
    if not 0 < utilisation <= 1:
        raise BudgetError(f"--utilisation {utilisation}: must be above 0 and at most 1, such as {UTILISATION}")
    total, held_out = sum(clips_of.values()), config.training.held_out
    if total <= held_out:
        raise BudgetError(f"{total} clips, of which training.held_out keeps {held_out}: nothing to train on")
    size = backbone.size(config.backbone)
    flops = sum(count * size.training_flops(shape, **_step(config)).total for shape, count in clips_of.items()) / total
    return Budget(config, gpu, size, max(clips_of, key=size.tokens), total - held_out, flops, utilisation)


def memory(config: RunConfig, size: DiTSize, shape: Shape) -> Memory:
    """One GPU's memory under the config's strategy, for clips of one latent shape.

    A parameter of the base takes b bytes (2 in bf16). A parameter of LoRA takes b, 4 of gradient, 4 of fp32 master and
    8 of Adam's moments; under ddp it is its own master, 16 in all. ZeRO-1 divides the last two by the workers, ZeRO-2
    gradients too, ZeRO-3 everything, the base included. Its own linears keep their inputs for the backward pass, as a
    linear with LoRA does anyway.
    """
    training, b, workers = config.training, BYTES[config.backbone.dtype], least_workers(config)
    stage = STRATEGIES.index(training.strategy)
    parameters, lora = size.parameters(), size.lora_parameters(training.rank, training.targets)
    share = [workers if stage >= first else 1 for first in (1, 2, 3)]
    bucket = b * min(lora, LARGEST_BUCKET)
    step = _step(config) | ({"targets": "attention_ffn"} if stage == 3 else {})
    clip = size.activation_bytes(shape, itemsize=b, **step)
    return Memory(
        base=b * parameters / share[2],
        lora=lora * (12 / share[0] + (4 if stage else b) / share[1] + b / share[2]),
        activations=training.micro_batch * clip,
        buckets=bucket * (2 if stage else 1) + (b * min(parameters, LIVE) if stage == 3 else 0),
        loading=b * parameters,
    )


def footage(config: RunConfig) -> dict[Shape, int]:
    """Clips of the run's root by latent shape: of table `latents`, or of table `clips` while that is not there.

    Raises:
        BudgetError: Neither stage has ended.
        StorageError: The root cannot be read.
    """
    storage = Storage.open(config.root, config.storage)
    try:
        rows = [row for row in tables.read(storage, tables.LATENTS) if row["kind"] == "clip"]
        return Counter(tuple(row["shape"]) for row in rows)
    except tables.TableError:
        pass
    try:
        size = backbone.size(config.backbone)
        rows = tables.read(storage, tables.CLIPS)
        return Counter(size.latent_shape(row["frames"], row["height"], row["width"]) for row in rows)
    except tables.TableError:
        raise BudgetError(f"{storage.uri} has no clips yet: tell how many there will be by --clips N") from None


def imagined(config: RunConfig, clips: int) -> dict[Shape, int]:
    """So many clips, all of the largest size that the config allows."""
    size = backbone.size(config.backbone)
    shapes = [size.latent_shape(config.clips.frames, height, width) for width, height in config.clips.pixel_sizes]
    return {max(shapes, key=size.tokens): clips}


def least_workers(config: RunConfig) -> int:
    """The fewest workers that the config trains with: they have the most to hold."""
    return config.training.min_workers or config.training.workers


def _step(config: RunConfig) -> dict[str, Any]:
    """What the formulas of a step want to know."""
    training = config.training
    return {
        "text_tokens": config.backbone.text_tokens,
        "rank": training.rank,
        "targets": training.targets,
        "recompute": training.gradient_checkpointing,
    }


def _with(config: RunConfig, **changes: Any) -> RunConfig:
    """The config with other fields of `training`."""
    return config.model_copy(update={"training": config.training.model_copy(update=changes)})


def _savings(config: RunConfig) -> Iterator[tuple[str, str, RunConfig]]:
    """What saves memory, the cheapest first; each on top of those before. Only what the config does not do already."""
    for name, value in (("micro_batch", 1), ("gradient_checkpointing", True), ("strategy", "zero3")):
        if getattr(config.training, name) != value:
            config = _with(config, **{name: value})
            yield name, str(value).lower(), config
