"""The size of a diffusion transformer, and what LoRA on it costs: arithmetic on its config.json. No PyTorch.

The transformer is Wan's as diffusers builds it (`WanTransformer3DModel`); docs/training.md says how every formula is
checked against it. Letters: T video tokens, S text tokens of a clip, d width, f width of the feed-forward, h heads,
L blocks, r LoRA rank, b bytes an element. A multiply-add counts as two FLOPs; element-wise work (norms, rotary
embedding, softmax) does not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

VAE_STRIDE = (4, 8, 8)
"""Frames, rows and columns that Wan2.1's VAE makes one of."""


@dataclass(frozen=True)
class Linear:
    """A linear of a block that can get LoRA; named as in diffusers."""

    name: str
    inputs: int
    outputs: int
    reads: Literal["video", "text", "time"] = "video"
    """Whose tokens it takes: T, S, or one."""

    @property
    def parameters(self) -> int:
        """Weight and bias."""
        return (self.inputs + 1) * self.outputs

    def tokens(self, T: int, S: int) -> int:
        return {"video": T, "text": S, "time": 1}[self.reads]

    def flops(self, T: int, S: int) -> int:
        """Forward, of one clip."""
        return 2 * self.tokens(T, S) * self.inputs * self.outputs


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one clip."""

    linear: int
    """Frozen linears, and the convolution that makes patches."""
    lora: int
    self_attention: int
    cross_attention: int

    @property
    def total(self) -> int:
        return self.linear + self.lora + self.self_attention + self.cross_attention


@dataclass(frozen=True)
class DiTSize:
    """The numbers that say how large a Wan transformer is."""

    layers: int
    dim: int
    ffn: int
    heads: int
    text_dim: int
    freq_dim: int
    in_channels: int
    out_channels: int
    patch: tuple[int, int, int]
    cross_attn_norm: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> DiTSize:
        """Reads a transformer's config.json.

        Raises:
            ValueError: A key is missing, or it is no text-to-video transformer.
        """
        if config.get("image_dim") or config.get("added_kv_proj_dim"):
            raise ValueError("it takes images; only text-to-video transformers are known here")
        try:
            return cls(
                layers=config["num_layers"],
                dim=config["num_attention_heads"] * config["attention_head_dim"],
                ffn=config["ffn_dim"],
                heads=config["num_attention_heads"],
                text_dim=config["text_dim"],
                freq_dim=config["freq_dim"],
                in_channels=config["in_channels"],
                out_channels=config["out_channels"],
                patch=tuple(config["patch_size"]),
                cross_attn_norm=config["cross_attn_norm"],
            )
        except KeyError as error:
            raise ValueError(f"config.json lacks {error}") from None

    def linears(self) -> tuple[Linear, ...]:
        """The ten linears of one block."""
        d, f = self.dim, self.ffn
        return (
            *(Linear(f"attn1.{name}", d, d) for name in ("to_q", "to_k", "to_v", "to_out.0")),
            Linear("attn2.to_q", d, d),
            Linear("attn2.to_k", d, d, "text"),
            Linear("attn2.to_v", d, d, "text"),
            Linear("attn2.to_out.0", d, d),
            Linear("ffn.net.0.proj", d, f),
            Linear("ffn.net.2", f, d),
        )

    def lora_linears(self, targets: str) -> tuple[Linear, ...]:
        """Those of `linears` that get LoRA; targets is `attention` or `attention_ffn`, as in the config."""
        return tuple(linear for linear in self.linears() if targets == "attention_ffn" or "attn" in linear.name)

    def parameters(self) -> int:
        """Parameters of the transformer.

        L (linears + 4 d of the norms of queries and keys + 2 d of the cross-attention's norm + 6 d of the modulation)
        + patches, time and text embedding, output, 2 d of the last modulation.
        """
        d = self.dim
        norms = 4 * d + (2 * d if self.cross_attn_norm else 0)
        block = sum(linear.parameters for linear in self.linears()) + norms + 6 * d
        return self.layers * block + sum(linear.parameters for linear in self._outside()) + 2 * d

    def lora_parameters(self, rank: int, targets: str) -> int:
        """L r (inputs + outputs), summed over the linears that get LoRA."""
        return self.layers * sum(rank * (linear.inputs + linear.outputs) for linear in self.lora_linears(targets))

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """C, f, h, w of the latent of 4k+1 frames of height x width pixels, by Wan2.1's VAE."""
        t, y, x = VAE_STRIDE
        return self.in_channels, (frames - 1) // t + 1, height // y, width // x

    def tokens(self, latent_shape: Sequence[int]) -> int:
        """T: patches of a latent; its shape is C, f, h, w here and below."""
        return math.prod(side // patch for side, patch in zip(latent_shape[1:], self.patch, strict=True))

    def forward_flops(self, latent_shape: Sequence[int], text_tokens: int) -> Flops:
        """One pass of the bare transformer over one clip.

        A linear takes 2 inputs outputs FLOPs a token, self-attention 4 T^2 d and cross-attention 4 T S d a block
        (scores, and their sum over values).
        """
        T, S = self.tokens(latent_shape), text_tokens
        blocks = self.layers * sum(linear.flops(T, S) for linear in self.linears())
        attention = 4 * self.layers * T * self.dim
        return Flops(blocks + sum(linear.flops(T, S) for linear in self._outside()), 0, attention * T, attention * S)

    def training_flops(
        self, latent_shape: Sequence[int], text_tokens: int, *, rank: int, targets: str, recompute: bool
    ) -> Flops:
        """One clip forward and backward, LoRA on the frozen transformer: the work that is done, recomputation included.

        Backward, a frozen linear costs as much as forward (the gradient of its input; its weight gets none), a LoRA
        twice as much. There is no gradient for inputs in which nothing learns: the text's embedding in all blocks, the
        patches in the first. Attention costs 5/2 of forward: the gradients of scores, values, queries and keys are
        four of its products, and fused kernels compute the scores once more (FlashAttention-2, section 4.1).

        Args:
            recompute: Blocks are computed once more in the backward pass (gradient checkpointing).
        """
        T, S = self.tokens(latent_shape), text_tokens
        forward = self.forward_flops(latent_shape, text_tokens)
        outside, head = sum(linear.flops(T, S) for linear in self._outside()), self._head().flops(T, S)
        blocks, passes = forward.linear - outside, 2 if recompute else 1
        dead = [linear for linear in self.linears() if linear.reads == "text"] * self.layers
        dead += [linear for linear in self.linears() if linear.name in ("attn1.to_q", "attn1.to_k", "attn1.to_v")]
        backward = blocks + head - sum(linear.flops(T, S) for linear in dead)

        learning = self.lora_linears(targets)
        lora = self.layers * sum(2 * x.tokens(T, S) * rank * (x.inputs + x.outputs) for x in learning)
        lora_backward = 2 * lora - sum(2 * linear.tokens(T, S) * rank * linear.inputs for linear in dead)
        return Flops(
            outside + passes * blocks + backward,
            passes * lora + lora_backward,
            forward.self_attention * (2 * passes + 5) // 2,
            forward.cross_attention * (2 * passes + 5) // 2,
        )

    def block_bytes(
        self, latent_shape: Sequence[int], text_tokens: int, *, rank: int, targets: str, itemsize: int
    ) -> int:
        """What one block keeps of one clip for its backward pass, bytes.

        T (3 x 4 d + 12 b d + 2 b f): the inputs of three norms in fp32; the inputs of the linears with LoRA; queries
        and keys before and after their norm, values and results of self-attention, the same of cross-attention; the
        feed-forward before and after its activation. With LoRA on attention alone b d and b f less. Further 3 b d of
        keys and values a text token, b r a token and LoRA, and statistics of norms and softmax in fp32.

        It holds for fused attention and for fused RMS norms, as on GPUs. PyTorch's CPU has none of the latter in bf16,
        and keeps their inputs in fp32.
        """
        T, S, d, b = self.tokens(latent_shape), text_tokens, self.dim, itemsize
        with_ffn = targets == "attention_ffn"
        kept = T * ((12 + 11 * b) * d + b * self.ffn) + with_ffn * T * b * (d + self.ffn)
        text = 3 * S * b * d
        lora = sum(linear.tokens(T, S) * b * rank for linear in self.lora_linears(targets))
        statistics = 4 * (T * (2 * self.heads + 9) + S)
        return kept + text + lora + statistics

    def activation_bytes(
        self, latent_shape: Sequence[int], text_tokens: int, *, rank: int, targets: str, itemsize: int, recompute: bool
    ) -> int:
        """Peak of one clip's activations and their gradients in a training step, bytes.

        Kept: L blocks' (`block_bytes`), or with recompute L T b d of their inputs and one block's. On top of that comes
        the larger of what lives at a block's end, T (12 + 4 b) d (residual, its gradient and the feed-forward's result
        in fp32; four of the block's variables), and in the feed-forward's backward pass, T (4 d + 2 b f).

        Between 1 % too little and 5 % too much: tests/backbone/test_dit.py measures it.
        """
        T, d, b = self.tokens(latent_shape), self.dim, itemsize
        block = self.block_bytes(latent_shape, text_tokens, rank=rank, targets=targets, itemsize=itemsize)
        kept = self.layers * T * b * d + block if recompute else self.layers * block
        return kept + T * max((12 + 4 * b) * d, 4 * d + 2 * b * self.ffn)

    def _outside(self) -> tuple[Linear, ...]:
        """Everything outside the blocks that multiplies: patches, time embedding, text embedding, output."""
        d, patch = self.dim, math.prod(self.patch)
        return (
            Linear("patch_embedding", self.in_channels * patch, d),
            Linear("time_embedder.linear_1", self.freq_dim, d, "time"),
            Linear("time_embedder.linear_2", d, d, "time"),
            Linear("time_proj", d, 6 * d, "time"),
            Linear("text_embedder.linear_1", self.text_dim, d, "text"),
            Linear("text_embedder.linear_2", d, d, "text"),
            self._head(),
        )

    def _head(self) -> Linear:
        return Linear("proj_out", self.dim, self.out_channels * math.prod(self.patch))


_WAN = {
    "text_dim": 4096,
    "freq_dim": 256,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": (1, 2, 2),
    "attention_head_dim": 128,
    "cross_attn_norm": True,
}
PUBLISHED = {
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": DiTSize.of(
        {**_WAN, "num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824}
    ),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": DiTSize.of(
        {**_WAN, "num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}
    ),
}
"""By hub id, so that planning needs no network (Wan2.1, `wan/configs`; diffusers, `convert_wan_to_diffusers.py`)."""
