"""The loss against a reference written out here, and what noise may depend on."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel

from mimix_ray import backbone, tensors
from mimix_ray.config import TrainingConfig
from mimix_ray.run import Run
from mimix_ray.training.batch import Batch, Samples, ahead, batch_losses, learning_rate, load_batch
from mimix_ray.training.job import TrainingError, usable
from tests.training.conftest import publish_latents


def samples(run: Run, count: int = 4) -> Samples:
    publish_latents(run.storage, count)
    rows, texts = usable(run.storage, "full")
    return Samples(run.storage, rows, texts, empty=True)


def name(place: int) -> str:
    return f"show/e01/{place:08d}"


def load(run: Run, places: list[int], step: int = 0, shift: float = 3.0) -> Batch:
    return load_batch([(p, name(p)) for p in places], step, samples(run), run.config.training, shift)


def test_loss_equals_a_reference(tiny_run: Callable[..., Run], base_path: Path) -> None:
    run = tiny_run("--training.timestep_sampling", "logit_normal")
    batch = load(run, [0, 2])
    family = backbone.family(run.config.backbone)
    ours = batch_losses(family.load_transformer(run.config.backbone), family, run.config.backbone, batch)

    transformer = WanTransformer3DModel.from_pretrained(base_path / "transformer", dtype=torch.float32)
    errors = []
    for index, place in enumerate([0, 2]):
        x0 = tensors.read(run.storage, f"latents/shards/{place:08d}.parquet", 0, name(place)).float()
        text = tensors.read(run.storage, f"texts/shards/{place:08d}.parquet", 0, f"{name(place)}/full").float()
        padded = torch.zeros(1, 32, 128)
        padded[0, : len(text)] = text
        s, eps = batch.s_B[index], batch.noise_BCFHW[index]
        x_s = (1 - s) * x0 + s * eps
        with torch.no_grad():
            velocity = transformer(x_s[None], 1000 * s[None], padded, return_dict=False)[0][0]
        errors.append(((velocity - (eps - x0)) ** 2).mean())
    torch.testing.assert_close(ours.detach(), torch.stack(errors), atol=1e-5, rtol=0)


def test_noise_follows_from_seed_step_and_place_alone(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run()
    together, alone = load(run, [1, 3]), load(run, [3])
    assert torch.equal(together.noise_BCFHW[1], alone.noise_BCFHW[0])
    assert torch.equal(together.s_B[1:], alone.s_B)
    assert not torch.equal(together.noise_BCFHW[0], together.noise_BCFHW[1])
    assert not torch.equal(load(run, [3], step=1).noise_BCFHW, alone.noise_BCFHW)
    assert not torch.equal(load(tiny_run("--training.seed", 1), [3]).noise_BCFHW, alone.noise_BCFHW)


@pytest.mark.parametrize("sampling", ["uniform", "logit_normal"])
def test_noise_is_normal_and_times_and_their_quantiles_cover_the_way(
    tiny_run: Callable[..., Run], sampling: str
) -> None:
    run = tiny_run("--training.timestep_sampling", sampling)
    source = samples(run, 1)
    batches = [load_batch([(0, name(0))], step, source, run.config.training, 1.0) for step in range(400)]
    noise = torch.cat([batch.noise_BCFHW.flatten() for batch in batches])
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    times = torch.cat([batch.s_B for batch in batches])
    assert times.min() < 0.1 and times.max() > 0.9 and abs(times.mean() - 0.5) < 0.05
    quantiles = torch.cat([batch.quantile_B for batch in batches])
    counts = torch.histc(quantiles, 4, 0, 1)
    assert counts.min() > 60, "a quarter of the draws falls in each quarter"
    assert torch.equal(times.argsort(), quantiles.argsort())


def test_dropped_captions_are_the_empty_prompt(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("--training.caption_dropout", 0.5)
    source = samples(run)
    lengths = [len(load_batch([(3, name(3))], s, source, run.config.training, 3.0).texts[0]) for s in range(60)]
    assert set(lengths) == {1, 8}
    assert 15 < lengths.count(1) < 45


@pytest.mark.parametrize("fault", ["broken", "gone", "nan", "another shape"])
def test_a_bad_latent_is_one_clear_line(tiny_run: Callable[..., Run], fault: str) -> None:
    run = tiny_run()
    source = samples(run)
    shard = "latents/shards/00000002.parquet"
    if fault == "broken":
        run.storage.write_bytes(shard, b"PAR1 broken PAR1")
    elif fault == "gone":
        run.storage.delete(shard)
    else:
        value = torch.full((16, 2, 4, 6), torch.nan) if fault == "nan" else torch.zeros(16, 1, 4, 6)
        tensors.write(run.storage, shard, {name(2): value})
    with pytest.raises(TrainingError, match="the stage latents") as caught:
        load_batch([(0, name(2))], 0, source, run.config.training, 3.0)
    assert "\n" not in str(caught.value)
    assert load_batch([(0, name(1))], 0, source, run.config.training, 3.0).x0_BCFHW.shape == (1, 16, 2, 4, 6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4]),
        ("linear", [0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.1]),
        ("cosine", [0.1, 0.2, 0.3, 0.4, 0.4 * 0.853553, 0.2, 0.4 * 0.146447]),
    ],
)
def test_learning_rate_warms_up_and_follows_its_schedule(schedule: str, expected: list[float]) -> None:
    config = TrainingConfig(schedule=schedule, warmup_steps=3, learning_rate=0.4)
    assert [learning_rate(config, step, 7) for step in range(7)] == pytest.approx(expected, rel=1e-5)


def test_ahead_keeps_the_order_and_works_while_we_do() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def load(item: int) -> int:
        with lock:
            started.append(item)
        time.sleep(0.02 if item % 2 else 0.0)
        return 10 * item

    results = ahead(load, range(20), depth=4)
    assert next(results) == 0
    time.sleep(0.1)
    assert 4 <= len(started) <= 6, "no more than the depth is read ahead"
    assert list(results) == [10 * n for n in range(1, 20)]


def test_ahead_tells_a_fault_in_its_turn() -> None:
    def load(item: int) -> float:
        return 1 / (item - 2)

    results = ahead(load, range(5), depth=3)
    assert [next(results), next(results)] == [-0.5, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
