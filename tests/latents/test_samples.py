"""Samples: what is encoded, what refuses to be, and what makes a row stale."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mimix_ray import backbone, tables
from mimix_ray.config import BackboneConfig, RunConfig
from mimix_ray.latents.encode import encode_samples
from mimix_ray.latents.samples import Sample, list_samples
from mimix_ray.storage import Storage
from mimix_ray.video import write_video

SIZE = (5, 32, 48)
TEXTS = {"full": "[Character: Pip], hops.", "plain": "Pip hops."}


def clip_row(clip_id: str, recipe: str = "c") -> tables.Row:
    size = {"frames": 5, "width": 48, "height": 32}
    return {"clip_id": clip_id, "show": "s", "video": f"clips/{clip_id}.mp4", "recipe": recipe, **size}


def caption_row(clip_id: str, action: str = "hops") -> tables.Row:
    return {
        "clip_id": clip_id,
        "characters": [{"name": "Pip", "action": action}],
        "setting": None,
        "scene_style": "cartoon",
    }


@pytest.fixture(scope="module")
def encoders(backbone_config: BackboneConfig) -> backbone.Encoders:
    return backbone.load_encoders(backbone_config)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "run"))


@pytest.fixture
def put_film(storage: Storage) -> Callable[[int], Sample]:
    """Puts a film of random pixels on storage and gives its sample."""

    def put(frames: int) -> Sample:
        film = np.random.default_rng(0).integers(0, 256, (frames, 32, 48, 3), dtype=np.uint8)
        Path(storage / "clips").mkdir(exist_ok=True)
        write_video(storage / "clips/a.mp4", film, 16)
        return Sample("s/e/1", "clip", "s", "clips/a.mp4", SIZE, TEXTS, "r")

    return put


def test_a_sample_is_encoded_whole(
    storage: Storage, encoders: backbone.Encoders, put_film: Callable[[int], Sample]
) -> None:
    (row,) = encode_samples([put_film(5)], encoders, storage)
    tables.to_arrow(tables.LATENTS, [row])
    assert row["status"] == "ok" and row["shape"] == [16, 2, 4, 6]
    latent = load_file(storage / row["latent"])["latent"]
    assert latent.dtype == torch.bfloat16 and list(latent.shape) == row["shape"]
    texts = load_file(storage / row["texts"])
    assert {name: len(text) for name, text in texts.items()} == {"full": 24, "plain": 10, "empty": 1}  # bytes, end mark


def test_a_clip_of_another_length_is_a_failed_row(
    storage: Storage, encoders: backbone.Encoders, put_film: Callable[[int], Sample]
) -> None:
    (row,) = encode_samples([put_film(9)], encoders, storage)
    assert row["error"].startswith("wrong_size: clips/a.mp4 is 9 frames of 48x32, not 5 frames of 48x32")


def test_bad_files_are_failed_rows_and_leave_their_company_alone(
    storage: Storage, encoders: backbone.Encoders, put_film: Callable[[int], Sample]
) -> None:
    good = put_film(5)
    storage.write_bytes("clips/broken.mp4", b"no video")
    missing, broken = (replace(good, sample_id=name, video=f"clips/{name}.mp4") for name in ("missing", "broken"))
    rows = {row["sample_id"]: row for row in encode_samples([missing, good, broken], encoders, storage)}
    assert rows["missing"]["error"].startswith("storage: ")
    assert rows["broken"]["error"].startswith("not_a_video: ")
    assert rows[good.sample_id]["status"] == "ok"


def test_nan_is_a_failed_row(storage: Storage, put_film: Callable[[int], Sample]) -> None:
    class Broken:
        def encode_videos(self, films: list[np.ndarray]) -> list[torch.Tensor]:
            return [torch.full((16, 2, 4, 6), torch.nan) for _ in films]

        def encode_text(self, texts: list[str]) -> list[torch.Tensor]:
            return [torch.zeros(1, 8) for _ in texts]

    (row,) = encode_samples([put_film(5)], Broken(), storage)  # type: ignore[arg-type]
    assert row["error"].startswith("not_finite: NaN or infinity in latent")


def test_what_is_listed_and_what_makes_it_stale() -> None:
    config = RunConfig()
    clips = [clip_row("a"), clip_row("b"), clip_row("no caption")]
    composite = {**caption_row(""), **clip_row(""), "composite_id": "composites/00000000", "background_clip": "b"}
    samples = list_samples(clips, [caption_row("b"), caption_row("a")], [composite], config)
    assert [(s.sample_id, s.kind, s.show) for s in samples] == [
        ("b", "clip", "s"),
        ("a", "clip", "s"),
        ("composites/00000000", "composite", "s"),
    ]
    assert samples[0].texts == {"full": "[Character: Pip], hops. [scene-style:cartoon]"}

    def recipe(action: str = "hops", clip: str = "c", config: RunConfig = config) -> str:
        return list_samples([clip_row("a", clip)], [caption_row("a", action)], [], config)[0].recipe

    def changed(**backbone_values: object) -> RunConfig:
        return config.model_copy(update={"backbone": config.backbone.model_copy(update=backbone_values)})

    assert recipe() == samples[1].recipe
    assert recipe(action="sleeps") != recipe()
    assert recipe(clip="cut again") != recipe()
    assert recipe(config=changed(path="other")) != recipe()
    assert recipe(config=changed(flow_shift=8.0)) == recipe(), "the flow has no part in encoding"
