"""The miniature's base model: a Wan pipeline of the real diffusers classes, a few million random weights.

Same layout, same interfaces, same latent geometry as Wan2.1 (stride 4 x 8 x 8, 16 channels, patches 1 x 2 x 2), so that
every stage treats it as it treats the 14B model; only it has learned nothing, and what it generates is coloured noise.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanPipeline

TEXT_DIM = 128
TRANSFORMER: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 4,
    "attention_head_dim": 48,  # 16 rotary channels each for time, height and width
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": TEXT_DIM,
    "freq_dim": 64,
    "ffn_dim": 1024,
    "num_layers": 4,  # attention over 1764 tokens takes most of the time, and each layer brings it again
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
}
# Pixels are folded 2 x 2 into channels first (as in Wan2.2's VAE), which saves most of the time on a CPU; channels
# come in multiples of 16, because other numbers leave the fast convolutions and cost several times more.
VAE: dict[str, Any] = {
    "base_dim": 16,
    "z_dim": 16,
    "dim_mult": [1, 1, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 8,
}
# Bytes are the tokens (ByT5's tokenizer): 256 of them, 3 special, 125 sentinels; no vocabulary file to download.
TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 384,
    "d_model": TEXT_DIM,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 2,
    "num_heads": 4,
}
SCHEDULER: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}

_CARD = "model_card.json"
"""Written last, inside the folder: that these weights have learned nothing (the report shows it), seed and sizes."""


def build(path: Path, seed: int = 0) -> None:
    """Saves the pipeline in diffusers layout, so that `WanPipeline.from_pretrained(path)` loads it.

    One seed gives the same bytes. A folder that already holds this very model is left alone; another one is replaced.
    The folder appears whole or not at all.
    """
    sizes = json.dumps([TRANSFORMER, VAE, TEXT_ENCODER, SCHEDULER], sort_keys=True)
    card = json.dumps({"random_weights": True, "seed": seed, "sizes": hashlib.sha256(sizes.encode()).hexdigest()[:16]})
    if (path / _CARD).is_file() and (path / _CARD).read_text() == card:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        fresh, stale = Path(folder, "fresh"), Path(folder, "stale")
        pipeline(seed).save_pretrained(fresh)
        (fresh / _CARD).write_text(card)
        if path.exists():
            path.rename(stale)
        fresh.rename(path)
        shutil.rmtree(stale, ignore_errors=True)


def pipeline(seed: int = 0) -> WanPipeline:
    """The pipeline with random weights, in fp32 on the CPU; leaves PyTorch's global random state as it was."""
    # Here and not above: a model that is there already is known by its card, without the seconds that these take.
    import torch
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKLWan(**VAE).eval()
        text_encoder = UMT5EncoderModel(UMT5Config(**TEXT_ENCODER)).eval()
        transformer = WanTransformer3DModel(**TRANSFORMER).eval()
        with torch.no_grad():
            mean, std = _latent_moments(vae)
    vae.register_to_config(latents_mean=mean, latents_std=std)
    scheduler = UniPCMultistepScheduler(**SCHEDULER)
    return WanPipeline(ByT5Tokenizer(), text_encoder, vae, scheduler, transformer)


def _latent_moments(vae: AutoencoderKLWan) -> tuple[list[float], list[float]]:
    """Mean and deviation of each latent channel over random patchwork films, so that normalised latents of these
    random weights have about the scale of Wan's: zero mean, unit variance."""
    import torch
    from torch.nn import functional

    coarse_BCFHW = torch.rand(8, 3, 3, 5, 8) * 2 - 1
    films_BCFHW = functional.interpolate(coarse_BCFHW, size=(9, 80, 128), mode="nearest")
    latents_BCFHW = vae.encode(films_BCFHW).latent_dist.mode()
    axes = (0, 2, 3, 4)
    mean, std = latents_BCFHW.mean(axes), latents_BCFHW.std(axes)
    return [round(v, 4) for v in mean.tolist()], [round(v, 4) for v in std.tolist()]
