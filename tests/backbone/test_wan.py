"""The Wan backbone against diffusers' own pipeline: the same encodings, the same steps, adapters that take effect."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanVideoToVideoPipeline
from PIL import Image

from mimix_ray import backbone
from mimix_ray.backbone import BackboneError, Cancelled, GenerationError, lora, wan
from mimix_ray.config import BackboneConfig, TrainingConfig

SHORT = {"frames": 5, "width": 64, "height": 32, "steps": 3, "guidance": 2.0}
PROMPT = "[Character: Pip], hops over Momo&amp;s tail.  [scene-style:cartoon]"


@pytest.fixture(scope="module")
def pipeline(base_path: Path) -> WanPipeline:
    return WanPipeline.from_pretrained(base_path, dtype=torch.float32)


@pytest.fixture(scope="module")
def vae(backbone_config: BackboneConfig) -> backbone.Vae:
    return backbone.load_vae(backbone_config)


@pytest.fixture(scope="module")
def generator(backbone_config: BackboneConfig) -> backbone.Generator:
    return backbone.load_generator(backbone_config, None)


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)


@pytest.fixture
def adapter(tmp_path: Path, backbone_config: BackboneConfig) -> Path:
    """An adapter whose B matrices are not zero, so that it changes what the model does."""
    transformer = backbone.load_transformer(backbone_config)
    training = TrainingConfig(rank=4)
    lora.attach(transformer, 4, 4, wan.lora_targets("attention_ffn"), seed=0)
    tensors = {name: torch.randn_like(p) * 0.1 for name, p in lora.parameters(transformer).items()}
    path = tmp_path / "pytorch_lora_weights.safetensors"
    wan.save_adapter(path, tensors, training, {"universe": "test"})
    return path


def test_text_is_encoded_as_by_the_pipeline(pipeline: WanPipeline, backbone_config: BackboneConfig) -> None:
    texts = [PROMPT, "", "ﬁxed by ftfy: schÃ¶n", "x" * 500]
    with torch.no_grad():  # as in the pipeline's own call
        expected_BLD, _ = pipeline.encode_prompt(texts, do_classifier_free_guidance=False, max_sequence_length=128)
    ours = backbone.load_text_encoder(backbone_config).encode(texts)
    for expected_LD, text_LD in zip(expected_BLD, ours, strict=True):
        length = len(text_LD)
        assert torch.equal(text_LD, expected_LD[:length].to(torch.bfloat16))
        assert not expected_LD[length:].any(), "the pipeline pads with zeros after the true length"
    assert [len(text) for text in ours][1] == 1, "the empty prompt is its end mark"
    assert len(ours[3]) == 128


def test_video_is_encoded_as_normalised_mode(pipeline: WanPipeline, vae: backbone.Vae, film: np.ndarray) -> None:
    x_BCFHW = torch.from_numpy(film).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (pipeline.vae.config.latents_mean,
                                                                pipeline.vae.config.latents_std))  # fmt: skip
    with torch.no_grad():
        expected = (pipeline.vae.encode(x_BCFHW).latent_dist.mode() - mean) / std
    (latent,) = vae.encode([film])
    assert latent.shape == (16, 3, 4, 6) and latent.dtype == torch.bfloat16
    assert torch.equal(latent, expected[0].to(torch.bfloat16))
    assert vae.decode(latent).shape == film.shape


def test_video_is_encoded_as_by_diffusers_own_pipeline(
    pipeline: WanPipeline, film: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WanVideoToVideoPipeline, from frames as it takes them, with a VAE of Wan2.1's own build: 3 times 2 in space."""
    torch.manual_seed(0)
    wan21 = AutoencoderKLWan(base_dim=8, num_res_blocks=1).eval()
    parts = {name: pipeline.components[name] for name in ("tokenizer", "text_encoder", "transformer", "scheduler")}
    theirs = WanVideoToVideoPipeline(**parts, vae=wan21)
    # It mixes noise in at once; what is compared is what it mixes noise into.
    monkeypatch.setattr(theirs.scheduler, "add_noise", lambda latents, noise, timestep: latents)
    frames = [Image.fromarray(frame) for frame in film]
    x_BCFHW = theirs.video_processor.preprocess_video(frames, height=32, width=48)
    with torch.no_grad():
        expected_BCFHW = theirs.prepare_latents(
            x_BCFHW, height=32, width=48, dtype=torch.float32, device=torch.device("cpu")
        )
    (latent,) = wan.WanVae(wan21).encode([film])
    rounding = torch.finfo(torch.bfloat16).eps / 2
    torch.testing.assert_close(latent.float(), expected_BCFHW[0], rtol=rounding, atol=1e-5)


def test_each_encoder_is_loaded_without_the_other(backbone_config: BackboneConfig, tmp_path: Path) -> None:
    """umT5-xxl is 11 GB, which the actors that encode videos have no use for."""
    for part, others in (("vae", ()), ("text_encoder", ("tokenizer",))):
        only = tmp_path / part
        for name in (part, *others):
            shutil.copytree(Path(backbone_config.path, name), only / name)
    load = {"vae": backbone.load_vae, "text_encoder": backbone.load_text_encoder}
    for part, other in (("vae", "text_encoder"), ("text_encoder", "vae")):
        config = backbone_config.model_copy(update={"path": str(tmp_path / part)})
        load[part](config)
        with pytest.raises(BackboneError, match=r"no usable (vae|tokenizer) there"):
            load[other](config)


def test_films_do_not_depend_on_their_company(vae: backbone.Vae, film: np.ndarray) -> None:
    for together, first in zip(vae.encode([film, film[::-1]]), (film, film[::-1]), strict=True):
        (alone,) = vae.encode([first])
        torch.testing.assert_close(together.float(), alone.float(), atol=0.02, rtol=0.01)


@pytest.mark.parametrize("shape", [(8, 32, 48), (9, 30, 48), (9, 32, 40)])
def test_sizes_that_wan_cannot_take_are_refused(vae: backbone.Vae, shape: tuple[int, int, int]) -> None:
    with pytest.raises(BackboneError, match=r"4k\+1 frames and sides that are multiples of 16"):
        vae.encode([np.zeros((*shape, 3), np.uint8)])


def test_a_coarser_vae_has_its_own_sizes(film: np.ndarray) -> None:
    """As Wan2.2-TI2V-5B's: folded 2 x 2, then 3 times 2, with 48 channels; film is 48 wide."""
    ones = {"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}
    folded = {"in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16}
    coarse = wan.WanVae(AutoencoderKLWan(base_dim=8, z_dim=48, num_res_blocks=1, is_residual=True, **ones, **folded))
    with pytest.raises(BackboneError, match=r"9 frames of 48x32: .* multiples of 32"):
        coarse.encode([film])
    (latent,) = coarse.encode([film[:, :, :32]])
    assert latent.shape == (48, 3, 2, 2)


def test_decoding_nan_is_an_error(vae: backbone.Vae) -> None:
    with pytest.raises(GenerationError, match="NaN"):
        vae.decode(torch.full((16, 2, 4, 6), torch.nan))


def test_generation_equals_the_pipelines_own(
    pipeline: WanPipeline, generator: backbone.Generator, backbone_config: BackboneConfig
) -> None:
    video = generator.generate(PROMPT, **SHORT, seed=7)
    assert video.shape == (5, 32, 64, 3) and video.dtype == np.uint8
    expected = pipeline(
        PROMPT, num_frames=5, width=64, height=32, num_inference_steps=3, guidance_scale=2.0,
        generator=torch.Generator().manual_seed(7), max_sequence_length=128, output_type="np",
    ).frames[0]  # fmt: skip
    assert np.abs(video - expected * 255).max() < 1


def test_one_seed_one_video(generator: backbone.Generator) -> None:
    first, again, other = (generator.generate(PROMPT, **SHORT, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_steps_are_told_and_a_raise_stops_at_once(generator: backbone.Generator) -> None:
    told: list[tuple[int, int]] = []

    def stop_after_two(step: int, total: int) -> None:
        told.append((step, total))
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        generator.generate(PROMPT, **SHORT, seed=0, on_step=stop_after_two)
    assert told == [(1, 3), (2, 3)]
    assert generator.generate(PROMPT, **SHORT, seed=0).shape == (5, 32, 64, 3)


def test_adapter_changes_the_video_and_keeps_its_alpha(
    generator: backbone.Generator, backbone_config: BackboneConfig, adapter: Path
) -> None:
    adapted = backbone.load_generator(backbone_config, adapter)
    assert isinstance(adapted, wan.WanGenerator)
    peft = adapted.pipeline.transformer.peft_config
    assert [(c.r, c.lora_alpha) for c in peft.values()] == [(4, 4)]
    plain = generator.generate(PROMPT, **SHORT, seed=3)
    assert not np.array_equal(plain, adapted.generate(PROMPT, **SHORT, seed=3))


def test_what_is_missing_is_one_clear_line(backbone_config: BackboneConfig, tmp_path: Path) -> None:
    nowhere = backbone_config.model_copy(update={"path": str(tmp_path / "nowhere")})
    for look in (backbone.check, backbone.load_transformer):
        with pytest.raises(BackboneError, match=r"backbone\.path .*nowhere"):
            look(nowhere)
    with pytest.raises(BackboneError, match="not there"):
        backbone.load_generator(backbone_config, tmp_path / "none.safetensors")


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters")
def test_an_adapter_of_another_model_is_refused(backbone_config: BackboneConfig, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    shapes = {"blocks.0.attn1.to_q.lora_A.weight": (4, 7), "blocks.0.attn1.to_q.lora_B.weight": (7, 4)}
    wan.save_adapter(wrong, {k: torch.zeros(v) for k, v in shapes.items()}, TrainingConfig(rank=4), {})
    with pytest.raises(BackboneError, match="does not fit"):
        backbone.load_generator(backbone_config, wrong)


def test_identity_follows_what_lies_at_the_path(backbone_config: BackboneConfig, tmp_path: Path) -> None:
    from mimix_ray.miniature.base import build

    build(tmp_path / "wan")
    config = backbone_config.model_copy(update={"path": str(tmp_path / "wan")})
    before = backbone.identity(config)
    assert backbone.identity(config.model_copy(update={"device": "cuda:1"})) == before
    shifted = config.model_copy(update={"flow_shift": 8.0})
    assert backbone.identity(shifted) != before
    assert backbone.identity(shifted, "flow_shift") == backbone.identity(config, "flow_shift")
    build(tmp_path / "wan", seed=1)
    assert backbone.identity(config) != before
