"""Encoding a group with the real (tiny) encoders: what is kept, what refuses to be, and who suffers for it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mimix_ray import backbone, tables, tensors
from mimix_ray.config import BackboneConfig
from mimix_ray.latents.encode import BATCH, encode_texts, encode_videos
from mimix_ray.latents.samples import Sample, Text
from mimix_ray.storage import Storage, StorageError
from mimix_ray.video import read_frames, write_video

TEXTS = [
    Text("empty", None, None, "", "r"),
    Text("s/e/1/full", "s/e/1", "full", "[Character: Pip], hops.", "r"),
    Text("s/e/1/plain", "s/e/1", "plain", "Pip hops.", "r"),
]


@pytest.fixture(scope="module")
def vae(backbone_config: BackboneConfig) -> backbone.Vae:
    return backbone.load_vae(backbone_config)


@pytest.fixture(scope="module")
def text_encoder(backbone_config: BackboneConfig) -> backbone.TextEncoder:
    return backbone.load_text_encoder(backbone_config)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "run"))


@pytest.fixture
def put_film(storage: Storage) -> Callable[..., Sample]:
    """Puts a film of random pixels on storage and gives its sample."""

    def put(number: int = 0, frames: int = 5, height: int = 32, width: int = 48) -> Sample:
        film = np.random.default_rng(number).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
        name = f"clips/{number}.mp4"
        Path(storage / "clips").mkdir(exist_ok=True)
        write_video(storage / name, film, 16)
        return Sample(f"s/e/{number}", "clip", "s", name, (frames, height, width), "r")

    return put


def read(storage: Storage, row: tables.Row, key: str) -> torch.Tensor:
    return tensors.read(storage, row["shard"], row["row_group"], row[key])


def test_videos_of_several_sizes_share_a_shard_and_each_finds_its_own(
    storage: Storage, vae: backbone.Vae, put_film: Callable[..., Sample]
) -> None:
    """More of one size than go through the VAE together, others between them."""
    samples = [put_film(n, width=64 if n % 3 == 1 else 48) for n in range(BATCH + 4)]
    rows = encode_videos(samples, vae, storage)
    tables.to_arrow(tables.LATENTS, rows)
    assert [row["sample_id"] for row in rows] == [sample.sample_id for sample in samples]
    assert len({row["shard"] for row in rows}) == 1 and len({row["row_group"] for row in rows}) == len(rows)
    for sample, row in zip(samples, rows, strict=True):
        (alone,) = vae.encode([read_frames(storage / sample.video)])
        latent = read(storage, row, "sample_id")
        assert list(latent.shape) == row["shape"] == [16, 2, 4, sample.size[2] // 8]
        torch.testing.assert_close(latent.float(), alone.float(), atol=0.02, rtol=0.01)


def test_texts_are_kept_unpadded(storage: Storage, text_encoder: backbone.TextEncoder) -> None:
    rows = encode_texts(TEXTS, text_encoder, storage)
    tables.to_arrow(tables.TEXTS, rows)
    assert {row["text_id"]: row["tokens"] for row in rows} == {"empty": 1, "s/e/1/full": 24, "s/e/1/plain": 10}
    for row in rows:  # bytes are the tokens, and an end mark
        (alone,) = text_encoder.encode([row["text"]])
        kept = read(storage, row, "text_id")
        assert kept.shape == (row["tokens"], 128)
        torch.testing.assert_close(kept.float(), alone.float(), atol=0.02, rtol=0.01)


def test_bad_files_are_failed_rows_and_leave_their_company_alone(
    storage: Storage, vae: backbone.Vae, put_film: Callable[..., Sample]
) -> None:
    good = put_film()
    storage.write_bytes("clips/broken.mp4", b"no video")
    missing, broken = (replace(good, sample_id=name, video=f"clips/{name}.mp4") for name in ("missing", "broken"))
    longer = replace(put_film(1, frames=9), size=(5, 32, 48))
    odd = put_film(2, width=40)
    samples = [missing, good, broken, longer, odd]
    rows = {row["sample_id"]: row for row in encode_videos(samples, vae, storage)}
    tables.to_arrow(tables.LATENTS, list(rows.values()))
    assert rows["missing"]["error"].startswith("storage: ")
    assert rows["broken"]["error"].startswith("not_a_video: ")
    assert rows["s/e/1"]["error"].startswith("wrong_size: clips/1.mp4 is 9 frames of 48x32, not 5 frames of 48x32; run")
    assert rows["s/e/2"]["error"].startswith("not_encoded: 5 frames of 40x32: this VAE needs 4k+1 frames")
    assert rows[good.sample_id]["status"] == "ok" and read(storage, rows[good.sample_id], "sample_id").isfinite().all()


class Fake:
    """An encoder of one's own making."""

    def __init__(self, encode: Callable[[Sequence[np.ndarray]], list[torch.Tensor]]) -> None:
        self.encode = encode

    def decode(self, latent: torch.Tensor) -> np.ndarray:
        raise NotImplementedError


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_a_failed_row_and_not_kept(
    storage: Storage, put_film: Callable[..., Sample], value: float
) -> None:
    def second_is_bad(films: Sequence[np.ndarray]) -> list[torch.Tensor]:
        latents = [torch.full((16, 2, 4, 6), float(number)) for number, _ in enumerate(films)]
        latents[1][3, 1, 2, 5] = value
        return latents

    rows = encode_videos([put_film(n) for n in range(3)], Fake(second_is_bad), storage)
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert rows[1]["error"].startswith("not_finite: NaN or infinity")
    assert [read(storage, rows[n], "sample_id")[0, 0, 0, 0] for n in (0, 2)] == [0, 2]


def test_too_much_for_the_memory_together_is_done_one_by_one(
    storage: Storage, put_film: Callable[..., Sample], vae: backbone.Vae
) -> None:
    tried: list[int] = []

    def small_memory(films: Sequence[np.ndarray]) -> list[torch.Tensor]:
        tried.append(len(films))
        if len(films) > 1 or films[0].mean() < 100:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")
        return vae.encode(films)

    dark = put_film(2)
    write_video(storage / dark.video, np.zeros((5, 32, 48, 3), np.uint8), 16)
    rows = encode_videos([put_film(0), put_film(1), dark], Fake(small_memory), storage)
    assert tried == [3, 1, 1, 1]
    assert [row["status"] for row in rows] == ["ok", "ok", "failed"]
    assert rows[2]["error"] == "not_encoded: CUDA out of memory. Tried to allocate 9 GiB"


def test_a_shard_that_cannot_be_written_fails_its_rows(
    storage: Storage, text_encoder: backbone.TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(Storage, "write_bytes", full)
    rows = encode_texts(TEXTS, text_encoder, storage)
    tables.to_arrow(tables.TEXTS, rows)
    assert [row["error"] for row in rows] == ["storage: disk full"] * 3


def test_a_group_of_failures_leaves_no_shard(storage: Storage, put_film: Callable[..., Sample]) -> None:
    gone = replace(put_film(), video="clips/gone.mp4")
    (row,) = encode_videos([gone], Fake(lambda films: pytest.fail("there is nothing to encode")), storage)
    assert row["status"] == "failed" and "shard" not in row
    assert storage.list("latents") == []
