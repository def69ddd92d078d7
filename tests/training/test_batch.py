"""The loss against a reference written out here, and what noise may depend on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from mimix_ray import backbone
from mimix_ray.run import Run
from mimix_ray.training.batch import Batch, batch_loss, learning_rate, load_batch
from mimix_ray.training.job import TrainingError
from tests.training.conftest import publish_latents

CPU = torch.device("cpu")


def load(run: Run, places: list[int], step: int = 0) -> Batch:
    rows = publish_latents(run.storage, 4)
    return load_batch([(p, rows[p]) for p in places], step, run.storage, run.config.training, 3.0, CPU)


def test_loss_equals_a_reference(tiny_run: Callable[..., Run], base_path: Path) -> None:
    run = tiny_run("--training.timestep_sampling", "logit_normal")
    batch = load(run, [0, 2])
    family = backbone.family(run.config.backbone)
    ours = batch_loss(family.load_transformer(run.config.backbone), family, run.config.backbone, batch)

    transformer = WanTransformer3DModel.from_pretrained(base_path / "transformer", dtype=torch.float32)
    errors = []
    for index, place in enumerate([0, 2]):
        name = f"latents/show/e01/{place:08d}"
        x0 = load_file(run.storage / f"{name}.safetensors")["latent"].float()
        text = load_file(run.storage / f"{name}.texts.safetensors")["full"].float()
        padded = torch.zeros(1, 32, 128)
        padded[0, : len(text)] = text
        s, eps = batch.s_B[index], batch.noise_BCFHW[index]
        x_s = (1 - s) * x0 + s * eps
        with torch.no_grad():
            velocity = transformer(x_s[None], 1000 * s[None], padded, return_dict=False)[0][0]
        errors.append(((velocity - (eps - x0)) ** 2).mean())
    torch.testing.assert_close(ours, torch.stack(errors).mean(), atol=1e-5, rtol=0)


def test_noise_follows_from_seed_step_and_place_alone(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run()
    together, alone = load(run, [1, 3]), load(run, [3])
    assert torch.equal(together.noise_BCFHW[1], alone.noise_BCFHW[0])
    assert torch.equal(together.s_B[1:], alone.s_B)
    assert not torch.equal(together.noise_BCFHW[0], together.noise_BCFHW[1])
    assert not torch.equal(load(run, [3], step=1).noise_BCFHW, alone.noise_BCFHW)
    assert not torch.equal(load(tiny_run("--training.seed", 1), [3]).noise_BCFHW, alone.noise_BCFHW)


def test_noise_is_normal_and_times_cover_the_way(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run()
    rows = publish_latents(run.storage, 1)
    batches = [load_batch([(0, rows[0])], step, run.storage, run.config.training, 1.0, CPU) for step in range(300)]
    noise = torch.cat([batch.noise_BCFHW.flatten() for batch in batches])
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    times = torch.cat([batch.s_B for batch in batches])
    assert times.min() < 0.05 and times.max() > 0.95 and abs(times.mean() - 0.5) < 0.06


def test_dropped_captions_are_the_empty_prompt(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("--training.caption_dropout", 0.5)
    lengths = [len(load(run, [3], step).texts[0]) for step in range(60)]
    assert set(lengths) == {1, 8}
    assert 15 < lengths.count(1) < 45


def test_a_broken_file_is_one_clear_line(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run()
    rows = publish_latents(run.storage, 1)
    run.storage.write_bytes(rows[0]["latent"], b"broken")
    with pytest.raises(TrainingError, match="run the stage latents again"):
        load_batch([(0, rows[0])], 0, run.storage, run.config.training, 3.0, CPU)


def test_learning_rate_warms_up_and_stays(tiny_run: Callable[..., Run]) -> None:
    config = tiny_run("--training.warmup_steps", 3, "--training.learning_rate", 0.4).config.training
    assert [learning_rate(config, step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
