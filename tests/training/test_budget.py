"""The planner: the published arithmetic, what fits and what does not, and a command that needs nothing but a config."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from diffusers import WanTransformer3DModel

from mimix_ray import config, tables
from mimix_ray.backbone import lora, wan
from mimix_ray.backbone.dit import PUBLISHED, DiTSize
from mimix_ray.config import RunConfig
from mimix_ray.miniature.base import TEXT_DIM, TRANSFORMER
from mimix_ray.run import Run
from mimix_ray.training.budget import (
    GB,
    GPUS,
    LARGEST_BUCKET,
    LIVE,
    STRATEGIES,
    Budget,
    BudgetError,
    footage,
    imagined,
    memory,
    plan,
)
from mimix_ray.training.engine import Engine
from tests.conftest import REPO
from tests.live import Live

SIZE = PUBLISHED["Wan-AI/Wan2.1-T2V-14B-Diffusers"]
FILM = (16, 21, 60, 104)
LORA = 153_354_240
BASE = 14_288_491_584


def paper(*arguments: str) -> RunConfig:
    return config.load(REPO / "configs/mimix-14b.yaml", arguments)


def budget(*arguments: str, gpu: str = "A100-80G", clips: int = 52_000, utilisation: float = 0.45) -> Budget:
    """Of so many clips to train on, beside those held out."""
    given = paper(*arguments)
    return plan(given, gpu, imagined(given, clips + given.training.held_out), utilisation)


def test_the_papers_recipe_on_16_a100() -> None:
    """52k clips, 10 % composites, batch 64, 5 epochs (paper 3.3 and 4.3); others' arithmetic says 50 to 60 GB."""
    found = budget()
    assert (found.tokens, found.composites, found.steps) == (32_760, 5_200, 4_469)
    assert found.hours == pytest.approx(4_469 * 4 * found.flops / (312e12 * 0.45) / 3600)
    assert found.gpu_hours == 16 * found.hours
    needs = memory(found.config, SIZE, FILM)
    assert 50e9 < needs.total - needs.reserve < 60e9
    found.check()


def test_what_each_strategy_shards() -> None:
    """LoRA takes 16 bytes a parameter, 18 where gradients add up in fp32 beside bf16: ZeRO-1 shards 12, ZeRO-2 16."""
    needs = {name: memory(paper("--training.strategy", name), SIZE, FILM) for name in STRATEGIES}
    divided = {"ddp": 16, "zero1": 6 + 12 / 16, "zero2": 2 + 16 / 16, "zero3": 18 / 16}
    assert {name: needs[name].lora for name in STRATEGIES} == pytest.approx({n: LORA * b for n, b in divided.items()})
    assert [needs[name].base for name in STRATEGIES] == [2 * BASE] * 3 + [2 * BASE / 16]
    assert needs["zero3"].buckets == 2 * (2 * LARGEST_BUCKET + LIVE)
    assert len({parts.activations for parts in needs.values()}) == 1


def test_zero3s_own_linear_keeps_its_input() -> None:
    """With LoRA on attention alone the others need not keep what the feed-forward's frozen linears took."""
    needs = {
        name: memory(paper("--training.strategy", name, "--training.targets", "attention"), SIZE, FILM)
        for name in ("zero2", "zero3")
    }
    more = needs["zero3"].activations - needs["zero2"].activations
    assert more == pytest.approx(32_760 * 2 * (5_120 + 13_824), rel=0.01)


def test_deepspeeds_own_numbers() -> None:
    assert DeepSpeedZeroConfig().max_live_parameters == LIVE


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bytes_that_deepspeed_holds(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker's, between backward pass and step; a LoRA larger than the tiny base, so that it is what counts."""
    monkeypatch.setattr(torch.nn.functional, "linear", torch.nn.functional.linear)  # ZeRO-3 leaves its own
    flags = ("--training.strategy", strategy, "--training.rank", "256", "--training.workers", "1")
    given = paper(*flags)
    with Live() as live:
        model = WanTransformer3DModel(**TRANSFORMER).bfloat16()
        lora.attach(model, 256, 256, wan.lora_targets("attention_ffn"), seed=0)
        engine = Engine(model, given.backbone, given.training, accumulate=1)
        for _ in range(2):  # moments come into being at the first step
            x_BCFHW, text_BLD = torch.randn(1, 16, 1, 2, 2).bfloat16(), torch.randn(1, 1, TEXT_DIM).bfloat16()
            loss = engine.module(x_BCFHW, torch.zeros(1), text_BLD, return_dict=False)[0].float().square().mean()
            engine.backward(loss, last=True)
            held = live.now
            engine.step(1e-3)
    needs = memory(given, DiTSize.of(TRANSFORMER), (16, 1, 2, 2))
    assert 0.99 * (needs.base + needs.lora) < held < needs.base + needs.lora + needs.buckets


@pytest.mark.parametrize(
    ("gpu", "arguments", "advice"),
    [
        ("A100-40G", (), r"set training\.strategy zero3 \(needs 31\.8 GB\), or take one of A100-80G"),
        ("A100-80G", ("--training.micro_batch", "2"), r"set training\.micro_batch 1 \("),
        ("H200", ("--training.gradient_checkpointing", "false"), r"gradient_checkpointing true \(.*, or take shorter"),
        (
            "A100-40G",
            ("--training.gradient_checkpointing", "false", "--training.micro_batch", "2"),
            r"training\.micro_batch 1, training\.gradient_checkpointing true, training\.strategy zero3 \(",
        ),
        ("RTX-4090", (), r"zero2: take one of A100-80G"),
    ],
    ids=["another strategy", "fewer at once", "recompute", "all of it", "a larger GPU"],
)
def test_what_does_not_fit_is_refused_with_advice(gpu: str, arguments: tuple[str, ...], advice: str) -> None:
    with pytest.raises(BudgetError, match=rf"GB a GPU do not fit {gpu} .*{advice}") as refusal:
        budget(*arguments, gpu=gpu).check()
    assert "\n" not in str(refusal.value)


def test_advice_taken_fits() -> None:
    budget("--training.strategy", "zero3", gpu="A100-40G").check()
    for gpu in ("A100-80G", "H200"):
        budget(gpu=gpu).check()


def test_zero3_must_load_what_it_shards() -> None:
    """Five frames would fit 24 GB once the base is divided, but every worker loads all of it."""
    needs = memory(paper("--training.strategy", "zero3"), SIZE, (16, 2, 60, 104))
    assert needs.step + needs.reserve < GPUS["RTX-4090"].memory * GB < needs.total == 2 * BASE + needs.reserve


def test_time_follows_the_work() -> None:
    once = budget()
    assert budget(utilisation=0.9).hours == pytest.approx(once.hours / 2)
    assert budget("--training.epochs", "10").steps == 8_938
    assert budget("--training.max_steps", "100").steps == 100
    held_out = paper("--training.held_out", "2000")
    assert plan(held_out, "H200", imagined(held_out, 52_000)).clips == 50_000
    assert budget("--training.composite_ratio", "0").composites == 0
    assert budget("--training.gradient_checkpointing", "false").hours < 0.75 * once.hours
    uneven = budget("--training.workers", "15")  # 64 clips: four workers have five, eleven have four
    assert uneven.seconds_a_step == pytest.approx(once.seconds_a_step * 5 / 4)
    elastic = budget("--training.min_workers", "8")
    assert elastic.workers == 8 and elastic.gpu_hours == pytest.approx(once.gpu_hours)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"gpu": "A1000"}, "--gpu A1000: not known; known: A100-40G"),
        ({"utilisation": 0.0}, "--utilisation 0.0"),
        ({"utilisation": 1.5}, "--utilisation 1.5"),
        ({"clips": 0}, "nothing to train on"),
    ],
    ids=["gpu", "no utilisation", "too much of it", "no clips"],
)
def test_what_cannot_be_planned(options: dict[str, Any], error: str) -> None:
    with pytest.raises(BudgetError, match=error):
        budget(**options)


def test_clips_come_from_latents_else_from_the_clips(run_factory: Callable[..., Run]) -> None:
    run = run_factory("--backbone.path", "Wan-AI/Wan2.1-T2V-14B-Diffusers", "--composites.ratio", 0.5)
    with pytest.raises(BudgetError, match="--clips N"):
        footage(run.config)

    clip = {"show": "s", "episode": "e", "style": "cartoon", "frames": 81, "status": "ok", "recipe": "r"}
    sizes = [(832, 480), (832, 480), (640, 480)]
    rows = [{**clip, "clip_id": f"s/e/{n}", "width": w, "height": h} for n, (w, h) in enumerate(sizes)]
    seal(run, tables.CLIPS, rows)
    assert footage(run.config) == {FILM: 2, (16, 21, 60, 80): 1}

    latent = {"show": "s", "status": "ok", "recipe": "r"}
    shapes = [("clip", FILM), ("clip", (16, 5, 60, 80)), ("composite", (16, 5, 60, 80))]
    rows = [{**latent, "sample_id": str(n), "kind": kind, "shape": shape} for n, (kind, shape) in enumerate(shapes)]
    seal(run, tables.LATENTS, rows)
    assert footage(run.config) == {FILM: 1, (16, 5, 60, 80): 1}

    found = plan(run.config, "H200", footage(run.config))
    assert found.tokens == 32_760, "the largest"
    costs: dict[str, Any] = {"rank": 16, "targets": "attention_ffn", "recompute": False}
    each = [SIZE.training_flops(shape, 512, **costs).total for shape in (FILM, (16, 5, 60, 80))]
    assert found.flops == sum(each) / 2
    assert (found.clips, found.composites) == (2, 1)


def seal(run: Run, table: tables.Table, rows: list[tables.Row]) -> None:
    tables.publish(run.storage, table, rows)
    tables.seal(run.storage, table, [row[table.key] for row in rows])


def test_the_command_answers_without_ray_and_pytorch(tmp_path: Path) -> None:
    """It prints the plan also where that does not fit, and says so on the last line."""
    script = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('heavy:', *sorted({'ray', 'torch', 'deepspeed'} & set(sys.modules))))\n"
        "runpy.run_path('jobs/train.py', run_name='__main__')\n"
    )
    flags = [
        "--config",
        "configs/mimix-14b.yaml",
        "--root",
        str(tmp_path),
        "--plan",
        "--clips",
        "52000",
        "--training.held_out",
        "0",
    ]

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *flags, *more]
        return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120)

    fits = call("--gpu", "H200", "--training.workers", "8")
    assert fits.returncode == 0, fits.stderr
    assert "steps    4,469" in fits.stdout and "8 x H200 at 45% (assumed)" in fits.stdout
    assert fits.stdout.endswith("heavy:\n")
    refused = call("--gpu", "RTX-4090")
    assert refused.returncode == 1 and "steps    4,469" in refused.stdout
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
