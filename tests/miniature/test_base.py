"""The tiny Wan: the same bytes from the same seed, loadable by diffusers, of Wan's latent geometry."""

from hashlib import sha256
from pathlib import Path

import torch
from diffusers import WanPipeline

from mimix_ray.miniature.base import build


def digests(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*") if f.is_file()}


def test_same_seed_same_bytes(base_path: Path, tmp_path: Path) -> None:
    build(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(base_path)


def test_existing_model_is_kept_and_another_seed_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "wan"
    build(path)
    first = digests(path)
    (path / "left_alone").touch()
    build(path)
    assert (path / "left_alone").exists()
    build(path, seed=1)
    assert not (path / "left_alone").exists()
    changed = {name for name, digest in digests(path).items() if digest != first[name]}
    assert "transformer/diffusion_pytorch_model.safetensors" in changed
    assert [file.name for file in tmp_path.iterdir()] == ["wan"]


def test_wan_pipeline_loads_it_and_its_geometry_is_wans(base_path: Path) -> None:
    pipeline = WanPipeline.from_pretrained(base_path, dtype=torch.float32)
    assert 3e6 < sum(p.numel() for p in pipeline.transformer.parameters()) < 4e6
    films_BCFHW = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    with torch.no_grad():
        latent_BCFHW = pipeline.vae.encode(films_BCFHW).latent_dist.mode()
        back_BCFHW = pipeline.vae.decode(latent_BCFHW).sample
    assert latent_BCFHW.shape == (1, 16, 3, 4, 6)
    assert back_BCFHW.shape == films_BCFHW.shape
    assert torch.isfinite(back_BCFHW).all()
