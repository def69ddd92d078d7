"""`jobs/adapter.py` as people run it: files on disk and on a real S3 server, and errors of one line."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mimix_ray.backbone.wan_adapter import LINEARS, Lora, read, write
from mimix_ray.storage import Storage
from tests.s3 import S3Server

REPO = Path(__file__).parents[2]


main = runpy.run_path(str(REPO / "jobs/adapter.py"))["main"]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of one block as training leaves it, rank 2, alpha 8."""
    tensors = {}
    for number, linear in enumerate(LINEARS):
        tensors[f"blocks.0.{linear}.lora_A.weight"] = torch.full((2, 6), float(number))
        tensors[f"blocks.0.{linear}.lora_B.weight"] = torch.full((5, 2), -float(number))
    path = tmp_path / "pytorch_lora_weights.safetensors"
    write(path, Lora(tensors, 8, {"universe": "two_shows", "steps": "12"}), "diffusers")
    return path


def test_converts_there_and_back(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = adapter
    for layout in ("comfyui", "kohya", "diffusers"):
        target = tmp_path / f"out/{layout}.safetensors"
        main(["convert", str(path), str(target), "--to", layout])
        assert f"to {layout}, 20 matrices, rank 2, alpha 8\n" in capsys.readouterr().out
        assert read(target)[0] == layout
        path = target
    one, other = load_file(path), load_file(adapter)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert (header["universe"], header["steps"]) == ("two_shows", "12")
    assert json.loads(header["lora_adapter_metadata"])["transformer.lora_alpha"] == 8


def test_shows_what_a_file_is(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", str(adapter)])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == [["layout", "diffusers"], ["rank", "2"], ["alpha", "8"]]
    assert lines[3] == ["targets", ", ".join(LINEARS)]
    assert lines[4:6] == [["tensors", "20 matrices, float32"], ["bytes", f"{10 * (2 * 6 + 5 * 2) * 4:,}"]]
    assert lines[6:] == [["metadata", "steps: 12"], ["metadata", "universe: two_shows"]]


def test_addresses_may_be_on_s3(adapter: Path, s3_server: S3Server) -> None:
    root = s3_server.new_root()
    storage = Storage.open(root, s3_server.config)
    storage.upload(adapter, "training/adapter.safetensors")
    where = ["--storage.endpoint", s3_server.endpoint, "--storage.region", "us-east-1"]
    main(["convert", f"{root}/training/adapter.safetensors", f"{root}/new.safetensors", "--to", "comfyui", *where])
    with storage.local("new.safetensors") as path:
        assert read(path)[0] == "comfyui"


def test_what_cannot_be_done_is_one_line(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign, text = tmp_path / "foreign.safetensors", tmp_path / "text.safetensors"
    save_file({"diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": torch.zeros(2, 6)}, foreign)
    text.write_text("no tensors here")
    out = str(tmp_path / "out.safetensors")
    for source, target, message in (
        (foreign, out, f"{foreign}: 1 of 1 keys are no LoRA"),
        (text, out, f"{text}: no usable .safetensors file"),
        (tmp_path / "none/there.safetensors", out, "none/there.safetensors: not there"),
        (adapter, f"{adapter}/below", "cannot be made a folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["convert", str(source), target, "--to", "kohya"])
        line = str(caught.value.code)
        assert line.startswith("error: ") and message in line and "\n" not in line
    assert not capsys.readouterr().out and not Path(out).exists()
    assert not (tmp_path / "none").exists(), "looking for a file makes no folder"


def test_the_script_needs_no_ray_and_fails_with_status_1(tmp_path: Path) -> None:
    without_ray = "import sys, runpy; sys.modules['ray'] = None; runpy.run_path(sys.argv.pop(1), None, '__main__')"
    command = [sys.executable, "-c", without_ray, "jobs/adapter.py", "show", str(tmp_path / "none.safetensors")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
