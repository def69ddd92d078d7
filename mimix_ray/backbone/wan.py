"""Wan2.1 text-to-video, and every pipeline of the same diffusers classes.

Traps that are handled here: `WanPipeline.encode_prompt` cuts at 226 tokens unless told (Wan trained with 512); the VAE
gives latents that are not normalised; it wants fp32; a hub repository's own scheduler is not always the one meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from mimix_ray.backbone import BackboneError, GenerationError, missing, wan_adapter
from mimix_ray.config import BackboneConfig, TrainingConfig

PATCH = 2
"""Latent pixels a side of the patches that the transformer reads; in every Wan."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TARGETS = {
    "attention": ["to_q", "to_k", "to_v", "to_out.0"],
    "attention_ffn": ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"],
}

# Loading bars and advice of the libraries would cover our own progress lines.
diffusers_logging.disable_progress_bar()
diffusers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


class WanVae:
    """AutoencoderKLWan, in fp32."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self.vae = vae

    @torch.no_grad()
    def encode(self, films: Sequence[np.ndarray]) -> list[Tensor]:
        """See `Vae.encode`. The mode of the VAE's posterior, normalised by the VAE's own mean and std."""
        for film in films:
            _check_size(self.vae, *film.shape[:3])
        pixels_BFHWC = torch.from_numpy(np.stack(films)).to(self.vae.device)
        x_BCFHW = pixels_BFHWC.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        latent_BCFHW = self.vae.encode(x_BCFHW).latent_dist.mode()
        mean, std = _moments(self.vae)
        return list(((latent_BCFHW - mean) / std).to("cpu", torch.bfloat16))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> np.ndarray:
        """See `Vae.decode`."""
        return _decode(self.vae, latent)


class WanTextEncoder:
    """umT5 in the config's precision."""

    def __init__(self, text_encoder: nn.Module, tokenizer: Any, text_tokens: int) -> None:
        self.text_encoder, self.tokenizer, self.text_tokens = text_encoder, tokenizer, text_tokens

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """See `TextEncoder.encode`. Padded and masked exactly as in WanPipeline, then cut to the true lengths."""
        tokens = self.tokenizer(
            [prompt_clean(text) for text in texts],
            padding="max_length",
            max_length=self.text_tokens,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self.text_encoder.device)
        hidden_BLD = self.text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        lengths = tokens.attention_mask.sum(dim=1).tolist()
        return [hidden[:length].to("cpu", torch.bfloat16) for hidden, length in zip(hidden_BLD, lengths, strict=True)]


class WanGenerator:
    """WanPipeline with at most one adapter; not for concurrent calls."""

    def __init__(self, pipeline: WanPipeline, text_tokens: int, encoded: Mapping[str, Tensor] | None = None) -> None:
        """
        Args:
            encoded: Padded embeddings [1, L, D] by text, for a pipeline without text encoder.
        """
        self.pipeline, self.text_tokens, self.encoded = pipeline, text_tokens, encoded

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
        """See `Generator.generate`."""
        _check_size(self.pipeline.vae, frames, height, width)

        def after_step(_: WanPipeline, step: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            if on_step is not None:
                on_step(step + 1, steps)
            return tensors

        try:
            latent_BCFHW = self.pipeline(
                **self._said(prompt, negative_prompt),
                num_frames=frames,
                width=width,
                height=height,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=torch.Generator("cpu").manual_seed(seed),  # noise does not depend on the device
                max_sequence_length=self.text_tokens,
                callback_on_step_end=after_step,
                output_type="latent",
            ).frames
        finally:
            self.pipeline.maybe_free_model_hooks()
        return _decode(self.pipeline.vae, latent_BCFHW[0])

    def _said(self, prompt: str, negative_prompt: str) -> dict[str, Any]:
        if self.encoded is None:
            return {"prompt": prompt, "negative_prompt": negative_prompt}
        return {"prompt_embeds": self.encoded[prompt], "negative_prompt_embeds": self.encoded[negative_prompt]}


def load_vae(config: BackboneConfig) -> WanVae:
    """See `Family.load_vae`."""
    vae = _load(AutoencoderKLWan, config, "vae", dtype=torch.float32)
    return WanVae(vae.to(_device(config)).eval())


def load_text_encoder(config: BackboneConfig) -> WanTextEncoder:
    """See `Family.load_text_encoder`."""
    tokenizer = _load(AutoTokenizer, config, "tokenizer")
    text_encoder = _load(UMT5EncoderModel, config, "text_encoder", dtype=DTYPES[config.dtype])
    return WanTextEncoder(text_encoder.to(_device(config)).eval(), tokenizer, config.text_tokens)


def load_transformer(config: BackboneConfig) -> nn.Module:
    """See `Family.load_transformer`."""
    transformer: nn.Module = _load(WanTransformer3DModel, config, "transformer", dtype=DTYPES[config.dtype])
    return transformer.to(_device(config)).requires_grad_(False)


def prepare(model: nn.Module, config: TrainingConfig) -> None:
    """See `Family.prepare`."""
    assert isinstance(model, WanTransformer3DModel)
    if config.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if config.attention is not None:
        try:
            model.set_attention_backend(config.attention)
        except Exception as error:  # diffusers raises what the backend's package raises where it is missing
            raise BackboneError(f"training.attention {config.attention!r}: {' '.join(str(error).split())}") from None
    if config.compile:
        model.compile_repeated_blocks()


def load_generator(config: BackboneConfig, adapter: Path | None) -> WanGenerator:
    """See `Family.load_generator`."""
    text = load_text_encoder(config)
    pipeline = WanPipeline(
        text.tokenizer, text.text_encoder, load_vae(config).vae, _scheduler(config), load_transformer(config)
    )
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        _load_adapter(pipeline, adapter)
    return WanGenerator(pipeline, config.text_tokens)


def load_sampler(config: BackboneConfig, model: nn.Module, texts: Sequence[str]) -> WanGenerator:
    """See `Family.load_sampler`. The text encoder (11 GB for umT5-xxl) goes away again once the texts are encoded."""
    dtype, device = DTYPES[config.dtype], _device(config)
    encoded = load_text_encoder(config).encode(texts)
    padded = [_pad([text], config.text_tokens).to(device, dtype) for text in encoded]
    pipeline = WanPipeline(None, None, load_vae(config).vae, _scheduler(config), model)
    pipeline.set_progress_bar_config(disable=True)
    return WanGenerator(pipeline, config.text_tokens, dict(zip(texts, padded, strict=True)))


def lora_targets(choice: str) -> list[str]:
    """See `Family.lora_targets`."""
    return TARGETS[choice]


def predict(model: nn.Module, config: BackboneConfig, x_BCFHW: Tensor, s_B: Tensor, texts: Sequence[Tensor]) -> Tensor:
    """See `Family.predict`. Texts are zero-padded to the config's length, unmasked, as Wan was trained."""
    dtype = DTYPES[config.dtype]
    text_BLD = _pad(texts, config.text_tokens)
    velocity_BCFHW = model(
        hidden_states=x_BCFHW.to(dtype),
        timestep=1000 * s_B,
        encoder_hidden_states=text_BLD.to(x_BCFHW.device, dtype),
        return_dict=False,
    )[0]
    return velocity_BCFHW.float()


def channels(model: nn.Module) -> int:
    """See `Family.channels`."""
    return int(model.config.in_channels)  # type: ignore[union-attr, arg-type]


def save_adapter(
    path: Path, lora: dict[str, Tensor], training: TrainingConfig, metadata: dict[str, str], layout: str = "diffusers"
) -> None:
    """See `Family.save_adapter`; the layouts are those of `wan_adapter`."""
    wan_adapter.write(path, wan_adapter.Lora(lora, training.alpha or training.rank, metadata), layout)


def read_adapter(path: Path) -> wan_adapter.Lora:
    """See `Family.read_adapter`."""
    return wan_adapter.read(path)[1]


def _pad(texts: Sequence[Tensor], length: int) -> Tensor:
    """Texts [L, D] as one [B, length, D], zeros after their ends."""
    padding = texts[0].new_zeros(length, texts[0].shape[-1])
    return pad_sequence([padding, *texts], batch_first=True)[1:]


def _scheduler(config: BackboneConfig) -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=config.flow_shift
    )


def _load(kind: Any, config: BackboneConfig, part: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(config.path, subfolder=part, revision=config.revision, **options)
    except (OSError, ValueError) as error:
        raise missing(config, part, error) from None


def _load_adapter(pipeline: WanPipeline, adapter: Path) -> None:
    if not adapter.is_file():
        raise BackboneError(f"adapter {adapter}: not there; train one, or correct the address")
    try:
        pipeline.load_lora_weights(str(adapter.parent), weight_name=adapter.name)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(f"adapter {adapter}: does not fit this base model ({reason})") from None
    if not pipeline.get_active_adapters():  # diffusers passes over keys that it does not know
        raise BackboneError(f"adapter {adapter}: no LoRA for diffusers in it; convert it: jobs/adapter.py convert")


def _device(config: BackboneConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _moments(vae: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    """The VAE's own mean and deviation of latent channels, [1, C, 1, 1, 1] each."""
    mean, std = (
        torch.tensor(values, device=vae.device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std


@torch.no_grad()
def _decode(vae: AutoencoderKLWan, latent_CFHW: Tensor) -> np.ndarray:
    mean, std = _moments(vae)
    latent_BCFHW = latent_CFHW[None].to(vae.device, torch.float32)
    if not torch.isfinite(latent_BCFHW).all():
        raise GenerationError("the model gave NaN or infinity; lower guidance, or check the adapter and the precision")
    x_CFHW = vae.decode(latent_BCFHW * std + mean).sample[0]
    if not torch.isfinite(x_CFHW).all():
        raise GenerationError("the VAE gave NaN or infinity; check its weights")
    pixels_FHWC = ((x_CFHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)
    return pixels_FHWC.contiguous().cpu().numpy()


def _check_size(vae: AutoencoderKLWan, frames: int, height: int, width: int) -> None:
    every, stride = vae.config.scale_factor_temporal, PATCH * vae.config.scale_factor_spatial
    if frames % every != 1 or height % stride or width % stride:
        raise BackboneError(
            f"{frames} frames of {width}x{height}: this VAE needs {every}k+1 frames and sides that are multiples of "
            f"{stride}"
        )
