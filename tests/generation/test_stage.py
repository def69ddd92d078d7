"""The generation stage on a real Ray with the tiny Wan."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mimix_ray import synthesis, tables, video
from mimix_ray.generation import stage
from mimix_ray.miniature import base
from mimix_ray.prompts import load_prompts
from mimix_ray.run import Run
from mimix_ray.stage import StageError
from mimix_ray.storage import StorageError

PROMPTS = """
- id: pip-hops
  characters: [{name: Pip, action: hops}]
  scene_style: cartoon
- id: plum-and-momo
  characters: [{name: Mr. Plum, action: waddles}, {name: Momo, action: sneaks}]
  scene_style: realistic
"""


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "wan"
    base.build(path)
    return path


@pytest.fixture
def make_run(run_factory: Callable[..., Run], base_model: Path, tmp_path: Path) -> Callable[..., Run]:
    """Runs of two small prompts on the bare base model."""
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(PROMPTS)
    small = {"prompts": prompts, "width": 64, "height": 48, "frames": 9, "steps": 2, "seed": 40, "use_adapter": "false"}
    options = [text for name, value in small.items() for text in (f"--generation.{name}", value)]
    return lambda *more: run_factory("--backbone.path", base_model, *options, *more)


def adapter_file(path: Path, base_model: Path) -> None:
    """LoRA weights that do something, as peft and diffusers save them."""
    import torch
    from diffusers import WanPipeline, WanTransformer3DModel
    from peft import LoraConfig, get_peft_model_state_dict

    transformer = WanTransformer3DModel.from_pretrained(base_model, subfolder="transformer")
    transformer.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    state = {name: tensor.to(torch.float32) for name, tensor in get_peft_model_state_dict(transformer).items()}
    WanPipeline.save_lora_weights(path.parent, state, weight_name=path.name)


def test_every_prompt_becomes_a_video_and_a_second_run_makes_none(ray_cluster, make_run, base_model: Path):
    run = make_run("--generation.use_adapter", "true")
    adapter_file(Path(run.storage.uri, synthesis.RUNS_ADAPTER), base_model)
    report = stage.run(run)
    assert (report.rows_in, report.rows_out, report.ok, report.reused) == (2, 2, 2, 0)
    rows = tables.read(run.storage, tables.GENERATIONS)
    assert [row["generation_id"] for row in rows] == ["pip-hops/40", "plum-and-momo/41"]
    assert rows[1]["prompt"] == "[Character: Mr. Plum], waddles. [Character: Momo], sneaks. [scene-style:realistic]"
    assert rows[1]["characters"] == [{"name": "Mr. Plum", "action": "waddles"}, {"name": "Momo", "action": "sneaks"}]
    assert [(row["seed"], row["scene_style"]) for row in rows] == [(40, "cartoon"), (41, "realistic")]
    assert {row["adapter"] for row in rows} == {report.extra["adapter"]} and len(report.extra["adapter"]) == 16
    for row in rows:
        assert row["video"] == f"generations/{row['generation_id']}.mp4"
        with run.storage.local(row["video"]) as path:
            probe = video.probe(path)
            assert (video.count_frames(path), probe.fps, probe.width, probe.height) == (9, 16, 64, 48)

    before = {row["video"]: run.storage.fingerprint(row["video"]) for row in rows}
    again = stage.run(run)
    assert (again.ok, again.reused) == (2, 2)
    assert {name: run.storage.fingerprint(name) for name in before} == before


def test_a_recipe_changes_with_all_that_changes_the_video(make_run: Callable[..., Run], base_model: Path):
    def recipe(*options: object, prompt: int = 0, seed: int = 40, digest: str | None = None, model: str = "a") -> str:
        run = make_run(*options)
        adapter = synthesis.Adapter(run.storage, "x", digest) if digest else None
        chosen = load_prompts(run.config.generation.prompts, run.universe)[prompt]
        return stage.plan(run, chosen, seed, model, adapter)["recipe"]

    same = [recipe(), recipe("--generation.workers", 3, "--generation.gpus", 1)]
    others = [
        recipe("--generation.steps", 3),
        recipe("--generation.guidance", 1),
        recipe(prompt=1),
        recipe(seed=41),
        recipe(digest="0123"),
        recipe(model="b"),
    ]
    assert same[0] == same[1] and len({same[0], *others}) == 1 + len(others)


def test_an_adapter_changes_the_video(make_run: Callable[..., Run], base_model: Path, tmp_path: Path):
    run = make_run("--generation.use_adapter", "true")
    adapter_file(tmp_path / "lora.safetensors", base_model)
    adapter = synthesis.find_adapter(run, str(tmp_path / "lora.safetensors"))
    for name, chosen in (("bare.mp4", None), ("taught.mp4", adapter), ("again.mp4", adapter)):
        parameters = synthesis.Parameters("[Character: Pip], hops.", "", 3, 5, 16, 32, 32, 2, 1.0)
        synthesis.make_video(synthesis.open_generator(run, chosen), parameters, run.storage, name, chosen)
    frames = [video.read_frames(Path(run.storage.uri, name)) for name in ("bare.mp4", "taught.mp4", "again.mp4")]
    assert (frames[0] != frames[1]).any() and (frames[1] == frames[2]).all()


@pytest.mark.soak
def test_a_prompt_that_fails_is_a_row(ray_cluster, make_run: Callable[..., Run]):
    run = make_run()
    # Not 4k+1. The config would refuse it; the model must too.
    generation = run.config.generation.model_copy(update={"frames": 10})
    run = replace(run, config=run.config.model_copy(update={"generation": generation}))
    report = stage.run(run)
    assert (report.ok, report.failed, report.errors) == (0, 2, {"generation_failed": 2})
    row = tables.read(run.storage, tables.GENERATIONS, status=None)[0]
    assert "4k+1" in row["error"] and row["video"] is None


@pytest.mark.soak
def test_what_cannot_work_at_all_is_one_line(ray_cluster, make_run: Callable[..., Run], tmp_path: Path):
    with pytest.raises(StorageError, match="no adapter there; train one"):
        stage.run(make_run("--generation.use_adapter", "true"))
    with pytest.raises(StageError, match=r"none\.yaml"):
        stage.run(make_run("--generation.prompts", tmp_path / "none.yaml"))
    with pytest.raises(StageError, match=r"backbone.path '.*nowhere': no usable"):
        stage.run(make_run("--backbone.path", tmp_path / "nowhere"))


def test_a_video_carries_its_parameters(make_run: Callable[..., Run], tmp_path: Path):
    """What a file that was passed on still tells: the prompt and all that is needed to make it again."""
    run = make_run()
    parameters = synthesis.Parameters("Ein Fuß “läuft”.", "fog", 3, 5, 16, 32, 32, 1, 1.0)
    generator = synthesis.open_generator(run, None)
    seconds = synthesis.make_video(generator, parameters, run.storage, "x.mp4")
    assert seconds > 0
    import av

    with av.open(str(Path(run.storage.uri, "x.mp4"))) as container:
        assert container.metadata["title"] == parameters.prompt
        assert json.loads(container.metadata["comment"])["seed"] == 3
