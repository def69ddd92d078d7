"""One worker's training step at the shape of Wan2.1-T2V-14B: seconds, memory, MFU, and where the time goes.

    python benchmarks/train.py --gpu [--strategy ddp] [--attention _flash_3] [--compile]
    python benchmarks/train.py --gpu --layers 2 --heads 1 --size 64x64 --frames 5      its wiring, on any machine

Random weights, made on the device in bf16 (in fp32 where Wan's loader keeps that), one clip of 81 frames of 832x480
(32,760 tokens) under 512 text tokens, LoRA of rank 32 on attention and FFN, all activations recomputed: the parts that
training runs on (`backbone.lora`, `backbone.wan`, `training.batch`, `training.engine`), alone in a process group of
one. FLOPs are `DiTSize.training_flops`, which counts recomputation; they are held against the rate of large bf16 matrix
products, among them the feed-forward's, that the same device reaches right after the steps, while it is as warm.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import deepspeed  # noqa: F401  # finds its accelerator before the clock runs
import torch
import torch.distributed as dist
from diffusers import WanTransformer3DModel
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mimix_ray import backbone
from mimix_ray.backbone import lora
from mimix_ray.backbone.dit import DiTSize
from mimix_ray.config import BackboneConfig, TrainingConfig
from mimix_ray.training.batch import Batch, batch_losses
from mimix_ray.training.engine import Engine

TARGET = 0.55
"""Least share of the matrix rate."""
WARM_UP = 2
"""First steps, which do not count: memory is found, kernels are chosen."""
TEXT_TOKENS = 200
"""Of a caption; Wan pads it to 512."""

CLASSES = {
    "communication": r"nccl|gloo|c10d|all_?reduce",
    "attention": r"flash|fmha|sdpa|attention",
    "matrix products": r"gemm|nvjet|cutlass|cublas|addmm|\bmm\b|bmm|conv",
    "norms": r"norm",
    "copies and casts": r"copy|memcpy|memset|\bcat\b|CatArray|fill|zero_",
    "element by element": r"elementwise|triton|gelu|silu|\b(add|mul|sub|div|addcmul|addcdiv|neg)_?\b",
    "sums": r"reduce|\b(sum|mean)\b",
}
"""Kernels by name, the first that fits: cutlass makes attention too. On a CPU, PyTorch's operators."""


def build(layers: int, heads: int, device: torch.device) -> WanTransformer3DModel:
    """The 14B transformer (diffusers' defaults: 40 blocks, 40 heads), in the precision that loading it in bf16 gives.

    With fewer heads it is as much narrower.
    """
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = WanTransformer3DModel(num_layers=layers, num_attention_heads=heads, ffn_dim=13824 * heads // 40)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, parameter in model.named_parameters():
        if set(name.split(".")) & set(model._keep_in_fp32_modules):
            parameter.data = parameter.data.float()
    return model


def matrix_rate(device: torch.device, sizes: list[tuple[int, int, int]], seconds: float) -> float:
    """FLOP/s of bf16 products [m, k] x [k, n]: the best of the sizes, each repeated for so long."""
    rates = []
    for m, k, n in sizes:
        a, b = (torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in ((m, k), (k, n)))
        count, spent = 1, timed(lambda: a @ b, device)  # noqa: B023
        while spent < seconds:
            count = max(count + 1, round(1.2 * count * seconds / spent))
            spent = timed(lambda: [None for _ in range(count) if a @ b is None], device)  # noqa: B023
        rates.append(2 * m * k * n * count / spent)
    return max(rates)


def timed(what: Callable[[], object], device: torch.device) -> float:
    """Wall seconds until the device has done it."""
    synchronize(device)
    began = time.perf_counter()
    what()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def shares(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Where one step's wall time goes, by CLASSES; `idle` is when the device waits for Python."""
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")) as profiler:
        wall = timed(step, device)
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        if device.type == "cuda" and event.device_type == DeviceType.CUDA:
            spent[kind(event.key)] += event.self_device_time_total
        elif device.type == "cpu":
            spent[kind(event.key)] += event.self_cpu_time_total
    spent["idle"] = max(0.0, wall * 1e6 - spent.total())
    return {name: round(time_us / wall / 1e6, 3) for name, time_us in spent.most_common()}


def kind(kernel: str) -> str:
    return next((name for name, words in CLASSES.items() if re.search(words, kernel, re.IGNORECASE)), "other")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The benchmark's last line."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width, height = map(int, options.size.split("x"))
    base = BackboneConfig(dtype="bf16", device=str(device))
    training = TrainingConfig(
        workers=1, batch_size=1, strategy=options.strategy, attention=options.attention, compile=options.compile
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed wants it
        store = dist.FileStore(f"{folder}/store", 1)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=0, world_size=1)
        model = build(options.layers, options.heads, device)
        size = DiTSize.of(model.config)
        step = stepper(model, base, training, size.latent_shape(options.frames, height, width), device)
        seconds = [timed(step, device) for _ in range(WARM_UP + options.steps)][WARM_UP:]
        peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        where = shares(step, device)
        dist.destroy_process_group()
    shape = size.latent_shape(options.frames, height, width)
    flops = {
        recompute: size.training_flops(
            shape, base.text_tokens, rank=training.rank, targets=training.targets, recompute=recompute
        ).total
        for recompute in (True, False)
    }
    tokens = size.tokens(shape)
    side = 8192 if device.type == "cuda" else 512
    rate = matrix_rate(device, [(tokens, size.dim, size.ffn), (tokens, size.ffn, size.dim), (side,) * 3], options.heat)
    middle = statistics.median(seconds)
    return {
        "name": "train-14b",
        "peer": "large bf16 matrix products on the same device",
        "ratio": round(flops[True] / middle / rate, 3),
        "target": TARGET,
        "without_recomputation": round(flops[False] / middle / rate, 3),
        "seconds_a_step": round(middle, 3),
        "slowest_step": round(max(seconds), 3),
        "peak_gb": peak and round(peak, 1),
        "pflop_a_clip": float(f"{flops[True] / 1e15:.4g}"),
        "matrix_tflops": float(f"{rate / 1e12:.4g}"),
        "shares_of_time": where,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "layers": options.layers,
        "heads": options.heads,
        "tokens": tokens,
        "strategy": training.strategy,
        "attention": training.attention,
        "compile": training.compile,
    }


def stepper(
    model: nn.Module, base: BackboneConfig, training: TrainingConfig, shape: tuple[int, ...], device: torch.device
) -> Callable[[], float]:
    """What does one optimiser step on one clip, as the training loop does it."""
    family = backbone.family(base)
    lora.attach(model, training.rank, training.rank, family.lora_targets(training.targets), training.seed)
    family.prepare(model, training)
    model.train()
    engine = Engine(model, base, training, accumulate=1)
    text = torch.randn(TEXT_TOKENS, model.config.text_dim, dtype=torch.bfloat16, device=device)
    x0_BCFHW, noise_BCFHW = torch.randn(2, 1, *shape, device=device)
    batch = Batch(x0_BCFHW, noise_BCFHW, torch.full((1,), 0.7, device=device), torch.full((1,), 0.7), [text])

    def step() -> float:
        engine.backward(batch_losses(engine.module, family, base, batch).mean(), last=True)
        return engine.step(training.learning_rate)

    return step


def add_options(options: argparse.ArgumentParser) -> None:
    """The arguments of this measurement."""
    options.add_argument("--layers", type=int, default=40)
    options.add_argument("--heads", type=int, default=40)
    options.add_argument("--size", default="832x480", help="width x height of the clip, pixels")
    options.add_argument("--frames", type=int, default=81)
    options.add_argument("--strategy", default="zero2")
    options.add_argument("--attention", help="as training.attention")
    options.add_argument("--compile", action="store_true", help="as training.compile")
    options.add_argument("--heat", type=float, default=2.0, help="seconds that each matrix product is repeated")
