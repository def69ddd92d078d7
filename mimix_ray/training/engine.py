"""DeepSpeed around a transformer with LoRA. Runs inside a process group that somebody else has made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from mimix_ray.backbone import lora
from mimix_ray.config import BackboneConfig, TrainingConfig
from mimix_ray.training.budget import LARGEST_BUCKET
from mimix_ray.training.checkpoint import KEYS

STAGES = {"ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3}

SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
"""The state of DeepSpeed's dynamic loss scaler."""


class Engine:
    """One worker's part of the sharded optimiser. Every worker must make the same calls."""

    def __init__(self, model: nn.Module, backbone: BackboneConfig, config: TrainingConfig, accumulate: int) -> None:
        # DeepSpeed would compile an all-reduce for inference at start, which training never calls: no compiler needed.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.parameters = lora.parameters(model)
        if config.strategy == "ddp":
            # The LoRA alone is trained, in fp32 as it is: it needs no masters beside it.
            for parameter in self.parameters.values():
                parameter.data = parameter.data.float()
        self.accumulate = accumulate
        # DeepSpeed casts everything; what Wan keeps in fp32 (norms, time embedding) goes back to it, as in generation.
        kept = {p: p.data for p in model.parameters() if not p.requires_grad and p.dtype == torch.float32}
        optimizer = torch.optim.AdamW(self.parameters.values(), config.learning_rate, weight_decay=config.weight_decay)
        elements = sum(p.numel() for p in self.parameters.values())
        self.module, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=settings(backbone, config, accumulate, elements),
            dist_init_required=False,
        )
        if config.strategy != "zero3":
            for parameter, values in kept.items():
                parameter.data = values

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds the gradient of one micro-batch; the mean over `accumulate` of them and all workers is what counts.

        Args:
            last: Whether `step` comes next.
        """
        self.module.backward(loss)
        if not last:
            self.module.step()

    def step(self, learning_rate: float) -> float:
        """After the last micro-batch: clips, updates, and gives the gradient's norm before clipping.

        A gradient that is not finite updates nothing, and its norm is infinite; in fp16 the loss scale is halved.
        """
        for group in self.module.optimizer.param_groups:
            group["lr"] = learning_rate
        gradients = [p.grad for p in self.parameters.values() if not _is_managed(p) and p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)  # DeepSpeed tells that of the parameters that it manages
        if not torch.isfinite(norm):
            return math.inf
        before = self._loss_scale.get("last_overflow_iter")
        self.module.step()
        if self._loss_scale.get("last_overflow_iter") != before:
            return math.inf
        total = float(norm if gradients else self.module.get_global_grad_norm())
        return total if math.isfinite(total) else math.inf

    def state(self) -> dict[str, Tensor]:
        """Weights and Adam's moments, whole, fp32 on the CPU, as in `Checkpoint.tensors`."""
        return {f"{key}/{name}": tensor for key in KEYS for name, tensor in self.whole(key).items()}

    def whole(self, key: str = "weight") -> dict[str, Tensor]:
        """One of KEYS of every LoRA tensor, fp32 on the CPU."""
        return {
            name: self._get(parameter, key).detach().float().cpu().clone()
            for name, parameter in self.parameters.items()
        }

    def counters(self) -> dict[str, float]:
        """Adam's steps and the state of the loss scale, as in `Checkpoint.counters`."""
        steps = [state["step"] for state in self._adam.state.values() if "step" in state]
        return {"adam_step": float(steps[0]) if steps else 0.0, **self._loss_scale}

    def load(
        self, tensors: Mapping[str, Tensor], counters: Mapping[str, float], tiny_loss: Callable[[], Tensor]
    ) -> None:
        """Takes up where `state` and `counters` were written. The weights must have been put into the model before.

        Args:
            tiny_loss: Any loss that runs through the whole model. Adam's moments come into being at a first step: one
                is made with learning rate 0, and what it leaves is overwritten.
        """
        for left in reversed(range(self.accumulate)):
            self.backward(0 * tiny_loss(), last=not left)
        self.step(0.0)
        for key in KEYS:
            for name, parameter in self.parameters.items():
                self._set(parameter, key, tensors[f"{key}/{name}"].to(parameter.device))
        for state in self._adam.state.values():
            state["step"].fill_(counters["adam_step"])
        if self._loss_scale:
            for name in SCALER:
                setattr(self.module.optimizer.loss_scaler, name, counters.get(name, self._loss_scale[name]))

    @property
    def _loss_scale(self) -> dict[str, float]:
        """The state of fp16's dynamic loss scale; empty in other precisions."""
        scaler = getattr(self.module.optimizer, "loss_scaler", None)
        return {name: getattr(scaler, name) for name in SCALER} if getattr(scaler, "dynamic", False) else {}

    @property
    def _adam(self) -> Any:
        return getattr(self.module.optimizer, "optimizer", self.module.optimizer)

    def _get(self, parameter: nn.Parameter, key: str) -> Tensor:
        if not _is_managed(parameter):
            return parameter if key == "weight" else self._adam.state[parameter][key]
        weight = safe_get_full_fp32_param(parameter)
        if key == "weight":
            return weight
        if not self.counters()["adam_step"]:  # fp16 may overflow from the first step on: there are no moments yet
            return torch.zeros_like(weight)
        return safe_get_full_optimizer_state(parameter, key)

    def _set(self, parameter: nn.Parameter, key: str, value: Tensor) -> None:
        if not _is_managed(parameter):
            self._get(parameter, key).data.copy_(value)
        elif hasattr(parameter, "ds_tensor"):
            # Not by DeepSpeed's call for whole tensors: it fails where workers do not divide a tensor's elements.
            part = _part(value, parameter.ds_tensor.numel())
            if key == "weight":
                safe_set_local_fp32_param(parameter, part)
            else:
                safe_set_local_optimizer_state(parameter, part, key)
        elif key == "weight":
            safe_set_full_fp32_param(parameter, value)
        else:
            safe_set_full_optimizer_state(parameter, value, key)


def settings(backbone: BackboneConfig, config: TrainingConfig, accumulate: int, elements: int) -> dict[str, Any]:
    """DeepSpeed's config for a LoRA of so many elements."""
    bucket = min(elements, LARGEST_BUCKET)
    precision: dict[str, Any] = {}
    if config.strategy != "ddp" and backbone.dtype != "fp32":
        precision = {backbone.dtype: {"enabled": True}}
    if "bf16" in precision:
        # Micro-batches add up in fp32: in bf16 the sum would depend on how many workers share them.
        precision["data_types"] = {"grad_accum_dtype": "fp32"}
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": accumulate,
        "gradient_clipping": config.grad_clip,
        "zero_optimization": {
            "stage": STAGES[config.strategy],
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "overlap_comm": False,
        },
        "steps_per_print": 1_000_000_000,
        **precision,
    }


def _part(value: Tensor, size: int) -> Tensor:
    """This worker's `size` elements of a tensor that ZeRO-3 divides over all, zeros after its end."""
    padded = nn.functional.pad(value.flatten(), (0, size * dist.get_world_size() - value.numel()))
    return padded[size * dist.get_rank() :][:size]


def _is_managed(parameter: nn.Parameter) -> bool:
    """Whether DeepSpeed holds an fp32 master of it; under plain data parallelism in fp32 there is none."""
    return hasattr(parameter, "_hp_mapping") or hasattr(parameter, "ds_id")
