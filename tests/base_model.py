"""The miniature's base model, built once a session: a real Wan pipeline of a few million random weights."""

from pathlib import Path

import pytest

from mimix_ray.config import BackboneConfig


@pytest.fixture(scope="session")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny Wan pipeline, in diffusers layout. Do not write into it."""
    from mimix_ray.miniature.base import build

    path = tmp_path_factory.mktemp("base") / "wan"
    build(path)
    return path


@pytest.fixture(scope="session")
def backbone_config(base_path: Path) -> BackboneConfig:
    """A config of the tiny model on the CPU: fp32, which is fast on every CPU, and short prompts."""
    return BackboneConfig(path=str(base_path), dtype="fp32", device="cpu", text_tokens=128, flow_shift=3.0)
