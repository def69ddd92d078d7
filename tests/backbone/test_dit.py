"""The cost formulas against the model itself: parameters, FLOPs and bytes of diffusers' transformer under peft's LoRA.

Weights are random, or only shapes (PyTorch's meta device and fake tensors): nothing here depends on values.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mimix_ray import backbone
from mimix_ray.backbone import BackboneError, lora, wan
from mimix_ray.backbone.dit import PUBLISHED, DiTSize
from mimix_ray.config import BackboneConfig
from mimix_ray.miniature.base import TRANSFORMER
from tests.live import Live

LARGE: dict[str, Any] = {}
"""diffusers' defaults are the 14B model's."""
SMALL: dict[str, Any] = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
CONFIGS = {
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": LARGE,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": SMALL,
    "miniature": TRANSFORMER,
}
FILM = (16, 21, 60, 104)
"""81 frames of 832x480."""


@pytest.fixture(autouse=True)
def plain_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's ZeRO-3 leaves a linear of its own behind, which keeps more for the backward pass."""
    monkeypatch.setattr(nn.functional, "linear", torch._C._nn.linear)


@dataclass
class Step:
    """One training step of one clip with LoRA of rank 16, on the CPU."""

    model: WanTransformer3DModel
    x_BCFHW: Tensor
    text_BLD: Tensor

    @classmethod
    def of(
        cls, config: dict[str, Any], shape: tuple[int, ...], text_tokens: int, targets: str, dtype: torch.dtype
    ) -> "Step":
        model = learner(config, targets, 16, dtype, "cpu")
        text_BLD = torch.randn(1, text_tokens, model.config.text_dim, dtype=dtype)
        return cls(model, torch.randn(1, *shape, dtype=dtype), text_BLD)

    def loss(self) -> Tensor:
        velocity_BCFHW = self.model(self.x_BCFHW, torch.tensor([500.0]), self.text_BLD, return_dict=False)[0]
        return velocity_BCFHW.float().square().mean()

    def flops(self) -> tuple[int, int]:
        """Forward, and in all."""
        with FlopCounterMode(display=False) as counter:
            loss = self.loss()
            forward = counter.get_total_flops()
            loss.backward()
        return forward, counter.get_total_flops()

    def memory(self) -> tuple[int, int]:
        """Bytes alive between forward and backward pass, and at the peak."""
        with Live(*self.model.parameters(), *self.model.buffers()) as live:
            loss = self.loss()
            kept = live.now
            loss.backward()
        return kept, live.peak


def learner(config: dict[str, Any], targets: str, rank: int, dtype: torch.dtype, device: str) -> WanTransformer3DModel:
    """The transformer with LoRA, its weights left empty."""
    with default_dtype(dtype), torch.device("meta"):
        model = WanTransformer3DModel(**config)
        lora.attach(model, rank, rank, wan.lora_targets(targets), seed=0)
        rope = model.rope
    if device != "meta":
        with torch.device(device):  # not by `to_empty`, which cannot make fake tensors of these
            for module in model.modules():
                for name, p in module._parameters.items():
                    if p is not None:
                        empty = torch.zeros(p.shape, dtype=p.dtype)
                        module._parameters[name] = nn.Parameter(empty, p.requires_grad)
            rope.freqs_cos, rope.freqs_sin = torch.zeros(rope.freqs_cos.shape), torch.zeros(rope.freqs_sin.shape)
    return model.train()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_the_models(name: str) -> None:
    size = PUBLISHED.get(name) or DiTSize.of(TRANSFORMER)
    model = learner(CONFIGS[name], "attention_ffn", 32, torch.bfloat16, "meta")
    learning = sum(p.numel() for p in lora.parameters(model).values())
    assert learning == size.lora_parameters(32, "attention_ffn")
    assert sum(p.numel() for p in model.parameters()) - learning == size.parameters()


def test_attention_alone_has_fewer_parameters() -> None:
    model = learner(TRANSFORMER, "attention", 32, torch.bfloat16, "meta")
    learning = sum(p.numel() for p in lora.parameters(model).values())
    assert learning == DiTSize.of(TRANSFORMER).lora_parameters(32, "attention")


def test_the_published_numbers() -> None:
    """What others count for the 14B model and a clip of 81 frames at 832x480."""
    size = PUBLISHED["Wan-AI/Wan2.1-T2V-14B-Diffusers"]
    assert size.parameters() == 14_288_491_584
    assert size.lora_parameters(32, "attention_ffn") == 153_354_240
    assert size.lora_parameters(32, "attention") == 104_857_600
    assert size.latent_shape(81, 480, 832) == FILM
    assert size.tokens(FILM) == 32_760
    assert size.tokens(size.latent_shape(81, 720, 1280)) == 75_600
    step = size.training_flops(FILM, 512, rank=32, targets="attention_ffn", recompute=True)
    assert 6.3e15 < step.total < 6.7e15


@pytest.mark.parametrize("targets", ["attention", "attention_ffn"])
@pytest.mark.parametrize("shape", [(16, 3, 6, 8), (16, 5, 14, 24)], ids=str)
def test_flops_are_what_pytorch_counts(shape: tuple[int, ...], targets: str) -> None:
    size = DiTSize.of(TRANSFORMER)
    step = Step.of(TRANSFORMER, shape, 64, targets, torch.float32)
    forward, kept = step.flops()
    step.model.enable_gradient_checkpointing()
    _, recomputed = step.flops()
    added = size.training_flops(shape, 64, rank=16, targets=targets, recompute=False).lora
    assert size.forward_flops(shape, 64).total < forward < size.forward_flops(shape, 64).total + added
    assert kept == size.training_flops(shape, 64, rank=16, targets=targets, recompute=False).total
    assert recomputed == size.training_flops(shape, 64, rank=16, targets=targets, recompute=True).total


@pytest.mark.parametrize("targets", ["attention", "attention_ffn"])
@pytest.mark.parametrize("config", [LARGE, SMALL], ids=["14B", "1.3B"])
def test_bytes_of_a_step_at_full_size(config: dict[str, Any], targets: str) -> None:
    """Two of the blocks, which are all alike, on tensors that have shapes alone, so that 14B fits anywhere."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = Step.of({**config, "num_layers": 2}, FILM, 512, targets, torch.bfloat16)
        kept, peak = step.memory()
        step.model.enable_gradient_checkpointing()
        _, peak_recomputed = step.memory()
    size = DiTSize.of(step.model.config)
    costs: dict[str, Any] = {"rank": 16, "targets": targets, "itemsize": 2}
    # RMS norms on the CPU keep their inputs in fp32: 2 bytes more an element in each block.
    norms = 2 * (3 * size.tokens(FILM) + 512) * size.dim
    assert kept == pytest.approx(2 * (size.block_bytes(FILM, 512, **costs) + norms), rel=0.01)
    for recompute, blocks, measured in ((False, 2, peak), (True, 1, peak_recomputed)):
        formula = size.activation_bytes(FILM, 512, **costs, recompute=recompute) + blocks * norms
        assert 0.99 * measured <= formula <= 1.05 * measured


def test_size_is_read_from_a_folder(base_path: Path, tmp_path: Path) -> None:
    assert backbone.size(BackboneConfig(path=str(base_path))) == DiTSize.of(TRANSFORMER)
    file = tmp_path / "transformer/config.json"
    file.parent.mkdir()
    for config, error in (({"num_layers": 4}, "lacks"), ({**TRANSFORMER, "image_dim": 1280}, "takes images")):
        file.write_text(json.dumps(config))
        with pytest.raises(BackboneError, match=f"backbone.path .*{error}"):
            backbone.size(BackboneConfig(path=str(tmp_path)))
    file.unlink()
    with pytest.raises(BackboneError, match=r"no usable transformer/config\.json"):
        backbone.size(BackboneConfig(path=str(tmp_path)))


def test_published_sizes_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asked the hub"))
    for name, size in PUBLISHED.items():
        assert backbone.size(BackboneConfig(path=name)) == size
