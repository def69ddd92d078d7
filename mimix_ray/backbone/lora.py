"""LoRA on a frozen transformer, by peft: attaching it, and its weights by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from mimix_ray.backbone import BackboneError

_PEFT_NAME = ".default."
"""peft keeps several adapters side by side, each under a name inside its parameters' names; ours is the only one."""


def attach(transformer: nn.Module, rank: int, alpha: int, targets: Sequence[str], seed: int) -> None:
    """Gives every linear whose name ends in one of `targets` a LoRA; the same seed gives the same start.

    The only parameters that learn afterwards are those of `parameters`. Raises BackboneError when nothing matches.
    """
    transformer.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))
        try:
            inject_adapter_in_model(config, transformer)
        except ValueError as error:
            raise BackboneError(f"LoRA targets {list(targets)} fit nothing in this model: {error}") from None


def parameters(transformer: nn.Module) -> dict[str, nn.Parameter]:
    """The LoRA parameters by the name they have in an adapter file, such as `blocks.0.attn1.to_q.lora_A.weight`."""
    return {
        name.replace(_PEFT_NAME, "."): parameter
        for name, parameter in transformer.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def load(transformer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies tensors, named as in `parameters`, into the LoRA; BackboneError when they are another LoRA's."""
    own = parameters(transformer)
    if unlike := sorted(own.keys() ^ tensors.keys()):
        raise BackboneError(f"{len(unlike)} LoRA tensors are on one side only, first {unlike[0]}; other targets?")
    for name, parameter in own.items():
        if parameter.shape != tensors[name].shape:
            raise BackboneError(
                f"{name}: {list(tensors[name].shape)} does not fit {list(parameter.shape)}; another base?"
            )
        parameter.copy_(tensors[name])
