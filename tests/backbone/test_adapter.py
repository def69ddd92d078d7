"""Adapter files in each tool's layout, judged by diffusers' own loader, by peft, and by what the transformer gives."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mimix_ray import backbone
from mimix_ray.backbone import BackboneError, lora, wan
from mimix_ray.backbone.wan_adapter import LAYOUTS, Lora, layout_of, parse, read, render, write
from mimix_ray.config import BackboneConfig, TrainingConfig

RANK = 4
ABOUT = {"universe": "two_shows", "shows": "mr_bean,we_bare_bears", "steps": "12", "rank": "4"}


@pytest.fixture(scope="module")
def weights(backbone_config: BackboneConfig) -> dict[str, Tensor]:
    """LoRA as the trainer holds it, on all ten linears of a block, with B that is not zero."""
    transformer = backbone.load_transformer(backbone_config)
    lora.attach(transformer, RANK, RANK, wan.lora_targets("attention_ffn"), seed=0)
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(p.shape, generator=generator) * 0.1 for name, p in lora.parameters(transformer).items()}


@pytest.fixture(scope="module")
def pipeline(base_path: Path) -> WanPipeline:
    return WanPipeline.from_pretrained(base_path, dtype=torch.float32)


@pytest.fixture
def loaded(pipeline: WanPipeline) -> Callable[[Path], WanPipeline]:
    """The pipeline with nothing but the file's LoRA, loaded by diffusers itself."""

    def load(path: Path) -> WanPipeline:
        pipeline.unload_lora_weights()
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
        return pipeline

    return load


def matrices(pipeline: WanPipeline) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in pipeline.transformer.named_parameters() if ".lora_" in name}


def added(pipeline: WanPipeline) -> dict[str, Tensor]:
    """What the LoRA adds to each weight, alpha and all."""
    layers = {name: m for name, m in pipeline.transformer.named_modules() if hasattr(m, "get_delta_weight")}
    return {name: layer.get_delta_weight(layer.active_adapters[0]).detach() for name, layer in layers.items()}


def output(transformer: nn.Module, config: BackboneConfig) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    x_BCFHW, text_LD = (torch.randn(shape, generator=generator) for shape in ((1, 16, 2, 4, 6), (7, 128)))
    with torch.no_grad():
        return wan.predict(transformer, config, x_BCFHW, torch.tensor([0.6]), [text_LD])


def as_diffsynth(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """By rules written down a second time, to judge the table of names."""
    rules = [("attn1.", "self_attn."), ("attn2.", "cross_attn."), ("to_out.0", "o"), ("to_", ""),
             ("net.0.proj", "0"), ("net.2", "2"), (".weight", ".default.weight")]  # fmt: skip

    def renamed(key: str) -> str:
        for ours, theirs in rules:
            key = key.replace(ours, theirs)
        return key

    return {renamed(key): tensor for key, tensor in weights.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("layout", "keys"),
    [
        ("diffusers", "transformer.blocks.3.attn1.to_q.lora_A.weight transformer.blocks.3.ffn.net.2.lora_B.weight"),
        ("comfyui", "diffusion_model.blocks.3.self_attn.q.lora_A.weight diffusion_model.blocks.3.ffn.2.lora_B.weight"),
        ("kohya", "lora_unet_blocks_3_self_attn_q.lora_down.weight lora_unet_blocks_3_ffn_2.lora_up.weight "
                  "lora_unet_blocks_3_cross_attn_o.alpha"),
        ("diffsynth", "blocks.3.self_attn.q.lora_A.default.weight blocks.3.ffn.2.lora_B.default.weight"),
    ],
)  # fmt: skip
def test_keys_are_those_of_the_tool(weights: dict[str, Tensor], layout: str, keys: str) -> None:
    tensors, _ = render(Lora(weights, RANK, {}), layout)
    assert set(keys.split()) <= set(tensors)
    assert len(tensors) == len(weights) * (3 if layout == "kohya" else 2) // 2
    assert layout_of(tensors) == layout


@pytest.mark.parametrize("alpha", [4, 16, 2.5])
def test_there_and_back_is_bit_equal(weights: dict[str, Tensor], tmp_path: Path, alpha: float) -> None:
    """trainer -> diffusers -> ComfyUI -> kohya -> ComfyUI -> diffusers, through files."""
    first = tmp_path / "0.safetensors"
    write(first, Lora(weights, alpha, ABOUT), "diffusers")
    path = first
    for number, layout in enumerate(["comfyui", "kohya", "comfyui", "diffusers"], start=1):
        given, adapter = read(path)
        assert same(adapter.tensors, weights) and (adapter.alpha, adapter.metadata) == (alpha, ABOUT), given
        path = tmp_path / f"{number}.safetensors"
        write(path, adapter, layout)
    assert same(load_file(path), load_file(first))
    with safe_open(path, "pt") as last, safe_open(first, "pt") as begun:
        assert last.metadata() == begun.metadata()


def test_precision_is_kept(weights: dict[str, Tensor]) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in weights.items()}
    back = parse(*render(Lora(halves, 8, ABOUT), "kohya"))
    assert same(back.tensors, halves) and {t.dtype for t in back.tensors.values()} == {torch.bfloat16}


def test_alpha_stands_in_comfyui_files_only_where_it_is_not_the_rank(weights: dict[str, Tensor]) -> None:
    assert not [key for key in render(Lora(weights, RANK, {}), "comfyui")[0] if key.endswith(".alpha")]
    tensors, _ = render(Lora(weights, 8, {}), "comfyui")
    assert tensors["diffusion_model.blocks.0.ffn.0.alpha"].item() == 8
    with pytest.raises(BackboneError, match="no place for alpha 8 beside rank 4"):
        render(Lora(weights, 8, {}), "diffsynth")


@pytest.mark.parametrize("layout", ["comfyui", "kohya"])
def test_diffusers_loads_every_layout_alike(
    weights: dict[str, Tensor], loaded: Callable[[Path], WanPipeline], tmp_path: Path, layout: str
) -> None:
    for alpha in (RANK, 8, 2):
        paths = {name: tmp_path / f"{name}-{alpha}.safetensors" for name in ("diffusers", layout)}
        for name, path in paths.items():
            write(path, Lora(weights, alpha, ABOUT), name)
        ours, ours_added = matrices(pipeline := loaded(paths["diffusers"])), added(pipeline)
        theirs, theirs_added = matrices(pipeline := loaded(paths[layout])), added(pipeline)
        assert len(ours) == len(weights) and same(ours, theirs) == (alpha == RANK)
        # diffusers folds alpha into the matrices; over the rank it is a power of two here, so nothing is rounded.
        assert same(ours_added, theirs_added), alpha


def test_diffusers_loads_a_comfyui_file_of_attention_alone(
    weights: dict[str, Tensor], loaded: Callable[[Path], WanPipeline], tmp_path: Path
) -> None:
    attention = {name: tensor for name, tensor in weights.items() if ".attn" in name}
    for layout in ("diffusers", "comfyui"):
        write(tmp_path / layout, Lora(attention, RANK, {}), layout)
        path = (tmp_path / layout).rename(tmp_path / f"{layout}.safetensors")
        assert len(matrices(loaded(path))) == len(attention)


def test_a_diffsynth_file_gives_what_peft_gives(
    weights: dict[str, Tensor], loaded: Callable[[Path], WanPipeline], backbone_config: BackboneConfig, tmp_path: Path
) -> None:
    save_file(as_diffsynth(weights), tmp_path / "diffsynth.safetensors")
    layout, adapter = read(tmp_path / "diffsynth.safetensors")
    assert (layout, adapter.rank, adapter.alpha, adapter.metadata) == ("diffsynth", RANK, RANK, {})
    write(tmp_path / "diffusers.safetensors", adapter, "diffusers")
    transformer = backbone.load_transformer(backbone_config)
    plain = output(transformer, backbone_config)
    lora.attach(transformer, RANK, RANK, wan.lora_targets("attention_ffn"), seed=0)
    lora.load(transformer, weights)
    expected = output(transformer, backbone_config)
    assert torch.equal(output(loaded(tmp_path / "diffusers.safetensors").transformer, backbone_config), expected)
    assert not torch.allclose(expected, plain, atol=0.01)


@pytest.mark.parametrize("alpha", [RANK, 6])
def test_merged_equals_attached(
    weights: dict[str, Tensor], base_path: Path, backbone_config: BackboneConfig, tmp_path: Path, alpha: int
) -> None:
    """fp32 rounds by 6e-8 of a value; the two orders of summing differ by some ten such roundings, 4e-7 as measured."""
    path = tmp_path / "pytorch_lora_weights.safetensors"
    wan.save_adapter(path, weights, TrainingConfig(rank=RANK, alpha=alpha), ABOUT)
    pipeline = WanPipeline.from_pretrained(base_path, dtype=torch.float32)
    plain = output(pipeline.transformer, backbone_config)
    pipeline.load_lora_weights(str(tmp_path), weight_name=path.name)
    attached = output(pipeline.transformer, backbone_config)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    assert not matrices(pipeline)
    merged = output(pipeline.transformer, backbone_config)
    torch.testing.assert_close(merged, attached, rtol=0, atol=5e-6 * attached.abs().max().item())
    assert not torch.allclose(merged, plain, atol=0.01)


A, B = "transformer.blocks.0.attn1.to_q.lora_A.weight", "transformer.blocks.0.attn1.to_q.lora_B.weight"


@pytest.mark.parametrize(
    ("layout", "more", "message"),
    [
        ("diffusers", {"transformer.blocks.0.attn2.add_k_proj.lora_A.weight": (4, 8)}, "1 of 81 keys .*add_k_proj"),
        ("comfyui", {"diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": (4, 8)}, "1 of 81 keys .*k_img"),
        ("comfyui", {"diffusion_model.head.head.lora_A.weight": (4, 8)}, r"head\.head.* not supported"),
        ("comfyui", {"diffusion_model.blocks.0.norm3.diff": (8,)}, r"norm3\.diff"),
        ("kohya", {"lora_te_text_model.lora_down.weight": (4, 8)}, "lora_te_text_model"),
        ("diffsynth", {f"blocks.{n}.modulation": (8,) for n in range(9)}, r"such as (blocks\.\d\.modulation,? ?){3};"),
        ("diffusers", {A: None}, r"attn1\.to_q\.lora_B\.weight stands without blocks\.0\.attn1\.to_q\.lora_A"),
        ("diffusers", {A: (8, 192), B: (192, 8)}, r"ranks \[4, 8\] are mixed"),
        ("diffusers", {A: (4, 192, 1)}, r"is no matrix but \[4, 192, 1\]"),
        ("kohya", {"lora_unet_blocks_0_ffn_0.alpha": ()}, r"alphas \[0.0, 4.0\] are mixed"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(
    weights: dict[str, Tensor], layout: str, more: dict[str, tuple[int, ...] | None], message: str
) -> None:
    tensors, header = render(Lora(weights, RANK, {}), layout)
    for key, shape in more.items():
        tensors.pop(key, None)
        if shape is not None:
            tensors[key] = torch.zeros(shape)
    with pytest.raises(BackboneError, match=message) as caught:
        parse(tensors, header)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_two_layouts_in_one_file_are_refused(weights: dict[str, Tensor]) -> None:
    tensors = {**render(Lora(weights, RANK, {}), "comfyui")[0], **render(Lora(weights, RANK, {}), "kohya")[0]}
    with pytest.raises(BackboneError, match="80 of 200 keys"):
        layout_of(tensors)
    with pytest.raises(BackboneError, match="holds no tensors"):
        layout_of([])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"transformer.r": 4, "transformer.use_rslora": true}', "sets use_rslora"),
        ('{"transformer.alpha_pattern": {"blocks.0": 8}}', "sets alpha_pattern"),
        ("[4]", "cannot be read"),
        ('{"transformer.lora_alpha": "much"}', "cannot be read"),
    ],
)
def test_settings_that_would_be_lost_are_refused(weights: dict[str, Tensor], settings: str, message: str) -> None:
    tensors, header = render(Lora(weights, RANK, {}), "diffusers")
    with pytest.raises(BackboneError, match=message):
        parse(tensors, {**header, "lora_adapter_metadata": settings})


def test_a_damaged_file_is_one_clear_line(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    write(path, Lora(weights, RANK, {}), "kohya")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BackboneError, match=r"no usable \.safetensors file"):
        read(path)


def test_a_file_that_diffusers_would_pass_over_is_no_adapter(
    weights: dict[str, Tensor], backbone_config: BackboneConfig, tmp_path: Path
) -> None:
    path = tmp_path / "diffsynth.safetensors"
    save_file(as_diffsynth(weights), path)
    with pytest.raises(BackboneError, match=re.escape("convert it: jobs/adapter.py")):
        backbone.load_generator(backbone_config, path)


def test_every_layout_names_every_linear_once() -> None:
    for layout in LAYOUTS.values():
        keys = [layout.key("11", linear, end) for linear in layout.linears for end in layout.ends]
        assert len(set(keys)) == len(keys) and all(layout.key(*layout.parts(key)) == key for key in keys)
