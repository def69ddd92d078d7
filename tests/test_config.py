"""The run config: defaults from the paper, YAML, command line, and errors that say what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mimix_ray.config import ConfigError, RunConfig, from_command_line, load

REPO = Path(__file__).parents[1]


def test_defaults_are_the_papers():
    config = RunConfig()
    assert (config.clips.frames, config.clips.fps, config.captions.frames) == (81, 16, 10)
    assert config.captions.vlm.model == "gpt-4o"
    assert config.composites.ratio == 0.10 and config.composites.masks == "sam2"
    training = config.training
    assert (training.rank, training.epochs, training.learning_rate, training.batch_size) == (32, 5, 1e-4, 64)


@pytest.mark.parametrize("path", sorted((REPO / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_load(path):
    assert load(path).name


def test_the_papers_config_says_what_the_defaults_say():
    paper = load(REPO / "configs/mimix-14b.yaml")
    for stage, field in [("clips", "frames"), ("training", "rank"), ("training", "epochs"), ("composites", "ratio")]:
        assert getattr(getattr(paper, stage), field) == getattr(getattr(RunConfig(), stage), field)


def test_command_line_beats_file_beats_default(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("clips: {fps: 12, crf: 20}\n")
    config = load(file, ["--clips.fps", "8", "--captions.vlm.model", "mine"])
    assert (config.clips.fps, config.clips.crf, config.clips.frames) == (8, 20, 81)
    assert config.captions.vlm.model == "mine" and config.evaluation.vlm.model != "mine"


@pytest.mark.parametrize("arguments", [["--config={}", "--root=x"], ["--root", "x", "--config", "{}"]])
def test_config_option_may_stand_anywhere(tmp_path, arguments):
    file = tmp_path / "run.yaml"
    file.write_text("name: told\n")
    config = from_command_line([argument.format(file) for argument in arguments])
    assert (config.name, config.root) == ("told", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clips: {fsp: 12}", "'clips.fsp': did you mean 'fps'"),
        ("clpis: {}", "'clpis': did you mean 'clips'"),
        ("clips: {fps: 0}", "clips.fps"),
        ("clips: {frames: 80}", "nearest: 81"),
        ("clips: 12", "clips: must hold keys"),
        ("- 1", "must hold keys"),
        ("clips: {fps: [", "not valid YAML"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r".") as caught:
        load(file)
    assert message in str(caught.value) and str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips.fsp", "1"], "did you mean 'clips.fps'"),
        (["--clips.fps", "many"], "clips.fps"),
        (["--config"], "give the path"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_a_bad_command_line_is_one_clear_line(arguments, message):
    with pytest.raises(ConfigError, match=r".") as caught:
        from_command_line(arguments)
    assert message in str(caught.value)


def test_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().clips.fps = 3


def test_every_field_is_described():
    def check(model, prefix=""):
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and hasattr(kind, "model_fields"):
                check(kind, f"{prefix}{name}.")
            else:
                assert field.description, prefix + name

    check(RunConfig)


def test_help_lists_fields_with_their_sources():
    done = subprocess.run(
        [sys.executable, "-c", "from mimix_ray.config import from_command_line; from_command_line(['--help'])"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0
    assert "--clips.fps" in done.stdout and "paper 3.3" in done.stdout


def test_keys_are_never_part_of_a_config():
    text = yaml.safe_dump(RunConfig().model_dump(mode="json"))
    assert "api_key_env" in text and "api_key:" not in text


def test_identity_changes_with_results_and_not_with_resources():
    paper = load().captions.identity()
    assert (
        load(
            arguments=["--captions.vlm.base_url", "http://x/v1", "--captions.vlm.concurrency", "1"]
        ).captions.identity()
        == paper
    )
    assert load(arguments=["--captions.vlm.model", "other"]).captions.identity() != paper
    assert load(arguments=["--captions.frames", "5"]).captions.identity() != paper
