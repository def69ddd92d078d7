"""Adapter files of Wan: one LoRA in the key layouts of diffusers, ComfyUI, kohya's tools and DiffSynth-Studio.

Tensors are renamed, never touched, so that every way there and back is bit equal. Sources of the names: diffusers'
`loaders/lora_conversion_utils.py`, ComfyUI's `comfy/lora.py` and `comfy/weight_adapter/lora.py`, musubi-tuner's
`convert_lora.py`, DiffSynth-Studio's `diffusion/training_module.py`.

A trap that is handled here: diffusers folds `.alpha` tensors into the weights and then applies the header's alpha as
well, so a file has the one or the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mimix_ray.backbone import BackboneError

LINEARS = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
"""The linears of a block of text-to-video: diffusers' names, and those of Wan's own code."""

_DOWN, _UP = "lora_A.weight", "lora_B.weight"
_SETTINGS = "lora_adapter_metadata"
"""The header's entry with peft's settings, as JSON; it belongs to diffusers' layout alone."""
_UNEVEN = ("rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias")
"""peft's settings under which one rank and one alpha do not tell all."""


@dataclass(frozen=True)
class Layout:
    """How a tool names LoRA tensors: `<prefix><block><separator><linear>.<end>`."""

    prefix: str
    separator: str
    linears: dict[str, str]
    """diffusers' name of each linear to this layout's."""
    ends: dict[str, str]
    """Likewise for the two matrices, and for the scalar `alpha` where the layout has it."""

    def key(self, block: str, linear: str, end: str) -> str:
        """The layout's name of a tensor, given by diffusers' names."""
        return f"{self.prefix}{block}{self.separator}{self.linears[linear]}.{self.ends[end]}"

    def has(self, key: str) -> bool:
        """Whether this is a name of this layout."""
        return self._pattern.fullmatch(key) is not None

    def parts(self, key: str) -> tuple[str, str, str]:
        """Block, linear and end of a key, in diffusers' names; BackboneError when the layout has no such name."""
        match = self._pattern.fullmatch(key)
        if match is None:
            raise _unknown([key], 1)
        return match["block"], self._linears[match["linear"]], self._ends[match["end"]]

    @cached_property
    def _linears(self) -> dict[str, str]:
        return {theirs: ours for ours, theirs in self.linears.items()}

    @cached_property
    def _ends(self) -> dict[str, str]:
        return {theirs: ours for ours, theirs in self.ends.items()}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        linear, end = ("|".join(map(re.escape, names)) for names in (self._linears, self._ends))
        prefix, separator = re.escape(self.prefix), re.escape(self.separator)
        return re.compile(rf"{prefix}(?P<block>\d+){separator}(?P<linear>{linear})\.(?P<end>{end})")


_SAME = {linear: linear for linear in LINEARS}
_MATRICES = {_DOWN: _DOWN, _UP: _UP}
_OURS = Layout("blocks.", ".", _SAME, _MATRICES)
LAYOUTS = {
    "diffusers": Layout("transformer.blocks.", ".", _SAME, _MATRICES),
    "comfyui": Layout("diffusion_model.blocks.", ".", LINEARS, {**_MATRICES, "alpha": "alpha"}),
    "kohya": Layout(
        "lora_unet_blocks_",
        "_",
        {ours: theirs.replace(".", "_") for ours, theirs in LINEARS.items()},
        {_DOWN: "lora_down.weight", _UP: "lora_up.weight", "alpha": "alpha"},
    ),
    "diffsynth": Layout("blocks.", ".", LINEARS, {_DOWN: "lora_A.default.weight", _UP: "lora_B.default.weight"}),
}
"""DiffSynth-Studio's has no place for alpha, which is the rank there."""


@dataclass(frozen=True)
class Lora:
    """A LoRA of one rank and one alpha on linears of Wan's blocks."""

    tensors: dict[str, Tensor]
    """By their names in the transformer: `blocks.0.attn1.to_q.lora_A.weight` [rank, in], `lora_B` [out, rank]."""
    alpha: float
    """What the LoRA adds is scaled by alpha / rank."""
    metadata: dict[str, str]
    """What the file's header tells of the training; the same in every layout."""

    @property
    def rank(self) -> int:
        """Rows of each `lora_A`; BackboneError when the LoRA is not whole."""
        return _rank(self.tensors)

    @property
    def targets(self) -> list[str]:
        """The kinds of linears that it changes, by diffusers' names, such as `attn1.to_q`."""
        return [linear for linear in LINEARS if any(f".{linear}." in name for name in self.tensors)]


def layout_of(keys: Iterable[str]) -> str:
    """The name of the layout, one of `LAYOUTS`, that all keys are in.

    Raises:
        BackboneError: Some are in none, such as those of image-to-video (`k_img`, `add_k_proj`), head and norms; the
            message names the first few.
    """
    keys = list(keys)
    foreign = {name: [key for key in keys if not layout.has(key)] for name, layout in LAYOUTS.items()}
    best = min(foreign, key=lambda name: len(foreign[name]))
    if foreign[best] or not keys:
        raise _unknown(foreign[best], len(keys))
    return best


def parse(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> Lora:
    """The LoRA of a file's tensors and header, in whichever layout; alpha is the rank where neither tells it.

    Raises:
        BackboneError: An unknown key, half of a pair, or more than one rank or alpha.
    """
    name = layout_of(tensors)
    weights, alphas = {}, {}
    for key, tensor in tensors.items():
        block, linear, end = LAYOUTS[name].parts(key)
        if end == "alpha":
            alphas[block, linear] = float(tensor)
        else:
            weights[_OURS.key(block, linear, end)] = tensor
    rank = _rank(weights)
    usual = _told_alpha(header, rank) if name == "diffusers" else rank
    found = {alphas.get(_OURS.parts(weight)[:2], usual) for weight in weights}
    if len(found) > 1:
        raise BackboneError(f"alphas {sorted(found)} are mixed; only a LoRA of one alpha can be used")
    metadata = {entry: text for entry, text in header.items() if entry not in ("format", _SETTINGS)}
    return Lora(weights, found.pop(), metadata)


def render(lora: Lora, layout: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of the LoRA's file in a layout, the inverse of `parse`.

    alpha goes into the header for diffusers, into `.alpha` tensors for kohya's tools, and for ComfyUI only where it is
    not the rank. diffusers itself reads kohya's only when they hold all ten linears of each block; ComfyUI takes any.

    Raises:
        BackboneError: The LoRA is not whole, or the layout has no place for an alpha that is not the rank.
    """
    target, rank = LAYOUTS[layout], lora.rank
    parts = {name: _OURS.parts(name) for name in lora.tensors}
    tensors = {target.key(*parts[name]): tensor for name, tensor in lora.tensors.items()}
    header = {"format": "pt", **lora.metadata}
    if layout == "diffusers":
        settings = {
            "r": rank,
            "lora_alpha": int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
            "target_modules": lora.targets,
        }
        header[_SETTINGS] = json.dumps({f"transformer.{name}": value for name, value in settings.items()})
    elif lora.alpha != rank or layout == "kohya":
        if "alpha" not in target.ends:
            raise BackboneError(f"layout {layout} has no place for alpha {lora.alpha:g} beside rank {rank}")
        modules = dict.fromkeys((block, linear) for block, linear, _ in parts.values())
        tensors |= {target.key(*module, "alpha"): torch.tensor(float(lora.alpha)) for module in modules}
    return tensors, header


def read(path: Path) -> tuple[str, Lora]:
    """The layout of an adapter file, and its LoRA on the CPU; BackboneError as `parse`, or for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BackboneError(f"no usable .safetensors file ({error}); get it again") from None
    return layout_of(tensors), parse(tensors, header)


def write(path: Path, lora: Lora, layout: str) -> None:
    """Writes an adapter file; BackboneError as `render`."""
    tensors, header = render(lora, layout)
    save_file({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}, path, header)


def _rank(tensors: Mapping[str, Tensor]) -> int:
    """The one rank of whole pairs of matrices."""
    if lone := [name for name in tensors if _partner(name) not in tensors]:
        raise BackboneError(f"{lone[0]} stands without {_partner(lone[0])}; the file is not whole, get it again")
    if odd := [name for name, tensor in tensors.items() if tensor.ndim != 2]:
        raise BackboneError(f"{odd[0]} is no matrix but {list(tensors[odd[0]].shape)}; get the file again")
    ranks = {tensor.shape[0 if name.endswith(_DOWN) else 1] for name, tensor in tensors.items()}
    if len(ranks) > 1:
        raise BackboneError(f"ranks {sorted(ranks)} are mixed; only a LoRA of one rank can be used")
    return ranks.pop()


def _told_alpha(header: Mapping[str, str], rank: int) -> float:
    """alpha as peft's settings in the header tell it, else the rank."""
    try:
        told = json.loads(header.get(_SETTINGS, "{}"))
        settings = {name.removeprefix("transformer."): value for name, value in told.items()}
        alpha = float(settings.get("lora_alpha", rank))
    except (ValueError, TypeError, AttributeError) as error:
        raise BackboneError(f"its header's {_SETTINGS} cannot be read ({error}); get the file again") from None
    if uneven := [name for name in _UNEVEN if settings.get(name)]:
        raise BackboneError(f"its header sets {uneven[0]}; only a LoRA of one rank and one alpha can be used")
    return alpha


def _partner(name: str) -> str:
    return name.replace(_DOWN, _UP) if name.endswith(_DOWN) else name.replace(_UP, _DOWN)


def _unknown(keys: list[str], total: int) -> BackboneError:
    if not total:
        return BackboneError("it holds no tensors; give a LoRA of Wan")
    return BackboneError(
        f"{len(keys)} of {total} keys are no LoRA on attention or FFN of text-to-video Wan in a layout known here "
        f"({', '.join(LAYOUTS)}), such as {', '.join(keys[:3])}; image-to-video, head and norms are not supported"
    )
