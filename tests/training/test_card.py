"""The model card: facts of the run, code that runs, tables that are whole; and the picture of the losses."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mimix_ray import backbone, config, prompts
from mimix_ray.backbone import lora, wan
from mimix_ray.config import BackboneConfig, RunConfig, TrainingConfig
from mimix_ray.training import card

ABOUT = {
    "universe": "two_shows", "shows": "tom_and_jerry,mr_bean", "characters": "Tom, Jerry, O'Málley | Co, Mr. Bean",
    "grammar": "full", "base": "Wan-AI/Wan2.1-T2V-14B-Diffusers", "rank": "32", "alpha": "16",
    "targets": "attention_ffn", "steps": "40", "recipe": "3f2a9c",
}  # fmt: skip
ORANGE, GREEN = (255, 127, 14), (44, 160, 44)


def history(steps: int = 40, held_out: tuple[int, ...] = (), **changes: Any) -> list[dict[str, Any]]:
    """Losses 1/1, 1/2, 1/3, ...; the held-out loss is least at the middle one of its steps."""
    measured = {step: 0.5 + abs(index - len(held_out) // 2) for index, step in enumerate(held_out)}
    return [
        {"step": step, "epoch": step / 8, "loss": 1 / step, "held_out": measured.get(step), "grad_norm": None,
         "lr": 1e-4, "seconds": 90.0, **changes}
        for step in range(1, steps + 1)
    ]  # fmt: skip


def rendered(records: list[dict[str, Any]], run: RunConfig | None = None, **changes: str) -> str:
    return card.render({**ABOUT, **changes}, records, run or RunConfig())


def test_the_head_is_what_hubs_read(tmp_path: Path) -> None:
    _, head, body = rendered(history()).split("---\n", 2)
    values = yaml.safe_load(head)
    assert values["license"] == "other"
    assert values["base_model"] == "Wan-AI/Wan2.1-T2V-14B-Diffusers"
    assert (values["library_name"], values["pipeline_tag"]) == ("diffusers", "text-to-video")
    assert {"lora", "text-to-video"} <= set(values["tags"])
    assert body.startswith("\n# two_shows: a LoRA")
    local = yaml.safe_load(rendered(history(), base=str(tmp_path)).split("---\n", 2)[1])
    assert "base_model" not in local, "a hub cannot find a folder of this machine"


def test_facts_and_losses() -> None:
    text = rendered(history(40, held_out=(10, 20, 30)))
    assert "| shows | `tom_and_jerry`, `mr_bean` |" in text
    assert "| LoRA | rank 32, alpha 16, on attention_ffn |" in text
    assert "| trained | 40 steps, 5.00 passes over the data, in 1:00:00 (h:mm:ss) |" in text
    assert f"| first 4 steps, mean | {np.mean([1, 1 / 2, 1 / 3, 1 / 4]):.4f} |" in text
    assert f"| last 4 steps, mean | {np.mean([1 / 37, 1 / 38, 1 / 39, 1 / 40]):.4f} |" in text
    assert "| held out, best | 0.5000 at step 20 |" in text and "| held out, last | 1.5000 at step 30 |" in text
    assert "![Loss over the steps](loss.png)" in text
    assert "belong to their owners" in text and "reports/evaluation" in text
    assert "No clips were held out" in rendered(history()) and "held out, best" not in rendered(history())


def test_tables_are_whole_and_hold_every_setting() -> None:
    text = rendered(history())
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    for name, value in TrainingConfig().identity().items():
        assert f"| `training.{name}` | {'not set' if value is None else value} |" in text
    assert "| `backbone.flow_shift` | 5.0 |" in text and "training.workers" not in text


@pytest.mark.parametrize("grammar", ["full", "no_scene_style", "no_character", "plain"])
def test_the_example_is_in_the_grammar_trained_on(grammar: prompts.Format) -> None:
    (example,) = re.findall(r"```text\n(.*)\n```", rendered(history(), grammar=grammar))
    full = prompts.parse(card.example(ABOUT))
    assert [one.name for one in full.characters] == ["Tom", "Mr. Bean"], "of two shows"
    assert example == prompts.render(full, grammar)


def test_an_example_needs_no_cast() -> None:
    assert card.example({**ABOUT, "characters": ""}) == "An empty kitchen. [scene-style:cartoon]"
    assert card.example({**ABOUT, "characters": "Tom"}).count("[Character: Tom]") == 1


@pytest.mark.filterwarnings("ignore:.torch_dtype. is deprecated")  # but older diffusers know no other name
def test_the_code_on_the_card_runs(
    base_path: Path, backbone_config: BackboneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny model stands in for the real one, and the CPU for the GPU."""
    transformer = backbone.load_transformer(backbone_config)
    lora.attach(transformer, 4, 4, wan.lora_targets("attention"), seed=0)
    weights = {name: p.detach() for name, p in lora.parameters(transformer).items()}
    wan.save_adapter(tmp_path / "pytorch_lora_weights.safetensors", weights, TrainingConfig(rank=4), ABOUT)
    small = ["--generation.frames", "5", "--generation.width", "64", "--generation.height", "32"]
    run = config.load(
        None, [*small, "--generation.steps", "2", "--backbone.dtype", "fp32", "--backbone.text_tokens", "64"]
    )
    (code,) = re.findall(r"```python\n(.*?)```", rendered(history(), run, base=str(base_path)), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    done: dict[str, Any] = {}
    exec(code.replace('"FOLDER"', repr(str(tmp_path))).replace('"cuda"', '"cpu"'), done)
    assert done["pipeline"].get_active_adapters() and done["pipeline"].vae.dtype == torch.float32
    assert np.asarray(done["frames"]).shape == (5, 32, 64, 3)
    assert (tmp_path / "video.mp4").stat().st_size > 0


def has(png: bytes, colour: tuple[int, int, int]) -> bool:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert pixels.shape == (900, 1600, 3)
    return bool((pixels == colour).all(axis=2).any())


def test_the_picture_shows_what_there_is() -> None:
    plain = card.loss_png(history())
    assert card.loss_png(history()) == plain, "a replay publishes the same file"
    assert not has(plain, ORANGE) and not has(plain, GREEN)
    assert has(card.loss_png(history(held_out=(10, 20, 30))), ORANGE)
    changing = [{**record, "lr": 1e-4 / record["step"]} for record in history()]
    assert has(card.loss_png(changing), GREEN), "the learning rate, where it changes"
    assert card.loss_png(history(1)) != card.loss_png(history(2))
