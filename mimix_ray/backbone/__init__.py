"""The base model behind one small interface: what latents, training, generation and serving know of it.

A family (`wan`) is a module with the functions of `Family`; `config.backbone.name` picks it. Weights are loaded only
when they are asked for, so that importing this package costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mimix_ray.backbone.dit import PUBLISHED, DiTSize
from mimix_ray.config import BackboneConfig, TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mimix_ray.backbone.wan_adapter import Lora


class BackboneError(RuntimeError):
    """A base model or adapter that cannot be used; the message is one clear line."""


class GenerationError(RuntimeError):
    """A generation that went wrong inside the model, such as NaN in the result."""


class Cancelled(Exception):
    """Raised by a caller's `on_step` to stop a generation at once."""


class Vae(Protocol):
    """What a video goes through once, before training, and what is generated goes back through."""

    def encode(self, films: Sequence[np.ndarray]) -> list[Tensor]:
        """Films `uint8 [F, H, W, 3]` of one size as normalised latents, bf16 [C, f, h, w] each on the CPU.

        F is 4k+1, H and W multiples of 16 for Wan2.1; BackboneError otherwise. Together they take less time than one
        by one, and that many times the memory.
        """

    def decode(self, latent: Tensor) -> np.ndarray:
        """A normalised latent [C, f, h, w] as frames `uint8 [F, H, W, 3]`; GenerationError on NaN."""


class TextEncoder(Protocol):
    """What a caption goes through once, before training."""

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Each text as its own bf16 [L, D] on the CPU, without padding; cut at `backbone.text_tokens`."""


class Generator(Protocol):
    """The generating pipeline with one adapter, or none."""

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str = "",
        frames: int,
        width: int,
        height: int,
        steps: int,
        guidance: float,
        seed: int,
        on_step: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """A video `uint8 [F, H, W, 3]`; the same arguments give the same video.

        Args:
            frames: 4k+1; other numbers are a BackboneError, as are sizes that the VAE cannot take.
            guidance: Classifier-free guidance scale; 1 and below means none, at half the cost.
            on_step: Called with (steps done, steps) after each step. What it raises, such as `Cancelled`, ends the
                generation at once and comes out of here.

        Raises:
            GenerationError: The model gave NaN or infinity.
        """


class Family(Protocol):
    """What a module of this package offers."""

    def load_vae(self, config: BackboneConfig) -> Vae: ...

    def load_text_encoder(self, config: BackboneConfig) -> TextEncoder: ...

    def load_generator(self, config: BackboneConfig, adapter: Path | None) -> Generator: ...

    def load_transformer(self, config: BackboneConfig) -> nn.Module:
        """The frozen transformer, in the config's precision on its device."""

    def load_sampler(self, config: BackboneConfig, model: nn.Module, texts: Sequence[str]) -> Generator:
        """A generator around a transformer that is being trained, for these prompts and negative prompts alone."""

    def prepare(self, model: nn.Module, config: TrainingConfig) -> None:
        """Makes the model, LoRA attached, train as the config says: recomputing activations to save memory, by an
        attention backend of diffusers (BackboneError if it is not to be had), its blocks compiled."""

    def lora_targets(self, choice: str) -> list[str]:
        """Endings of the names of the linears that get LoRA: choice is `attention` or `attention_ffn`."""

    def predict(
        self, model: nn.Module, config: BackboneConfig, x_BCFHW: Tensor, s_B: Tensor, texts: Sequence[Tensor]
    ) -> Tensor:
        """The flow velocity, fp32 [B, C, F, H, W], at flow times s_B (0 data .. 1 noise) under B texts [L, D]."""

    def channels(self, model: nn.Module) -> int:
        """Channels of the latents that the transformer takes."""

    def save_adapter(
        self, path: Path, lora: dict[str, Tensor], training: TrainingConfig, metadata: dict[str, str], layout: str = ...
    ) -> None:
        """Writes LoRA tensors, named as in the transformer, by default in the layout that the family's pipeline loads.

        `comfyui` is another one that each family has.
        """

    def read_adapter(self, path: Path) -> Lora:
        """The LoRA of a file in any layout that the family knows; BackboneError when it is none."""


def family(config: BackboneConfig) -> Family:
    """The module that knows this backbone."""
    from mimix_ray.backbone import wan

    return {"wan": wan}[config.name]


def load_vae(config: BackboneConfig) -> Vae:
    """The VAE, in fp32 whatever `backbone.dtype`; BackboneError when it is not there."""
    return family(config).load_vae(config)


def load_text_encoder(config: BackboneConfig) -> TextEncoder:
    """The text encoder with its tokenizer; BackboneError when they are not there."""
    return family(config).load_text_encoder(config)


def load_generator(config: BackboneConfig, adapter: Path | None) -> Generator:
    """The pipeline, with the adapter if one is given; BackboneError when either cannot be loaded."""
    return family(config).load_generator(config, adapter)


def load_transformer(config: BackboneConfig) -> nn.Module:
    """The frozen transformer; BackboneError when it is not there."""
    return family(config).load_transformer(config)


def check(config: BackboneConfig) -> None:
    """BackboneError when there is no such model; reads one small file, no weights."""
    from huggingface_hub import hf_hub_download

    folder = Path(config.path)
    try:
        if not folder.is_dir():
            hf_hub_download(config.path, "model_index.json", revision=config.revision)
        elif not (folder / "model_index.json").is_file():
            raise OSError("it has no model_index.json")
    except (OSError, ValueError) as error:
        raise missing(config, "pipeline", error) from None


def size(config: BackboneConfig) -> DiTSize:
    """How large the transformer is; BackboneError when it does not say. Reads one small file, none for Wan2.1's own."""
    from huggingface_hub import hf_hub_download

    folder = Path(config.path)
    if not folder.is_dir() and config.path in PUBLISHED:
        return PUBLISHED[config.path]
    try:
        name = "transformer/config.json"
        file = folder / name if folder.is_dir() else hf_hub_download(config.path, name, revision=config.revision)
        return DiTSize.of(json.loads(Path(file).read_text()))
    except (OSError, ValueError) as error:
        raise missing(config, "transformer/config.json", error) from None


def missing(config: BackboneConfig, part: str, error: Exception) -> BackboneError:
    """The error of a model, or a part of one, that cannot be loaded."""
    return BackboneError(
        f"backbone.path {config.path!r}: no usable {part} there; give a hub id or a folder in diffusers layout "
        f"({' '.join(str(error).split())[:200]})"
    )


def identity(config: BackboneConfig, *indifferent: str) -> str:
    """What a result of this model depends on, for recipes: its config and, for a folder, the folder's own marks.

    The marks are the JSON files and the sizes of the weights, so that a model rebuilt at the same place is another one.

    Args:
        indifferent: Fields of the config that this result does not depend on.
    """
    values = {name: value for name, value in config.identity().items() if name not in indifferent}
    files = sorted(file for file in Path(config.path).rglob("*") if file.is_file())
    marks = [file.read_text() if file.suffix == ".json" else f"{file.name} {file.stat().st_size}" for file in files]
    return "\n".join([json.dumps(values, sort_keys=True), *marks])
